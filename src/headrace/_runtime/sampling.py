"""From the snapshots of an app's connections to what the policy of their number decides by.

Decides nothing; reads what owners publish, and touches neither engine nor client. One thread only, the one that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace._core.load import LoadSample
from headrace._core.scaling import ConnectionView

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from headrace._core.snapshot import EngineSnapshot
    from headrace._runtime.link import Link
    from headrace.ports import TopicPartition


@dataclass(slots=True)
class _Span:
    """One connection since its last sample: looks in all, looks at which its workers had nothing, records finished by then."""

    began_at: float
    finished: int = 0
    looks: int = 0
    idle: int = 0
    joined_at: float | None = None


class Sampling:
    """Looks often, samples now and then. See the module's docstring."""

    __slots__ = ("_clock", "_spans")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spans: dict[Link, _Span] = {}

    def look(self, links: Sequence[Link]) -> None:
        """Note whether workers want more than they have."""
        now = self._clock()
        for link in links:
            span = self._spans.setdefault(link, _Span(now))
            if span.joined_at is None and link.owner.running.is_set():
                span.joined_at = now
            engine = link.owner.snapshots.latest.engine
            span.looks += 1
            span.idle += engine.partitions != () and not _has_work(engine)

    def take(
        self, links: Sequence[Link], failing: Collection[int], ends: Mapping[TopicPartition, int] | None
    ) -> tuple[tuple[ConnectionView, ...], list[LoadSample]]:
        """One view and one sample of each connection; failing ones without a thread have a view only."""
        now = self._clock()
        self._spans = {link: self._spans.get(link, _Span(now)) for link in links}
        views = [self._view(link, failing=link.number in failing) for link in links]
        there = {link.number for link in links}
        views += [
            ConnectionView(number, now, None, 0, failing=True) for number in failing if number not in there
        ]
        samples = [self._sample(link, ends, now) for link in links if link.number not in failing]
        return tuple(views), samples

    def _view(self, link: Link, *, failing: bool) -> ConnectionView:
        snapshot, vitals = link.owner.snapshots.latest, link.owner.snapshots.vitals
        settled: float | None = None
        # A refused commit tells of a rebalance that has not reached this member yet.
        moving = vitals.rebalance_since, vitals.rebuild, vitals.refused
        if moving == (None, None, None) and not vitals.starts:
            # Under KIP-848 a member that is given nothing hears of no rebalance: it is settled since it joined.
            settled = vitals.rebalances[-1] if vitals.rebalances else self._spans[link].joined_at
        held = len(snapshot.engine.partitions)
        return ConnectionView(link.number, snapshot.as_of, settled, held, failing)

    def _sample(self, link: Link, ends: Mapping[TopicPartition, int] | None, now: float) -> LoadSample:
        engine, span = link.owner.snapshots.latest.engine, self._spans[link]
        finished, seconds = engine.counters.finished, max(1e-3, now - span.began_at)
        lag = None
        if ends is not None:
            lag = sum(
                max(0, ends.get((part.topic, part.partition), 0) - part.position)
                for part in engine.partitions
            )
        starved = span.idle / span.looks if span.looks and lag else 0.0
        self._spans[link] = _Span(now, finished, joined_at=span.joined_at)
        return LoadSample((finished - span.finished) / seconds, starved, lag)


def _has_work(engine: EngineSnapshot) -> bool:
    return any(part.waiting for part in engine.partitions)
