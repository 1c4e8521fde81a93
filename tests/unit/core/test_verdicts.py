"""What becomes of a record that failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace._core.verdicts import DeadLetter, Retry, Skip, Stop, judge
from headrace.config import RetryPolicy
from headrace.errors import DecodeFailed, HandlerStopped, ProduceFailed, RecordFailed
from headrace.outcomes import Reject, RetryLater
from tests.unit.core.makers import deliver, make_settings, make_tenure

FAILED = ValueError("no")


def judged(error: BaseException = FAILED, *, attempt: int = 1, **changes: Any) -> object:
    (record,) = deliver(make_tenure(), [b"a"])
    record.attempt = attempt
    changes.setdefault("retry", RetryPolicy(attempts_max=4, backoff_initial_s=1, jitter=0))
    return judge(make_settings(**changes), record, error, 0.5)


def test_a_failure_is_tried_again_until_its_attempts_are_used_up() -> None:
    """Storm's maxRetries=3: three retries are granted, the fourth is refused."""
    assert [judged(attempt=attempt) for attempt in (1, 2, 3)] == [
        Retry(1.0, counted=True),
        Retry(2.0, counted=True),
        Retry(4.0, counted=True),
    ]
    assert isinstance(judged(attempt=4), Stop)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"dead_letter": "dead"}, DeadLetter),
        ({"on_exhausted": "skip"}, Skip),
        ({"on_exhausted": "stop"}, Stop),
        ({}, Stop),
    ],
)
def test_an_exhausted_record_takes_the_road_that_is_set(changes: dict[str, Any], verdict: type) -> None:
    assert isinstance(judged(attempt=4, **changes), verdict)


@pytest.mark.parametrize(
    "error", [Reject("no"), DecodeFailed("value_decoder", FAILED), KeyError("listed as fatal")]
)
def test_what_is_hopeless_is_not_tried_again(error: Exception) -> None:
    verdict = judged(error, dead_letter="dead", retry=RetryPolicy(attempts_max=9, fatal=(KeyError,)))
    assert verdict == DeadLetter()


def test_only_an_output_that_can_be_accepted_later_is_produced_again() -> None:
    refused = ProduceFailed("other", "MSG_SIZE_TOO_LARGE", "too large", permanent=True)
    assert judged(refused, dead_letter="dead") == DeadLetter()
    timed_out = ProduceFailed("other", "_MSG_TIMED_OUT", "no broker", permanent=False)
    assert judged(timed_out, dead_letter="dead") == Retry(1.0, counted=True)


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), MemoryError()])
def test_what_ends_the_interpreter_stops_the_app(error: BaseException) -> None:
    """Also where records are skipped, and where nothing is promised."""
    for verdict in (judged(error, on_exhausted="skip"), judged(error, guarantee="none")):
        assert isinstance(verdict, Stop)
        assert isinstance(verdict.error, HandlerStopped)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("odd")])
def test_any_other_exception_is_a_failure_of_its_record(error: BaseException) -> None:
    assert judged(error) == Retry(1.0, counted=True)


def test_retry_later_counts_only_when_told_to() -> None:
    assert judged(RetryLater(7), attempt=99) == Retry(7, counted=False)
    assert judged(RetryLater(7, count_attempt=True)) == Retry(7, counted=True)
    assert isinstance(judged(RetryLater(7, count_attempt=True), attempt=4), Stop)


@pytest.mark.parametrize("guarantee", ["at_most_once", "none"])
def test_weaker_guarantees_never_try_again(guarantee: str) -> None:
    """And stop only where that was asked for."""
    assert judged(guarantee=guarantee) == Skip()
    assert judged(RetryLater(1), guarantee=guarantee) == Skip()
    assert judged(guarantee=guarantee, dead_letter="dead") == DeadLetter()
    assert isinstance(judged(guarantee=guarantee, on_exhausted="stop"), Stop)


def test_the_error_of_a_stop_names_the_record_and_its_cause() -> None:
    verdict = judged(attempt=4)
    assert isinstance(verdict, Stop)
    assert isinstance(verdict.error, RecordFailed)
    assert (verdict.error.offset, verdict.error.attempts, verdict.error.__cause__) == (0, 4, FAILED)
