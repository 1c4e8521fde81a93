"""The embedded Kafka broker: a real socket, real consumer groups and commits, faults on demand, from PyPI alone.

It decides what a user may ask of the broker and says no in words; `_mock_api` obeys in numbers. Invariant: whatever is
asked of it takes effect, or raises `MockBrokerError`; nothing is hidden or ignored in silence.

What librdkafka's mock cluster, which this is, does and does not do (confluent-kafka 2.16, each line tried):

==================================================== ==========================================================
`offsets_for_times` at OFFSET_END, OFFSET_BEGINNING  the end and start offsets, all partitions in one request
`offsets_for_times` at a timestamp                   always -1 (OFFSET_END): there is no index of timestamps
`committed()` inside on_assign                       answers, with the metadata, within a few milliseconds; but when
                                                     `close()` in the midst of a rebalance calls on_assign, it waits
                                                     out its whole timeout and raises _TIMED_OUT
records kept                                         5 MiB or 100,000 batches per partition; the oldest go, unsaid
commit metadata                                      kept; no limit on its length, where Kafka has 4096
members whose first assignors differ                 abort the process that hosts the broker: an assertion in C
transactions                                         succeed but are hollow: commits lost, aborted records delivered
AdminClient                                          lists topics and offsets; cannot create, describe or delete
a fetch with nothing new                             waits its whole fetch.wait.max.ms, even when a record arrives
a classic rebalance                                  lasts session.timeout.ms - 1 s, unless the group was empty
==================================================== ==========================================================
"""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from headrace.testing._cluster import ALL_BROKERS, ClusterSettings, MockBrokerError
from headrace.testing._faults import API_KEYS, FaultQueue, FaultQueues, Push, api_key, api_name, error_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from headrace.testing._broker_clients import BrokerClients
    from headrace.testing._cluster import ClusterControl, NewRecord

__all__ = ["MockBroker", "MockBrokerError", "MockRequest"]

_VERSION_MAX = 32767


@dataclass(frozen=True, slots=True)
class MockRequest:
    """A request that a broker received. `at` is on the clock of `time.monotonic()`."""

    at: float
    broker: int
    api: str


