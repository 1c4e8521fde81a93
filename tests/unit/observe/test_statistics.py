"""librdkafka's statistics: what is wanted is read, other partitions are cut out before, and what is absent is unknown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headrace._runtime.rebalances import Rebalances
from headrace._runtime.snapshots import OwnerSnapshot
from headrace._runtime.spending import ACTIVITIES, Spending
from headrace.observe.statistics import ClientStatistics, brokers_up, disconnects, round_trip_s
from tests.unit.observe.test_catalogue import values
from tests.unit.observe.views import is_unknown, part, view

TEXT = (
    '{ "name": "headrace-0-0", "replyq":3, "brokers":{ '
    '"b:1/1": { "nodeid":1, "state":"UP", "disconnects":2, "rtt": { "p99":1500, "cnt":4 }, "toppars":{ '
    '"orders-0": { "topic":"orders", "partition":0} } } , '
    '"b:2/2": { "nodeid":2, "state":"DOWN", "disconnects":1, "rtt": { "p99":0, "cnt":0 }, "toppars":{ } } , '
    '"boot/-1": { "nodeid":-1, "state":"UP", "disconnects":9, "rtt": { "p99":9, "cnt":1 } } }, '
    '"topics":{ "cgrp": { "topic":"cgrp", "age":5, "metadata_age":5, "batchsize": { "min":0, "cnt":0 }, "partitions":{ '
    '"0": { "partition":0, "broker":1, "fetchq_cnt":70, "fetchq_size":700, "fetch_state":"active"} } } , '
    '"orders": { "topic":"orders", "age":5, "metadata_age":5, "partitions":{ '
    '"0": { "partition":0, "broker":1, "fetchq_cnt":7, "fetchq_size":90, "fetch_state":"active"} , '
    '"-1": { "partition":-1, "broker":-1, "fetchq_cnt":1, "fetchq_size":1, "fetch_state":"none"} } } } , '
    '"cgrp": { "state": "up", "rebalance_cnt": 5 }, "tx":32, "tx_bytes":2935, "rx_bytes":3073, "rxmsgs":12}'
)


def test_the_client_as_a_whole() -> None:
    json.loads(TEXT)
    statistics = ClientStatistics(TEXT)
    assert statistics
    assert statistics.number("replyq") == 3
    assert statistics.number("cgrp", "rebalance_cnt") == 5
    assert (brokers_up(statistics), disconnects(statistics), round_trip_s(statistics)) == (1, 3, 0.0015)
    assert is_unknown(statistics.number("cgrp", "nothing", "below"), "do not tell")


def test_partitions_are_read_without_parsing_topics() -> None:
    statistics = ClientStatistics(TEXT)
    assert statistics.prefetched("orders", 0) == (7, 90)
    assert statistics.prefetched("cgrp", 0) == (70, 700), "a topic named as the group's part is"
    assert statistics.prefetched("orders", 1) is None
    # What is not JSON among the topics would be an error to whoever parsed it.
    broken = TEXT.replace('"metadata_age":5', '"metadata_age":?')
    assert ClientStatistics(broken).number("tx") == 32


def test_without_statistics_there_are_no_metrics_of_them() -> None:
    made = view([part("orders", 0), part("orders", 1)])
    assert not [key for key in values(made) if key.startswith("client_")]
    owner = OwnerSnapshot(statistics=TEXT)
    found = values(replace(made, snapshot=replace(made.snapshot, owner=owner)))
    assert found["client_received_records_total"] == 12
    assert found["client_prefetched_records{topic=orders,partition=0}"] == 7
    assert found["client_prefetched_bytes{topic=orders,partition=0}"] == 90
    assert is_unknown(found["client_prefetched_records{topic=orders,partition=1}"], "do not tell")
    assert not [key for key in found if key.startswith("client_") and "cgrp" in key], "not ours"


def test_every_moment_of_the_loop_is_counted_once() -> None:
    moments = [0.0]

    def passes(seconds: float) -> None:
        moments[0] += seconds

    spending = Spending(lambda: moments[0])
    performed: list[tuple[str, float]] = []

    def decide(event: str, now: float) -> list[tuple[str, float]]:
        passes(10.0)
        return [(event, now)]

    def perform(effect: tuple[str, float]) -> None:
        passes(100.0)
        performed.append(effect)

    def broken(event: str, _now: float) -> list[tuple[str, float]]:
        raise KeyError(event)

    def callback(_records: int, _timeout_s: float) -> None:
        # As a rebalance within a poll: it steps, performs and waits.
        passes(1.0)
        spending.step(decide, perform, "revoked")
        spending.wait(passes, 1000.0)
        passes(1.0)

    spending.wait(passes, 5.0)
    spending.poll(callback, 500, 0.0)
    passes(10_000.0)
    spending.poll(lambda _records, _timeout_s: passes(7.0), 500, 0.1)
    with pytest.raises(KeyError):
        spending.step(broken, perform, "broken")
    found = dict(spending.totals())
    assert found == {"poll": 2.0, "step": 10.0, "perform": 100.0, "idle": 1012.0, "rest": 10_000.0}
    assert sum(found.values()) == moments[0]
    assert performed == [("revoked", 6.0)]
    assert set(found) == set(ACTIVITIES)


def test_rebalances_by_how_they_began() -> None:
    rebalances = Rebalances()
    rebalances.began("joined", 1.0)
    rebalances.ended(4.0)
    rebalances.ended(9.0)
    rebalances.began("revoked", 10.0)
    rebalances.began("lost", 11.0)
    rebalances.ended(12.0)
    rebalances.began("revoked", 20.0)
    rebalances.dropped()
    found = {one.cause: (one.count, one.total_s) for one in rebalances.snapshot()}
    assert found == {"joined": (1, 3.0), "revoked": (1, 2.0), "lost": (0, 0.0), "assigned": (1, None)}
    made = view()
    owner = OwnerSnapshot((("poll", 2.5),), rebalances.snapshot())
    values_found = values(replace(made, snapshot=replace(made.snapshot, owner=owner)))
    assert values_found["loop_seconds_total{activity=poll}"] == 2.5
    assert values_found["rebalance_seconds_total{cause=joined}"] == 3.0
    assert is_unknown(values_found["rebalance_seconds_total{cause=assigned}"], "nobody tells")
