"""A scenario played to its end: trouble first, then calm, in which everything must be finished and committed.

Decides when what happens to whom; the scheduler decides the rest. Refuses to judge: that is the judge's. Invariant: one
scenario and one `Choices` give one history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from headrace._core.flights import FORGOTTEN_AFTER_S
from headrace.testing.invariants import Bounds, Judge, PromiseBroken, TopicRules, Violation
from headrace.testing.simulation import history as told
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.history import History
from headrace.testing.simulation.kernel import Kernel
from headrace.testing.simulation.member import GROUP, Member
from headrace.testing.simulation.model.kafka import ModelKafka
from headrace.testing.simulation.model.trouble import Trouble
from headrace.testing.simulation.phases import Refusing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.choices import Choices
    from headrace.testing.simulation.scenario import Deed, Scenario

STEPS_MAX: Final = 60_000
"""Of the scheduler, in one world. A world that needs more is busy with nothing."""
CALM_MAX_S: Final = 400.0
"""After trouble everything must be finished within so long: a session and a poll interval for each of its causes."""
GIVEN_OUT_AGAIN_S: Final = (0.0, 60.0, 120.0)
"""When the calm assigns a cooperative group of static members anew. A static member that goes between giving partitions
up and joining for the next round is taken back without a round, and nobody is given them: seen on Kafka 4.3.1."""
RESTART_S: Final = 3.0
VALUE: Final = b"0123456789"
CALM_MIN_S: Final = 5.0
"""A world does not end before: transactions are still open, seeks wait for their turn, and where a group begins is known
only when it is committed."""
OPEN_MAX_S: Final = 2.0
"""How long a transaction stays open."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a world ended. log: the history as lines."""

    scenario: Scenario
    violations: tuple[Violation, ...]
    steps: int
    seconds: float
    history: History


