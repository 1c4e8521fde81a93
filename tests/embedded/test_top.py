"""`headrace top` on a running app that serves its snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace import App, Record
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker
from headrace.web import serve

if TYPE_CHECKING:
    import pytest

WAIT_S = 20.0


def test_a_running_app_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with MockBroker(topics={"orders": 2}) as broker:
        broker.produce("orders", [(b"k", b"v")] * 7, partition=1)
        app = App(
            broker.bootstrap_servers,
            "billing",
            librdkafka={"statistics.interval.ms": 100},
        )
        handled: list[int] = []

        @app.subscribe("orders")
        def handle(record: Record[Any, Any]) -> None:
            handled.append(record.offset)

        app.start()
        try:
            with serve(app, 0) as server:
                give_up_at = time.monotonic() + WAIT_S
                while len(handled) < 7 or app.snapshot().engine.counters.finished < 7:
                    assert time.monotonic() < give_up_at
                    time.sleep(0.02)
                assert execute(["top", server.url, "--once", "--every", "0.3"]) is Exit.OK
        finally:
            app.stop()
    shown = capsys.readouterr().out
    assert "billing" in shown
    assert "handle" in shown
    assert shown.count("orders") >= 2
