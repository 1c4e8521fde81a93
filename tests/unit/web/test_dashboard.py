"""What stands behind the dashboard: states, the stream of them, actions, and apps far away. Its looks: `tests/full/test_dashboard.py`."""

from __future__ import annotations

import http.server
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, ConfigError, HotKey, HotKeys, RetryPolicy
from headrace._core import notices
from headrace.web import serve, serve_dashboard, streams
from headrace.web.chronicle import EVENTS_MAX, FAILURES_MAX, Chronicle
from headrace.web.remote import RemoteFeed
from headrace.web.showing import KEY_CHARS_MAX, Showing
from tests.unit.runtime.stage import playing
from tests.unit.web.asking import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace.web import Server

TOKEN = "a token of 32 characters, or more"
JSON = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
ASSETS = Path(streams.__file__).parent / "assets"


def retried(error: str, topic: str = "orders") -> notices.Notice:
    return notices.RecordRetried(topic, 0, 1, 1, 0.1, error)


def changed(number: int) -> notices.Notice:
    return notices.StateChanged("a", "b", str(number))


def until(condition: Callable[[], object], what: str = "it") -> None:
    give_up_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not happen"
        time.sleep(0.02)


# ---- What is kept


def test_a_rebalance_of_many_partitions_is_one_event() -> None:
    now = [100.0]
    kept = Chronicle(lambda: now[0])
    for partition in range(512):
        kept.note(notices.PartitionLost("orders", partition, 1, 0))
    now[0] += 5
    kept.note(notices.PartitionLost("orders", 0, 2, 0))
    assert [(told.at, told.count) for told in kept.account().events] == [(100.0, 512), (105.0, 1)]


def test_failures_are_kept_by_what_failed_and_how_and_the_newest_is_shown() -> None:
    kept = Chronicle(lambda: 1.0)
    for number in range(1000):
        kept.note(retried(f"ValueError: order {number}"))
    kept.note(retried("TimeoutError: late"))
    found = kept.account().failures
    assert [(told.count, told.notice.facts()["error"]) for told in found] == [
        (1000, "ValueError: order 999"),
        (1, "TimeoutError: late"),
    ]


def test_what_is_kept_is_bounded() -> None:
    now = [0.0]
    kept = Chronicle(lambda: now[0])
    for number in range(1000):
        now[0] += 10
        kept.note(changed(number))
        kept.note(retried(f"Error{number}: x"))
    assert (len(kept.account().events), len(kept.account().failures)) == (EVENTS_MAX, FAILURES_MAX)
    assert kept.account().events[-1].notice == changed(999)


# ---- States


@pytest.mark.slow
def test_a_states_sums_match_its_parts_and_no_key_or_value_is_in_it() -> None:
    release = threading.Event()

    def fails(record: Any) -> None:
        if record.offset == 0:
            raise ValueError("no")
        release.wait(20)

    retry = RetryPolicy(attempts_max=9, backoff_initial_s=20)
    with playing(fails, subscribe={"retry": retry}) as stage, serve(stage.app, 0) as server:
        stage.produce(6, key=b"secret-key")
        stage.produce(3, partition=1)
        stage.until(lambda: stage.app.snapshot().engine.counters.failed == 2)
        answer = ask(server, "/dashboard.json")
        state = answer.json
        parts = [dict(zip(state["columns"], row, strict=True)) for row in state["partitions"]]
        assert sum(part["in_flight"] for part in parts) == state["totals"]["in_flight"]
        assert sum(part["aside"] for part in parts) == sum(
            state["totals"][name] for name in ("parked", "held", "settling", "unacked")
        )
        assert [one["name"] for one in state["failures"]] == ["record_retried"]
        assert state["failures"][0]["facts"]["error"] == "ValueError: no"
        assert state["lag_unknown"]
        assert "secret" not in answer.text
        release.set()


