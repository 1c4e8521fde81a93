"""From a view to samples: what a selection keeps is read, what it drops is not.

Knows no reporter. Invariant: one metric that raises is unknown, with the error as its reason, and spoils no other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from headrace._core.health import REASONS
from headrace.observe.catalogue import CATALOGUE, INFINITE, Definition
from headrace.observe.metrics import Sample, Unknown, given
from headrace.observe.statistics import ClientStatistics
from headrace.observe.views import topics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace._core.snapshot import EngineSnapshot
    from headrace._runtime.snapshots import OwnerSnapshot, Snapshot
    from headrace.observe.filters import Selection
    from headrace.observe.metrics import Gauge, Value
    from headrace.observe.views import PartitionView, View

T = TypeVar("T")


def evaluate(view: View, gauges: Sequence[Gauge], selection: Selection) -> tuple[Sample, ...]:
    """The samples of one report, in the order of the catalogue, the user's own gauges last."""
    return tuple(_samples(view, gauges, selection))


def _samples(view: View, gauges: Sequence[Gauge], selection: Selection) -> Iterator[Sample]:
    yield from _of(CATALOGUE.app, view, (), selection)
    for reason in REASONS:
        yield from _of(CATALOGUE.reasons, (view, reason.name), (reason.name,), selection)
    yield from _of_owner(view.snapshot.owner, selection)
    yield from _of_connections(view.snapshot, selection)
    partitions = view.partitions()
    for topic in topics_of(partitions):
        yield from _of(CATALOGUE.topics, topic, (topic.topic,), selection)
    for part in partitions:
        yield from _of(CATALOGUE.partitions, part, _place(part), selection)
    yield from _of_work(view.snapshot.engine, selection)
    if statistics := ClientStatistics(view.snapshot.owner.statistics):
        yield from _of(CATALOGUE.client, statistics, (), selection)
        for part in partitions:
            yield from _of(CATALOGUE.prefetch, (statistics, part), _place(part), selection)
    for reporter in view.reporters:
        yield from _of(CATALOGUE.reporters, reporter, (reporter.name,), selection)
    for gauge in gauges:
        yield from _of((Definition(gauge.metric(), _read),), gauge, (), selection)


def _of_owner(owner: OwnerSnapshot, selection: Selection) -> Iterator[Sample]:
    for activity, spent_s in owner.loop_s:
        yield from _of(CATALOGUE.loop, (activity, spent_s), (activity,), selection)
    for rebalances in owner.rebalances:
        yield from _of(CATALOGUE.rebalances, rebalances, (rebalances.cause,), selection)


def _of_connections(snapshot: Snapshot, selection: Selection) -> Iterator[Sample]:
    for connection in snapshot.connections:
        yield from _of(CATALOGUE.connections, connection, (str(connection.number),), selection)
    for why, count in snapshot.scaling.decisions if snapshot.scaling is not None else ():
        yield from _of(CATALOGUE.scaling, (why, count), (why,), selection)


def _of_work(engine: EngineSnapshot, selection: Selection) -> Iterator[Sample]:
    for subscription in engine.subscriptions:
        yield from _of(CATALOGUE.subscriptions, subscription, (subscription.name,), selection)
        yield from _of(CATALOGUE.durations, subscription, (subscription.name,), selection)
        for bound_s in (*subscription.durations.bounds_s, INFINITE):
            labels = (subscription.name, "+Inf" if bound_s == INFINITE else f"{bound_s:g}")
            yield from _of(CATALOGUE.buckets, (subscription, bound_s), labels, selection)
    for failure in engine.failures:
        yield from _of(CATALOGUE.failures, failure, (failure.subscription, failure.error), selection)


def _place(part: PartitionView) -> tuple[str, str]:
    return (part.part.topic, str(part.part.partition))


def _of(
    definitions: Sequence[Definition[T]], thing: T, labels: tuple[str, ...], selection: Selection
) -> Iterator[Sample]:
    for definition in selection.kept(definitions, labels):
        yield Sample(definition.metric, labels, _value(definition.read, thing))


def _read(gauge: Gauge) -> Value:
    return given(gauge.read(), "it gave no value")


def _value(read: Callable[[T], Value], thing: T) -> Value:
    try:
        found = read(thing)
    except Exception as error:  # noqa: BLE001 - a gauge of the user may raise anything; it spoils itself alone
        return Unknown(f"reading it raised {type(error).__name__}: {error}")
    if type(found) is int:  # nearly all are: of 1,000 partitions 20,000 a report
        return found
    if isinstance(found, Unknown):
        return found
    # A gauge of the user may give anything; what is not finite is no value in most formats.
    if not isinstance(found, int | float) or not math.isfinite(found):
        return Unknown(f"it gave {found!r}, which is no finite number")
    return found
