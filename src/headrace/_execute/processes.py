"""`run_in="processes"`: runs the handler of one subscription in worker processes of its own.

Decides what the owner thread may take back and how; refuses to know offsets and partitions, and never touches the
engine. The supervisor thread does all input and output; this is what the owner sees of it.

Invariant: every submitted record ends exactly once, in a `Finished` or as the result of `recall`; only records whose
handler was running when `close` ended their worker by signal get no outcome.

Not supported in a worker: `record.ack()` and `app.produce` (there is no app there; see `in_process_worker`), and
starting processes by `multiprocessing`, since workers are daemons.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import TYPE_CHECKING, Any

from headrace._execute.process_link import ClaimList, Outcomes
from headrace._execute.process_supervisor import Supervisor, is_slow
from headrace._execute.process_worker import Plan
from headrace.errors import ConfigError, HandlerError
from headrace.ports import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from headrace._core.events import Finished
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings


class ProcessExecutor:
    """Runs one subscription's handler in worker processes. See `ports.Executor` for what its calls promise.

    The constructor checks that everything can be pickled by reference (`HandlerError` names what cannot) and starts the
    workers; it does not wait for them. `deliver` and `on_broken` are called on the supervisor thread. `on_broken` is
    called at most once, when no worker can be started; records then stay here until they are recalled.
    """

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        handler: Callable[..., Any],
        deliver: Callable[[Finished], None],
        on_broken: Callable[[BaseException], None],
        *,
        resource: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        count = settings.workers or usable_cpus()
        self._supervisor = Supervisor(
            subscription, settings, _plan_blob(settings, handler, resource), count, deliver, on_broken
        )
        self._tickets = 0
        self._supervisor.start()

    # -- owner thread ------------------------------------------------------------------------------------------

    def submit(self, records: list[Record[Any, Any]]) -> None:
        """Queue one claim list. It runs in one worker; a batch handler gets it as one batch."""
        if not records:
            return
        with self._supervisor.lock:
            self._tickets += 1
            self._supervisor.pending.append(ClaimList(self._tickets, records))
            self._supervisor.wake()

    def recall(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """Take back every record of these tenures that no worker has claimed; none of them starts afterwards.

        Exact also for records that are at a worker: claims and recalls exclude each other by the worker's claim lock.
        If that lock is not to be had within CLAIM_LOCK_WAIT_S, that worker's records follow as `Finished.returned`, as
        soon as it is; until then they may start. So do records of other tenures in a list that had been begun.
        """
        wanted = None if tenures is None else {id(tenure) for tenure in tenures}
        outcomes = Outcomes()
        with self._supervisor.lock:
            lists = list(self._supervisor.pending)
            self._supervisor.pending.clear()
            for link in self._supervisor.links():
                if any(_has(sent, wanted) for sent in link.lists):
                    lists += link.take_back() or ()
            lists.sort(key=_ticket)
            recalled: list[Record[Any, Any]] = []
            for claim_list in lists:
                mine, others = _split(claim_list.records, wanted)
                recalled += mine
                if claim_list.begun:
                    outcomes.returned += others
                elif others:
                    claim_list.records = others
                    self._supervisor.pending.append(claim_list)
            self._supervisor.wake()
        self._supervisor.send(outcomes)
        return recalled

    def cancel(self, tenures: Sequence[object]) -> None:
        """Nothing: a handler in another process cannot be asked to end. `timeout_s` and `close` end it by force."""

    def pulse(self, now: float) -> None:
        """Have lists whose current record is slow reported as far as they are, and the rest of them given back.

        The supervisor does it, at once: what was begun comes back as `Finished.returned`, what was not is queued again.
        """
        with self._supervisor.lock:
            if any(link.strands() and is_slow(link, now) for link in self._supervisor.links()):
                self._supervisor.pulsed = True
                self._supervisor.wake()

    def close(self, timeout_s: float) -> list[str]:
        """End the workers: give back what is unclaimed, let running handlers end, then SIGTERM, then SIGKILL.

        Returns the names of workers that had to be ended by signal. Their running records get no outcome.
        """
        outcomes = Outcomes()
        with self._supervisor.lock:
            if self._supervisor.end_at is None:
                now = time.monotonic()
                self._supervisor.end_at = (now + 0.8 * timeout_s, now + 0.9 * timeout_s)
                lists = list(self._supervisor.pending)
                self._supervisor.pending.clear()
                for link in self._supervisor.links():
                    lists += link.take_back() or ()
                for claim_list in sorted(lists, key=_ticket):
                    outcomes.returned += claim_list.records
            self._supervisor.wake()
        self._supervisor.send(outcomes)
        self._supervisor.join(timeout_s + 0.25)  # SIGKILL takes its milliseconds
        with self._supervisor.lock:
            return list(self._supervisor.abandoned)

    # -- any thread --------------------------------------------------------------------------------------------

    def running(self) -> list[Running]:
        """The handlers that run now, oldest first. A batch is shown by its first record."""
        found: list[Running] = []
        with self._supervisor.lock:
            for link in self._supervisor.links():
                since, records = link.running_since(), link.running_records()
                if since is not None and records:
                    found.append(Running(records[0], since, link.title))
        return sorted(found, key=lambda running: running.since)

    def stack_of(self, running: Running) -> str | None:
        """None: the stack of another process is not to be had cheaply."""
        del running
        return None

    def busy_workers(self) -> int:
        """Workers that run a handler now."""
        return sum(1 for link in self._supervisor.links() if link.running_since() is not None)

    def share(self, connections: int) -> None:
        """Refused: a worker process cannot be divided, and an app with several connections has none."""
        if connections > 1:
            raise ConfigError("Connections.max", connections, "1, since a subscription runs in processes")


def usable_cpus() -> int:
    """Processors this process may run on: fewer than the machine's in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _plan_blob(
    settings: SubscriptionSettings,
    handler: Callable[..., Any],
    resource: Callable[[], AbstractContextManager[Any]] | None,
) -> bytes:
    """The plan as pickled: functions by module and qualified name. Raises what `check_importable` does."""
    check_importable(settings, handler, resource)
    plan = Plan(
        handler=handler,
        order_by=settings.order_by,
        batch=settings.batch is not None,
        key_decoder=settings.key_decoder,
        value_decoder=settings.value_decoder,
        filter=settings.filter,
        resource=resource,
    )
    return pickle.dumps(plan, 5)


