"""One run of chaos: a cluster, crews, traffic and faults; then calm; then the judgement.

Decides the order of a run and what calm must show: every record handled, every main member at work. Refuses to judge
what happened (`judge`) or to say how (`report`). Invariant: whatever was started is ended, however the run ends.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from tests.chaos.cluster import Cluster
from tests.chaos.crew import RESTLESS_MEMBERS, Crew
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Faults
from tests.chaos.offsets import OffsetsLog
from tests.chaos.progress import Progress
from tests.chaos.proxy import Proxy
from tests.chaos.reaper import Reaper
from tests.chaos.report import Outcome, stall_text
from tests.chaos.schedule import MAIN_MEMBERS, MEMBERS, SCALING_MEMBERS, schedule
from tests.chaos.traffic import Traffic
from tests.chaos.versions import versions
from tests.members.ledger import Ledger
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests.chaos.crew import Protocol
    from tests.chaos.progress import Stall

PARTITIONS = 8
RATE = 80.0
LOOK_EVERY_S = 0.25
TELL_EVERY_S = 10.0
STACKS_EVERY_S = 30.0
"""So often a process is asked for its stacks: to write them while its threads run is not without danger for it."""
ASSEMBLE_S = 60.0
FAULTS_OVER_WAIT_S = 60.0
CALM_S = 45.0
"""Within so long after the last fault everybody is at work; and as long after the last record all is handled."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run. `folder` takes ledgers, logs and the nodes' data."""

    seed: int
    duration_s: float
    protocols: tuple[Protocol, ...]
    folder: Path
    rate: float = RATE

    def command(self) -> str:
        """The line that runs it again."""
        protocol = self.protocols[0] if len(self.protocols) == 1 else "both"
        minutes = f"{self.duration_s / 60:g}"
        return (
            f"scripts/chaos --minutes {minutes} --protocol {protocol} --seed {self.seed} --rate {self.rate:g}"
        )


def run(wanted: Wanted, say: Callable[[str], object]) -> Outcome:
    """Do it all. Raises only if the run itself could not be made."""
    folder = wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "faults.jsonl")
    with ExitStack() as stack:
        reaper = Reaper()
        stack.callback(reaper.close)
        cluster = Cluster(folder / "nodes", reaper)
        stack.callback(cluster.stop)
        cluster.start()
        proxy = Proxy([(node.proxied, node.upstream) for node in cluster.nodes])
        stack.callback(proxy.close)
        proxy.start()
        topic = Topics(cluster.direct, prefix="chaos").create(partitions=PARTITIONS, suffix="-records")
        crews: dict[Protocol, Crew] = {}
        for protocol in wanted.protocols:
            crews[protocol] = Crew(protocol, cluster.proxied, topic, folder, wanted.seed, ledger, reaper)
            stack.callback(crews[protocol].close)
        faults = Faults(cluster, proxy, crews, topic, ledger, reaper, nodes=cycle((2, 1)))
        return _Course(wanted, say, cluster, crews, faults, topic).run()


