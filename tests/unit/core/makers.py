"""Makes tenures and records for tests of single parts of the core, without an engine around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace._core.lanes import Lanes
from headrace._core.ledger import Ledger
from headrace._core.tenure import Tenure
from headrace.records import Record
from headrace.subscriptions import SubscriptionSettings
from tests.unit.core.engine_model import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.subscriptions import OrderBy

TOPIC = "orders"


def make_settings(**changes: Any) -> SubscriptionSettings:
    """A subscription of one topic, with what the test is about."""
    settings: dict[str, Any] = {"name": "handler", "topics": (TOPIC,), **changes}
    return SubscriptionSettings(**settings)


def make_tenure(
    partition: int = 0,
    *,
    start: int = 0,
    epoch: int = 1,
    order_by: OrderBy = "key",
    lanes: Lanes | None = None,
    keeps_position_only: bool = False,
) -> Tenure:
    """A tenure that holds nothing yet."""
    return Tenure(
        (TOPIC, partition),
        epoch,
        0,
        Ledger(start),
        Lanes(order_by) if lanes is None else lanes,
        lambda record: True,
        keeps_position_only=keeps_position_only,
    )


def deliver(tenure: Tenure, keys: Sequence[bytes | None], size: int = 10) -> list[Record[Any, Any]]:
    """Records with these keys at the next offsets, taken in as the engine does."""
    first = tenure.ledger.position
    offsets = list(range(first, first + len(keys)))
    sequence = tenure.ledger.deliver(offsets)
    records = [
        Record[Any, Any](Source(offset, key, size), tenure, offset, key, sequence + index)
        for index, (offset, key) in enumerate(zip(offsets, keys, strict=True))
    ]
    tenure.lanes.add(records)
    tenure.bytes_held += size * len(keys)
    return records


def finish(tenure: Tenure, records: Sequence[Record[Any, Any]]) -> None:
    """Mark records finished in the ledger alone."""
    tenure.ledger.finish([record._sequence for record in records])
