"""What a simulation plays: topics, records, members and their schedule, settings, faults; one frozen value, from a seed.

Decides what is drawn how often; refuses to run anything. Invariant: the same seed draws the same scenario.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from headrace.config import Batching, Budgets, Commit, RetryPolicy, Timeouts
from headrace.subscriptions import SubscriptionSettings
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.model.settings import ModelSettings

if TYPE_CHECKING:
    from headrace.subscriptions import Ack, OnExhausted, OrderBy, RunIn
    from headrace.testing.simulation.choices import Choices
    from headrace.testing.simulation.model.settings import Protocol

T = TypeVar("T")
TOPIC = "orders"
LETTERS = "orders.dead"
What = Literal["start", "stop", "stop_hard", "kill", "freeze", "bounce", "seek", "pause"]


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a member at a moment: `member` is a slot, whose current life is meant."""

    at: float
    what: What
    member: int
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world."""

    seed: int
    protocol: Protocol
    partitions: int
    records: int
    keys: int
    hot: float
    """Share of records that have the one hot key."""
    keyless: float
    troubled_s: float
    """How long the world is troubled; afterwards nothing fails."""
    members: int
    static: bool
    deeds: tuple[Deed, ...]
    subscriptions: tuple[SubscriptionSettings, ...]
    handlers: Handlers
    workers: int
    faults: Faults
    transactions: float = 0.0
    """Share of records written in transactions, some of which are aborted."""
    preemption: float = 0.05
    poll_idle_s: float = 0.5
    inbox_stretch: float = 1.0
    """How much longer than asked for a wait for results may take: as on a machine that is busy elsewhere."""
    commit: Commit = field(default_factory=Commit)
    budgets: Budgets = field(default_factory=Budgets)
    timeouts: Timeouts = field(default_factory=Timeouts)
    settings: ModelSettings = field(default_factory=ModelSettings)


def scenario_of(seed: int) -> Scenario:
    """Draw one."""
    draw = Seeded(seed ^ 0x5EED)

    def one(*options: T) -> T:
        return options[draw.index("", len(options))]

    def maybe(probability: float, most: float) -> float:
        return round(draw.between("", 0.0, most), 4) if draw.chance("", probability) else 0.0

    troubled_s = round(draw.between("", 5.0, 60.0), 2)
    members = 1 + draw.index("", 3)
    deeds: list[Deed] = []
    for _ in range(draw.index("", 7)):
        what: What = one(
            "start", "stop", "kill", "kill", "freeze", "bounce", "bounce", "stop_hard", "seek", "pause"
        )
        deeds.append(
            Deed(
                round(draw.between("", 0.0, troubled_s), 3),
                what,
                draw.index("", members),
                round(draw.between("", 0.5, 45.0), 2),
            )
        )
    drain_s = one(0.0, 0.5, 3.0, 10.0)
    return Scenario(
        seed=seed,
        protocol=one("eager", "cooperative", "kip848"),
        partitions=1 + draw.index("", 4),
        records=5 + draw.index("", 80),
        keys=1 + draw.index("", 8),
        hot=maybe(0.3, 0.95),
        keyless=maybe(0.3, 0.5),
        troubled_s=troubled_s,
        members=members,
        static=draw.chance("", 0.15),
        deeds=tuple(sorted(deeds, key=lambda deed: deed.at)),
        subscriptions=(_subscription(draw),),
        handlers=_handlers(draw),
        workers=1 + draw.index("", 4),
        faults=Faults.drawn(draw),
        transactions=maybe(0.2, 0.5),
        preemption=maybe(0.7, 0.3),
        inbox_stretch=one(1.0, 20.0, 40.0, 40.0),
        poll_idle_s=one(0.1, 1.0, 1.0, 2.0),
        commit=Commit(
            every_s=one(0.1, 0.5, 1.0, 5.0),
            every_records=one(None, None, 1, 5),
            timeout_s=one(1.0, 10.0),
        ),
        budgets=Budgets(
            queued_records_max=one(1, 3, 10, 10_000),
            lookahead_records_max=one(5, 50, 100_000),
            parked_records_max=one(2, 10, 50_000),
        ),
        timeouts=Timeouts(drain_s=drain_s, stop_s=25.0),
    )


def _subscription(draw: Choices) -> SubscriptionSettings:
    def one(*options: T) -> T:
        return options[draw.index("", len(options))]

    exhausted: OnExhausted = one("dead_letter", "dead_letter", "skip", "stop")
    order: OrderBy = one("key", "key", "partition", "none")
    run_in: RunIn = one("threads", "asyncio")
    ack: Ack = one("on_return", "on_return", "manual")
    batch = (
        Batching(1 + draw.index("", 10), one(0.0, 0.2)) if draw.chance("", 0.2) and ack != "manual" else None
    )
    attempts = 1 + draw.index("", 4)
    return SubscriptionSettings(
        name="simulated",
        topics=(TOPIC,),
        pattern=None,
        order_by=order,
        concurrency=one(1, 4, 64),
        workers=None,
        run_in=run_in,
        batch=batch,
        retry=RetryPolicy(attempts_max=attempts, backoff_initial_s=0.1, backoff_max_s=5.0),
        dead_letter=LETTERS if exhausted == "dead_letter" else None,
        on_exhausted=exhausted,
        on_dead_letter_failure="wait",
        timeout_s=None,
        start_if_no_offset="earliest",
        on_out_of_range="earliest",
        guarantee="at_least_once",
        ack=ack,
        key_decoder=None,
        value_decoder=None,
        filter=None,
    )


def _handlers(draw: Choices) -> Handlers:
    def maybe(probability: float, most: float) -> float:
        return round(draw.between("", 0.0, most), 4) if draw.chance("", probability) else 0.0

    return Handlers(
        quick_s=(0.0, 0.001, 0.05, 0.5)[draw.index("", 4)],
        slow=maybe(0.4, 0.3),
        slow_s=round(draw.between("", 0.1, 40.0), 2),
        hangs=maybe(0.15, 0.05),
        raises=maybe(0.4, 0.5),
        later=maybe(0.15, 0.3),
        rejects=maybe(0.15, 0.2),
        undecodable=maybe(0.15, 0.2),
        filtered=maybe(0.15, 0.3),
        fatal=maybe(0.05, 0.02),
        poison=(0, 0, 0, ord("1"), ord("2"))[draw.index("", 5)],
        ignores_cancel=maybe(0.3, 1.0),
        produces=maybe(0.2, 0.5),
        produce_fails=maybe(0.3, 0.3),
        acks_early=maybe(0.2, 0.5),
        acks_late_s=maybe(0.6, 10.0),
        letter_fails=maybe(0.3, 0.6),
    )
