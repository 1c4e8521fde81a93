"""Witnesses: the user's handlers and filters, with a line in the ledger before and after each call.

A witness does what the handler does, raises what it raises, and can be pickled where the handler can. Refuses to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace._runtime.handlers import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.cli.rehearsal.ledger import LedgerWriter
    from headrace.records import Batch, Record
    from headrace.subscriptions import SubscriptionSettings


@dataclass(frozen=True, slots=True)
class Witness:
    """A handler's witness, for plain functions."""

    handler: Callable[[Any], object]
    ledger: LedgerWriter

    def __call__(self, given: Record[Any, Any] | Batch[Any, Any]) -> object:
        """Call the handler."""
        _started(self.ledger, given)
        try:
            returned = self.handler(given)
        except BaseException as error:
            _ended(self.ledger, given, type(error).__name__)
            raise
        _ended(self.ledger, given, "")
        return returned


@dataclass(frozen=True, slots=True)
class AsyncWitness:
    """The same for `async` functions."""

    handler: Callable[[Any], Any]
    ledger: LedgerWriter

    async def __call__(self, given: Record[Any, Any] | Batch[Any, Any]) -> object:
        """Call the handler."""
        _started(self.ledger, given)
        try:
            returned = await self.handler(given)
        except BaseException as error:
            _ended(self.ledger, given, type(error).__name__)
            raise
        _ended(self.ledger, given, "")
        return returned


@dataclass(frozen=True, slots=True)
class FilterWitness:
    """A filter's witness: what it turns away reaches no handler."""

    filter: Callable[[Record[Any, Any]], bool]
    ledger: LedgerWriter

    def __call__(self, record: Record[Any, Any]) -> bool:
        """Call the filter."""
        wanted = self.filter(record)
        if not wanted:
            self.ledger.write("filtered", record.topic, record.partition, record.offset)
        return wanted


def witnessed(
    settings: SubscriptionSettings, handler: Callable[..., Any], ledger: LedgerWriter
) -> tuple[SubscriptionSettings, Callable[..., Any]]:
    """A subscription with its handler and filter under watch."""
    if settings.filter is not None:
        settings = replace(settings, filter=FilterWitness(settings.filter, ledger))
    return settings, AsyncWitness(handler, ledger) if is_async(handler) else Witness(handler, ledger)


def _records(given: Record[Any, Any] | Batch[Any, Any]) -> tuple[Record[Any, Any], ...]:
    records: tuple[Record[Any, Any], ...] | None = getattr(given, "records", None)
    return (given,) if records is None else records  # type: ignore[return-value] # a Batch has records, a Record has not


def _started(ledger: LedgerWriter, given: Record[Any, Any] | Batch[Any, Any]) -> None:
    for record in _records(given):
        ledger.write("start", record.topic, record.partition, record.offset, record.attempt)


def _ended(ledger: LedgerWriter, given: Record[Any, Any] | Batch[Any, Any], error: str) -> None:
    failures: dict[int, BaseException] = getattr(given, "_failures", {})
    for record in _records(given):
        failure = failures.get(id(record))
        name = error or ("" if failure is None else type(failure).__name__)
        ledger.write("end", record.topic, record.partition, record.offset, record.attempt, name)
