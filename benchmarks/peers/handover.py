"""Time from a member's end or arrival until its partitions are worked on elsewhere, and what is worked on twice.

Decides the scene: 8 partitions, 300 records/s, two members, of which one stops, is killed, or is joined by a third. Refuses
to read members' own words of it: each writes down every record it begins with, and all is told from those lines.
Invariant: every contender has the same session timeout (6 s) and heartbeats (1 s), or a killed one would be found at
different times.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import topics
from benchmarks.peers.cells import Cell, Shape
from benchmarks.peers.contenders import Task, command, contender_named
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.measuring import say

if TYPE_CHECKING:
    from benchmarks.peers.measuring import Bench

EVENTS = ("stop", "kill", "join")
CELL = Cell("handover", "300 records/s, 8 partitions", "async", shape=Shape(partitions=8), mode="latency")
PER_S = 300
SETTLE_S = 8.0
AFTER_S = 20.0
JOINED_S = 60.0
SESSION = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
OPTIONS: dict[str, dict[str, Any]] = {
    "headrace": {"librdkafka": SESSION},
    "raw": {
        "librdkafka": {
            **SESSION,
            "fetch.queue.backoff.ms": 10,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    },
    "faststream-confluent": {"subscription": {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}},
    "faststream-aiokafka": {"subscription": {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}},
}


@dataclass(frozen=True, slots=True)
class Line:
    """A record that a member began with."""

    at: float
    partition: int
    offset: int
    member: int


class Scene:
    """Members of one group and what they wrote down. For one thread."""

    def __init__(self, bench: Bench, contender: str, topic: str, folder: Path) -> None:
        self._bench, self._contender, self._topic, self._folder = bench, contender, topic, folder
        self._group = f"handover-{uuid.uuid4().hex[:8]}"
        self.members: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more member."""
        journal = self._folder / str(len(self.members))
        journal.touch()
        task = Task(
            self._bench.servers,
            self._topic,
            self._group,
            0,
            CELL,
            "journal",
            str(journal),
            OPTIONS[self._contender],
        )
        started = command(contender_named(self._contender), task, self._bench.environments)
        self.members.append(
            subprocess.Popen(
                started,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder,
                start_new_session=True,
            )
        )

    def lines(self) -> list[Line]:
        """All that was written down so far, whole lines only, in the order of time."""
        found: list[Line] = []
        for number in range(len(self.members)):
            text = (self._folder / str(number)).read_text()
            for line in text[: text.rfind("\n") + 1].splitlines():
                at, partition, offset = line.split()
                found.append(Line(float(at), int(partition), int(offset), number))
        return sorted(found, key=lambda line: line.at)

    def wait_until_shared(self) -> bool:
        """Whether each member works on something, within a minute."""
        give_up_at = time.monotonic() + JOINED_S
        while time.monotonic() < give_up_at:
            since = time.time() - 1.0
            if {line.member for line in self.lines() if line.at > since} == set(range(len(self.members))):
                return True
            time.sleep(0.2)
        return False

    def close(self) -> None:
        """Whatever still runs."""
        for member in self.members:
            if member.poll() is None:
                os.killpg(member.pid, signal.SIGKILL)
            member.wait()


def hand_over(bench: Bench, rounds: int, only: str | None) -> list[dict[str, Any]]:
    """An entry for each contender and event: medians over the rounds."""
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    troubles: dict[tuple[str, str], str] = {}
    for _ in range(rounds):
        for event in EVENTS:
            for contender in OPTIONS:
                if only and contender != only:
                    continue
                try:
                    found = one_scene(bench, contender, event)
                except Unavailable as missing:
                    found = {"error": str(missing)}
                say(f"handover {contender} {event}: {found}")
                runs.setdefault((contender, event), [])
                if "error" in found:
                    troubles[contender, event] = str(found["error"])
                else:
                    runs[contender, event].append(found)
    return [
        {
            "contender": contender,
            "event": event,
            "runs": len(each),
            **(medians(each) if each else {}),
            "trouble": troubles.get((contender, event), ""),
        }
        for (contender, event), each in runs.items()
    ]


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each number, over the runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def one_scene(bench: Bench, contender: str, event: str) -> dict[str, Any]:
    """Two members, the event, and what the lines say of the time after it."""
    topic = f"handover-{uuid.uuid4().hex[:8]}"
    topics.create(bench.servers, topic, CELL.shape.partitions)
    pace = topics.Pace(bench.servers, topic, PER_S, CELL.shape)
    with tempfile.TemporaryDirectory(prefix="headrace-handover-") as folder:
        scene = Scene(bench, contender, topic, Path(folder))
        try:
            scene.start()
            scene.start()
            if not scene.wait_until_shared():
                return {"error": f"the members did not share the topic within {JOINED_S:g} s"}
            time.sleep(SETTLE_S)
            at = time.time()
            if event == "join":
                scene.start()
            else:
                scene.members[0].send_signal(signal.SIGTERM if event == "stop" else signal.SIGKILL)
            time.sleep(AFTER_S)
            return told(scene.lines(), at, event)
        finally:
            scene.close()
            pace.close()
            topics.delete(bench.servers, [topic])


def told(lines: list[Line], at: float, event: str) -> dict[str, Any]:
    """What happened after the event.

    first_s, all_s: until the first and the last of the moved partitions is worked on by another member. pause_s: the longest
    time in which a partition was worked on by nobody. repeated: records begun with again after it.
    """
    before = {line.partition: line.member for line in lines if line.at < at}
    moved: dict[int, float] = {}
    last_at = dict.fromkeys(before, at)
    pause_s = 0.0
    for line in lines:
        if line.at < at:
            continue
        pause_s = max(pause_s, line.at - last_at.get(line.partition, at))
        last_at[line.partition] = line.at
        if line.member != before.get(line.partition) and line.partition not in moved:
            moved[line.partition] = line.at - at
    expected = {p for p, member in before.items() if member == 0} if event != "join" else set(moved)
    if not moved or not expected <= set(moved):
        return {
            "error": f"{len(expected - set(moved))} partitions were not worked on again within {AFTER_S:g} s"
        }
    begun: set[tuple[int, int]] = set()
    repeated = 0
    for line in lines:
        record = (line.partition, line.offset)
        repeated += (
            record in begun and line.at >= at
        )  # those of the second member's arrival are not the event's
        begun.add(record)
    return {
        "first_s": min(moved[p] for p in expected),
        "all_s": max(moved[p] for p in expected),
        "pause_s": pause_s,
        "repeated": repeated,
    }
