"""The ledgers of one run, read back from its folder: while it ends, or long after.

Decides which file is whose; refuses to judge, but hands each group's lines to the judge.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.chaos.judge import judge, process_of
from tests.chaos.report import handovers
from tests.members.ledger import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.judge import Verdict
    from tests.members.ledger import Line

STOP_BUDGET_S = 30.0
BROKERS = {"committed", "generation"}
"""Kinds of lines that are read from a broker's log."""
NO_GROUPS = {"acked.jsonl", "faults.jsonl"}


def on_one_clock(lines: list[Line]) -> list[Line]:
    """The same, with the monotonic time of what a broker wrote by that of the member's line next to it.

    A broker tells the time of day alone, which is set while a run goes on: by half a minute on a machine that slept.
    """
    members = sorted((line for line in lines if line.kind not in BROKERS), key=lambda line: line.wall)
    walls = [line.wall for line in members]

    def retimed(line: Line) -> Line:
        after = bisect_left(walls, line.wall)
        near = min(members[max(0, after - 1) : after + 1], key=lambda other: abs(other.wall - line.wall))
        return replace(line, at=near.at + line.wall - near.wall)

    return [retimed(line) if line.kind in BROKERS and members else line for line in lines]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All lines of a run; `groups` by their names."""

    acked: list[Line]
    faults: list[Line]
    groups: dict[str, list[Line]]

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """From the folder of a run."""
        files = sorted(path for path in folder.glob("*.jsonl") if path.name not in NO_GROUPS)
        return cls(
            Reader(folder / "acked.jsonl").refresh(),
            Reader(folder / "faults.jsonl").refresh(),
            {path.stem: on_one_clock(Reader(path).refresh()) for path in files},
        )

    def verdicts(self) -> list[Verdict]:
        """One a group."""
        return [judge(group, self.acked, lines, self.faults) for group, lines in self.groups.items()]

    def troubles(self) -> list[str]:
        """What no verdict says: a group of which nothing can be known, and stops that were not clean."""
        found = [
            f"no commit of {group} was found: nothing was judged"
            for group, lines in self.groups.items()
            if not any(line.kind == "committed" for line in lines)
        ]
        every = [line for lines in (self.faults, *self.groups.values()) for line in lines]
        unclean = [line for line in every if line.kind == "stopped" and line.detail != "0"]
        found += [
            f"stop: {line.member} ended with {line.detail} instead of 0, though it was undisturbed"
            for line in unclean
            if not self._was_adrift(line)
        ]
        return found

    def handovers(self) -> dict[str, list[float]]:
        """By protocol and way of ending."""
        rested: dict[str, list[float]] = {}
        for group, lines in self.groups.items():
            for how, values in handovers(lines, self.faults).items():
                rested.setdefault(f"{group.partition('-')[0]}, {how}", []).extend(values)
        return rested

    def _was_adrift(self, stop: Line) -> bool:
        """A member, or any broker, that was disturbed within a stop's budget may have had to leave without a word."""
        return any(
            stop.at - STOP_BUDGET_S <= line.at <= stop.at
            and (
                line.member == process_of(stop.member)
                if line.kind in {"adrift", "back"}
                else "broker" in line.detail
            )
            for line in self.faults
            if line.kind in {"adrift", "back", "fault", "fault over"}
        )
