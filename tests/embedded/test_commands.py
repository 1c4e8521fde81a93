"""`produce`, `tail`, `lag` and `dead-letters` on the embedded broker."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[Exit, str, str]]

ORIGIN = (
    ("headrace-original-topic", b"orders"),
    ("headrace-original-partition", b"1"),
    ("headrace-error-type", b"builtins.ValueError"),
    ("headrace-error-message", b"no"),
    ("headrace-attempts", b"3"),
)


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={"orders": 2, "dead": 1}) as broker:
        yield broker


@pytest.fixture
def command(broker: MockBroker, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs one command on the broker: its code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[Exit, str, str]:
        code = execute([*arguments, "-b", broker.bootstrap_servers, "--timeout", "5"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def dead_letter(offset: int, key: bytes = b"k") -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """A dead letter of orders[1]."""
    headers = [*ORIGIN, ("headrace-original-offset", str(offset).encode()), ("own", b"kept")]
    return key, f"value {offset}".encode(), headers


def test_what_was_produced_is_shown_with_key_headers_and_place(command: Command) -> None:
    code, _, err = command("produce", "orders", "a", "b", "-k", "me", "-H", "h=1", "-p", "1")
    assert (code, err) == (Exit.OK, "2 acknowledged by orders\n")
    code, out, _ = command("tail", "orders", "--from-beginning", "--exit")
    assert code is Exit.OK
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == [
        "orders[1]@0  me  a  h=1",
        "orders[1]@1  me  b  h=1",
    ]


def test_lines_of_stdin_become_records(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"k1:a:b\nk2:\n")))
    assert command("produce", "orders", "-K", ":")[0] is Exit.OK
    _, out, _ = command("tail", "orders", "--from-beginning", "-e", "--form", "json")
    shown = [json.loads(line) for line in out.splitlines()]
    assert sorted((record["key"], record["value"]) for record in shown) == [("k1", "a:b"), ("k2", "")]


def test_tail_ends_after_a_count_and_begins_near_the_end(command: Command, broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", str(n).encode()) for n in range(10)], partition=0)
    assert command("tail", "orders", "--last", "3", "-p", "0", "-n", "2", "-f", "value")[1] == "7\n8\n"


def test_tail_without_news_shows_nothing_at_the_end(command: Command, broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", b"old")], partition=0)
    assert command("tail", "orders", "--exit") == (Exit.OK, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("produce", "nowhere", "x"),
        ("tail", "nowhere"),
        ("lag", "g", "-t", "nowhere"),
        ("dead-letters", "list", "nowhere"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_topic_that_is_missing_is_named(command: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (Exit.USAGE, "")
    assert "topic not found: nowhere" in err


@pytest.mark.parametrize("arguments", [("produce", "orders", "x", "-p", "2"), ("tail", "orders", "-p", "2")])
def test_a_partition_that_is_missing_is_refused(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, err = command(*arguments)
    assert code is Exit.USAGE
    assert "partitions 0 to 1, not 2" in err


def test_a_record_that_the_broker_refuses_fails_the_command(command: Command, broker: MockBroker) -> None:
    broker.push_errors("Produce", "MSG_SIZE_TOO_LARGE")
    code, _, err = command("produce", "orders", "x")
    assert code is Exit.FAILED
    assert "1 of 1 records not acknowledged" in err


def test_lag_counts_what_is_not_committed(command: Command, broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", b"v")] * 5, partition=1)
    code, out, _ = command("lag", "g", "-t", "orders")
    assert code is Exit.OK
    assert out.splitlines()[-1] == "total 5"
    assert command("lag", "g", "-t", "orders", "--fail-above", "4")[0] is Exit.FAILED
    assert command("lag", "g", "-t", "orders", "--fail-above", "5")[0] is Exit.OK


def test_dead_letters_are_listed_with_origin_and_error(command: Command, broker: MockBroker) -> None:
    broker.produce("dead", [dead_letter(4), dead_letter(4), (b"k", b"a stranger")])
    code, out, _ = command("dead-letters", "list", "dead")
    assert code is Exit.OK
    first, again, summary = out.splitlines()[1:]
    assert "orders[1]@4 " in first
    assert first.endswith("ValueError: no")
    assert "orders[1]@4 (again)" in again
    assert summary == "2 dead letters in dead; left out: 1 without the headers of one"


def test_a_topic_without_dead_letters_has_none(command: Command, broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", b"v")] * 3)
    assert command("dead-letters", "list", "orders")[1].startswith("0 dead letters in orders; left out: 3")
    assert command("dead-letters", "list", "orders", "--json")[1] == ""
    broker.produce("dead", [(b"k", b"a stranger"), dead_letter(4), dead_letter(5)], partition=0)
    assert (
        command("dead-letters", "list", "dead", "-n", "1")[1]
        .splitlines()[-1]
        .startswith("1 dead letter in dead")
    )


def test_replay_brings_records_back_once_and_goes_on_where_it_was(
    command: Command, broker: MockBroker
) -> None:
    """Key, value, own headers and partition stay; what is replayed is not replayed by the next run."""
    broker.produce("dead", [dead_letter(n) for n in range(3)])
    assert command("dead-letters", "replay", "dead", "--dry-run")[1].count("orders[1]") == 3
    assert broker.end_offsets("orders") == {0: 0, 1: 0}
    assert command("dead-letters", "replay", "dead", "-n", "2")[1] == "2 replayed and acknowledged\n"
    broker.produce("dead", [dead_letter(3)])
    assert command("dead-letters", "replay", "dead")[1] == "2 replayed and acknowledged\n"
    assert command("dead-letters", "replay", "dead")[1] == "0 replayed and acknowledged\n"
    _, out, _ = command("tail", "orders", "--from-beginning", "-e", "-f", "json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["partition"], r["key"], r["value"]) for r in records] == [
        (1, "k", f"value {n}") for n in range(4)
    ]
    assert records[0]["headers"] == [["own", "kept"], ["headrace-replayed-from", "dead[0]@0"]]


def test_replay_keeps_its_place_when_a_record_is_refused(command: Command, broker: MockBroker) -> None:
    broker.produce("dead", [dead_letter(0)])
    broker.push_errors("Produce", "MSG_SIZE_TOO_LARGE")
    code, out, err = command("dead-letters", "replay", "dead")
    assert (code, out) == (Exit.FAILED, "")
    assert "run it again" in err
    assert command("dead-letters", "replay", "dead")[1] == "1 replayed and acknowledged\n"


def test_replay_leaves_repeats_and_strangers_out(command: Command, broker: MockBroker) -> None:
    broker.produce("dead", [dead_letter(4), dead_letter(4), (b"k", b"a stranger")])
    _, out, _ = command("dead-letters", "replay", "dead")
    assert out.startswith(
        "1 replayed and acknowledged; 1 left out: the same dead letter again; 1 left out: not"
    )
    assert broker.end_offsets("orders") == {0: 0, 1: 1}


def test_replay_to_a_missing_topic_moves_nothing(command: Command, broker: MockBroker) -> None:
    broker.produce("dead", [dead_letter(0)])
    assert command("dead-letters", "replay", "dead", "--to", "nowhere")[0] is Exit.USAGE
    assert command("dead-letters", "replay", "dead")[1] == "1 replayed and acknowledged\n"
