"""How each fault of the schedule is done, on threads of its own, one after the other per member.

Decides nothing about when. Invariants: what a fault takes away it gives back, also when the run ends early; a member
is under one fault at a time; a fault that finds everybody busy is counted as skipped.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, NewPartitions

from tests.chaos.proxy import Link
from tests.chaos.schedule import EVERYBODYS, MAIN_MEMBERS, MEMBERS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from tests.chaos.cluster import Cluster
    from tests.chaos.crew import Crew, Protocol
    from tests.chaos.proxy import Proxy
    from tests.chaos.reaper import Reaper
    from tests.chaos.schedule import Fault
    from tests.members.ledger import Ledger

DELAY_S = 0.15
LOCK_WAIT_S = 20.0
REST_S = 4.0
"""A member is left alone for so long after a fault: else one that is hit again and again could rightly stop for ever."""
ADDED_PARTITIONS = 2
BETWEEN_ROLLED_S = 1.0
LINKS = {
    Kind.CUT: Link.CUT,
    Kind.CUT_PAST_SESSION: Link.CUT,
    Kind.HALF_OPEN: Link.HALF_OPEN,
    Kind.DEAF: Link.DEAF,
    Kind.DELAY: Link.DELAYED,
}


class Faults:
    """Does faults. `begin` is called by one thread; each fault then runs on its own."""

    def __init__(
        self,
        cluster: Cluster,
        proxy: Proxy,
        crews: Mapping[Protocol, Crew],
        topic: str,
        ledger: Ledger,
        reaper: Reaper,
        nodes: Iterator[int],
    ) -> None:
        """`nodes`: which broker is restarted next."""
        self.done: Counter[Kind] = Counter()
        self.skipped: Counter[Kind] = Counter()
        self.failed: list[str] = []
        self._cluster = cluster
        self._proxy = proxy
        self._crews = crews
        self._topic = topic
        self._ledger = ledger
        self._reaper = reaper
        self._nodes = nodes
        self._on_cluster = threading.Lock()
        self._hurried = threading.Event()
        self._threads: list[threading.Thread] = []
        self._counting = threading.Lock()
        # Behind that lock; by crew, None being the cluster.
        self._under_way: Counter[Protocol | None] = Counter()
        self._over_at: dict[Protocol | None, float] = {}

    def begin(self, fault: Fault) -> None:
        """Do this fault now; returns at once."""
        thread = threading.Thread(
            target=self._guarded, args=(fault,), name=f"fault-{fault.number}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def active(self) -> int:
        """How many faults are being done."""
        with self._counting:
            return self._under_way.total()

    def calm_since(self, crew: Protocol, now: float) -> float:
        """Since when no fault concerns this crew; `now` if one does."""
        with self._counting:
            if self._under_way[crew] or self._under_way[None]:
                return now
            return max(self._over_at.get(crew, 0.0), self._over_at.get(None, 0.0))

    def finish(self, within_s: float, *, hurry: bool = False) -> None:
        """Wait until all are over; `hurry` ends their waits first."""
        if hurry:
            self._hurried.set()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        assert not left, f"faults did not end: {left}"

    def _guarded(self, fault: Fault) -> None:
        with contextlib.ExitStack() as stack:
            taken = self._take(fault, stack)
            if taken is None:
                self.skipped[fault.kind] += 1
                return
            self._ledger.write("fault", detail=str(taken), offset=fault.number)
            self._note(taken, +1)
            try:
                _HOW[fault.kind](self, taken)
                self.done[fault.kind] += 1
            except Exception as error:  # noqa: BLE001 # a fault that cannot be done is told at the end, with the rest
                self.failed.append(f"{taken}: {type(error).__name__}: {error}")
            self._ledger.write("fault over", detail=str(taken), offset=fault.number)
            self._note(taken, -1)
            self._wait(REST_S)

    def _note(self, fault: Fault, change: int) -> None:
        with self._counting:
            self._under_way[fault.crew] += change
            self._over_at[fault.crew] = time.monotonic()

    def _take(self, fault: Fault, stack: contextlib.ExitStack) -> Fault | None:
        """Lock who is meant, or another member that is free; None if there is nobody."""
        if fault.crew is None:
            return fault if _locked(stack, self._on_cluster) else None
        locks = self._crews[fault.crew].locks
        if fault.kind in {Kind.HOSTILE_IDLE, Kind.HOSTILE_LAPSED}:
            return fault
        if fault.kind is Kind.ROLL:
            return fault if all(_locked(stack, locks[name]) for name in MAIN_MEMBERS) else None
        names = MAIN_MEMBERS if fault.kind is Kind.WEDGE else MEMBERS
        for name in (fault.member, *names):
            if locks[name].acquire(blocking=False):
                stack.callback(locks[name].release)
                return replace(fault, member=name)
        return None

    def _crew(self, fault: Fault) -> Crew:
        assert fault.crew is not None
        return self._crews[fault.crew]

    def _wait(self, seconds: float) -> None:
        self._hurried.wait(seconds)

    # One method a fault

    def _kill(self, fault: Fault) -> None:
        crew = self._crew(fault)
        crew.kill(fault.member)
        self._wait(fault.for_s)
        crew.start(fault.member)

    def _stop(self, fault: Fault) -> None:
        crew = self._crew(fault)
        crew.stop(fault.member)
        self._wait(fault.for_s)
        crew.start(fault.member)

    def _roll(self, fault: Fault) -> None:
        crew = self._crew(fault)
        for name in MAIN_MEMBERS:
            crew.stop(name)
            crew.start(name)
            self._wait(BETWEEN_ROLLED_S)

    def _freeze(self, fault: Fault) -> None:
        crew = self._crew(fault)
        with self._adrift(crew.label(fault.member), "freeze"):
            crew.send(fault.member, signal.SIGSTOP)
            self._wait(fault.for_s)
            crew.send(fault.member, signal.SIGCONT)

    def _wedge(self, fault: Fault) -> None:
        # The process itself writes down that it is adrift.
        self._crew(fault).send(fault.member, signal.SIGUSR2)
        time.sleep(fault.for_s + 0.5)

    def _disturb(self, fault: Fault) -> None:
        label = self._crew(fault).label(fault.member)
        with self._adrift(label, LINKS[fault.kind].value):
            self._proxy.set(label, LINKS[fault.kind], DELAY_S)
            self._wait(fault.for_s)
            self._proxy.set(label, Link.SOUND)

    @contextlib.contextmanager
    def _adrift(self, label: str, why: str) -> Generator[None]:
        self._ledger.write("adrift", member=label, detail=why)
        yield
        self._ledger.write("back", member=label, detail=why)

    def _hostile(self, fault: Fault) -> None:
        crew = self._crew(fault)
        kind = "idle" if fault.kind is Kind.HOSTILE_IDLE else "lapsed"
        command = [sys.executable, "-m", "tests.chaos.hostile", kind, self._cluster.direct]
        command += [crew.main_group, crew.protocol, self._topic]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reaper.watch(process.pid)
        self._wait(fault.for_s)
        process.kill()
        process.wait()
        self._reaper.forget(process.pid)

    def _restart_node(self, _fault: Fault) -> None:
        self._cluster.restart(next(self._nodes))

    def _move_coordinators(self, _fault: Fault) -> None:
        self._cluster.move_coordinators()

    def _add_partitions(self, _fault: Fault) -> None:
        admin = AdminClient({"bootstrap.servers": self._cluster.direct})
        count = len(admin.list_topics(self._topic, timeout=10).topics[self._topic].partitions)
        asked = NewPartitions(self._topic, count + ADDED_PARTITIONS)
        admin.create_partitions([asked], request_timeout=15)[self._topic].result(15)


def _locked(stack: contextlib.ExitStack, lock: threading.Lock) -> bool:
    taken = lock.acquire(timeout=LOCK_WAIT_S)
    if taken:
        stack.callback(lock.release)
    return taken


_HOW: dict[Kind, Callable[[Faults, Fault], None]] = {
    Kind.KILL: Faults._kill,
    Kind.STOP: Faults._stop,
    Kind.ROLL: Faults._roll,
    Kind.FREEZE_BRIEFLY: Faults._freeze,
    Kind.FREEZE_PAST_SESSION: Faults._freeze,
    Kind.FREEZE_PAST_POLL: Faults._freeze,
    Kind.WEDGE: Faults._wedge,
    Kind.CUT: Faults._disturb,
    Kind.CUT_PAST_SESSION: Faults._disturb,
    Kind.HALF_OPEN: Faults._disturb,
    Kind.DEAF: Faults._disturb,
    Kind.DELAY: Faults._disturb,
    Kind.HOSTILE_IDLE: Faults._hostile,
    Kind.HOSTILE_LAPSED: Faults._hostile,
    Kind.NODE_RESTART: Faults._restart_node,
    Kind.COORDINATOR_MOVE: Faults._move_coordinators,
    Kind.PARTITIONS_ADDED: Faults._add_partitions,
}
assert set(_HOW) == set(Kind)
assert all(kind in _HOW for kind in EVERYBODYS)