class MockBroker:
    """An embedded Kafka cluster for tests: any client on this machine, in any process, may connect to it.

    It runs in C threads of this process: a test that measures CPU time or kills a consumer's process wants
    `MockBrokerProcess`. Use it as a context manager; calls after `close` raise `MockBrokerError`.

    Limits worth knowing before they cost an afternoon: a partition keeps its newest 5 MiB or 100,000 batches and drops
    older ones without a word (compress, or consume as you produce); two members of a group whose *first*
    `partition.assignment.strategy` differs abort the whole process; the module's docstring has the rest.

    brokers: how many; their ids count from 1. One suffices unless leaders or coordinators are to move.
    topics: created at once, name to number of partitions. Clients that ask for others create them with 4 partitions.
    rebalance_delay_s: how long an empty group waits for more members before its first assignment. 0 starts soonest;
        0.5 spares a rebalance of more than a second when several classic members join together.
    heartbeat_interval_s, session_timeout_s: of KIP-848 groups, where the broker decides; classic members bring theirs.
        Kafka's 3 s heartbeat would make each rebalance last that long.
    """

    def __init__(
        self,
        brokers: int = 1,
        topics: Mapping[str, int] | None = None,
        *,
        rebalance_delay_s: float = 0.0,
        heartbeat_interval_s: float = 0.2,
        session_timeout_s: float = 30.0,
    ) -> None:
        if not 1 <= brokers <= 100:
            raise MockBrokerError("start", f"brokers must be 1 to 100, got {brokers}")
        settings = ClusterSettings(
            brokers=brokers,
            rebalance_delay_ms=_milliseconds("start", "rebalance_delay_s", rebalance_delay_s),
            heartbeat_interval_ms=_milliseconds(
                "start", "heartbeat_interval_s", heartbeat_interval_s, at_least=1
            ),
            session_timeout_ms=_milliseconds("start", "session_timeout_s", session_timeout_s, at_least=1),
        )
        self._brokers = brokers
        self._owner_pid = os.getpid()
        self._tracking = False
        self._faults = FaultQueues()
        self._faults_lock = threading.Lock()  # a fault's queue is chosen and filled in one breath
        self._running: ClusterControl | None = self._start(settings)
        self._bootstrap_servers = self._running.bootstrap_servers
        try:
            for topic, partitions in (topics or {}).items():
                self.create_topic(topic, partitions)
        except BaseException:
            self.close()
            raise

    def _start(self, settings: ClusterSettings) -> ClusterControl:
        # Imported here so that the pytest plugin, loaded by every pytest run, does not load the client library.
        from headrace.testing._mock_api import MockCluster  # noqa: PLC0415

        return MockCluster(settings)

    @property
    def bootstrap_servers(self) -> str:
        """What a client's `bootstrap.servers` takes: every broker's host and port."""
        return self._bootstrap_servers

    @property
    def broker_ids(self) -> tuple[int, ...]:
        """The brokers' ids, from 1."""
        return tuple(range(1, self._brokers + 1))

    def client_settings(
        self,
        group_id: str | None = None,
        *,
        protocol: Literal["classic", "consumer"] = "classic",
        session_timeout_s: float = 2.0,
    ) -> dict[str, str | int | float | bool]:
        """Settings that make a confluent-kafka `Consumer` quick here; add or override what the test is about.

        With the client's own defaults an idle fetch takes 500 ms, and a rebalance of a classic group 44 s: the mock
        lets it last `session_timeout_s` - 1 s (from 1 s down, `session_timeout_s`). `protocol="consumer"` is KIP-848.
        """
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "fetch.wait.max.ms": 10,  # the mock does not end an idle fetch when a record arrives
            "fetch.queue.backoff.ms": 10,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,  # a broker that comes back is found at once
            "enable.metrics.push": False,
            "log_level": 0,  # connections cut on purpose are not news
        }
        if group_id is not None:
            settings["group.id"] = group_id
        if protocol == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            timeout_ms = _milliseconds("client_settings", "session_timeout_s", session_timeout_s, at_least=1)
            settings["session.timeout.ms"] = timeout_ms
            settings["heartbeat.interval.ms"] = max(
                1, timeout_ms // 10
            )  # the default, 3 s, would outlast the session
        return settings

    def create_topic(self, name: str, partitions: int, replication: int = 1) -> None:
        """Create a topic. One that exists is refused."""
        if partitions < 1:
            raise MockBrokerError("create_topic", f"{name}: partitions must be at least 1, got {partitions}")
        if not 1 <= replication <= self._brokers:
            problem = f"{name}: replication must be 1 to {self._brokers}, got {replication}"
            raise MockBrokerError("create_topic", problem)
        self._cluster("create_topic").create_topic(name, partitions, replication)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records and committed offsets; clients learn of it at their next refresh."""
        self._cluster("delete_topic").delete_topic(name)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Let retention happen: the partition now starts at `before_offset`. Never give one below its present start."""
        if before_offset < 0:
            raise MockBrokerError("delete_records", f"before_offset must be at least 0, got {before_offset}")
        self._cluster("delete_records").delete_records(topic, partition, before_offset)

    def produce(
        self, topic: str, records: Iterable[NewRecord], partition: int | None = None
    ) -> list[tuple[int, int]]:
        """Produce all records in order and wait until the broker has each; (partition, offset) of each, in order.

        Without `partition` the key decides, as it does for Java clients. Raises if not all are acknowledged in 10 s.
        A partition keeps only its newest 5 MiB or 100,000 batches: `start_offsets` shows whether some are gone.
        """
        return self._clients("produce").produce(topic, records, partition)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed offset per partition; partitions without one are absent.

        This and its neighbours ask as a client would: their requests are tracked, and may draw an injected error.
        """
        found = self._clients("committed").committed(group, topic)
        return {partition: offset for partition, (offset, _) in found.items()}

    def committed_metadata(self, group: str, topic: str) -> dict[int, str]:
        """The metadata of the group's commit per partition; partitions without a commit are absent."""
        found = self._clients("committed_metadata").committed(group, topic)
        return {partition: metadata for partition, (_, metadata) in found.items()}

    def start_offsets(self, topic: str) -> dict[int, int]:
        """The offset of the oldest record kept, per partition."""
        return self._clients("start_offsets").start_offsets(topic)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next record will get, per partition."""
        return self._clients("end_offsets").end_offsets(topic)

    def push_errors(self, api: str, *codes: int | str, broker: int | None = None) -> None:
        """Answer the next `len(codes)` requests of `api` with these errors, in order; 0 or "NO_ERROR" lets one pass.

        api: Kafka's name, as in "OffsetCommit". codes: numbers or names of `confluent_kafka.KafkaError`, as in
        "REBALANCE_IN_PROGRESS"; "_TRANSPORT" cuts the connection instead of answering.
        broker: only requests to that broker count; None counts requests to any.

        librdkafka has one queue of errors per API for the cluster and one per broker. Once a broker has its own, for
        a delay or because `broker=` was given, it ignores the cluster's for that API for ever. So an API uses one kind
        at a time, and a call that would mix them raises; on a cluster of one broker the two are the same thing and the
        error joins the broker's queue. `clear_errors` empties the cluster's queue; a broker's can only be used up.
        """
        faults = [(error_code("push_errors", code), 0) for code in codes]
        with self._faults_lock:
            if broker is None and self._brokers == 1 and self._faults.in_use(api) is FaultQueue.BROKERS:
                broker = 1
            if broker is None:
                key = api_key("push_errors", api)
                cluster = self._cluster("push_errors")
                self._faults.apply("push_errors", api, Push.ANY_BROKER)
                cluster.push_errors(key, [code for code, _ in faults])
            else:
                self._push_to_broker("push_errors", api, broker, faults)

    def push_delays(
        self, api: str, *delays: float | tuple[int | str, float], broker: int | None = None
    ) -> None:
        """Answer the next requests of `api` late: each item a delay in seconds, or (error, delay in seconds).

        The broker may be left out when there is only one. A delayed answer holds back the later ones on the same
        connection. A delay for an API that still has `push_errors` for any broker raises: see there.
        """
        pairs = [(0, delay) if isinstance(delay, int | float) else delay for delay in delays]
        faults = [
            (error_code("push_delays", code), _milliseconds("push_delays", "a delay", delay))
            for code, delay in pairs
        ]
        if broker is None:
            if self._brokers > 1:
                raise MockBrokerError("push_delays", f"name the broker: one of {self.broker_ids}")
            broker = 1
        with self._faults_lock:
            self._push_to_broker("push_delays", api, broker, faults)

    def clear_errors(self, *apis: str) -> None:
        """Forget injected errors not yet met, of these APIs or of all.

        Raises if a broker's own queue (delays, `broker=`) still holds some, for librdkafka cannot withdraw those; the
        others are cleared all the same.
        """
        left: list[str] = []
        with self._faults_lock:
            cluster = self._cluster("clear_errors")
            for api in apis or API_KEYS:
                key = api_key("clear_errors", api)
                cluster.clear_errors(key)
                if self._faults.apply("clear_errors", api, Push.CLEAR) is FaultQueue.BROKERS:
                    pending = sum(cluster.pending_broker_errors(broker, key) for broker in self.broker_ids)
                    left += [f"{pending} of {api}"] if pending else []
        if left:
            problem = "faults for one broker cannot be withdrawn, only used up; left are " + ", ".join(left)
            raise MockBrokerError("clear_errors", problem)

    def broker_down(self, broker: int | None = None) -> None:
        """Cut all connections of a broker, or of all, and refuse new ones. Leaders and coordinators stay where they are."""
        self._cluster("broker_down").set_broker_down(self._broker_or_all("broker_down", broker))

    def broker_up(self, broker: int | None = None) -> None:
        """Accept connections again, on the same port, with all records and groups kept."""
        self._cluster("broker_up").set_broker_up(self._broker_or_all("broker_up", broker))

    def round_trip(self, delay_s: float, broker: int | None = None) -> None:
        """Delay every answer of a broker, or of all, until told otherwise; 0 ends it."""
        delay_ms = _milliseconds("round_trip", "delay_s", delay_s)
        self._cluster("round_trip").set_round_trip(self._broker_or_all("round_trip", broker), delay_ms)

    def set_leader(self, topic: str, partition: int, broker: int | None) -> None:
        """Move a partition's leader; None leaves it without one. A topic that does not exist is created."""
        leader = ALL_BROKERS if broker is None else self._broker("set_leader", broker)
        self._cluster("set_leader").set_leader(topic, partition, leader)

    def set_coordinator(self, group: str, broker: int) -> None:
        """Move a group to another coordinator. Members and commits move with it; the old one says NOT_COORDINATOR."""
        self._cluster("set_coordinator").set_coordinator(group, self._broker("set_coordinator", broker))

    def api_version(self, api: str, lo: int, hi: int) -> None:
        """Offer these versions of `api` to clients that connect from now on; (-1, -1) takes the API away.

        Only ever narrow it: above the version that librdkafka implements the mock misreads requests.
        """
        if (lo, hi) != (-1, -1) and not 0 <= lo <= hi <= _VERSION_MAX:
            problem = f"expected 0 <= lo <= hi, or -1 and -1 to disable, got {lo} and {hi}"
            raise MockBrokerError("api_version", problem)
        self._cluster("api_version").set_api_version(api_key("api_version", api), lo, hi)

    def set_consumer_group_timing(self, *, heartbeat_interval_s: float, session_timeout_s: float) -> None:
        """Heartbeat and session of KIP-848 groups created from now on. A rebalance lasts a heartbeat or two."""
        call = "set_consumer_group_timing"
        heartbeat_ms = _milliseconds(call, "heartbeat_interval_s", heartbeat_interval_s, at_least=1)
        session_ms = _milliseconds(call, "session_timeout_s", session_timeout_s, at_least=1)
        self._cluster(call).set_consumer_group_timing(heartbeat_ms, session_ms)

    def track_requests(self) -> None:
        """Forget the requests tracked so far and remember those that come. Each costs some 50 bytes until `untrack`."""
        self._cluster("track_requests").start_tracking()
        self._tracking = True

    def untrack_requests(self) -> None:
        """Stop tracking and forget what was tracked."""
        self._cluster("untrack_requests").stop_tracking()
        self._tracking = False

    def requests(self, *apis: str) -> list[MockRequest]:
        """The requests received since `track_requests`, oldest first: of these APIs, or all."""
        cluster = self._cluster("requests")
        if not self._tracking:
            raise MockBrokerError("requests", "nothing is tracked yet; call track_requests() first")
        wanted = {api_key("requests", api) for api in apis}
        return [
            MockRequest(at=at_us / 1e6, broker=broker, api=api_name(key))
            for at_us, broker, key in cluster.requests()
            if not wanted or key in wanted
        ]

    def close(self) -> None:
        """Stop the brokers and cut every connection. Idempotent. Close clients first: they would try to reconnect.

        In a process forked from the one that made it this only forgets the broker, which lives on in its owner.
        """
        running, self._running = self._running, None
        if (
            running is not None and os.getpid() == self._owner_pid
        ):  # a forked child has none of the threads to join
            running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_running", None) is not None:
            if os.getpid() == self._owner_pid:
                advice = "use it as a context manager"
                warnings.warn(
                    f"{self!r} was not closed; {advice}", ResourceWarning, stacklevel=2, source=self
                )
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._running is None else self._bootstrap_servers
        return f"<{type(self).__name__} {state}>"

    def _push_to_broker(self, call: str, api: str, broker: int, faults: list[tuple[int, int]]) -> None:
        key = api_key(call, api)
        broker = self._broker(call, broker)
        cluster = self._cluster(call)
        if not faults:
            return  # even an empty push would make the broker a queue of its own
        self._faults.apply(call, api, Push.ONE_BROKER)
        cluster.push_broker_errors(broker, key, faults)

    def _broker_or_all(self, call: str, broker: int | None) -> int:
        return ALL_BROKERS if broker is None else self._broker(call, broker)

    def _broker(self, call: str, broker: int) -> int:
        if broker not in self.broker_ids:
            raise MockBrokerError(call, f"no broker {broker}; there are {self.broker_ids}")
        return broker

    def _cluster(self, call: str) -> ClusterControl:
        if self._running is None:
            raise MockBrokerError(call, "the broker is closed")
        if os.getpid() != self._owner_pid:
            problem = (
                f"process {self._owner_pid} owns the broker; a process forked from it may only be its client"
            )
            raise MockBrokerError(call, problem)
        return self._running

    def _clients(self, call: str) -> BrokerClients:
        self._cluster(call)  # a closed broker says so at once, instead of letting a client look for it
        from headrace.testing._broker_clients import BrokerClients  # noqa: PLC0415  for the reason given in _start

        return BrokerClients(self._bootstrap_servers)


def _milliseconds(call: str, what: str, seconds: float, at_least: int = 0) -> int:
    if not at_least / 1000 <= seconds <= 3600:
        raise MockBrokerError(call, f"{what} must be {at_least / 1000:g} to 3600 seconds, got {seconds!r}")
    return round(seconds * 1000)
