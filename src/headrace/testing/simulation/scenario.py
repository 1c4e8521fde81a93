"""What a simulation plays: topics, records, members and their schedule, settings, faults; one frozen value, from a seed.

Decides what is drawn how often; refuses to run anything. Small by design: a fault shows in a small world as well as in a
large one, and is easier to read there. Invariant: the same seed draws the same scenario, which says all that is not chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeVar, final

from headrace.config import (
    Batching,
    Budgets,
    Commit,
    RetryPolicy,
    Timeouts,
    require_choice,
    require_count,
    require_range,
)
from headrace.errors import ConfigError
from headrace.subscriptions import (
    Ack,
    Guarantee,
    OnExhausted,
    OrderBy,
    OutOfRange,
    RunIn,
    Start,
    SubscriptionSettings,
)
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.model.settings import ModelSettings, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

TOPICS: Final = ("orders", "payments")
LETTERS: Final = "dead"
What = Literal["start", "stop", "stop_hard", "kill", "freeze", "bounce", "seek", "pause"]
Phase = Literal["assign", "run", "drain", "revoke", "stop"]
CODES: Final = (
    "NOT_COORDINATOR",
    "COORDINATOR_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "REQUEST_TIMED_OUT",
    "UNSTABLE_OFFSET_COMMIT",
    "UNKNOWN_MEMBER_ID",
)
"""Codes with which a commit can be refused in a healthy world, under any protocol."""
CODES_CLASSIC: Final = (*CODES, "REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION")
CODES_KIP848: Final = (*CODES, "STALE_MEMBER_EPOCH")
PHASES: Final[tuple[Phase, ...]] = ("assign", "run", "drain", "revoke", "stop")


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a member at a moment: `member` is a slot, whose current life is meant.

    amount: seconds of a freeze, until the restart of a bounce, or of a pause; for a seek it draws the partition.
    """

    at: float
    what: What
    member: int
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Commits that the coordinator refuses with one code, when members come to a phase.

    phase: "assign" (the commit of a resolved start), "run" (a handler began), "drain" (a revoke began while handlers
    run), "revoke" (any revoke began), "stop" (a stop was asked for). commits: so many each time; rounds: so many times.
    """

    phase: Phase
    code: str
    commits: int = 1
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world."""

    seed: int
    protocol: Protocol
    subscriptions: tuple[SubscriptionSettings, ...]
    partitions: int = 2
    """Of each topic."""
    records: int = 20
    keys: int = 3
    hot: float = 0.0
    """Share of records that have the one hot key."""
    keyless: float = 0.0
    transactions: float = 0.0
    """Share of records written in transactions, some of which are aborted."""
    troubled_s: float = 10.0
    """How long the world is troubled; afterwards nothing fails."""
    members: int = 1
    static: bool = False
    """Whether each slot has a `group.instance.id`."""
    deeds: tuple[Deed, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    stuck: int = 0
    """Records whose handlers never end, not even when all is calm: all others must be finished all the same."""
    failing: int = 0
    """Records whose handlers ask for another try for ever: all others must be finished all the same."""
    foreign: str = ""
    """Metadata that another consumer left with the group's committed offsets."""
    workers: int = 2
    handlers: Handlers = field(default_factory=Handlers)
    faults: Faults = field(default_factory=Faults)
    preemption: float = 0.0
    """How often a thread loses the processor where it could."""
    poll_idle_s: float = 0.5
    inbox_stretch: float = 1.0
    """How much longer than asked for a wait for results may take: as on a machine that is busy elsewhere."""
    commit: Commit = field(default_factory=Commit)
    budgets: Budgets = field(default_factory=Budgets)
    timeouts: Timeouts = field(default_factory=Timeouts)
    settings: ModelSettings = field(default_factory=ModelSettings)
    chance: int = 0
    """Other chances in the same scenario: another order of things, other outcomes."""

    def __post_init__(self) -> None:
        require_choice("protocol", self.protocol, ("eager", "cooperative", "kip848"))
        for name, most in (("partitions", 100), ("members", 20), ("workers", 100)):
            require_count(name, getattr(self, name), 1, most)
        require_count("records", self.records, 0, 100_000)
        require_count("keys", self.keys, 1, 100_000)
        require_count("stuck", self.stuck, 0, 100)
        for name in ("hot", "keyless", "transactions", "preemption"):
            require_range(name, getattr(self, name), 0.0, 1.0)
        require_range("troubled_s", self.troubled_s, 0.0, 3600.0)
        require_range("poll_idle_s", self.poll_idle_s, 0.001, 60.0)
        require_range("inbox_stretch", self.inbox_stretch, 1.0, 1000.0)
        if not self.subscriptions:
            raise ConfigError("subscriptions", self.subscriptions, "at least one")

    def topics(self) -> Iterator[tuple[str, SubscriptionSettings]]:
        """Each topic that is read, with its subscription."""
        return ((topic, settings) for settings in self.subscriptions for topic in settings.topics)


def codes_of(protocol: Protocol) -> tuple[str, ...]:
    """The codes with which a commit can be refused under this protocol."""
    return CODES_KIP848 if protocol == "kip848" else CODES_CLASSIC


def scenario_of(seed: int) -> Scenario:
    """Draw one."""
    return _Draw(seed).scenario()


@final
class _Draw:
    """One drawing."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # Not the seed of the play itself: its first answers would be the scenario's.
        self._choices = Seeded(seed ^ 0x5EED)

    def one(self, *options: T) -> T:
        return options[self._choices.index("", len(options))]

    def chance(self, probability: float) -> bool:
        return self._choices.chance("", probability)

    def between(self, low: float, high: float) -> float:
        return round(self._choices.between("", low, high), 3)

    def count(self, low: int, high: int) -> int:
        return low + self._choices.index("", high - low + 1)

    def maybe(self, probability: float, most: float) -> float:
        """Zero, or with this probability a number up to `most`."""
        return self.between(0.0, most) if self.chance(probability) else 0.0

    def scenario(self) -> Scenario:
        protocol: Protocol = self.one("eager", "cooperative", "kip848")
        members = self.one(1, 2, 2, 3)
        workers = self.count(1, 4)
        troubled_s = self.between(5.0, 40.0)
        subscriptions = self._subscriptions()
        budgets = Budgets(
            queued_records_max=self.one(1, 3, 10, 10_000),
            lookahead_records_max=self.one(5, 50, 100_000),
            parked_records_max=self.one(2, 10, 50_000),
        )
        return Scenario(
            seed=self._seed,
            protocol=protocol,
            subscriptions=subscriptions,
            partitions=self.count(1, 4),
            records=self.count(3, 70),
            keys=self.count(1, 8),
            hot=self.maybe(0.3, 0.95),
            keyless=self.maybe(0.3, 0.5),
            transactions=self.maybe(0.2, 0.5),
            troubled_s=troubled_s,
            members=members,
            static=self.chance(0.15),
            deeds=self._deeds(members, troubled_s),
            refusals=self._refusals(protocol) if self.chance(0.35) else (),
            stuck=self._stuck(subscriptions, workers, budgets) if self.chance(0.2) else 0,
            failing=self._failing(subscriptions, budgets) if self.chance(0.15) else 0,
            foreign=self.one("{}", "hr9:AAAA", "hr1:AAAAAAAA", "2026-11-21") if self.chance(0.1) else "",
            workers=workers,
            handlers=self._handlers(),
            faults=Faults.drawn(self._choices, self.one(0.0, 0.3, 1.0, 1.0, 2.0)),
            preemption=self.maybe(0.7, 0.3),
            poll_idle_s=self.one(0.1, 1.0, 1.0, 2.0),
            inbox_stretch=self.one(1.0, 20.0, 40.0, 40.0),
            commit=Commit(
                every_s=self.one(0.1, 0.5, 1.0, 5.0),
                every_records=self.one(None, None, 1, 5),
                timeout_s=self.one(1.0, 10.0),
            ),
            budgets=budgets,
            timeouts=Timeouts(drain_s=self.one(0.0, 0.5, 3.0, 10.0), stop_s=25.0),
        )

    def _deeds(self, members: int, troubled_s: float) -> tuple[Deed, ...]:
        def deed() -> Deed:
            what: What = self.one(
                "start",
                "stop",
                "stop",
                "kill",
                "kill",
                "freeze",
                "bounce",
                "bounce",
                "bounce",
                "stop_hard",
                "seek",
                "pause",
            )
            return Deed(
                self.between(0.0, troubled_s), what, self.count(0, members - 1), self.between(0.5, 45.0)
            )

        deeds = [deed() for _ in range(self.count(0, 6))]
        return tuple(sorted(deeds, key=lambda each: each.at))

    def _refusals(self, protocol: Protocol) -> tuple[Refusal, ...]:
        codes = codes_of(protocol)
        return tuple(
            Refusal(self.one(*PHASES), self.one(*codes), self.count(1, 3), self.count(1, 4))
            for _ in range(self.count(1, 3))
        )

    def _stuck(self, subscriptions: tuple[SubscriptionSettings, ...], workers: int, budgets: Budgets) -> int:
        """So few that others have a worker left, and none where a budget or the order makes all wait for one."""
        if (budgets.queued_records_max, budgets.lookahead_records_max) != (10_000, 100_000):
            return 0
        free = min(
            0
            if each.batch is not None or each.order_by == "partition" or each.guarantee != "at_least_once"
            else each.concurrency - 1
            if each.run_in == "asyncio"
            else min(each.concurrency, workers) - 1
            for each in subscriptions
        )
        return min(free, self.count(1, 2))

    def _failing(self, subscriptions: tuple[SubscriptionSettings, ...], budgets: Budgets) -> int:
        """None where a budget of their own, or the order, makes all wait for them."""
        if budgets.parked_records_max < 50_000 or budgets.lookahead_records_max < 100_000:
            return 0
        if any(
            each.batch is not None or each.order_by == "partition" or each.guarantee != "at_least_once"
            for each in subscriptions
        ):
            return 0
        return self.count(1, 4)

    def _subscriptions(self) -> tuple[SubscriptionSettings, ...]:
        match self.one("one", "one", "one", "both", "each"):
            case "both":
                return (self._subscription("simulated", TOPICS),)
            case "each":
                return tuple(self._subscription(topic, (topic,)) for topic in TOPICS)
            case _:
                return (self._subscription("simulated", TOPICS[:1]),)

    def _subscription(self, name: str, topics: tuple[str, ...]) -> SubscriptionSettings:
        guarantee: Guarantee = "at_least_once" if self.chance(0.88) else self.one("at_most_once", "none")
        run_in: RunIn = self.one("threads", "threads", "asyncio", "asyncio", "processes")
        ack: Ack = self.one("on_return", "on_return", "manual")
        if guarantee != "at_least_once" or run_in == "processes":
            ack = "on_return"
        exhausted: OnExhausted = self.one("dead_letter", "dead_letter", "skip", "stop")
        order: OrderBy = self.one("key", "key", "key", "partition", "none")
        start: Start = self.one("earliest", "earliest", "earliest", "earliest", "latest")
        out_of_range: OutOfRange = self.one("earliest", "earliest", "earliest", "earliest", "latest")
        batched = self.chance(0.2) and ack != "manual"
        return SubscriptionSettings(
            name=name,
            topics=topics,
            order_by=order,
            concurrency=self.one(1, 4, 64),
            run_in=run_in,
            batch=Batching(self.count(1, 10), self.one(0.0, 0.2)) if batched else None,
            retry=self._retry(),
            dead_letter=LETTERS if exhausted == "dead_letter" else None,
            on_exhausted=exhausted,
            timeout_s=self.one(None, None, None, 0.3, 5.0),
            start_if_no_offset=start,
            on_out_of_range=out_of_range,
            guarantee=guarantee,
            ack=ack,
        )

    def _retry(self) -> RetryPolicy:
        if self.chance(0.15):
            return RetryPolicy(attempts_max=8, backoff_initial_s=10.0, backoff_max_s=30.0)
        return RetryPolicy(attempts_max=self.count(1, 4), backoff_initial_s=0.1, backoff_max_s=5.0)

    def _handlers(self) -> Handlers:
        return Handlers(
            quick_s=self.one(0.0, 0.001, 0.05, 0.5),
            slow=self.maybe(0.4, 0.3),
            slow_s=self.between(0.1, self.one(2.0, 2.0, 10.0, 40.0)),
            hangs=self.maybe(0.15, 0.05),
            raises=self.maybe(0.4, 0.5),
            later=self.maybe(0.15, 0.3),
            rejects=self.maybe(0.15, 0.2),
            undecodable=self.maybe(0.15, 0.2),
            filtered=self.maybe(0.15, 0.3),
            fatal=self.maybe(0.05, 0.02),
            dies=self.maybe(0.3, 0.1),
            poison=self.one(0, 0, 0, ord("1"), ord("2")),
            ignores_cancel=self.maybe(0.3, 1.0),
            produces=self.maybe(0.2, 0.5),
            produce_fails=self.maybe(0.3, 0.3),
            acks_early=self.maybe(0.2, 0.5),
            acks_late_s=self.maybe(0.6, 10.0),
            letter_fails=self.maybe(0.3, 0.6),
        )
