"""Outcomes on an event loop, gathered until the end of the loop's iteration and delivered together.

Invariant: one delivery and one wake-up of the owner for all that ended in one iteration.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from headrace._core.events import Delivered
from headrace._execute.invocation import Tally

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from headrace._core.events import Finished
    from headrace._execute.invocation import BatchPlan, Sifted
    from headrace.records import Record


class Outbox:
    """The loop thread writes `tally`, under `lock` where the owner may report in its stead."""

    def __init__(
        self,
        subscription: int,
        deliver: Callable[[Finished | Delivered], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._subscription = subscription
        self._deliver = deliver
        self._loop = loop
        self._flush_due = False
        self.lock = threading.Lock()
        self.tally = Tally()

    def flush_soon(self) -> None:
        """See that outcomes leave at the end of this iteration."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Deliver what there is."""
        self._flush_due = False
        with self.lock:
            tally = self.tally
            tally.started = len(tally.succeeded) + len(tally.failed) + len(tally.awaiting)
            if not tally:
                return
            self.tally = Tally()
        self._deliver(tally.finished(self._subscription))

    def delivered(self, record: Record[Any, Any], error: Exception | None) -> None:
        """Any thread: all that the handler of this record produced was answered."""
        self._deliver(Delivered(record, error))

    def batch_delivered(self, plan: BatchPlan, group: Sifted, error: Exception | None) -> None:
        """Any thread: the same of a batch."""
        # Reported only now: single records wait in the engine, but a batch stands or falls together.
        tally = Tally()
        plan.settle(group, error, tally)
        self._deliver(tally.finished(self._subscription))