class World:
    """One scenario at play."""

    def __init__(self, scenario: Scenario, choices: Choices | None = None) -> None:
        self.scenario = self._told = scenario
        self.kernel = Kernel(choices or Seeded(scenario.seed ^ scenario.chance << 64))
        self.kernel.preempt_with(scenario.preemption)
        self.judge = Judge(_rules(scenario), _bounds(scenario))
        self.history = History(self._see)
        self.kafka = ModelKafka(self.kernel, self.history, scenario.faults, scenario.settings)
        self.topics = [topic for topic, _ in scenario.topics()]
        for topic in self.topics:
            self.kafka.create(topic, scenario.partitions)
        for letters in dict.fromkeys(each.dead_letter for each in scenario.subscriptions):
            if letters is not None:
                self.kafka.create(letters, 1)
        # Each slot's current life; a slot is a pod that is started again.
        self.slots: list[Member | None] = [None] * scenario.members
        self.lives = 0
        self._runs = count(1)
        self._trouble_maker = Trouble(self.kernel, self.kafka, GROUP, scenario.protocol, self.topics)
        self._refusing = Refusing(scenario.refusals, self.kafka)
        self.calm = self.over = False

    def play(self) -> Outcome:
        """Play it; what goes wrong in the core is a violation too."""
        try:
            self._trouble()
            self._calm()
            self._stop_all()
            self.judge.end(self.kernel.now)
        except PromiseBroken as broken:
            self.judge.violations.append(broken.violation)
        finally:
            self.kernel.end()
        return Outcome(
            self._told, tuple(self.judge.violations), self.kernel.steps, self.kernel.now, self.history
        )

    # Phases

    def _trouble(self) -> None:
        scenario, choices, kernel = self.scenario, self.kernel.choices, self.kernel
        for slot in range(scenario.members):
            kernel.later(choices.between("start", 0.0, 5.0), "start", partial(self._start, slot))
        self._schedule_records()
        for deed in scenario.deeds:
            kernel.later(deed.at, deed.what, partial(self._do, deed))
        self._trouble_maker.plan(scenario.troubled_s)
        if scenario.foreign:
            for place in ((topic, number) for topic in self.topics for number in range(scenario.partitions)):
                self.kafka.reset_offset(place, 0, metadata=scenario.foreign)
        self._run_until(scenario.troubled_s)

    def _calm(self) -> None:
        kernel = self.kernel
        self.calm = True
        self._trouble_maker.calm()
        if self.scenario.static and self.scenario.protocol == "cooperative":
            self._trouble_maker.rebalance_at(*GIVEN_OUT_AGAIN_S)
        self.kafka.calm()
        stuck, failing = self._append_stuck(), self._append_failing()
        self.history.add(kernel.now, told.FaultsOver((*stuck, *failing)))
        quiet = Handlers(quick_s=0.01, stuck=stuck, failing=failing)
        for member in self.slots:
            if member is not None:
                member.end_trouble(quiet)
                member.process.frozen_until = min(member.process.frozen_until, kernel.now)
        self.scenario = replace(self.scenario, handlers=quiet)
        until = kernel.now + CALM_MAX_S
        written_by = kernel.now + CALM_MIN_S
        while not self.judge.finished() or kernel.now < written_by:
            if not any(member is not None and member.alive and not member.stopping for member in self.slots):
                self._start_somewhere()
            self._run_until(min(until, kernel.now + 1.0))
            if kernel.now >= until or self.judge.violations:
                return

    def _stop_all(self) -> None:
        self.over = True
        for member in self.slots:
            if member is not None:
                member.stop()
        until = self.kernel.now + 2 * self.scenario.timeouts.stop_s
        while any(member is not None and member.alive for member in self.slots):
            if self.kernel.now >= until:
                raise PromiseBroken(
                    Violation("L3", self.kernel.now, "a member did not end within twice its stop budget")
                )
            self._run_until(min(until, self.kernel.now + 0.5))

    # Inside

    def _see(self, now: float, entry: told.Entry) -> None:
        self.judge.see(now, entry)
        self._refusing.see(entry)

    def _append_stuck(self) -> tuple[tuple[str, int, int], ...]:
        """Records whose handlers never end, each with others of its partition behind it."""
        stuck: list[tuple[str, int, int]] = []
        for number in range(self.scenario.stuck):
            place = (self.topics[0], number % self.scenario.partitions)
            stuck.append((*place, self.kafka.append(*place, f"stuck{number}".encode())))
            for key in (b"other", b"another", None, b"other"):
                self.kafka.append(*place, key)
        return tuple(stuck)

    def _append_failing(self) -> tuple[tuple[str, int, int], ...]:
        """Records that are tried again and again, with others of their keys; and healthy ones when they are fetched."""
        failing: list[tuple[str, int, int]] = []
        for number in range(self.scenario.failing):
            place = (self.topics[0], number % self.scenario.partitions)
            key = f"failing{number}".encode()
            failing.append((*place, self.kafka.append(*place, key)))
            for _ in range(3):
                self.kafka.append(*place, key)
            self.kernel.later(OPEN_MAX_S - 0.1, "healthy", partial(self._append_healthy, place))
        return tuple(failing)

    def _append_healthy(self, place: TopicPartition) -> None:
        self.kafka.append(*place, b"healthy")

    def _run_until(self, moment: float) -> None:
        kernel = self.kernel
        done: list[bool] = []
        kernel.later(moment - kernel.now, "moment", lambda: done.append(True))
        while not done:
            if kernel.steps > STEPS_MAX:
                raise PromiseBroken(
                    Violation("L5", kernel.now, f"more than {STEPS_MAX} steps of the scheduler")
                )
            if self.judge.violations:
                raise PromiseBroken(self.judge.violations.pop())
            if not kernel.step():
                raise PromiseBroken(Violation("L1", kernel.now, "nothing can happen any more"))

    def _start(self, slot: int) -> None:
        member = self.slots[slot]
        if self.over or (member is not None and member.alive):
            return
        self.lives += 1
        instance = f"instance-{slot}" if self.scenario.static else None
        fresh = Member(
            self.kernel,
            self.history,
            self.kafka,
            self.scenario,
            f"m{slot}.{self.lives}",
            instance,
            self._runs,
        )
        self.slots[slot] = fresh
        fresh.start()
        self._look_after(slot, fresh)

    def _start_somewhere(self) -> None:
        for slot, member in enumerate(self.slots):
            if member is None or not member.alive:
                self._start(slot)
                return

    def _look_after(self, slot: int, member: Member) -> None:
        """An operator starts again what ended with an error; and in the calm, whatever ended."""

        def look() -> None:
            if self.slots[slot] is not member or self.over:
                return
            ended_badly = member.ended and member.error is not None
            if ended_badly or (self.calm and not member.alive and not member.stopping):
                self._start(slot)
            else:
                self.kernel.later(RESTART_S, "look after", look)

        self.kernel.later(RESTART_S, "look after", look)

    def _do(self, deed: Deed) -> None:
        member = self.slots[deed.member % len(self.slots)]
        if self.calm:
            return
        if deed.what == "start" or member is None or not member.alive:
            self._start(deed.member % len(self.slots))
            return
        match deed.what:
            case "stop":
                member.stop()
            case "stop_hard":
                member.stop(hard=True)
            case "kill":
                member.kill()
            case "freeze":
                member.freeze(deed.amount)
            case "bounce":
                member.stop()
                self.kernel.later(
                    min(deed.amount, 10.0), "restart", lambda: self._start(deed.member % len(self.slots))
                )
            case "seek":
                self._seek(member, deed)
            case "pause":
                place = self._place_of(deed)
                member.pause(place, paused=True)
                resume_in_s = min(deed.amount, max(0.0, self.scenario.troubled_s - self.kernel.now))
                self.kernel.later(resume_in_s, "resume", partial(member.pause, place, paused=False))

    def _place_of(self, deed: Deed) -> TopicPartition:
        number = int(deed.amount * 10)
        return self.topics[number % len(self.topics)], number // 2 % self.scenario.partitions

    def _seek(self, member: Member, deed: Deed) -> None:
        place = self._place_of(deed)
        end = self.kafka.end(place)
        start = self.kafka.start(place)
        to = start + self.kernel.choices.index("seek", max(1, end - start + 1))
        member.seek(place, to)

    def _schedule_records(self) -> None:
        scenario, choices = self.scenario, self.kernel.choices
        for _ in range(scenario.records):
            at = 0.0 if choices.chance("early", 0.3) else choices.between("record", 0.0, scenario.troubled_s)
            self.kernel.later(at, "record", self._append)

    def _append(self) -> None:
        scenario, choices = self.scenario, self.kernel.choices
        key: bytes | None
        if choices.chance("keyless", scenario.keyless):
            key = None
        elif choices.chance("hot", scenario.hot):
            key = b"hot"
        else:
            key = f"k{choices.index('key', scenario.keys)}".encode()
        partition = (
            choices.index("partition", scenario.partitions) if key is None else sum(key) % scenario.partitions
        )
        topic = self.topics[choices.index("topic", len(self.topics))]
        if choices.chance("transaction", scenario.transactions):
            self.kafka.transaction(
                topic,
                partition,
                [key] * (1 + choices.index("of", 3)),
                choices.between("open", 0.0, OPEN_MAX_S),
                committed=choices.chance("committed", 0.6),
            )
        else:
            self.kafka.append(topic, partition, key, VALUE)


