"""What a rolling restart costs, by the way a group is set up: rebalances, partitions that move, pauses. Measured.

Decides what is counted; refuses to know faults: nothing but clean restarts happens here. Invariant: the figures in
docs/fewer-rebalances.md are those that the last run with `--write` printed.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from tests.chaos.cluster import ROOT, Cluster
from tests.chaos.judge import judge
from tests.chaos.offsets import OffsetsLog
from tests.chaos.reaper import Reaper
from tests.chaos.traffic import Traffic
from tests.chaos.versions import versions
from tests.members.fleet import fleet_of, holders
from tests.members.ledger import Ledger, Reader
from tests.members.plan import Plan
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.members.fleet import Fleet
    from tests.members.ledger import Line

DOCUMENT = ROOT / "docs" / "fewer-rebalances.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MEMBERS = 3
PARTITIONS = 12
RATE = 360.0
EVERY_S = 0.05
KEYS = 1200
"""So many that every partition has as much to do as the others."""
PAUSE_S = 0.4
"""A gap between two starts on a partition counts from here: without a rebalance records come every 33 ms in the mean."""
SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to set up a group."""

    title: str
    protocol: Literal["classic", "consumer"] = "classic"
    static: bool = False
    librdkafka: tuple[tuple[str, Any], ...] = ()


SETUPS = (
    Setup("classic, eager (`range`)", librdkafka=(("partition.assignment.strategy", "range"),)),
    Setup(
        "classic, eager, static members",
        static=True,
        librdkafka=(("partition.assignment.strategy", "range"),),
    ),
    Setup("classic, cooperative (the default)"),
    Setup("classic, cooperative, static members", static=True),
    Setup('KIP-848 (`group_protocol="consumer"`)', "consumer"),
    Setup("KIP-848, static members", "consumer", static=True),
)


@dataclass(slots=True)
class Cost:
    """What rolling restarts of one setup cost; one entry a roll."""

    setup: Setup
    generations: list[int] = field(default_factory=list[int])
    assigned: list[int] = field(default_factory=list[int])
    paused_s: list[float] = field(default_factory=list[float])
    longest_s: list[float] = field(default_factory=list[float])
    repeated: int = 0

    def row(self) -> str:
        """One row of the table."""
        return (
            f"| {self.setup.title} | {median(self.generations):g} | {median(self.assigned):g} | "
            f"{median(self.paused_s):.1f} | {max(self.longest_s):.1f} | {self.repeated} |"
        )


def measure(folder: Path, rolls: int, say: Callable[[str], object]) -> str:
    """Measure every setup; returns what goes into the document."""
    reaper = Reaper()
    cluster = Cluster(folder / "nodes", reaper)
    costs: list[Cost] = []
    try:
        cluster.start()
        for number, setup in enumerate(SETUPS):
            home = folder / f"setup-{number}"
            home.mkdir()
            costs.append(_measure_one(cluster, setup, home, rolls))
            say(costs[-1].row())
    finally:
        cluster.stop()
        reaper.close()
    return _section(costs, rolls)


def write(section: str) -> None:
    """Put the figures into the document, where its marks are."""
    text = DOCUMENT.read_text()
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    assert marked.search(text), f"{DOCUMENT} has no marks"
    DOCUMENT.write_text(marked.sub(lambda _: f"{BEGIN}\n{section}\n{END}", text))


