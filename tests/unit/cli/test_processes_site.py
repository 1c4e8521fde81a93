"""The site of `headrace run --processes` over processes that answer late, or never; and what it asks while nobody looks."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from headrace.cli.processes import site
from headrace.cli.processes.site import serve_fleet
from headrace.cli.processes.supervisor import Fleet, Member, State
from tests.unit.web.asking import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

WAIT_S = 40.0
MANY = 40
"""More than the threads that an event loop has for whatever waits: at most 32."""


class Processes(ThreadingHTTPServer):
    """Answers for all processes: number N is asked below /N/."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, meet: Callable[[int], object]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.meet = meet
        self.asked: list[str] = []


class _Answering(BaseHTTPRequestHandler):
    server: Processes  # pyright: ignore[reportIncompatibleVariableOverride] # made by no other

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        number, _, what = self.path.lstrip("/").partition("/")
        if what == "metrics":
            self.server.meet(int(number))
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(b"# TYPE answered gauge\nanswered 1\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def fleet_of(count: int, meet: Callable[[int], object]) -> Generator[tuple[Fleet, Processes]]:
    with Processes(meet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        fleet = Fleet(count)
        members = tuple(
            Member(member.view, 1, f"http://127.0.0.1:{server.server_port}/{number}/")
            for number, member in enumerate(fleet.state.members)
        )
        fleet.state = State(fleet.state.at, members, rolling=False, stopping=False)
        yield fleet, server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_all_processes_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers when all have been asked."""
    monkeypatch.setattr(site, "ASK_S", WAIT_S)
    monkeypatch.setattr(site, "ANSWER_S", WAIT_S)
    barrier = threading.Barrier(MANY, timeout=WAIT_S)
    with (
        fleet_of(MANY, lambda _number: barrier.wait()) as (fleet, _),
        serve_fleet(fleet, "127.0.0.1", 0) as server,
    ):
        page = ask(server, "/metrics", timeout_s=WAIT_S).text
    assert page.count("answered{") == MANY


def test_processes_that_hang_hold_up_neither_the_page_nor_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ASK_S", WAIT_S)
    over = threading.Event()
    with (
        fleet_of(2, lambda number: number == 0 and over.wait(WAIT_S)) as (fleet, _),
        serve_fleet(fleet, "127.0.0.1", 0) as server,
    ):
        monkeypatch.setattr(site, "ANSWER_S", 0.1)
        for _ in range(2 * site.ASKS_EACH_MAX):
            assert ask(server, "/process/0/metrics").status == 503
        monkeypatch.setattr(site, "ANSWER_S", WAIT_S)
        assert ask(server, "/process/1/metrics").status == 200
        monkeypatch.setattr(site, "ANSWER_S", 0.1)
        assert 'headrace_process_ready{process="0"}' in ask(server, "/metrics").text
        over.set()


def test_no_process_is_asked_while_nobody_looks() -> None:
    with (
        fleet_of(2, lambda _number: None) as (fleet, processes),
        serve_fleet(fleet, "127.0.0.1", 0) as server,
    ):
        assert ask(server, "/health/live").status == 200
        assert "headrace-feed-127.0.0.1" not in {thread.name for thread in threading.enumerate()}
        assert processes.asked == []
