"""Every code that the design names has a row, and the rows say what the design says."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from headrace._core.refusals import REFUSALS, CommitAction, refusal_of


def test_rows_name_real_codes_and_give_reasons() -> None:
    for code, refusal in REFUSALS.items():
        assert KafkaError(getattr(KafkaError, code)).name() == code
        assert refusal.why


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("REBALANCE_IN_PROGRESS", "retry"),
        ("STALE_MEMBER_EPOCH", "retry_or_rebuild"),
        ("COORDINATOR_LOAD_IN_PROGRESS", "retry"),
        ("COORDINATOR_NOT_AVAILABLE", "retry"),
        ("NOT_COORDINATOR", "retry"),
        ("REQUEST_TIMED_OUT", "retry"),
        ("_TIMED_OUT", "retry"),
        ("_WAIT_COORD", "retry"),
        ("_TRANSPORT", "retry"),
        ("UNSTABLE_OFFSET_COMMIT", "retry"),
        ("ILLEGAL_GENERATION", "retry_or_rebuild"),
        ("UNKNOWN_MEMBER_ID", "retry_or_rebuild"),
        ("FENCED_MEMBER_EPOCH", "retry_or_rebuild"),
        ("UNRELEASED_INSTANCE_ID", "retry_or_rebuild"),
        ("_MAX_POLL_EXCEEDED", "retry_or_rebuild"),
        ("OFFSET_METADATA_TOO_LARGE", "retry_without_map"),
        ("UNKNOWN_TOPIC_OR_PART", "topic_missing"),
        ("FENCED_INSTANCE_ID", "fenced"),
        ("GROUP_MAX_SIZE_REACHED", "fenced"),
        ("INCONSISTENT_GROUP_PROTOCOL", "fenced"),
        ("GROUP_AUTHORIZATION_FAILED", "not_authorized"),
        ("TOPIC_AUTHORIZATION_FAILED", "not_authorized"),
        ("_FATAL", "fatal"),
        ("_NOOP", "retry_or_rebuild"),  # unknown
    ],
)
def test_commit_errors(code: str, kind: str) -> None:
    assert refusal_of(code).action is CommitAction[kind.upper()]
