"""An app that cannot have one of its threads says so at its start, and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, AppState, Connections
from tests.cycles import handle_nothing
from tests.unit.runtime.fake_links import until

if TYPE_CHECKING:
    from headrace import Record


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("headrace")}


@pytest.mark.parametrize("refused", ["headrace-connections", "headrace-owner", "headrace-watchdog"])
def test_a_start_that_can_have_no_more_threads_leaves_none(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ours()
    app = App("127.0.0.1:1", "billing", connections=Connections(max=2))
    app.subscribe("orders")(handle_nothing)

    @app.subscribe("refunds")
    async def refund(_record: Record[Any, Any]) -> None:
        """For an event loop of the app's own."""

    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name == refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        app.start()
    assert app.state in {AppState.STOPPED, AppState.NEW}
    until(lambda: ours() <= before)
    app.stop()
