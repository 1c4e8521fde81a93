"""A member's side of its group, as far as all protocols share it: join states, callbacks, and what waits for commits.

Decides when a callback is due and what follows its answer, after librdkafka's own state machine. Refuses to know what is
fetched. Invariant: the group is not told that partitions are let go before the callback that takes them was answered
and every commit that was open then is answered too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.consumer.link import CoordinatorLink
    from headrace.testing.simulation.kernel import Kernel, Process
    from headrace.testing.simulation.model.network import Network

    Places = tuple[TopicPartition, ...]

State = Literal[
    "init", "joining", "syncing", "assign_due", "revoke_due", "letting_go", "letting_some_go", "steady"
]

MOVES: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        "init": frozenset({"init", "joining", "assign_due", "revoke_due"}),
        "joining": frozenset({"init", "syncing", "revoke_due"}),
        "syncing": frozenset({"init", "assign_due", "revoke_due"}),
        "assign_due": frozenset({"steady", "init", "revoke_due"}),
        "revoke_due": frozenset({"letting_go", "letting_some_go", "init", "revoke_due"}),
        "letting_go": frozenset({"init", "revoke_due"}),
        "letting_some_go": frozenset({"assign_due", "steady", "init", "revoke_due"}),
        "steady": frozenset({"init", "revoke_due", "assign_due"}),
    }
)


class Membership(ABC):
    """One member. All of it happens on librdkafka's own thread, which freezes and dies with the process."""

    eager = False

    def __init__(
        self,
        network: Network,
        link: CoordinatorLink,
        process: Process,
        instance: str | None,
        member: str,
    ) -> None:
        self.network = network
        self.kernel: Kernel = network.kernel
        self.link = link
        self.process = process
        self.instance = instance
        self.name = member
        self.state: State = "init"
        self.member_id = ""
        self.generation = -1
        self.names: tuple[str, ...] = ()
        self.held: Places | None = None
        """What the group says is ours; None before the first assignment and after a whole revoke."""
        self.lost = False
        self.fatal = ""
        self.leaving = False
        self.terminating = False
        self.overslept = False
        """`max.poll.interval.ms` has passed."""
        self.assign_next: Places | None = None
        self.rejoin_next = False
        # The consumer's side of it.
        self.call_back: Callable[[str, Places], None] = lambda _kind, _places: None
        self.hold: Callable[[], None] = lambda: None
        self.let_go: Callable[[], None] = lambda: None
        self.drop_all: Callable[[], None] = lambda: None
        self.commits_open: Callable[[], int] = lambda: 0
        self.slept: Callable[[], bool] = lambda: False
        self.die: Callable[[str], None] = lambda _code: None

    # What the application does

    def subscribe(self, names: Sequence[str]) -> None:
        """Join the group."""
        self.names = tuple(names)
        self.rejoin()

    @abstractmethod
    def unsubscribe(self) -> None:
        """Give everything back, then leave."""

    def assign_called(self) -> None:
        """The application called assign or incremental_assign."""
        if self.fatal:
            return
        if self.state == "assign_due":
            self.let_go()
            self._move("steady")
        self.lost = False
        self.serve_assignment()

    def unassign_called(self, *, some: bool) -> None:
        """The application called unassign, or incremental_unassign for some."""
        if self.state == "revoke_due":
            self.let_go()
            self._move("letting_some_go" if some else "letting_go")
        self.lost = False
        self.serve_assignment()

    # What follows

    def serve_assignment(self) -> None:
        """Go on, if nothing is in the way: not while commits are open."""
        if self.commits_open():
            return
        if self.state == "letting_go":
            self.leave_if_asked()
            self.rejoin()
        elif self.state == "letting_some_go":
            self._some_gone()
        elif self.state == "steady":
            self.settled()

    def settled(self) -> None:
        """Nothing is to be done for the assignment; a rejoin may have been put off until now."""
        if self.rejoin_next:
            self.rejoin_next = False
            self.rejoin()

    def _some_gone(self) -> None:
        if self.terminating:
            self.leave_if_asked()
        elif self.assign_next is not None:
            places, self.assign_next = self.assign_next, None
            self._due_some("assign", places, rejoin=not self.moves_on_alone)
        elif self.rejoin_next:
            self.rejoin_next = False
            self.rejoin()
        else:
            self._move("steady")

    moves_on_alone = False
    """Whether no join follows a partial revoke: so under KIP-848."""

    @property
    def rebalancing(self) -> bool:
        """Whether a callback is due, or something is to follow one."""
        return self.state in {"assign_due", "revoke_due"} or self.assign_next is not None or self.rejoin_next

    def revoke_all_rejoin_maybe(self, *, lost: bool) -> None:
        """Unless a rebalance is under way already."""
        if not self.rebalancing:
            self.revoke_all_rejoin(lost=lost)

    def revoke_all_rejoin(self, *, lost: bool) -> None:
        """Everything goes; then join again, or leave."""
        if self.eager:
            self.lost = self.lost or lost
            if self.held is not None and self.state not in {"assign_due", "revoke_due"}:
                self._due_all("revoke", self.held)
            else:
                self.rejoin()
        elif self.held:
            self.lost = self.lost or lost
            self._due_some("revoke", self.held, rejoin=not self.terminating)
        elif not self.terminating:
            self.rejoin()

    def take(self, places: Places) -> None:
        """The group's new assignment."""
        if self.eager:
            self._due_all("assign", places)
            return
        before = self.held or ()
        added = tuple(place for place in places if place not in before)
        revoked = tuple(place for place in before if place not in places)
        if revoked:
            self.assign_next = added
            self._due_some("revoke", revoked, rejoin=False)
        else:
            self._due_some("assign", added, rejoin=False)

    def _due_some(self, kind: str, places: Places, *, rejoin: bool) -> None:
        self.rejoin_next = rejoin
        if self.fatal:
            self.drop_all()
        else:
            self._move("assign_due" if kind == "assign" else "revoke_due")
            self.hold()
            self.call_back(kind, places)
        before = self.held or ()
        if kind == "assign":
            self.held = (*before, *(place for place in places if place not in before))
        else:
            self.held = tuple(place for place in before if place not in places)

    def _due_all(self, kind: str, places: Places) -> None:
        if self.fatal:
            self.drop_all()
        else:
            self._move("assign_due" if kind == "assign" else "revoke_due")
            self.hold()
            self.call_back(kind, places)
        self.held = places if kind == "assign" else None

    # What the protocols do differently

    @abstractmethod
    def rejoin(self) -> None:
        """Begin to join."""

    @abstractmethod
    def leave_if_asked(self) -> bool:
        """Leave the group if that was to follow the last revoke; whether it was."""

    @abstractmethod
    def commit_refused(self, code: str) -> None:
        """A commit was answered with this code."""

    @abstractmethod
    def slept_too_long(self) -> None:
        """The application has not polled for `max.poll.interval.ms`."""

    @abstractmethod
    def metadata_changed(self) -> None:
        """Topics or partitions changed."""

    @abstractmethod
    def tick(self) -> None:
        """A heartbeat interval has passed."""

    def fail(self, code: str) -> None:
        """A fatal error: the client is dead."""
        if not self.fatal:
            self.fatal = code
            self.die(code)

    def _move(self, state: State) -> None:
        assert state in MOVES[self.state], f"a member in {self.state} cannot become {state}"
        self.state = state
