"""Whether an app may go to production: judged from the topics, the committed offsets, and what handlers did.

Pure, and shares no code with the runtime that it judges. Promised: every record is handled, filtered or given up as its
settings say; records of a lane are handled one at a time and in order; everything is committed; members end cleanly.
Repeats are allowed and counted. Advice tells what the numbers mean for the app.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.cli.rehearsal.ledger import Account, Run
    from headrace.cli.rehearsal.plan import TopicPlan

Place = tuple[str, int, int]

WORST_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the verdict is made from.

    keys: key of each record, by place, read back from the topics. committed, ends: per partition, asked of the broker
    after the end. killed_at: members that were killed on purpose, and when.
    """

    topics: Mapping[str, TopicPlan]
    keys: Mapping[Place, bytes | None]
    acknowledged: int
    accounts: Sequence[Account]
    killed_at: Mapping[str, float]
    committed: Mapping[tuple[str, int], int]
    ends: Mapping[tuple[str, int], int]
    drain_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of records, and what they mean. `problems` must be empty; `advice` need not be followed."""

    produced: int
    handled: int
    filtered: int
    given_up: int
    unhandled: int
    out_of_order: int
    uncommitted: int
    repeated: int
    repeated_after_kill: int
    durations_s: tuple[float, ...]
    errors: tuple[tuple[str, int], ...]
    notices: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether nothing stands against production; a rehearsal of nothing proves nothing."""
        broken = self.unhandled + self.out_of_order + self.uncommitted
        return broken == 0 and not self.problems and self.produced > 0


def judge(evidence: Evidence) -> Verdict:
    """Count what was promised and what was not."""
    runs = [run for account in evidence.accounts for run in account.runs]
    handled = Counter(run.place for run in runs if run.ok)
    filtered = {place for account in evidence.accounts for place in account.filtered}
    given_up = {place for account in evidence.accounts for place in account.given_up}
    owed = {place for place in evidence.keys if evidence.topics[place[0]].guarantee == "at_least_once"}
    again = {place: count - 1 for place, count in handled.items() if count > 1}
    durations = sorted(run.ended_at - run.started_at for run in runs if run.ended_at is not None)
    notices = Counter[str]()
    for account in evidence.accounts:
        notices.update({name: len(told) for name, told in account.notices.items()})
    return Verdict(
        produced=len(evidence.keys),
        handled=len(handled),
        filtered=len(filtered),
        given_up=len(given_up - handled.keys()),
        unhandled=len(owed - handled.keys() - filtered - given_up)
        + max(0, evidence.acknowledged - len(evidence.keys)),
        out_of_order=_out_of_order(evidence, runs),
        uncommitted=sum(
            max(0, end - evidence.committed.get(place, 0)) for place, end in evidence.ends.items()
        ),
        repeated=sum(again.values()),
        repeated_after_kill=sum(again[place] for place in again if _by_killed(evidence, runs, place)),
        durations_s=tuple(durations),
        errors=tuple(Counter(run.error for run in runs if run.error).most_common(WORST_MAX)),
        notices=tuple(sorted(notices.items())),
        problems=tuple(_problems(evidence)),
        advice=tuple(_advice(evidence, durations, notices, len(given_up))),
    )


def _by_killed(evidence: Evidence, runs: Sequence[Run], place: Place) -> bool:
    return any(run.member in evidence.killed_at for run in runs if run.place == place)


def _problems(evidence: Evidence) -> list[str]:
    problems: list[str] = []
    for account in evidence.accounts:
        if account.member in evidence.killed_at:
            continue
        if account.ended == "":
            problems.append(f"the {account.member} member did not end by itself")
        elif account.ended != "clean":
            problems.append(f"the {account.member} member ended with {account.ended}: {account.ended_with}")
        hung = account.notices.get("handler_hung", [])
        if hung:
            problems.append(f"{len(hung)} handlers of the {account.member} member hung; the first: {hung[0]}")
    return problems


def _advice(
    evidence: Evidence, durations: Sequence[float], notices: Mapping[str, int], given_up: int
) -> list[str]:
    advice: list[str] = []
    longest = durations[-1] if durations else 0.0
    overran = notices.get("drain_overran", 0)
    if overran:
        advice.append(
            f"{overran} rebalances could not wait for your handlers: such records are handled twice, and their key's "
            f"order across members is not kept. The longest took {longest:.1f} s; Timeouts(drain_s={evidence.drain_s:g})."
        )
    elif longest > evidence.drain_s / 2:
        advice.append(
            f"your longest handler took {longest:.1f} s; from {evidence.drain_s:g} s on (Timeouts.drain_s) a rebalance "
            "does not wait for it, and its record is handled twice."
        )
    if given_up:
        advice.append(f"{given_up} records were given up (dead-lettered or skipped): see the errors above.")
    if notices.get("intake_paused", 0):
        advice.append(
            "partitions were paused because records waited: handlers are slower than the traffic here; "
            "raise concurrency, or rehearse with a lower --rate."
        )
    weak = sorted(name for name, topic in evidence.topics.items() if topic.guarantee != "at_least_once")
    if weak:
        advice.append(f"records of {', '.join(weak)} may be lost by choice: their guarantee is a weaker one.")
    return advice


def _out_of_order(evidence: Evidence, runs: Sequence[Run]) -> int:
    """Records that began before an earlier one of their lane was done with, or while another one of it ran."""
    given_up: dict[Place, float] = {}
    for account in evidence.accounts:
        for place, moment in account.given_up.items():
            given_up[place] = min(moment, given_up.get(place, moment))
    lanes: dict[tuple[object, ...], dict[Place, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        lane = _lane_of(evidence, run)
        if lane is not None:
            lanes[lane][run.place].append(run)
    wrong: set[Place] = set()
    for by_place in lanes.values():
        batch = evidence.topics[next(iter(by_place))[0]].batch
        for earlier, later in itertools.pairwise(sorted(by_place)):
            done_at = _done_at(by_place[earlier], given_up.get(earlier))
            began_at = min(run.started_at for run in by_place[later])
            # Records of one batch begin together.
            if began_at < done_at and not (batch and _together(by_place[earlier], by_place[later])):
                wrong.add(later)
    return len(wrong)


def _lane_of(evidence: Evidence, run: Run) -> tuple[object, ...] | None:
    match evidence.topics[run.topic].order_by:
        case "key":
            key = evidence.keys.get(run.place)
            return None if key is None else (run.topic, run.partition, key)
        case "partition":
            return (run.topic, run.partition)
        case "none":
            return None


def _together(earlier: Sequence[Run], later: Sequence[Run]) -> bool:
    """Whether the later record first ran in the same call as the earlier one once did."""
    first = min(later, key=lambda run: run.started_at)
    return any(
        run.member == first.member
        and run.started_at <= first.started_at
        and (run.ended_at is None or run.ended_at >= first.started_at)
        for run in earlier
    )


def _done_at(runs: Sequence[Run], given_up_at: float | None) -> float:
    """When a record was first handled or given up; one that never was is lost, and counted there."""
    ends = [run.ended_at for run in runs if run.ok and run.ended_at is not None]
    if given_up_at is not None:
        ends.append(given_up_at)
    return min(ends, default=float("-inf"))