def _measure_one(cluster: Cluster, setup: Setup, home: Path, rolls: int) -> Cost:
    group = home.name
    topics = Topics(cluster.direct, prefix=group)
    topic = topics.create(partitions=PARTITIONS)
    plan = Plan(
        name="",
        bootstrap_servers=cluster.direct,
        group_id=group,
        topics=(topic,),
        ledger="",
        protocol=setup.protocol,
        slow_ms=10,
        librdkafka=dict(setup.librdkafka),
        subscribe={"concurrency": 16},
    )
    cost = Cost(setup)
    with fleet_of(plan, home, PARTITIONS) as fleet:
        ledger = Ledger(fleet.path)
        # Apart from what the fleet asked of the group: these are all commits, in the broker's order.
        commits = home / "commits.jsonl"
        log = OffsetsLog(cluster.direct, {group: Ledger(commits)})
        traffic = Traffic(cluster.direct, topic, ledger, seed=1, rate=RATE, every_s=EVERY_S, keys=KEYS)
        names = [f"m{index}.0" for index in range(MEMBERS)]
        for name in names:
            _start(fleet, setup, name)
        fleet.wait_until(lambda lines: _is_shared(lines, names), "all hold some")
        traffic.start()
        time.sleep(SETTLE_S)
        # Each roll, by when it began and ended.
        spans = [_roll(fleet, setup, names) for _ in range(rolls)]
        traffic.close()
        fleet.wait_until_handled()
        log.start()
        assert set(fleet.stop()) == {0}
        fleet.wait_until_settled()
        log.close()
        lines = [line for line in fleet.lines() if line.kind != "committed"] + Reader(commits).refresh()
        verdict = judge(group, [line for line in lines if line.kind == "acked"], lines, [])
        assert not verdict.anomalies, verdict.anomalies
        cost.repeated = verdict.runs - verdict.records
        for began_at, ended_at in spans:
            _count(cost, lines, began_at, ended_at)
    topics.delete_all()
    return cost


def _start(fleet: Fleet, setup: Setup, name: str) -> None:
    changes = {"instance_id": name.partition(".")[0]} if setup.static else {}
    fleet.start(name, **changes)


def _roll(fleet: Fleet, setup: Setup, names: list[str]) -> tuple[float, float]:
    """Restart each member once, the next when the group is settled."""
    began_at = time.monotonic()
    for index, name in enumerate(names):
        assert fleet.stop(name) == [0]
        base, _, life = name.partition(".")
        names[index] = f"{base}.{int(life) + 1}"
        _start(fleet, setup, names[index])
        fleet.wait_until(lambda lines: _is_shared(lines, names), "all hold some again")
        time.sleep(SETTLE_S)
    return began_at, time.monotonic()


def _is_shared(lines: Sequence[Line], names: Sequence[str]) -> bool:
    held = holders(lines)
    return len(held) == PARTITIONS and set(held.values()) == set(names)


def _count(cost: Cost, lines: Sequence[Line], began_at: float, ended_at: float) -> None:
    inside = [line for line in lines if began_at <= line.at <= ended_at]
    generations = [line for line in lines if line.kind == "generation"]
    # A static member that comes back makes the broker write the generation anew, not a new one.
    known = max((line.offset for line in generations if line.at < began_at), default=0)
    cost.generations.append(
        len({line.offset for line in generations if began_at <= line.at <= ended_at and line.offset > known})
    )
    cost.assigned.append(sum(line.kind == "assigned" for line in inside))
    starts: dict[int, list[float]] = defaultdict(list)
    for line in inside:
        if line.kind == "start":
            starts[line.partition].append(line.at)
    gaps = [b - a for times in starts.values() for a, b in pairwise(sorted(times)) if b - a > PAUSE_S]
    cost.paused_s.append(sum(gaps))
    cost.longest_s.append(max(gaps, default=0.0))


def _section(costs: Sequence[Cost], rolls: int) -> str:
    head = (
        f"{MEMBERS} members, {PARTITIONS} partitions, {RATE:g} records/s, handlers of 0 to 10 ms; {rolls} rolling restarts"
        f" of each kind. One machine with {os.cpu_count()} cores ({platform.system()}, {platform.machine()}), which the"
        f" two brokers, the members and the producer share; load average {os.getloadavg()[0]:.1f}."
    )
    lines = [
        f"{head} {versions()}.",
        "",
        "| group | rebalances | partitions assigned | partition-seconds paused | longest pause of one partition, s | records repeated |",
        "|---|---|---|---|---|---|",
        *(cost.row() for cost in costs),
        "",
        "Medians of the rolls, but for the last two columns: the longest of all, and the sum.",
        f"A pause is a gap of more than {PAUSE_S:g} s between two records of a partition.",
    ]
    return "\n".join(lines)
