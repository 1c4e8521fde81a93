"""From a view to samples: what a selection keeps is read, what it drops is not.

Knows no reporter. Invariant: one metric that raises is unknown, with the error as its reason, and spoils no other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from headrace._core.health import REASONS
from headrace.observe.catalogue import CATALOGUE, INFINITE
from headrace.observe.metrics import Sample, Unknown, given
from headrace.observe.statistics import ClientStatistics
from headrace.observe.views import topics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace._core.snapshot import EngineSnapshot
    from headrace._runtime.snapshots import OwnerSnapshot
    from headrace.observe.catalogue import Definition
    from headrace.observe.metrics import Gauge, Metric, Value
    from headrace.observe.views import PartitionView, View

    Keeps = Callable[[Metric, tuple[str, ...]], bool]

T = TypeVar("T")


def evaluate(view: View, gauges: Sequence[Gauge], keeps: Keeps) -> tuple[Sample, ...]:
    """The samples of one report, in the order of the catalogue, the user's own gauges last."""
    return tuple(_samples(view, gauges, keeps))


def _samples(view: View, gauges: Sequence[Gauge], keeps: Keeps) -> Iterator[Sample]:
    yield from _of(CATALOGUE.app, view, (), keeps)
    for reason in REASONS:
        yield from _of(CATALOGUE.reasons, (view, reason.name), (reason.name,), keeps)
    yield from _of_owner(view.snapshot.owner, keeps)
    partitions = view.partitions()
    for topic in topics_of(partitions):
        yield from _of(CATALOGUE.topics, topic, (topic.topic,), keeps)
    for part in partitions:
        yield from _of(CATALOGUE.partitions, part, _place(part), keeps)
    yield from _of_work(view.snapshot.engine, keeps)
    if statistics := ClientStatistics(view.snapshot.owner.statistics):
        yield from _of(CATALOGUE.client, statistics, (), keeps)
        for part in partitions:
            yield from _of(CATALOGUE.prefetch, (statistics, part), _place(part), keeps)
    for reporter in view.reporters:
        yield from _of(CATALOGUE.reporters, reporter, (reporter.name,), keeps)
    for gauge in gauges:
        metric = gauge.metric()
        if keeps(metric, ()):
            yield Sample(metric, (), _value(lambda gauge: given(gauge.read(), "it gave no value"), gauge))


def _of_owner(owner: OwnerSnapshot, keeps: Keeps) -> Iterator[Sample]:
    for activity, spent_s in owner.loop_s:
        yield from _of(CATALOGUE.loop, (activity, spent_s), (activity,), keeps)
    for rebalances in owner.rebalances:
        yield from _of(CATALOGUE.rebalances, rebalances, (rebalances.cause,), keeps)


def _of_work(engine: EngineSnapshot, keeps: Keeps) -> Iterator[Sample]:
    for subscription in engine.subscriptions:
        yield from _of(CATALOGUE.subscriptions, subscription, (subscription.name,), keeps)
        yield from _of(CATALOGUE.durations, subscription, (subscription.name,), keeps)
        for bound_s in (*subscription.durations.bounds_s, INFINITE):
            labels = (subscription.name, "+Inf" if bound_s == INFINITE else f"{bound_s:g}")
            yield from _of(CATALOGUE.buckets, (subscription, bound_s), labels, keeps)
    for failure in engine.failures:
        yield from _of(CATALOGUE.failures, failure, (failure.subscription, failure.error), keeps)


def _place(part: PartitionView) -> tuple[str, str]:
    return (part.part.topic, str(part.part.partition))


def _of(
    definitions: Sequence[Definition[T]], thing: T, labels: tuple[str, ...], keeps: Keeps
) -> Iterator[Sample]:
    for definition in definitions:
        if keeps(definition.metric, labels):
            yield Sample(definition.metric, labels, _value(definition.read, thing))


def _value(read: Callable[[T], Value], thing: T) -> Value:
    try:
        found = read(thing)
    except Exception as error:  # noqa: BLE001 - a gauge of the user may raise anything; it spoils itself alone
        return Unknown(f"reading it raised {type(error).__name__}: {error}")
    if isinstance(found, Unknown):
        return found
    # A gauge of the user may give anything; what is not finite is no value in most formats.
    if not isinstance(found, int | float) or not math.isfinite(found):
        return Unknown(f"it gave {found!r}, which is no finite number")
    return found
