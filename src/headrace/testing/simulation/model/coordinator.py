"""The broker's side of one group: where it is coordinated, and what it answers when it cannot or will not.

Decides whether a request is served; refuses to know what it asks: groups and commits do. Invariant: a request that is
refused here has changed nothing, but for a member that was forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headrace.testing.simulation.history import FaultBegan
from headrace.testing.simulation.model.classic import ClassicGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import CommitRequest, Committed, TopicPartition
    from headrace.testing.simulation.model.commits import Commits
    from headrace.testing.simulation.model.consumer_group import ConsumerGroup
    from headrace.testing.simulation.model.network import Network

    Reply = Callable[[str, Any], None]

_REFUSED_CLASSIC: Final = ("REBALANCE_IN_PROGRESS", "UNSTABLE_OFFSET_COMMIT", "REQUEST_TIMED_OUT")
_REFUSED_KIP848: Final = ("STALE_MEMBER_EPOCH", "UNSTABLE_OFFSET_COMMIT", "REQUEST_TIMED_OUT")
_LOADS_S: Final = 0.2
"""How long a coordinator loads at most, after it moved."""


@final
class Coordinator:
    """Of one group."""

    def __init__(
        self, network: Network, name: str, group: ClassicGroup | ConsumerGroup, commits: Commits
    ) -> None:
        self._network = network
        self._name = name
        self.group = group
        self._commits = commits
        self.moves = 0
        self._loaded_at = 0.0
        # Asked for by a script: the next request of that kind is answered so.
        self.refusals: list[tuple[str, str]] = []

    def serve(self, known: int, api: str, beating: str, call: Callable[[Reply], None], reply: Reply) -> None:
        """One request has come. known: which of the moves the client has heard of. beating: whose heartbeat it is."""
        network = self._network
        if known != self.moves or network.strikes("not_coordinator", api):
            reply("NOT_COORDINATOR", None)
        elif network.kernel.now < self._loaded_at or network.strikes("coordinator_loading", api):
            reply("COORDINATOR_LOAD_IN_PROGRESS", None)
        elif (refusal := next((each for each in self.refusals if each[0] == api), None)) is not None:
            self.refusals.remove(refusal)
            network.history.add(network.kernel.now, FaultBegan("refusals", f"{api} {refusal[1]}"))
            reply(refusal[1], None)
        elif beating and (code := self.disturbed(beating, api)):
            reply(code, None)
        else:
            call(reply)

    def move(self) -> None:
        """Another broker takes the group over and loads it; who waits for an answer is sent there."""
        network = self._network
        network.history.add(network.kernel.now, FaultBegan("coordinator_moves", self._name))
        self.moves += 1
        self.load()

    def load(self) -> None:
        """Read the group from the log."""
        network = self._network
        self._loaded_at = network.kernel.now + network.kernel.choices.between("loading", 0.0, _LOADS_S)
        self.group.load()

    def disturbed(self, member: str, api: str) -> str:
        """A fault of the group itself, for a heartbeat or a commit: the code, or ""."""
        classic = isinstance(self.group, ClassicGroup)
        if member in self.group.members() and self._network.strikes("member_forgotten", member):
            self.group.remove(member)
            return "UNKNOWN_MEMBER_ID"
        if member in self.group.members() and self._network.strikes("generation_refused", member):
            if classic:
                return "ILLEGAL_GENERATION"
            if api == "OffsetCommit":
                return "STALE_MEMBER_EPOCH"
            self.group.remove(member)
            return "FENCED_MEMBER_EPOCH"
        return ""

    def commit(
        self,
        name: str,
        member: str,
        generation: int,
        instance: str | None,
        requests: Sequence[CommitRequest],
        reply: Reply,
    ) -> None:
        """OffsetCommit. name: of the process's life, for the history."""
        network = self._network
        code = self.disturbed(member, "OffsetCommit")
        if not code:
            code = self.group.refusal_of_commit(member, generation, instance)
        if not code and network.strikes("commit_refused", name):
            codes = _REFUSED_CLASSIC if isinstance(self.group, ClassicGroup) else _REFUSED_KIP848
            code = codes[network.kernel.choices.index("refusal", len(codes))]
        if (
            not code
            and any(asked.metadata for asked in requests)
            and network.strikes("metadata_refused", name)
        ):
            code = "OFFSET_METADATA_TOO_LARGE"
        if code:
            reply(code, None)
            return
        code = self._commits.write(self._name, name, requests)
        if network.strikes("commit_slow", name):
            network.kernel.later(network.slow_s("slow commit"), "slow commit", lambda: reply(code, None))
        else:
            reply(code, None)

    def committed(self, places: Sequence[TopicPartition]) -> list[Committed]:
        """OffsetFetch."""
        return self._commits.read(self._name, places)
