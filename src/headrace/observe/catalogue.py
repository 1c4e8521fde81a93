"""Every metric of Headrace, once: name, kind, unit, labels, meaning, bound, and how its value is read from a view.

`docs/reference/metrics.md` is generated from it. Refuses to evaluate: `evaluation` does. Invariant: every read is a pure
function of the view, so a metric that no filter keeps costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from headrace._core.board import FAILURE_KINDS_MAX
from headrace._core.durations import BOUNDS_S
from headrace._core.health import REASONS
from headrace._core.scaling import MEANINGS
from headrace._core.states import AppState
from headrace._runtime.rebalances import CAUSES
from headrace._runtime.spending import ACTIVITIES
from headrace.observe.metrics import OUR_PREFIX, Metric, Value, given
from headrace.observe.statistics import NOT_TOLD, ClientStatistics, brokers_up, disconnects, round_trip_s
from headrace.observe.views import PartitionView, TopicView, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.snapshot import FailureSnapshot, PartitionSnapshot, SubscriptionSnapshot
    from headrace._runtime.connections_told import ConnectionSnapshot
    from headrace._runtime.rebalances import RebalanceSnapshot
    from headrace.observe.metrics import Kind
    from headrace.observe.states import ReporterState

T = TypeVar("T")

INFINITE = float("inf")
NOT_YET = "it has not happened yet"
JOINED = frozenset(
    state.value
    for state in (
        AppState.RUNNING,
        AppState.QUIETING,
        AppState.QUIET,
        AppState.DRAINING,
        AppState.COMMITTING,
        AppState.CLOSING,
    )
)
"""States of a connection that is in the group."""
NOTHING_UNFINISHED = "nothing is unfinished"


@dataclass(frozen=True, slots=True)
class Definition(Generic[T]):
    """A metric, and how its value is read."""

    metric: Metric
    read: Callable[[T], Value]


@dataclass(frozen=True, slots=True)
class Scope(Generic[T]):
    """What metrics of one kind of thing have in common. title: of their section in the reference."""

    title: str
    prefix: str
    labels: tuple[str, ...]
    bound: str

    def define(
        self, name: str, unit: str, meaning: str, read: Callable[[T], Value], kind: Kind = "gauge"
    ) -> Definition[T]:
        """A metric of this scope."""
        return Definition(
            Metric(f"{OUR_PREFIX}{self.prefix}{name}", kind, unit, self.labels, meaning, self.bound), read
        )


APP: Scope[View] = Scope("The app", "", (), "1")
REASON: Scope[tuple[View, str]] = Scope(
    "Health, by reason", "health_", ("reason",), f"{len(REASONS)} reasons"
)
TOPIC: Scope[TopicView] = Scope(
    "Per topic: sums over the partitions that are ours now", "topic_", ("topic",), "topics assigned"
)
PARTITION: Scope[PartitionView] = Scope(
    "Per partition", "partition_", ("topic", "partition"), "partitions assigned"
)
SUBSCRIPTION: Scope[SubscriptionSnapshot] = Scope(
    "Per subscription", "subscription_", ("subscription",), "subscriptions of the app"
)
LOOP: Scope[tuple[str, float]] = Scope(
    "The owner loop, by activity", "loop_", ("activity",), f"{len(ACTIVITIES)} activities"
)
CONNECTION: Scope[ConnectionSnapshot] = Scope(
    "Per connection, where `Connections.max` is above 1", "connection_", ("connection",), "`Connections.max`"
)
SCALING: Scope[tuple[str, int]] = Scope(
    "Decisions about the number of connections, by reason",
    "scaling_",
    ("why",),
    f"{len(MEANINGS)} reasons",
)
REBALANCE: Scope[RebalanceSnapshot] = Scope(
    "Rebalances, by how they began", "", ("cause",), f"{len(CAUSES)} causes"
)
CLIENT: Scope[ClientStatistics] = Scope(
    "librdkafka's own statistics: there once `statistics.interval.ms` is set", "client_", (), "1"
)
PREFETCH: Scope[tuple[ClientStatistics, PartitionView]] = Scope(
    "librdkafka's own statistics, per partition", "client_", ("topic", "partition"), "partitions assigned"
)
FAILURE: Scope[FailureSnapshot] = Scope(
    "Per subscription and error",
    "subscription_",
    ("subscription", "error"),
    f"{FAILURE_KINDS_MAX} classes of errors that came first; the rest counts as `other`",
)
BUCKET: Scope[tuple[SubscriptionSnapshot, float]] = Scope(
    "Per subscription and duration",
    "subscription_",
    ("subscription", "le"),
    f"{len(BOUNDS_S) + 1} buckets of each subscription",
)
REPORTER: Scope[ReporterState] = Scope("Per reporter", "reporter_", ("reporter",), "reporters of the app")


def _counter(name: str, unit: str, field: str, meaning: str) -> Definition[View]:
    def read(view: View) -> Value:
        found: int = getattr(view.snapshot.engine.counters, field)
        return found

    return APP.define(f"{name}_total", unit, meaning, read, "counter")


def _sum(name: str, unit: str, meaning: str, read: Callable[[PartitionView], Value]) -> Definition[TopicView]:
    return TOPIC.define(name, unit, meaning, lambda topic: topic.total(read))


def _part(
    name: str, unit: str, meaning: str, read: Callable[[PartitionSnapshot], Value]
) -> Definition[PartitionView]:
    return PARTITION.define(name, unit, meaning, lambda view: read(view.part))


def _oldest(view: PartitionView) -> Value:
    return given(view.view.age_s(view.part.oldest_age_s), NOTHING_UNFINISHED)


def _oldest_of_topic(topic: TopicView) -> Value:
    ages = [part.part.oldest_age_s for part in topic.partitions if part.part.oldest_age_s is not None]
    return given(topic.partitions[0].view.age_s(max(ages, default=None)), NOTHING_UNFINISHED)


def _within(place: tuple[SubscriptionSnapshot, float]) -> Value:
    subscription, bound_s = place
    durations = subscription.durations
    return durations.count if bound_s == INFINITE else durations.within(bound_s)


def _connections(view: View) -> Value:
    several = [each.state for each in view.snapshot.connections]
    return sum(state in JOINED for state in several or [view.snapshot.state])


def _changes(field: str) -> Callable[[View], Value]:
    def read(view: View) -> Value:
        found: int = 0 if view.snapshot.scaling is None else getattr(view.snapshot.scaling, field)
        return found

    return read


def _prefetched(index: int) -> Callable[[tuple[ClientStatistics, PartitionView]], Value]:
    def read(place: tuple[ClientStatistics, PartitionView]) -> Value:
        found = place[0].prefetched(place[1].part.topic, place[1].part.partition)
        return NOT_TOLD if found is None else found[index]

    return read


def _reason_count(place: tuple[View, str]) -> Value:
    view, name = place
    return sum(reason.name == name for reason in view.health.reasons)


_OF_APP: tuple[Definition[View], ...] = (
    APP.define("live", "flag", "1 unless it is stuck or ended with an error: `Health.live`", lambda v: int(v.health.live)),
    APP.define("ready", "flag", "1 when it has joined and records can flow: `Health.ready`", lambda v: int(v.health.ready)),
    APP.define("partitions", "partitions", "partitions that are ours", lambda v: len(v.snapshot.engine.partitions)),
    APP.define("snapshot_age_seconds", "seconds", "age of the snapshot that the report was made of; it grows when the owner thread stands still", lambda v: max(0.0, v.now - v.snapshot.as_of) if v.snapshot.sequence else given(None, NOT_YET)),
    APP.define("turn_age_seconds", "seconds", "since the owner thread last turned", lambda v: given(v.health.turn_age_s, NOT_YET)),
    APP.define("poll_age_seconds", "seconds", "since Kafka was last polled", lambda v: given(v.health.poll_age_s, NOT_YET)),
    APP.define("commit_age_seconds", "seconds", "since a commit was last confirmed", lambda v: given(v.health.commit_age_s, NOT_YET)),
    APP.define("uncommitted_age_seconds", "seconds", "how long finished work has been uncommitted", lambda v: given(v.health.uncommitted_age_s, "nothing is uncommitted")),
    APP.define("oldest_unfinished_age_seconds", "seconds", "since the oldest unfinished record was delivered", lambda v: given(v.health.oldest_age_s, NOTHING_UNFINISHED)),
    APP.define("offsets_age_seconds", "seconds", "since the broker was last asked for offsets; what hangs on them (lag, records, start, end, last stable and committed offset) is of then", lambda v: given(v.offsets_age_s(), NOT_YET)),
    APP.define("connections", "connections", "connections to the group: 0 while it is made, or made anew", _connections),
    APP.define("connections_opened_total", "connections", "connections opened by decision; those at the start are not counted", _changes("opened"), "counter"),
    APP.define("connections_closed_total", "connections", "connections closed by decision", _changes("closed"), "counter"),
    APP.define("rebuilds_total", "times", "times the connection was made anew", lambda v: v.health.rebuilds, "counter"),
    _counter("records_fetched", "records", "fetched", "taken in"),
    _counter("records_finished", "records", "finished", "finished for good"),
    _counter("records_dropped", "records", "dropped", "unfinished when their partition went; their new owner reads them"),
    _counter("records_restored", "records", "restored", "finished at once, as the offset map says"),
    _counter("records_succeeded", "records", "succeeded", "their handler returned"),
    _counter("records_filtered", "records", "filtered", "turned away by the subscription's filter"),
    _counter("records_skipped", "records", "skipped", "given up without a dead letter"),
    _counter("records_dead_lettered", "records", "dead_lettered", "given up, dead letter acknowledged"),
    _counter("tries_failed", "tries", "failed", "tries that failed"),
    _counter("retries", "retries", "retried", "retries that were planned"),
    _counter("results_stale", "records", "stale_results", "results of handlers that outlived their epoch"),
    _counter("acks_stale", "acknowledgements", "stale_acks", "acknowledgements of an epoch that is over"),
    _counter("records_refetched", "records", "refetched", "came for a partition that is not ours, or below its position"),
    _counter("partitions_assigned", "partitions", "assigned", "partitions assigned, ever"),
    _counter("partitions_revoked", "partitions", "revoked", "partitions revoked, ever"),
    _counter("partitions_lost", "partitions", "lost", "partitions taken without asking"),
    _counter("handlers_abandoned", "handlers", "abandoned", "handlers that still ran when their partition's drain was over"),
    _counter("pauses", "pauses", "pauses", "times a budget paused a partition"),
    _counter("seeks", "seeks", "seeks", "partitions moved"),
    _counter("commits_sent", "commits", "commits_sent", "commits sent"),
    _counter("commits_confirmed", "commits", "commits_confirmed", "commits confirmed by the broker"),
    _counter("commits_refused", "commits", "commits_refused", "commits refused, or unanswered"),
)  # fmt: skip

_OF_REASONS: tuple[Definition[tuple[View, str]], ...] = (
    REASON.define("reasons", "reasons", "how often this reason stands in `app.health()` now; 0 when it does not", _reason_count),
)  # fmt: skip

_OF_LOOP: tuple[Definition[tuple[str, float]], ...] = (
    LOOP.define("seconds_total", "seconds", "what the owner thread spent on it: `poll` in the client without waiting, `step` deciding, `perform` doing what was decided, `idle` waiting for records or results, `rest` on all else", lambda spent: spent[1], "counter"),
)  # fmt: skip

_OF_CONNECTIONS: tuple[Definition[ConnectionSnapshot], ...] = (
    CONNECTION.define("up", "flag", "1 while it is in the group", lambda c: int(c.state in JOINED)),
    CONNECTION.define("partitions", "partitions", "partitions that it holds", lambda c: c.partitions),
    CONNECTION.define("in_flight_records", "records", "given to its workers", lambda c: c.in_flight),
    CONNECTION.define("finished_records_total", "records", "finished since it was opened", lambda c: c.finished, "counter"),
    CONNECTION.define("failures", "failures", "how often it ended by an error, in a row", lambda c: c.failures),
)  # fmt: skip

_OF_SCALING: tuple[Definition[tuple[str, int]], ...] = (
    SCALING.define("decisions_total", "decisions", "how often this was the reason that the number changed, or stayed", lambda counted: counted[1], "counter"),
)  # fmt: skip

_OF_REBALANCES: tuple[Definition[RebalanceSnapshot], ...] = (
    REBALANCE.define("rebalances_total", "rebalances", "rebalances that ended. `joined`: this member came; `revoked`, `lost`: its partitions went first; `assigned`: partitions only came. With KIP-848 a join counts as `assigned`", lambda r: r.count, "counter"),
    REBALANCE.define("rebalance_seconds_total", "seconds", "how long they took, from the first callback to the last; of those that only brought partitions nobody tells", lambda r: given(r.total_s, "nobody tells when it began"), "counter"),
)  # fmt: skip

_OF_CLIENT: tuple[Definition[ClientStatistics], ...] = (
    CLIENT.define("brokers_up", "brokers", "brokers that it is connected to", brokers_up),
    CLIENT.define("disconnects_total", "times", "connections to brokers that ended", disconnects, "counter"),
    CLIENT.define("round_trip_seconds", "seconds", "time from request to answer, 99th percentile, of the slowest broker; fetches that wait for records included", round_trip_s),
    CLIENT.define("queued_operations", "operations", "callbacks and batches that wait for a poll", lambda s: s.number("replyq")),
    CLIENT.define("requests_total", "requests", "requests sent", lambda s: s.number("tx"), "counter"),
    CLIENT.define("sent_bytes_total", "bytes", "bytes sent", lambda s: s.number("tx_bytes"), "counter"),
    CLIENT.define("received_bytes_total", "bytes", "bytes received", lambda s: s.number("rx_bytes"), "counter"),
    CLIENT.define("received_records_total", "records", "records received, also those that were not polled", lambda s: s.number("rxmsgs"), "counter"),
    CLIENT.define("rebalances_total", "rebalances", "rebalances as librdkafka counts them", lambda s: s.number("cgrp", "rebalance_cnt"), "counter"),
)  # fmt: skip

_OF_PREFETCH: tuple[Definition[tuple[ClientStatistics, PartitionView]], ...] = (
    PREFETCH.define("prefetched_records", "records", "fetched and not polled yet", _prefetched(0)),
    PREFETCH.define("prefetched_bytes", "bytes", "bytes of these", _prefetched(1)),
)  # fmt: skip

_OF_TOPICS: tuple[Definition[TopicView], ...] = (
    _sum("lag_records", "records", "lag of all", PartitionView.lag),
    TOPIC.define("lag_seconds", "seconds", "the largest of its partitions", lambda topic: topic.largest(PartitionView.lag_s)),
    _sum("records", "records", "records (offsets) that exist", PartitionView.records),
    _sum("start_offset_sum", "offsets", "sum of the first offsets", lambda p: p.offsets.start),
    _sum("end_offset_sum", "offsets", "sum of the end offsets", lambda p: p.offsets.end),
    _sum("committed_offset_sum", "offsets", "sum of the group's committed offsets", PartitionView.committed),
    _sum("position_sum", "offsets", "sum of the offsets of the next records to be delivered", lambda p: p.part.position),
    _sum("waiting_records", "records", "not given to a worker yet", lambda p: p.part.waiting),
    _sum("in_flight_records", "records", "given to workers", lambda p: p.part.in_flight),
    _sum("parked_records", "records", "wait for a retry", lambda p: p.part.parked),
    _sum("bytes_held", "bytes", "bytes of unfinished records", lambda p: p.part.bytes_held),
    TOPIC.define("oldest_unfinished_age_seconds", "seconds", "since the oldest unfinished record was delivered", _oldest_of_topic),
)  # fmt: skip

_OF_PARTITIONS: tuple[Definition[PartitionView], ...] = (
    PARTITION.define("lag_records", "records", "offsets from the group's committed offset to where the app may read: the last stable offset, or the end with `isolation.level=read_uncommitted`; without a commit, all that exist", PartitionView.lag),
    PARTITION.define("lag_seconds", "seconds", "age of the first unfinished record by its own timestamp (of one up to 31 records before it); 0 when all is finished and nothing is left to read", PartitionView.lag_s),
    PARTITION.define("records", "records", "records (offsets) that exist", PartitionView.records),
    PARTITION.define("start_offset", "offset", "the first offset that exists", lambda p: p.offsets.start),
    PARTITION.define("end_offset", "offset", "the offset after the last record, open transactions included", lambda p: p.offsets.end),
    PARTITION.define("last_stable_offset", "offset", "the first offset of the first open transaction; the end if there is none", lambda p: p.offsets.stable),
    PARTITION.define("committed_offset", "offset", "the group's committed offset, as the broker says when asked", PartitionView.committed),
    _part("confirmed_offset", "offset", "the newest committed offset that was confirmed to this app", lambda p: given(p.committed, "nothing is committed")),
    _part("position", "offset", "offset of the next record to be delivered", lambda p: p.position),
    _part("committable_offset", "offset", "offset of the first record that is not finished", lambda p: p.committable),
    _part("epoch", "epoch", "rises whenever the partition is assigned or moved", lambda p: p.epoch),
    _part("delivered_records", "records", "taken in since the epoch began", lambda p: p.delivered),
    _part("finished_records", "records", "need nothing more, since the epoch began", lambda p: p.finished),
    _part("waiting_records", "records", "not given to a worker yet", lambda p: p.waiting),
    _part("in_flight_records", "records", "given to workers", lambda p: p.in_flight),
    _part("parked_records", "records", "wait for a retry", lambda p: p.parked),
    _part("held_records", "records", "wait behind a parked or settling record of their lane", lambda p: p.held),
    _part("settling_records", "records", "their dead letter, or what they produced, is not acknowledged", lambda p: p.settling),
    _part("unacked_records", "records", "wait for `record.ack()`", lambda p: p.unacked),
    _part("bytes_held", "bytes", "bytes of unfinished records", lambda p: p.bytes_held),
    _part("offset_map_chars", "characters", "length of the offset map in the last commit; the broker's limit is 4096", lambda p: p.map_chars),
    _part("paused", "flag", "1 while intake is paused, for whatever reason", lambda p: int(bool(p.paused))),
    PARTITION.define("oldest_unfinished_age_seconds", "seconds", "since the first unfinished record was delivered: a head that does not move shows here", _oldest),
)  # fmt: skip

_OF_SUBSCRIPTIONS: tuple[Definition[SubscriptionSnapshot], ...] = (
    SUBSCRIPTION.define("dispatched_records", "records", "given to its workers", lambda s: s.dispatched),
    SUBSCRIPTION.define("stale_records", "records", "those whose epoch is over and whose handler still runs", lambda s: s.stale),
    SUBSCRIPTION.define("workers", "workers", "threads or processes; 1 for a loop", lambda s: s.workers),
    SUBSCRIPTION.define("workers_busy", "workers", "how many of them run a handler now; for a loop, handlers that run", lambda s: s.workers_busy),
    SUBSCRIPTION.define("chunk_records", "records", "how many records are handed over at once now", lambda s: s.chunk_records),
    SUBSCRIPTION.define("record_cost_seconds", "seconds", "time per record of late", lambda s: s.cost_s),
)  # fmt: skip

_OF_DURATIONS: tuple[Definition[SubscriptionSnapshot], ...] = (
    SUBSCRIPTION.define("handler_seconds_sum", "seconds", "time of all handlers together", lambda s: s.durations.total_s, "histogram"),
    SUBSCRIPTION.define("handler_seconds_count", "handlers", "handlers that ended, whatever became of their records; a batch counts as many as it has records", lambda s: s.durations.count, "histogram"),
)  # fmt: skip

_OF_BUCKETS: tuple[Definition[tuple[SubscriptionSnapshot, float]], ...] = (
    BUCKET.define("handler_seconds_bucket", "handlers", "handlers that took no longer than `le` seconds. The quickest (more than 64 to a chunk; in worker processes under 10 ms) count with the mean of their chunk", _within, "histogram"),
)  # fmt: skip

_OF_FAILURES: tuple[Definition[FailureSnapshot], ...] = (
    FAILURE.define("failures_total", "tries", "tries that failed with an error of this class", lambda f: f.count, "counter"),
)  # fmt: skip

_OF_REPORTERS: tuple[Definition[ReporterState], ...] = (
    REPORTER.define("reports_total", "reports", "reports made", lambda r: r.reports, "counter"),
    REPORTER.define("failures_total", "reports", "reports that raised", lambda r: r.failures, "counter"),
    REPORTER.define("skipped_total", "reports", "reports that were due while an earlier one still ran", lambda r: r.skipped, "counter"),
    REPORTER.define("running_seconds", "seconds", "how long the report that runs now has run: one that hangs shows here", lambda r: given(r.running_s, "no report runs")),
    REPORTER.define("report_age_seconds", "seconds", "since a report was last made", lambda r: given(r.finished_age_s, NOT_YET)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All definitions, by scope."""

    app: tuple[Definition[View], ...] = _OF_APP
    reasons: tuple[Definition[tuple[View, str]], ...] = _OF_REASONS
    loop: tuple[Definition[tuple[str, float]], ...] = _OF_LOOP
    rebalances: tuple[Definition[RebalanceSnapshot], ...] = _OF_REBALANCES
    connections: tuple[Definition[ConnectionSnapshot], ...] = _OF_CONNECTIONS
    scaling: tuple[Definition[tuple[str, int]], ...] = _OF_SCALING
    topics: tuple[Definition[TopicView], ...] = _OF_TOPICS
    partitions: tuple[Definition[PartitionView], ...] = _OF_PARTITIONS
    subscriptions: tuple[Definition[SubscriptionSnapshot], ...] = _OF_SUBSCRIPTIONS
    durations: tuple[Definition[SubscriptionSnapshot], ...] = _OF_DURATIONS
    buckets: tuple[Definition[tuple[SubscriptionSnapshot, float]], ...] = _OF_BUCKETS
    failures: tuple[Definition[FailureSnapshot], ...] = _OF_FAILURES
    client: tuple[Definition[ClientStatistics], ...] = _OF_CLIENT
    prefetch: tuple[Definition[tuple[ClientStatistics, PartitionView]], ...] = _OF_PREFETCH
    reporters: tuple[Definition[ReporterState], ...] = _OF_REPORTERS

    def sections(self) -> tuple[tuple[str, tuple[Metric, ...]], ...]:
        """Titles and metrics, in the order of the reference."""
        return (
            (APP.title, tuple(d.metric for d in self.app)),
            (REASON.title, tuple(d.metric for d in self.reasons)),
            (LOOP.title, tuple(d.metric for d in self.loop)),
            (REBALANCE.title, tuple(d.metric for d in self.rebalances)),
            (CONNECTION.title, tuple(d.metric for d in self.connections)),
            (SCALING.title, tuple(d.metric for d in self.scaling)),
            (TOPIC.title, tuple(d.metric for d in self.topics)),
            (PARTITION.title, tuple(d.metric for d in self.partitions)),
            (SUBSCRIPTION.title, tuple(d.metric for d in (*self.subscriptions, *self.durations))),
            (BUCKET.title, tuple(d.metric for d in self.buckets)),
            (FAILURE.title, tuple(d.metric for d in self.failures)),
            (CLIENT.title, tuple(d.metric for d in self.client)),
            (PREFETCH.title, tuple(d.metric for d in self.prefetch)),
            (REPORTER.title, tuple(d.metric for d in self.reporters)),
        )


CATALOGUE = Catalogue()
