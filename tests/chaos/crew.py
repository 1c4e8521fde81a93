"""The processes of one group protocol: started, stopped, killed, frozen; and who of them is there.

Decides names and settings of members; refuses to judge. A name is a place in the crew ("classic-a"); each process that
fills it has a label ("classic-a.2"), so that the ledger never mixes two lives. Invariant: whatever is done to a process
is in the ledger of faults, and no process outlives the crew.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tests.chaos.program import Job
from tests.chaos.schedule import MAIN_MEMBERS, MAX_POLL_S, MEMBERS, SCALING_MEMBERS, SESSION_S
from tests.members.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.reaper import Reaper
    from tests.members.ledger import Ledger

Protocol = Literal["classic", "consumer"]
PROTOCOLS: tuple[Protocol, ...] = ("classic", "consumer")
SIDE_GROUPS = 2
CONNECTIONS = {"min": 1, "max": 3, "start": 2, "cooldown_s": 3.0, "grow_when": "partitions"}
RESTLESS_MEMBERS = ("many-2",)
"""These open and close connections without need; those of the others follow the policy."""
STATIC_MEMBERS = ("c",)
"""These keep their group.instance.id through restarts."""
STOP_WAIT_S = 60.0
CLASSIC = {"session.timeout.ms": int(SESSION_S * 1000), "heartbeat.interval.ms": 500}
SHARED = {
    "max.poll.interval.ms": int(MAX_POLL_S * 1000),
    # What was cut is tried again soon, and partitions that were added are seen soon.
    "reconnect.backoff.max.ms": 1000,
    "topic.metadata.refresh.interval.ms": 3000,
    "log_level": 3,
}


@dataclass(slots=True)
class Running:
    """One process."""

    label: str
    process: subprocess.Popen[bytes]
    log: Path


class Crew:
    """All members of one protocol. Threads of faults call it; one name is one thread's at a time (`locks`)."""

    def __init__(
        self,
        protocol: Protocol,
        servers: str,
        topic: str,
        folder: Path,
        seed: int,
        faults: Ledger,
        reaper: Reaper,
    ) -> None:
        self.protocol: Protocol = protocol
        self.main_group = f"{protocol}-main"
        self.side_groups = tuple(f"{protocol}-side-{n + 1}" for n in range(SIDE_GROUPS))
        self.scaling_group = f"{protocol}-many"
        self.groups = (self.main_group, *self.side_groups, self.scaling_group)
        self.locks: dict[str, threading.Lock] = {name: threading.Lock() for name in MEMBERS}
        self._servers = servers
        self._topic = topic
        self._folder = folder
        self._seed = seed
        self._faults = faults
        self._reaper = reaper
        self._lives: dict[str, int] = dict.fromkeys(MEMBERS, 0)  # whoever holds the name's lock
        self._running: dict[str, Running] = {}  # the same, by name

    def start(self, name: str) -> str:
        """Start a process in this place; returns its label at once."""
        self._lives[name] += 1
        label = f"{self.protocol}-{name}.{self._lives[name]}"
        job = self._job(name, label)
        log = self._folder / f"{label}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.program", job.to_argument()],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._reaper.watch(process.pid)
        self._faults.write("started", member=label)
        self._running[name] = Running(label, process, log)
        return label

    def stop(self, name: str) -> int:
        """SIGTERM, and wait; returns the exit code."""
        running = self._running.pop(name)
        self._faults.write("stopping", member=running.label)
        running.process.send_signal(signal.SIGTERM)
        try:
            code = running.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            running.process.send_signal(signal.SIGUSR1)
            running.process.kill()
            running.process.wait()
            code = -signal.SIGKILL
        self._ended(running)
        self._faults.write("stopped", member=running.label, detail=str(code))
        return code

    def kill(self, name: str) -> None:
        """SIGKILL."""
        running = self._running.pop(name)
        running.process.kill()
        running.process.wait()
        self._ended(running)
        self._faults.write("killed", member=running.label)

    def label(self, name: str) -> str:
        """Who is there now."""
        return self._running[name].label

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal."""
        self._running[name].process.send_signal(number)

    def alive(self) -> dict[str, str]:
        """Names and labels of all that run."""
        return {name: running.label for name, running in tuple(self._running.items())}

    def ended_by_themselves(self) -> list[tuple[str, int, str]]:
        """(label, exit code, end of its log) of each process that nobody ended."""
        found: list[tuple[str, int, str]] = []
        for running in tuple(self._running.values()):
            code = running.process.poll()
            if code is not None and running in self._running.values():
                found.append((running.label, code, running.log.read_text(errors="replace")[-2000:]))
        return found

    def revive(self, label: str) -> None:
        """Start a process anew in the place of one that ended by itself, as a supervisor would."""
        for name, running in tuple(self._running.items()):
            if running.label == label and self.locks[name].acquire(blocking=False):
                try:
                    if self._running.get(name) is running:
                        self._ended(running)
                        self.start(name)
                finally:
                    self.locks[name].release()

    def close(self) -> None:
        """Kill what still runs."""
        for running in self._running.values():
            running.process.kill()
            running.process.wait()
            self._ended(running)
        self._running.clear()

    def _ended(self, running: Running) -> None:
        self._reaper.forget(running.process.pid)

    def _job(self, name: str, label: str) -> Job:
        faults = str(self._folder / "faults.jsonl")
        if name in MAIN_MEMBERS:
            instance_id = f"static-{name}" if name in STATIC_MEMBERS else None
            plan = self._plan(self.main_group, label, label, instance_id)
            return Job(label, faults, (plan,))
        if name in SCALING_MEMBERS:
            plan = self._plan(self.scaling_group, label, label)
            restless = name in RESTLESS_MEMBERS
            plan = replace(plan, connections=CONNECTIONS, names_connections=True, restless=restless)
            return Job(label, faults, (plan,))
        plans = tuple(self._plan(group, f"{label}/{group}", label) for group in self.side_groups)
        return Job(label, faults, plans, churn_seed=self._seed)

    def _plan(self, group: str, member: str, client: str, instance_id: str | None = None) -> Plan:
        # Both ways to run handlers, side by side in one group.
        on_loop = client.partition(".")[0][-1] in "b2"
        settings: dict[str, Any] = {"client.id": client, **SHARED}
        if self.protocol == "classic":
            settings |= CLASSIC
        return Plan(
            name=member,
            bootstrap_servers=self._servers,
            group_id=group,
            topics=(self._topic,),
            ledger=str(self._folder / f"{group}.jsonl"),
            protocol=self.protocol,
            instance_id=instance_id,
            run_in="asyncio" if on_loop else "threads",
            slow_ms=30,
            commit_every_s=0.5,
            librdkafka=settings,
            subscribe={"concurrency": 8},
        )