@pytest.mark.slow
@pytest.mark.parametrize("shown", [False, True])
def test_hot_keys_have_their_names_only_where_records_may_be_shown(*, shown: bool) -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0, show_records=shown) as server:
        stage.produce(1000, key=b"secret\x1b[2J")
        stage.produce(500, partition=1, key=b"secret\x1b[2J")
        until(lambda: len(ask(server, "/dashboard.json").json["hot_keys"]["top"]) == 2, "two keys")
        answers = ask(server, "/dashboard.json"), ask(server, "/snapshot.json")
        told = answers[0].json["hot_keys"], answers[1].json["snapshot"]["owner"]["hot_keys"]
        assert told[0].keys() == told[1].keys()
        for answer, found in zip(answers, told, strict=True):
            first, second = found["top"]
            assert first["key"] == second["key"], "the same key has the same name"
            assert (first["partition"], second["partition"]) == (0, 1)
            assert found["shown"] is shown
            assert re.fullmatch(r"secret\\x1b\[2J" if shown else r"#[0-9a-f]{8}", first["key"])
            assert ("secret" in answer.text) is shown


def test_a_hidden_key_cannot_be_looked_up() -> None:
    """Whoever has the list of all keys, and another server's names, learns nothing from these."""
    told = HotKeys(64, 0, 64, (HotKey("orders", 0, b"alice", 9, 0), HotKey("orders", 0, b"bob", 8, 0)))
    named = [[one["key"] for one in Showing(records=False).hot_keys(told)["top"]] for _ in range(2)]
    assert len({key for keys in named for key in keys}) == 4


def test_long_keys_are_cut_where_they_are_shown() -> None:
    keys = (
        HotKey("t", 0, b"x" * 128, 9, 0, cut=True),
        HotKey("t", 0, b"y" * 128, 9, 0),
        HotKey("t", 0, b"\xff", 9, 0),
    )
    told = [one["key"] for one in Showing(records=True).hot_keys(HotKeys(64, 0, 64, keys))["top"]]
    assert told == ["x" * (KEY_CHARS_MAX - 1) + "…", "y" * (KEY_CHARS_MAX - 1) + "…", "\\xff"]


@pytest.mark.slow
def test_a_state_tells_within_what_time_handlers_stay() -> None:
    with (
        playing(lambda record: time.sleep(0.005 * (record.offset == 9))) as stage,
        serve(stage.app, 0) as server,
    ):
        stage.produce(10)
        until(lambda: ask(server, "/dashboard.json").json["counters"]["finished"] == 10)
        handler = ask(server, "/dashboard.json").json["subscriptions"][0]
        assert "durations" not in handler
        assert handler["p50"][0] <= handler["p99"][0]
        assert handler["p50"][1] is handler["p99"][1] is True


# ---- The stream


def events(server: Server, count: int) -> list[dict[str, Any]]:
    """The first events of a stream, of which the rest is not waited for."""
    found: list[dict[str, Any]] = []
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(b"GET /events?app=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        lines = connection.makefile("r", encoding="utf-8")
        while len(found) < count:
            line = lines.readline()
            assert line, "the stream ended"
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    return found


@pytest.mark.slow
def test_states_come_by_themselves_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TICK_S", 0.05)
    with playing(lambda _record: None) as stage, serve(stage.app, 0) as server:
        first, second = events(server, 2)
        assert first["apps"] == [{"name": "group", "verdict": "ok", "lag": None, "error": ""}]
        assert second["app"].keys() == first["app"].keys()
        assert second["app"]["at"] > first["app"]["at"]


@pytest.mark.slow
def test_viewers_are_counted_and_those_who_left_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "VIEWERS_MAX", 2)
    monkeypatch.setattr(streams, "TICK_S", 0.05)
    with serve(App("memory", "group"), 0) as server:
        looking = [socket.create_connection((server.host, server.port), timeout=10) for _ in range(2)]
        for connection in looking:
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert ask(server, "/events").status == 503
        assert ask(server, "/health/live").status == 200
        for connection in looking:
            connection.close()

        def free() -> bool:
            with socket.create_connection((server.host, server.port), timeout=10) as connection:
                connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")

        until(free, "room")


def test_closing_ends_streams() -> None:
    server = serve(App("memory", "group"), 0)
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        server.close()
        while connection.recv(65_536):
            pass
    until(lambda: not [one for one in threading.enumerate() if one.name == "headrace-web"])


