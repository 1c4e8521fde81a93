"""Every error code that the design names has a row, and the rows say what the design says."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from confluent_kafka import KafkaError

from headrace._client import failures
from headrace._client.failures import consume_row, fatal_row, produce_row, request_row

TABLES: list[tuple[Any, Any]] = [
    (failures.CONSUME, failures.ConsumeKind),
    (failures.PRODUCE, failures.ProduceKind),
    (failures.REQUEST, failures.RequestKind),
]


@pytest.mark.parametrize(("table", "kinds"), TABLES)
def test_rows_name_real_codes_and_known_kinds_and_give_reasons(table: Any, kinds: Any) -> None:
    for code, row in table.items():
        assert isinstance(getattr(KafkaError, code), int), code
        assert KafkaError(getattr(KafkaError, code)).name() == code
        assert row.kind in get_args(kinds), code
        assert row.why


def test_unknown_codes_have_a_stated_meaning_in_each_use() -> None:
    kinds = [row("SOMETHING_NEW").kind for row in (consume_row, produce_row, request_row)]
    assert kinds == ["log", "transient", "retry"]


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("FENCED_INSTANCE_ID", "fenced"),
        ("UNRELEASED_INSTANCE_ID", "rebuild"),
        ("INVALID_REQUEST", "rebuild"),
        (
            "FENCED_MEMBER_EPOCH",
            "rebuild",
        ),  # worth a line while the client lives, a new client once it is dead
        ("_FATAL", "rebuild"),
        ("SOMETHING_NEW", "rebuild"),
        ("INVALID_GROUP_ID", "fatal"),
    ],
)
def test_a_dead_client_is_judged_by_its_cause(cause: str, kind: str) -> None:
    assert fatal_row(cause).kind == kind