def _rules(scenario: Scenario) -> dict[str, TopicRules]:
    return {
        topic: TopicRules(
            settings.order_by,
            settings.guarantee,
            retry_after_s=0.0
            if settings.batch is not None
            else settings.retry.backoff_initial_s * (1 - settings.retry.jitter),
            starts_at_end=settings.start_if_no_offset == "latest",
            ends_after_retention=settings.on_out_of_range == "latest",
        )
        for topic, settings in scenario.topics()
    }


def _bounds(scenario: Scenario) -> Bounds:
    timeouts, settings, handlers = scenario.timeouts, scenario.settings, scenario.handlers
    expected = {"ForcedStop"}
    if any(each.exhausted == "stop" for each in scenario.subscriptions):
        expected.add("RecordFailed")
    if handlers.fatal:
        expected.add("HandlerStopped")
    if scenario.faults.broker_restarts or scenario.faults.request_lost:
        expected.add("BrokerUnreachable")
    if scenario.faults.topics_recreated:
        expected |= {"TopicMissing", "OffsetUnavailable"}
    if scenario.static:
        expected.add("Fenced")
    return Bounds(
        drain_s=timeouts.drain_s,
        stop_s=timeouts.stop_s,
        commit_timeout_s=FORGOTTEN_AFTER_S,
        max_poll_interval_s=settings.max_poll_interval_s,
        errors_expected=frozenset(expected),
    )


def play(scenario: Scenario, choices: Choices | None = None) -> Outcome:
    """Play one scenario."""
    return World(scenario, choices).play()


def replay_lines(outcome: Outcome) -> Sequence[str]:
    """The log of a world."""
    return outcome.history.lines()
