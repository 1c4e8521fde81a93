"""Whether every partition and every member gets on, watched while the run goes on; "slow" told from "stuck".

Decides from the ledgers alone. A partition is *slow* while its oldest unfinished record is older than `SLOW_AFTER_S`
though handlers end; it is *stuck* when no handler of it ended for `STUCK_AFTER_S` of calm though a record waits, or for
`STUCK_ANYWAY_S`, whatever happens. A member is stuck when a partition that it holds has waiting records and the member
has started nothing for as long. Calm begins with the assignment, and anew with each app of the group that stops: where apps
come and go by themselves, several generations in a row may wait for one that has left by then. Refuses to know about
faults, but for when the last one was over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.judge import process_of
from tests.members.ledger import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.members.ledger import Line

SLOW_AFTER_S = 5.0
STUCK_AFTER_S = 22.0
"""After the last fault: a session (6 s), one wait for a member that is not there (the poll interval, 10 s), a reserve."""
SCALED = "connections_changed"
STUCK_ANYWAY_S = 100.0
"""Faults of several members may follow each other on one partition: it goes from the frozen to the cut to the hostile."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Somebody who does not get on, and since when."""

    group: str
    who: str
    partition: int
    since_at: float
    detail: str


@dataclass(slots=True)
class _Partition:
    """One partition of one group. `waiting`: acknowledged offsets not finished, with their times, oldest first."""

    waiting: deque[tuple[int, float]] = field(default_factory=deque[tuple[int, float]])
    finished: set[int] = field(default_factory=set[int])
    ended_at: float = float("-inf")
    holder: str = ""
    assigned_at: float = float("-inf")

    def oldest_at(self) -> float | None:
        while self.waiting and self.waiting[0][0] in self.finished:
            self.finished.discard(self.waiting.popleft()[0])
        return self.waiting[0][1] if self.waiting else None


class Progress:
    """Follows the ledgers of one run. One thread."""

    def __init__(self, acked: Path, groups: Mapping[str, Path]) -> None:
        self._acked = Reader(acked)
        self._readers = {group: Reader(path) for group, path in groups.items()}
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._started_at: dict[str, float] = {}
        self._scaled_at: dict[str, float] = {}
        self._stopped_at = dict.fromkeys(groups, float("-inf"))
        self._seen = dict.fromkeys(["", *groups], 0)
        self.handled = 0
        self.produced = 0
        self.slow_s = 0.0
        self.oldest_s = 0.0
        self._looked_at: float | None = None

    def look(self, now: float, calm_since: Mapping[str, float]) -> list[Stall]:
        """Take in what is new; who is stuck now. `calm_since`, by group: since when no fault concerns it, or `now`."""
        for line in self._new("", self._acked):
            self.produced += 1
            for group in self._readers:
                self._partition(group, line.partition).waiting.append((line.offset, line.at))
        for group, reader in self._readers.items():
            self._take(group, self._new(group, reader))
        span = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        return [*self._stuck_partitions(now, span, calm_since), *self._stuck_members(now, calm_since)]

    def unfinished(self) -> int:
        """How many acknowledged records no group, counted once each, has finished."""
        return sum(
            sum(offset not in partition.finished for offset, _ in partition.waiting)
            for partition in self._partitions.values()
        )

    def started_since(self, process: str, at: float) -> bool:
        """Whether a member in this process began to handle a record since then."""
        return any(began >= at for who, began in self._started_at.items() if process_of(who) == process)

    def scaled_since(self, process: str, at: float) -> bool:
        """Whether the number of connections of an app in this process changed since then."""
        return self._scaled_at.get(process, float("-inf")) >= at

    def holders(self, group: str) -> set[str]:
        """The processes that hold partitions of the group."""
        held = (p.holder for (whose, _), p in self._partitions.items() if whose == group and p.holder)
        return {process_of(holder) for holder in held}

    def _new(self, name: str, reader: Reader) -> list[Line]:
        lines = reader.refresh()
        new = lines[self._seen[name] :]
        self._seen[name] = len(lines)
        return new

    def _partition(self, group: str, number: int) -> _Partition:
        return self._partitions.setdefault((group, number), _Partition())

    def _take(self, group: str, lines: Iterable[Line]) -> None:
        for line in lines:
            match line.kind:
                case "start":
                    self._started_at[line.member] = line.at
                case "end" if line.ok:
                    partition = self._partition(group, line.partition)
                    partition.finished.add(line.offset)
                    partition.ended_at = line.at
                    self.handled += 1
                case "told" if line.detail.startswith(SCALED):
                    self._scaled_at[process_of(line.member)] = line.at
                case "assigned":
                    partition = self._partition(group, line.partition)
                    partition.holder, partition.assigned_at = line.member, line.at
                case "stopped":
                    self._stopped_at[group] = line.at
                case "revoked" | "unconfirmed":
                    partition = self._partition(group, line.partition)
                    if partition.holder == line.member:
                        partition.holder = ""
                case _:
                    pass

    def _stuck_partitions(
        self, now: float, span_s: float, calm_since: Mapping[str, float]
    ) -> Iterable[Stall]:
        for (group, number), partition in self._partitions.items():
            oldest_at = partition.oldest_at()
            if oldest_at is None:
                continue
            self.oldest_s = max(self.oldest_s, now - oldest_at)
            if now - oldest_at > SLOW_AFTER_S:
                self.slow_s += span_s
            quiet_since = max(partition.ended_at, oldest_at)
            if _is_too_long(now, quiet_since, self._calm(group, partition, calm_since)):
                holder = partition.holder or "nobody"
                yield Stall(group, holder, number, quiet_since, f"offset {partition.waiting[0][0]} waits")

    def _stuck_members(self, now: float, calm_since: Mapping[str, float]) -> Iterable[Stall]:
        for (group, number), partition in self._partitions.items():
            oldest_at = partition.oldest_at()
            if oldest_at is None or not partition.holder:
                continue
            since = max(oldest_at, self._started_at.get(partition.holder, float("-inf")))
            if _is_too_long(now, since, self._calm(group, partition, calm_since)):
                yield Stall(group, partition.holder, number, since, "the member has started nothing since")

    def _calm(self, group: str, partition: _Partition, calm_since: Mapping[str, float]) -> float:
        return max(calm_since[group], self._stopped_at[group], partition.assigned_at)


def _is_too_long(now: float, quiet_since: float, calm_since: float) -> bool:
    return now - max(quiet_since, calm_since) > STUCK_AFTER_S or now - quiet_since > STUCK_ANYWAY_S
