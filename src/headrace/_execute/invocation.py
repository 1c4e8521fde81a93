"""From a subscription's settings and handler to what a worker calls for one record, or for one batch.

Decides what happens around the handler: decoding, then the filter, then the handler, and what a batch's outcome means
for each of its records. Refuses to know threads and loops. With nothing configured the handler itself is what is
called. Invariant: of one lane, nothing is finished behind a record that is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from headrace._core.events import Finished
from headrace._execute.claims import lane_function
from headrace.errors import DecodeFailed
from headrace.records import Batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

_tenure_of = attrgetter("_tenure")


class _Filtered:
    """The type of `FILTERED`: a handler may return anything, so the mark must be ours alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<filtered>"


FILTERED = _Filtered()
"""What an invocation returns for a record that the filter turned away."""


@dataclass(slots=True)
class Tally:
    """Outcomes of records, gathered until they are delivered together. Its holder guards it."""

    succeeded: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    failed: list[tuple[Record[Any, Any], BaseException]] = field(
        default_factory=list["tuple[Record[Any, Any], BaseException]"]
    )
    returned: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    awaiting: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    filtered: int = 0
    started: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    waits_s: list[float] = field(default_factory=list[float])

    def finished(self, subscription: int) -> Finished:
        """Freeze it."""
        return Finished(
            subscription,
            self.succeeded,
            self.failed,
            self.returned,
            self.awaiting,
            self.filtered,
            self.busy_s,
            self.cpu_s,
            self.started,
            self.waits_s,
        )

    def __bool__(self) -> bool:
        return bool(self.succeeded or self.failed or self.returned or self.awaiting or self.started)


def bind(settings: SubscriptionSettings, handler: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return what a thread calls for each record of a `def` handler without batches."""
    admit = _admission(settings)
    if admit is None:
        return handler

    def invoke(record: Record[Any, Any]) -> object:
        return handler(record) if admit(record) else FILTERED

    return invoke


def bind_async(
    settings: SubscriptionSettings, handler: Callable[[Any], Awaitable[object]]
) -> Callable[[Any], Awaitable[object]]:
    """Return what a pump awaits for each record of an `async def` handler without batches."""
    admit = _admission(settings)
    if admit is None:
        return handler

    async def invoke(record: Record[Any, Any]) -> object:
        return await handler(record) if admit(record) else FILTERED

    return invoke


def without_our_frame(error: BaseException) -> BaseException:
    """Cut the frame that caught it off a handler's error: it says nothing, and holds what it should not keep alive."""
    trace = error.__traceback__
    return error if trace is None else error.with_traceback(trace.tb_next)


def _admission(settings: SubscriptionSettings) -> Callable[[Record[Any, Any]], bool] | None:
    """Return what decodes and filters a record: False if it is filtered out. None if there is nothing to do."""
    key_decoder, value_decoder, keep = settings.key_decoder, settings.value_decoder, settings.filter
    if key_decoder is None and value_decoder is None and keep is None:
        return None
    by_hand = settings.ack == "manual"

    def admit(record: Record[Any, Any]) -> bool:
        # At every attempt: a handler may have changed what an earlier one was given.
        if key_decoder is not None and record.raw_key is not None:
            record._key = _decoded("key_decoder", key_decoder, record.raw_key)
        raw = None if value_decoder is None else record._source.value()
        if value_decoder is not None and raw is not None:
            record._value = _decoded("value_decoder", value_decoder, raw)
        if keep is None or keep(record):
            return True
        if by_hand:
            record.ack()  # Nobody else will: the handler never sees it.
        return False

    return admit


def _decoded(what: str, decoder: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decoder(raw)
    except MemoryError:
        raise  # It stops the runtime, wherever it strikes.
    except Exception as error:
        raise DecodeFailed(what, error) from error


class BatchPlan:
    """How a subscription's claim lists become batches, and batches outcomes. Frozen; any thread."""

    __slots__ = ("_admit", "_lane_of")

    def __init__(self, settings: SubscriptionSettings) -> None:
        self._admit = _admission(settings)
        # What is never tried again holds nothing up: what came behind a failed record was handled all the same.
        ordered = settings.order_by if settings.guarantee == "at_least_once" else "none"
        self._lane_of = lane_function(ordered)

    def sift(self, records: list[Record[Any, Any]], tally: Tally) -> list[Sifted]:
        """Decode and filter claimed records, and group them by tenure: a batch is of one partition. Stale ones are returned."""
        if records and records[0]._tenure.open and len({*map(_tenure_of, records)}) == 1:
            only = Sifted(records)  # Nearly always: a claim list of batches is of one tenure.
            self._admit_all(only)
            return [only]
        groups: dict[int, Sifted] = {}
        for record in records:
            if not record._tenure.open:
                tally.returned.append(record)
                continue
            group = groups.get(id(record._tenure))
            if group is None:
                group = groups[id(record._tenure)] = Sifted()
            group.records.append(record)
        for group in groups.values():
            self._admit_all(group)
        return list(groups.values())

    def _admit_all(self, group: Sifted) -> None:
        admit = self._admit
        if admit is None:
            group.batch = Batch(group.records)
            return
        admitted: list[Record[Any, Any]] = []
        behind: set[Hashable] = set()
        for record in group.records:
            lane = self._lane_of(record)
            if lane in behind:
                continue
            try:
                if admit(record):
                    admitted.append(record)
                else:
                    group.filtered.add(id(record))
            except BaseException as error:
                group.errors[id(record)] = error
                if lane is not None:
                    behind.add(lane)
        if admitted:
            group.batch = Batch(admitted)

    def settle(self, group: Sifted, error: BaseException | None, tally: Tally) -> None:
        """Tell the outcome of each record, after the handler returned (None) or raised `error`."""
        errors = group.errors if group.batch is None else {**group.errors, **group.batch._failures}
        if error is None and not errors:
            tally.succeeded += group.records
            tally.filtered += len(group.filtered)
            return
        handled: set[int] = set()
        if group.batch is not None:
            handled.update(map(id, group.batch.records))
        behind: set[Hashable] = set()
        for record in group.records:
            key = id(record)
            lane = self._lane_of(record)
            if lane in behind:
                tally.returned.append(record)
                continue
            failure = error if error is not None and key in handled else errors.get(key)
            if failure is not None:
                tally.failed.append((record, failure))
                if lane is not None:
                    behind.add(lane)
            else:
                tally.succeeded.append(record)
                tally.filtered += key in group.filtered


@dataclass(slots=True)
class Sifted:
    """Claimed records of one tenure: those for the handler as a batch (None if there are none), and the others."""

    records: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    batch: Batch[Any, Any] | None = None
    filtered: set[int] = field(default_factory=set[int])
    errors: dict[int, BaseException] = field(default_factory=dict[int, BaseException])
