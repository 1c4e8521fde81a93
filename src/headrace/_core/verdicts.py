"""What becomes of a record whose handler raised: retry, dead letter, skip, or stop. A pure function of settings and error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace._core.retry import backoff_s
from headrace.errors import DecodeFailed, FatalError, HandlerStopped, ProduceFailed, RecordFailed
from headrace.outcomes import Reject, RetryLater

if TYPE_CHECKING:
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

# What must end the runtime instead of one record: the interpreter is going down, or memory is gone.
STOPPING = (SystemExit, KeyboardInterrupt, MemoryError)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_s`; `counted` tries count towards the limit."""

    delay_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up: produce a dead letter, then the record is finished."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Give up: the record is finished."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the app with this error; the record is not finished."""

    error: FatalError


Verdict = Retry | DeadLetter | Skip | Stop


def judge(
    settings: SubscriptionSettings, record: Record[Any, Any], error: BaseException, spread: float
) -> Verdict:
    """Decide about a record that failed with `error` at try number `record.attempt`."""
    if isinstance(error, STOPPING):
        return Stop(HandlerStopped(record.topic, record.partition, record.offset, error))
    if settings.guarantee != "at_least_once":
        # Its commit is written already, or is nobody's promise: a retry could break "at most once".
        return _exhausted(settings, record, error)
    if isinstance(error, RetryLater):
        if not error.count_attempt:
            return Retry(error.after_s, counted=False)
        if record.attempt < settings.retry.attempts_max:
            return Retry(error.after_s, counted=True)
        return _exhausted(settings, record, error)
    # The same bytes decode the same way every time.
    hopeless = isinstance(error, (Reject, DecodeFailed, *settings.retry.fatal))
    # What its handler produced will be as large, as unwelcome, or as lost, the next time.
    hopeless |= isinstance(error, ProduceFailed) and error.permanent
    if hopeless or record.attempt >= settings.retry.attempts_max:
        return _exhausted(settings, record, error)
    return Retry(backoff_s(settings.retry, record.attempt, spread), counted=True)


def _exhausted(settings: SubscriptionSettings, record: Record[Any, Any], error: BaseException) -> Verdict:
    match settings.exhausted:
        case "dead_letter":
            return DeadLetter()
        case "skip":
            return Skip()
        case "stop":
            if settings.guarantee != "at_least_once" and settings.on_exhausted is None:
                return Skip()  # Nothing could be redelivered; stopping must be asked for.
            return Stop(RecordFailed(record.topic, record.partition, record.offset, record.attempt, error))
