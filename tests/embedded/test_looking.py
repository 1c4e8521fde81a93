"""A look into records over HTTP, on the embedded broker: what is shown, to whom, and what an error looks like."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, RetryPolicy
from headrace.testing import MockBroker
from headrace.web import looking, serve
from tests.unit.web.asking import ask

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from headrace.web import Server
    from tests.unit.web.asking import Answer

TOKEN = "a token of 32 characters, or more"
WAIT_S = 20.0
PAYLOAD = b'<img src=x onerror="window.hacked=1">'


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={"orders": 2, "orders.dead": 2, "secrets": 1}) as broker:
        yield broker


@contextmanager
def served(broker: MockBroker, **settings: Any) -> Generator[Server]:
    """An app that is not started: whether it runs makes no difference to a look."""
    app = App(broker.bootstrap_servers, "billing", librdkafka={"log_level": 0})
    app.subscribe("orders", dead_letter="orders.dead")(print)
    chosen: dict[str, Any] = {"actions_token": TOKEN, "show_records": True} | settings
    with serve(app, 0, **chosen) as server:
        yield server


def look(server: Server, what: str, token: str = TOKEN, **asked: Any) -> Answer:
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    return ask(
        server,
        f"/records/{what}",
        method="POST",
        headers=headers,
        body=json.dumps(asked),
        timeout_s=60,
    )


def test_a_dead_letter_is_found_and_looked_into(broker: MockBroker) -> None:
    """From a handler that refuses, by way of the broker, to who looks: key, value, headers, and why it is there."""

    def fails(record: Any) -> None:
        raise ValueError(f"no {record.key.decode()}")

    app = App(broker.bootstrap_servers, "billing")
    retry = RetryPolicy(attempts_max=1)
    app.subscribe("orders", retry=retry, dead_letter="orders.dead")(fails)
    with serve(app, 0, actions_token=TOKEN, show_records=True) as server:
        app.start()
        try:
            broker.produce("orders", [(b"k%d" % n, PAYLOAD) for n in range(3)], 1)
            give_up_at = time.monotonic() + WAIT_S
            while app.snapshot().engine.counters.dead_lettered < 3:
                assert time.monotonic() < give_up_at, app.health()
                time.sleep(0.02)
            letters = look(server, "dead-letters", topic="orders.dead").json["letters"]
            assert sorted((one["from"], one["error"]) for one in letters) == [
                (f"orders[1]@{n}", f"builtins.ValueError: no k{n}") for n in range(3)
            ]
            letter = letters[0]
            found = look(server, "one", **{name: letter[name] for name in ("topic", "partition", "offset")})
            assert found.status == 200
            record = found.json
            assert record["key"] == letter["key"]
            assert record["value"] == {"text": PAYLOAD.decode(), "bytes": len(PAYLOAD), "cut": False}
            headers = {name: value["text"] for name, value in record["headers"]}
            assert headers["headrace-original-topic"] == "orders"
            assert headers["headrace-error-message"] == f"no {record['key']['text']}"
            assert ask(server, "/dashboard.json").json["dead_letter_topics"] == ["orders.dead"]
        finally:
            app.stop()


def test_bytes_that_are_no_text_and_long_values(broker: MockBroker) -> None:
    broker.produce("orders", [(None, b"\xff\x00\n"), (b"", b"x" * 100_000), (b"k", None)], 0)
    with served(broker) as server:
        first, second, third = (
            look(server, "one", topic="orders", partition=0, offset=n).json for n in range(3)
        )
    assert first["key"] is None
    assert first["value"] == {"text": "\\xff\\x00\n", "bytes": 3, "cut": False}
    assert second["key"] == {"text": "", "bytes": 0, "cut": False}
    assert (len(second["value"]["text"]), second["value"]["cut"]) == (looking.VALUE_BYTES_MAX, True)
    assert third["value"] is None


def test_only_the_newest_dead_letters_are_told(broker: MockBroker) -> None:
    for partition in range(2):
        broker.produce("orders.dead", [(b"k", b"%d" % n) for n in range(50)], partition)
    with served(broker) as server:
        letters = look(server, "dead-letters", topic="orders.dead").json["letters"]
    assert len(letters) == looking.LETTERS_MAX
    assert all(one["offset"] >= 30 for one in letters)
    assert all("value" not in one for one in letters)
    assert {one["from"] for one in letters} == {""}, "strangers are shown, too"


@pytest.mark.parametrize(
    ("what", "asked", "status", "told"),
    [
        ("one", {"topic": "orders", "partition": 0, "offset": 3}, 410, "offsets 3 to 4"),
        ("one", {"topic": "orders", "partition": 0, "offset": 99}, 404, "it ends at 10"),
        ("one", {"topic": "orders", "partition": 7, "offset": 0}, 400, "partitions that exist"),
        ("one", {"topic": "orders.dead", "partition": 0, "offset": 0}, 404, "0"),
        ("one", {"topic": "secrets", "partition": 0, "offset": 0}, 403, "only topics of this app"),
        ("one", {"topic": "orders", "partition": 0}, 400, "offset"),
        ("one", {"topic": "orders", "partition": -1, "offset": 0}, 400, "partition"),
        ("one", {"topic": "orders", "partition": 0, "offset": 2**70}, 400, ""),
        ("dead-letters", {"topic": "orders"}, 403, "only dead-letter topics"),
        ("dead-letters", {"topic": ["orders.dead"]}, 400, "topic"),
    ],
)
def test_what_cannot_be_shown_says_why(
    broker: MockBroker, what: str, asked: dict[str, Any], status: int, told: str
) -> None:
    broker.produce("orders", [(b"k", b"x")] * 10, 0)
    broker.produce("secrets", [(b"k", b"x")], 0)
    broker.delete_records("orders", 0, 5)
    with served(broker) as server:
        answer = look(server, what, **asked)
    assert (answer.status, list(answer.json)) == (status, ["error"]), answer.text
    assert told in answer.json["error"]


def test_a_topic_that_is_gone(broker: MockBroker) -> None:
    broker.delete_topic("orders.dead")
    with served(broker) as server:
        answer = look(server, "dead-letters", topic="orders.dead")
    assert answer.status == 404
    assert "orders.dead" in answer.json["error"]


def test_who_may_not_read_is_told_so(broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", b"x")] * 10, 0)
    with served(broker) as server:
        broker.push_errors("ListOffsets", *["TOPIC_AUTHORIZATION_FAILED"] * 20)
        answer = look(server, "one", topic="orders", partition=0, offset=0)
    assert answer.status == 403
    assert "Topic authorization failed" in answer.json["error"]


def test_a_broker_that_is_away_is_not_waited_for_long(
    broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_S", 0.5)
    with served(broker) as server:
        broker.broker_down()
        answer = look(server, "one", topic="orders", partition=0, offset=0)
        assert answer.status == 504
        assert ask(server, "/health/live").status == 200


def test_looks_at_once_are_counted_and_the_late_ones_end(
    broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that is over its time is answered, and holds its place until it has ended: clients are never many."""
    goes_on, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_given: Any, **_named: Any) -> Any:
        begun.release()
        goes_on.wait(WAIT_S)
        raise AssertionError("too late to matter")

    monkeypatch.setattr(looking, "read", slow)
    monkeypatch.setattr(looking, "ANSWER_S", 0.2)
    with served(broker) as server:
        for _ in range(looking.LOOKS_MAX):
            late = look(server, "one", topic="orders", partition=0, offset=0)
            assert (late.status, "not read within" in late.text) == (504, True)
            assert begun.acquire(timeout=WAIT_S)
        assert look(server, "one", topic="orders", partition=0, offset=0).status == 503
        goes_on.set()
        give_up_at = time.monotonic() + WAIT_S
        while look(server, "one", topic="orders", partition=0, offset=0).status == 503:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)


def test_without_the_token_or_the_leave_nothing_is_shown(broker: MockBroker) -> None:
    broker.produce("orders", [(b"k", b"private")], 0)
    place: dict[str, Any] = {"topic": "orders", "partition": 0, "offset": 0}
    with served(broker) as server:
        assert look(server, "one", token="a wrong token that is long", **place).status == 401
        assert ask(server, "/records/one").status == 405
    with served(broker, show_records=False) as server:
        assert look(server, "one", **place).status == 404
        assert ask(server, "/dashboard.json").json["looks"] is False
    with served(broker, actions_token=None) as server:
        assert look(server, "one", **place).status == 404
