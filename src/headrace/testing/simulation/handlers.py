"""What simulated handlers do, by chance: how often they fail, and how; and what each outcome is as an exception.

Refuses to run anything. Invariant: the same `Choices` give the same outcomes.
"""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from headrace.errors import DecodeFailed, HandlerTimeout, WorkerDied
from headrace.outcomes import Reject, RetryLater

if TYPE_CHECKING:
    from headrace.records import Record
    from headrace.testing.simulation.choices import Choices


@final
@dataclass(frozen=True, slots=True)
class Handlers:
    """What handlers do: probabilities of each try, and how long a try takes.

    slow: share of tries that take up to `slow_s`, instead of up to `quick_s`. hangs: share that end only when all trouble
    does. ignores_cancel: share of cancelled handlers that go on. poison: every key whose first byte is below it always
    fails. produces: share of successes that wait for a record they produced. acks_late_s: how long `record.ack()` may
    come after the handler returned, with manual acknowledgement. dies: share of tries that end with their worker process.
    stuck: records whose handler never ends, whenever it is tried. failing: records whose handler asks for another try
    for ever.
    """

    quick_s: float = 0.01
    slow: float = 0.0
    slow_s: float = 1.0
    hangs: float = 0.0
    raises: float = 0.0
    later: float = 0.0
    rejects: float = 0.0
    undecodable: float = 0.0
    filtered: float = 0.0
    fatal: float = 0.0
    dies: float = 0.0
    poison: int = 0
    ignores_cancel: float = 0.0
    produces: float = 0.0
    produce_fails: float = 0.0
    acks_early: float = 0.0
    acks_late_s: float = 0.0
    letter_fails: float = 0.0
    stuck: tuple[tuple[str, int, int], ...] = ()
    failing: tuple[tuple[str, int, int], ...] = ()


class Broken(Exception):
    """What a simulated handler raises."""


def outcome_of(does: Handlers, record: Record[Any, Any], choices: Choices) -> str:
    """How a try of this record ends."""
    if record.raw_key and record.raw_key[-1] < does.poison:
        return "raised"
    if does.failing and (record.topic, record.partition, record.offset) in does.failing:
        return "later"
    for outcome, probability in (
        ("raised", does.raises),
        ("later", does.later),
        ("rejected", does.rejects),
        ("undecodable", does.undecodable),
        ("fatal", does.fatal),
    ):
        if choices.chance(outcome, probability):
            return outcome
    return "returned"


def error_of(outcome: str) -> BaseException | None:
    """What a handler raises that ends so, or None."""
    match outcome:
        case "returned":
            return None
        case "raised":
            return Broken("as drawn")
        case "later":
            return RetryLater(0.5)
        case "rejected":
            return Reject("as drawn")
        case "undecodable":
            return DecodeFailed("value_decoder", Broken("as drawn"))
        case "fatal":
            return SystemExit(3)
        case "cancelled":
            return CancelledError()
        case "timed out":
            return HandlerTimeout(1.0)
        case "died":
            return WorkerDied(1, -9)
        case _:
            raise AssertionError(outcome)
