"""A consumer's commits on their way: sent, put off while there is no coordinator, sent again, answered.

Decides how often librdkafka tries; refuses to know what an answer means to the runtime. Invariant: each commit is
answered once, and one that is sent again carries the member and generation of that moment.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from headrace.ports import CommitResult
from headrace.testing.simulation.history import CommitSent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import CommitRequest
    from headrace.testing.simulation.consumer.membership import Membership
    from headrace.testing.simulation.model.coordinator import Coordinator

TRIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "_TRANSPORT": 6,
        "NOT_COORDINATOR": 6,
        "COORDINATOR_NOT_AVAILABLE": 6,
        "COORDINATOR_LOAD_IN_PROGRESS": 3,
        "REQUEST_TIMED_OUT": 3,
        "UNKNOWN_TOPIC_OR_PART": 3,
    }
)
"""How often librdkafka sends a commit that is answered so; any other code is final (measured on the embedded broker)."""

_WAITS_FOR_COORDINATOR: Final = frozenset({"_TRANSPORT", "NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE"})


@final
class _Commit:
    __slots__ = ("deadline", "requests", "tries")

    def __init__(self, requests: tuple[CommitRequest, ...]) -> None:
        self.requests = requests
        self.tries = 0
        self.deadline: float | None = None


@final
class CommitSender:
    """One consumer's. `answered` is called with results for the application, `idle` when none is open any more."""

    def __init__(self, membership: Membership, coordinator: Coordinator) -> None:
        self._membership = membership
        self._coordinator = coordinator
        self._put_off: deque[_Commit] = deque()
        self.open = 0
        self.closed = False
        self.answered: Callable[[list[CommitResult]], None] = lambda _results: None
        self.idle: Callable[[], None] = lambda: None
        membership.link.on_up.append(self._go_on)

    def send(self, requests: Sequence[CommitRequest]) -> None:
        """A commit of the application."""
        membership = self._membership
        self.open += 1
        offsets = tuple((asked.topic, asked.partition, asked.offset) for asked in requests)
        metadata = tuple(asked.metadata for asked in requests)
        membership.network.history.add(
            membership.kernel.now, CommitSent(membership.name, offsets, self.open, metadata)
        )
        self._try(_Commit(tuple(requests)))

    def _try(self, commit: _Commit) -> None:
        membership = self._membership
        if self.closed:
            return
        if membership.fatal:
            self._later(0.0, lambda: self._answer(commit, "_FATAL"))
        elif not membership.link.up:
            self._wait_for_coordinator(commit)
        else:
            commit.tries += 1
            name, member = membership.name, membership.member_id
            generation, instance = membership.generation, membership.instance
            membership.link.send(
                "OffsetCommit",
                lambda reply: self._coordinator.commit(
                    name, member, generation, instance, commit.requests, reply
                ),
                lambda code, _payload: self._heard(commit, code),
            )

    def _wait_for_coordinator(self, commit: _Commit) -> None:
        membership = self._membership
        if commit.deadline is None:
            wait_s = membership.network.settings.commit_timeout_s
            commit.deadline = membership.kernel.now + wait_s
            self._later(wait_s, lambda: self._give_up(commit))
        self._put_off.append(commit)
        membership.link.ask()

    def _give_up(self, commit: _Commit) -> None:
        if commit in self._put_off:
            self._put_off.remove(commit)
            self._answer(commit, "_WAIT_COORD")

    def _go_on(self) -> None:
        waiting, self._put_off = self._put_off, deque()
        for commit in waiting:
            self._try(commit)

    def _heard(self, commit: _Commit, code: str) -> None:
        if self.closed:
            return
        if commit.tries < TRIES.get(code, 0):
            if code in _WAITS_FOR_COORDINATOR:
                self._wait_for_coordinator(commit)
            else:
                self._later(self._membership.network.settings.retry_backoff_s, lambda: self._try(commit))
            return
        self._answer(commit, code)

    def _answer(self, commit: _Commit, code: str) -> None:
        if code:
            self._membership.commit_refused(code)
        self.open -= 1
        # One partition's refusal is told of all, though the broker may have written the others.
        self.answered(
            [
                CommitResult(asked.topic, asked.partition, asked.offset, code or None)
                for asked in commit.requests
            ]
        )
        if self.open == 0:
            self.idle()

    def _later(self, delay_s: float, action: Callable[[], Any]) -> None:
        self._membership.kernel.later(delay_s, "commit", action, self._membership.process)
