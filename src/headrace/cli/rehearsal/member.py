"""One member of a rehearsal, a process of its own: the user's app, on the embedded broker, under witness.

Run as `python -m headrace.cli.rehearsal.member PLAN`; it leaves when its stdin ends. Invariant: it ends when the pipe to
its parent closes, however the parent ends.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from headrace._client.settings import ConnectionSettings
from headrace._core import notices
from headrace._runtime.surroundings import kafka
from headrace.cli.loading import load_app
from headrace.cli.rehearsal.ledger import LedgerWriter
from headrace.cli.rehearsal.plan import GROUP, MemberPlan
from headrace.cli.rehearsal.witness import witnessed
from headrace.elsewhere import started_elsewhere
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.notices import Notice
    from headrace.subscriptions import SubscriptionSettings

OVER_WAIT_S = 10.0
"""Beyond the stop budget: executors, lifespans and the producer close after the connection."""


def main() -> int:
    """The process. Its exit code says only whether it could begin; the ledger says the rest."""
    plan = MemberPlan.from_json(sys.argv[1])
    logging.basicConfig(
        level=logging.INFO if plan.debug else logging.CRITICAL, format=f"{plan.member}: %(message)s"
    )
    leaving = threading.Event()
    threading.Thread(target=_await_end, args=(leaving,), daemon=True).start()
    ledger = LedgerWriter(plan.ledger)
    try:
        _live(plan, ledger, leaving)
    except HeadraceError as error:
        ledger.write("ended", type(error).__name__, str(error), 0.0)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _live(plan: MemberPlan, ledger: LedgerWriter, leaving: threading.Event) -> None:
    app = load_app(plan.target)
    connection = ConnectionSettings(
        plan.bootstrap_servers, GROUP, plan.client, group_protocol=app.settings.group_protocol
    )

    def watched(
        settings: SubscriptionSettings, handler: Callable[..., Any]
    ) -> tuple[SubscriptionSettings, Callable[..., Any]]:
        return witnessed(settings, handler, ledger)

    with started_elsewhere(
        app, kafka(connection), app.settings.commit, lambda notice: _note(ledger, notice), watched
    ) as assembly:
        assembly.wait_started()
        ledger.write("running")
        while not leaving.wait(0.1) and not assembly.over.is_set():
            pass
        began = time.monotonic()
        assembly.request_stop(timeout_s=plan.stop_s)
        assembly.over.wait(plan.stop_s + OVER_WAIT_S)
        fatal = assembly.fatal()
        how, text = ("clean", "") if fatal is None else (type(fatal).__name__, str(fatal))
        ledger.write("ended", how, text, f"{time.monotonic() - began:.3f}")


def _note(ledger: LedgerWriter, notice: Notice) -> None:
    match notice:
        case notices.RecordDeadLettered() | notices.RecordSkipped():
            ledger.write("given_up", notice.topic, notice.partition, notice.offset)
        case notices.StateChanged() | notices.PartitionAssigned() | notices.RecordRetried():
            return  # Many, and seen elsewhere.
        case _:
            pass
    ledger.write("notice", notice.name, str(notice))


def _await_end(leaving: threading.Event) -> None:
    sys.stdin.read()
    leaving.set()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Handlers that were abandoned must not keep the process.
    os._exit(code)