@pytest.mark.parametrize(
    "path",
    [
        "/events?app=1",
        "/events?app=-1",
        "/events?app=x",
        "/assets/../server.py",
        "/assets/index.html",
        "/assets/%2e%2e%2fserver.py",
        "/etc/passwd",
    ],
)
def test_nothing_else_is_served(path: str) -> None:
    with serve(App("memory", "group"), 0) as server:
        assert ask(server, path).status == 404


def test_the_page_and_its_parts_come_from_the_package_and_nothing_from_elsewhere() -> None:
    with serve(App("memory", "group"), 0) as server:
        page = ask(server, "/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for name in re.findall(r'(?:href|src)="(/[^"]+)"', page.text):
            assert ask(server, name).status == 200
    for path in ASSETS.iterdir():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", path.read_text(encoding="utf-8")), (
            path.name
        )
        assert path.name in {*streams.ASSETS, "index.html"}


def test_no_text_becomes_markup() -> None:
    """Errors and names come from outside: the page writes text nodes, and has no inline script or style."""
    for path in ASSETS.glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", path.read_text()
        )
        assert found == [], path.name
    page = (ASSETS / "index.html").read_text()
    assert not re.search(r"<script>|<style>| style=| on\w+=", page)


# ---- Actions


@contextmanager
def acting() -> Generator[tuple[App, Server]]:
    app = App("memory", "group")
    with serve(app, 0, actions_token=TOKEN) as server:
        yield app, server


PLACE = '{"topic": "orders", "partition": 0}'


@pytest.mark.parametrize(
    ("action", "changed", "body", "status"),
    [
        ("pause", {"authorization": "Bearer wrong"}, PLACE, 401),
        ("pause", {"authorization": ""}, PLACE, 401),
        ("pause", {"authorization": f"Basic {TOKEN}"}, PLACE, 401),
        ("pause", {"content-type": "text/plain"}, PLACE, 415),
        ("pause", {"content-type": "application/x-www-form-urlencoded"}, PLACE, 415),
        ("pause", {"origin": "http://evil.example"}, PLACE, 403),
        ("pause", {"origin": "null"}, PLACE, 403),
        ("explode", {}, PLACE, 404),
        ("pause", {}, "{", 400),
        ("pause", {}, "[]", 400),
        ("pause", {}, '{"topic": "orders"}', 400),
        ("pause", {}, '{"topic": "orders", "partition": -1}', 400),
        ("pause", {}, '{"topic": "orders", "partition": true}', 400),
        ("seek", {}, PLACE, 400),
        ("seek", {}, '{"topic": "orders", "partition": 0, "to": "middle"}', 409),
        ("seek", {}, '{"topic": "orders", "partition": 0, "to": -1}', 409),
        ("pause", {}, " " * 5000, 413),
    ],
)
def test_an_action_that_is_not_asked_for_properly_is_refused(
    action: str, changed: dict[str, str], body: str, status: int
) -> None:
    with acting() as (_, server):
        answer = ask(server, f"/actions/{action}", method="POST", headers=JSON | changed, body=body)
        assert (answer.status, list(answer.json)) == (status, ["error"])


def test_without_a_token_there_are_no_actions() -> None:
    with serve(App("memory", "group"), 0) as server:
        assert ask(server, "/actions/pause", method="POST", headers=JSON, body=PLACE).status == 404
        assert ask(server, "/dashboard.json").json["actions"] is False


def test_an_action_is_nothing_that_a_link_can_do() -> None:
    with acting() as (_, server):
        assert ask(server, "/actions/drain", headers=JSON).status == 405


@pytest.mark.parametrize("token", ["short", "", 7, "ä" * 20])
def test_a_token_that_could_be_guessed_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(ConfigError, match="at least 16") as error:
        serve(App("memory", "group"), 0, actions_token=token)
    assert not token or str(token) not in str(error.value)


@pytest.mark.slow
def test_pause_resume_seek_and_drain(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    with (
        playing(lambda record: seen.append(record.offset), topics=1) as stage,
        serve(stage.app, 0, actions_token=TOKEN) as server,
    ):

        def act(name: str, body: str = PLACE) -> None:
            answer = ask(server, f"/actions/{name}", method="POST", headers=JSON, body=body)
            assert (answer.status, answer.json) == (202, {"asked": name})

        stage.produce(3, key=b"k")
        stage.until(lambda: len(seen) == 3)
        act("pause")
        stage.until(lambda: stage.app.snapshot().engine.partitions[0].paused == ("user",))
        act("resume")
        stage.until(lambda: stage.app.snapshot().engine.partitions[0].paused == ())
        act("seek", '{"topic": "orders", "partition": 0, "to": 1}')
        stage.until(lambda: seen == [0, 1, 2, 1, 2])
        act("drain", "{}")
        stage.until(lambda: stage.app.state.value == "stopped")
        assert "127.0.0.1 asked for seek" in caplog.text
        assert TOKEN not in caplog.text


# ---- Apps far away


@pytest.mark.slow
def test_several_apps_on_one_page_and_one_that_is_away() -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0, actions_token=TOKEN) as near:
        gone = serve(App("memory", "shipping"), 0)
        with serve_dashboard([near.url, gone.url], 0) as board:
            wanted = [("group", "ok", ""), ("shipping", "new", "")]

            def shown() -> list[tuple[str, str, str]]:
                return [(one["name"], one["verdict"], one["error"]) for one in events(board, 1)[0]["apps"]]

            until(lambda: shown() == wanted, "both")
            found = events(board, 1)[0]
            assert found["app"]["actions"] is False, "their token is not passed on"
            assert ask(board, "/actions/drain", method="POST", headers=JSON, body="{}").status == 404
            gone.close()
            until(lambda: events(board, 1)[0]["apps"][1]["error"], "its end")
            assert events(board, 1)[0]["apps"][1]["name"] == "shipping", "the last that it said stays"
            assert events(board, 1)[0]["apps"][0]["error"] == ""


class Hostile(http.server.BaseHTTPRequestHandler):
    """Answers as its server's `answer` says."""

    def do_GET(self) -> None:
        status, headers, body = self.server.answer  # type: ignore[attr-defined] # set by the test
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Be silent."""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, {}, b"<html>"), "JSON"),
        ((200, {}, b"[]"), "no state"),
        ((200, {}, b'{"name": "x"}'), "no state"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "302"),
        ((500, {}, b"x"), "500"),
        ((200, {}, b" " * 2000), "more than 1000 bytes"),
    ],
)
def test_an_app_that_sends_something_else_is_away(
    answer: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.remote.BYTES_MAX", 1000)
    closing = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        server.answer = answer  # type: ignore[attr-defined] # read by its handler
        threading.Thread(target=server.serve_forever, daemon=True).start()
        feed = RemoteFeed(f"127.0.0.1:{server.server_port}", closing)
        try:
            until(lambda: "not been asked" not in feed.state()["error"])
            assert told in feed.state()["error"]
        finally:
            closing.set()
            server.shutdown()


def test_an_app_is_asked_while_somebody_looks_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.web.remote.EVERY_S", 0.01)
    closing = threading.Event()
    with serve(App("memory", "shipping"), 0) as near:
        feed = RemoteFeed(near.url, closing)
        name = f"headrace-feed-{feed.name}"

        def asking() -> bool:
            return any(thread.name == name for thread in threading.enumerate())

        assert not asking()
        for _ in range(2):
            monkeypatch.setattr("headrace.web.remote.UNSEEN_S", 60.0)
            assert feed._state["error"], "what is old, or not there, says so"
            feed.state()
            until(lambda: feed.state()["error"] == "")
            assert asking()
            monkeypatch.setattr("headrace.web.remote.UNSEEN_S", 0.0)
            until(lambda: not asking())
            assert feed.state()["name"] == "shipping"
            until(lambda: not asking())
        closing.set()
        feed.state()
        assert not asking()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/", "http://", ""])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        serve_dashboard([url], 0)