def check_importable(
    settings: SubscriptionSettings,
    handler: Callable[..., Any],
    resource: Callable[[], AbstractContextManager[Any]] | None,
) -> None:
    """Raise `HandlerError` naming what a worker process could not import."""
    parts = {
        "the handler": handler,
        "key_decoder": settings.key_decoder,
        "value_decoder": settings.value_decoder,
        "filter": settings.filter,
        "resource": resource,
    }
    for what, part in parts.items():
        try:
            pickle.dumps(part)
        except Exception as error:
            problem = (
                f"{what} cannot be imported in a worker process: define it at the top of a module ({error})"
            )
            raise HandlerError(settings.name, problem) from error


def _ticket(claim_list: ClaimList) -> int:
    return claim_list.ticket


def _has(claim_list: ClaimList, wanted: set[int] | None) -> bool:
    return wanted is None or any(id(record._tenure) in wanted for record in claim_list.records)


def _split(
    records: list[Record[Any, Any]], wanted: set[int] | None
) -> tuple[list[Record[Any, Any]], list[Record[Any, Any]]]:
    """Those of the wanted tenures, and the others."""
    if wanted is None:
        return records, []
    mine = [record for record in records if id(record._tenure) in wanted]
    return mine, [record for record in records if id(record._tenure) not in wanted]