class _Course:
    """What happens between start and end. Made, used and dropped by one thread."""

    def __init__(
        self,
        wanted: Wanted,
        say: Callable[[str], object],
        cluster: Cluster,
        crews: Mapping[Protocol, Crew],
        faults: Faults,
        topic: str,
    ) -> None:
        self._wanted = wanted
        self._say = say
        self._folder = wanted.folder
        self._crews = tuple(crews.values())
        self._faults = faults
        self._paths = {g: self._folder / f"{g}.jsonl" for crew in self._crews for g in crew.groups}
        acked = self._folder / "acked.jsonl"
        self._progress = Progress(acked, self._paths)
        self._traffic = Traffic(cluster.direct, topic, Ledger(acked), wanted.seed, wanted.rate)
        self._log = OffsetsLog(cluster.direct, {group: Ledger(path) for group, path in self._paths.items()})
        self._troubles: list[str] = []
        self._told: set[tuple[str, int, str]] = set()
        self._asked_at: dict[str, float] = {}

    def run(self) -> Outcome:
        for crew in self._crews:
            for name in MEMBERS:
                crew.start(name)
        assembled = self._await(lambda: all(map(self._is_complete, self._crews)), ASSEMBLE_S)
        assert assembled, f"the crews did not assemble; see {self._folder}"
        self._log.start()
        self._traffic.start()
        began = time.monotonic()
        self._do_faults(began)
        self._calm()
        self._traffic.close()
        self._troubles += [
            f"a record was not acknowledged: {text}" for text in self._traffic.unacknowledged[:3]
        ]
        self._look()
        if not self._await(lambda: self._progress.unfinished() == 0, CALM_S):
            left = self._progress.unfinished()
            self._troubles.append(f"{left} records are not handled {CALM_S:g} s after the last one")
        duration_s = time.monotonic() - began
        for crew in self._crews:
            for name in tuple(crew.alive()):
                crew.stop(name)
        self._log.close()
        self._troubles += [f"fault failed: {text}" for text in self._faults.failed]
        return self._judged(duration_s)

    def _do_faults(self, began: float) -> None:
        plan = schedule(self._wanted.seed, self._wanted.duration_s, self._wanted.protocols)
        told_at = began
        for fault in plan:
            while (now := time.monotonic()) < began + fault.at_s:
                self._look()
                if now - told_at > TELL_EVERY_S:
                    told_at = now
                    self._say(self._live(now - began))
                time.sleep(LOOK_EVERY_S)
            self._faults.begin(fault)
        while (
            self._faults.active() and time.monotonic() < began + self._wanted.duration_s + FAULTS_OVER_WAIT_S
        ):
            self._look()
            time.sleep(LOOK_EVERY_S)
        self._faults.finish(FAULTS_OVER_WAIT_S, hurry=True)
        self._say(self._live(time.monotonic() - began) + "; calm")

    def _calm(self) -> None:
        """Faults are over, records still come: soon every member must be at work, and connections come and go again."""
        since = time.monotonic() + 1.0

        def idle() -> list[str]:
            labels = self._labels(MAIN_MEMBERS + SCALING_MEMBERS)
            return [label for label in labels if not self._progress.started_since(label, since)]

        def fixed() -> list[str]:
            labels = self._labels(RESTLESS_MEMBERS)
            return [label for label in labels if not self._progress.scaled_since(label, since)]

        if not self._await(lambda: not idle() and not fixed(), CALM_S):
            self._troubles += [
                f"fixed number: {label} changed its connections no more since the faults ended\n{self._evidence(label)}"
                for label in fixed()
            ]
            self._troubles += [
                f"stuck member: {label} started nothing since the faults ended\n{self._evidence(label)}"
                for label in idle()
            ]

    def _labels(self, names: Iterable[str]) -> list[str]:
        return [crew.label(name) for crew in self._crews for name in names]

    def _await(self, condition: Callable[[], bool], within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self._look()
            if condition():
                return True
            time.sleep(LOOK_EVERY_S)
        return False

    def _look(self) -> None:
        now = time.monotonic()
        calm_since = {
            group: self._faults.calm_since(crew.protocol, now)
            for crew in self._crews
            for group in crew.groups
        }
        for stall in self._progress.look(now, calm_since):
            self._tell_stall(stall, now)
        for crew in self._crews:
            for label, code, log in crew.ended_by_themselves():
                if ("died", 0, label) not in self._told:
                    self._told.add(("died", 0, label))
                    # The gravest first: only so many are shown.
                    self._troubles.insert(0, f"died: {label} ended by itself with {code}:\n{log}")
                crew.revive(label)

    def _tell_stall(self, stall: Stall, now: float) -> None:
        known = (stall.group, stall.partition, stall.who)
        if known in self._told:
            return
        self._told.add(known)
        for crew in self._crews:
            for name, label in crew.alive().items():
                if (
                    stall.who.startswith(label)
                    and now >= self._asked_at.get(label, -STACKS_EVERY_S) + STACKS_EVERY_S
                ):
                    self._asked_at[label] = now
                    crew.send(name, signal.SIGUSR1)  # all its stacks go to its log
                    time.sleep(0.2)
        text = stall_text(stall, now, self._evidence(stall.who))
        self._troubles.append(text)
        self._say(text)

    def _evidence(self, member: str) -> str:
        log = self._folder / f"{member.partition('/')[0]}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "(no log)"

    def _judged(self, duration_s: float) -> Outcome:
        evidence = Evidence.read(self._folder)
        return Outcome(
            command=self._wanted.command(),
            versions=versions(),
            seed=self._wanted.seed,
            duration_s=duration_s,
            verdicts=evidence.verdicts(),
            faults_done={kind.value: count for kind, count in self._faults.done.items()},
            faults_skipped={kind.value: count for kind, count in self._faults.skipped.items()},
            troubles=self._troubles + evidence.troubles(),
            handovers=evidence.handovers(),
            produced=len(evidence.acked),
            handled=self._progress.handled,
            slow_s=self._progress.slow_s,
            oldest_s=self._progress.oldest_s,
            files=str(self._folder),
        )

    def _is_complete(self, crew: Crew) -> bool:
        return self._progress.holders(crew.main_group) == {crew.label(name) for name in MAIN_MEMBERS}

    def _live(self, at_s: float) -> str:
        progress, faults = self._progress, self._faults
        return (
            f"{at_s:5.0f} s: produced {progress.produced}, handled {progress.handled}, "
            f"unfinished {progress.unfinished()}, faults done {faults.done.total()}, under way {faults.active()}"
        )
