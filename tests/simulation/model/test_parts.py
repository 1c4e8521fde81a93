"""The model's parts, each alone: logs, shares of partitions, the network, refusals of commits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace.ports import CommitRequest
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.history import History, Produced, Removed
from headrace.testing.simulation.kernel import Kernel, Process
from headrace.testing.simulation.model.log import Log
from headrace.testing.simulation.model.network import Connection, Network
from headrace.testing.simulation.model.settings import ModelSettings
from headrace.testing.simulation.model.sharing import Wish, by_range, handed_over, sticky
from tests.simulation.model.consumers import GROUP, TOPIC, World
from tests.simulation.model.test_rebalances import PROTOCOLS, held

if TYPE_CHECKING:
    from headrace.testing.simulation.model.settings import Protocol


def offsets(log: Log, start: int, most: int = 100) -> tuple[list[int], int]:
    records, next_offset = log.read(start, most)
    return [record.offset() for record in records], next_offset


def test_a_reader_passes_what_it_must_not_see() -> None:
    log = Log()
    for visible in (True, False, True, False):
        log.append(b"k", b"", (), 0, visible=visible)
    assert offsets(log, 0) == ([0, 2], 4)
    assert offsets(log, 0, 1) == ([0], 1)
    assert offsets(log, 3) == ([], 4)


def test_an_open_transaction_hides_what_follows_until_it_ends() -> None:
    log = Log()
    log.append(b"k", b"", (), 0, visible=True)
    log.begin()
    log.append(b"k", b"", (), 0, visible=True)
    log.append(b"k", b"", (), 0, visible=True)
    assert offsets(log, 0) == ([0], 1)
    log.finish(0, committed=True)
    assert offsets(log, 0) == ([0, 1, 2], 4)
    log.begin()
    log.append(b"k", b"", (), 0, visible=True)
    log.finish(0, committed=False)
    assert offsets(log, 0) == ([0, 1, 2], 6)


def test_retention_and_compaction_leave_gaps_and_the_newest() -> None:
    log = Log()
    for key in (b"a", b"b", b"a", None, b"b"):
        log.append(key, b"", (), 0, visible=True)
    assert log.compact() == [0, 1]
    assert offsets(log, 0) == ([2, 3, 4], 5)
    log.remove_below(4)
    assert not log.has(3)
    assert log.has(5)
    assert not log.has(6)
    assert offsets(log, 4) == ([4], 5)


def test_a_transactions_records_are_told_when_it_ends() -> None:
    world = World(records=0)
    world.kafka.transaction(TOPIC, 0, [b"a", b"b"], 1.0, committed=False)
    assert not world.history.entries
    world.run(2.0)
    assert [entry for _, entry in world.history.entries] == [
        Produced((TOPIC, 0), 0, b"a", visible=False),
        Produced((TOPIC, 0), 1, b"b", visible=False),
        Produced((TOPIC, 0), 2, None, visible=False),
    ]


def test_a_topic_made_anew_begins_at_zero_and_has_no_commits() -> None:
    world = World(records=8)
    world.kafka.reset_offset((TOPIC, 0), 2, GROUP)
    world.kafka.recreate(TOPIC, 4)
    assert world.kafka.committed((TOPIC, 0), GROUP) is None
    assert world.kafka.end((TOPIC, 0)) == 0
    assert Removed((TOPIC, 0), 2) in [entry for _, entry in world.history.entries]


def test_range_gives_contiguous_parts_and_sticky_moves_little() -> None:
    wishes = {"a": Wish(("t",)), "b": Wish(("t",))}
    assert by_range(wishes, {"t": 3}) == {"a": (("t", 0), ("t", 1)), "b": (("t", 2),)}
    owned = tuple(("t", number) for number in range(4))
    wishes = {"a": Wish(("t",), owned), "b": Wish(("t",)), "c": Wish(("^u.*",))}
    shares = sticky(wishes, {"t": 4, "unit": 1})
    assert len(shares["a"]) == len(shares["b"]) == 2
    assert set(shares["a"]) < set(owned)
    assert shares["c"] == (("unit", 0),)
    assert handed_over(shares, wishes) == {"a": shares["a"], "b": (), "c": (("unit", 0),)}


def test_on_one_connection_nothing_overtakes_and_each_request_is_answered_once() -> None:
    for seed in range(50):
        kernel = Kernel(Seeded(seed))
        faults = replace(Faults.none(), request_lost=0.1, reply_lost=0.1, request_slow=0.3, slow_s=1.0)
        network = Network(kernel, History(), ModelSettings(), faults)
        connection = Connection(network, Process("a"))
        arrived: list[int] = []
        answers: dict[int, list[str]] = {}

        def arrive(number: int, reply: Any, arrived: list[int] = arrived) -> None:
            arrived.append(number)
            reply("", number)

        def done(number: int, code: str, payload: object, answers: dict[int, list[str]] = answers) -> None:
            assert code or payload == number
            answers.setdefault(number, []).append(code)

        for number in range(30):
            kernel.later(
                number * 0.01,
                "send",
                partial(connection.send, "Any", partial(arrive, number), partial(done, number)),
            )
        while kernel.step():
            pass
        assert arrived == sorted(arrived)
        assert sorted(answers) == list(range(30))
        assert all(len(codes) == 1 for codes in answers.values())
        assert {code for codes in answers.values() for code in codes} <= {"", "_TRANSPORT"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metadata_is_kept_as_it_is_and_refused_where_it_is_too_long(protocol: Protocol) -> None:
    world = World(protocol)
    consumer = world.make("a")

    def commit() -> None:
        consumer.client.subscribe([TOPIC], consumer)
        while not consumer.told:
            consumer.poll()
        consumer.client.commit([CommitRequest(TOPIC, 0, 3, "m" * 4097), CommitRequest(TOPIC, 1, 5, "map")])
        while not consumer.commits:
            consumer.poll()

    world.do("a", commit, until=30.0)
    assert {result.error for result in consumer.commits} == {"OFFSET_METADATA_TOO_LARGE"}
    assert world.kafka.committed((TOPIC, 0), GROUP) is None
    assert world.kafka.committed_with_metadata((TOPIC, 1), GROUP).metadata == "map"


@pytest.mark.parametrize(
    ("protocol", "fault", "codes", "calls"),
    [
        ("cooperative", "member_forgotten", {"UNKNOWN_MEMBER_ID"}, ["assign", "lost", "assign"]),
        ("cooperative", "generation_refused", {"ILLEGAL_GENERATION"}, ["assign", "lost", "assign"]),
        (
            "kip848",
            "commit_refused",
            {"STALE_MEMBER_EPOCH", "UNSTABLE_OFFSET_COMMIT", "REQUEST_TIMED_OUT"},
            ["assign"],
        ),
        ("eager", "metadata_refused", {"OFFSET_METADATA_TOO_LARGE"}, ["assign"]),
        ("cooperative", "commit_reply_lost", {None}, ["assign"]),
    ],
)
def test_what_a_refused_commit_leads_to(
    protocol: Protocol, fault: str, codes: set[str | None], calls: list[str]
) -> None:
    """As librdkafka on the embedded broker: tests/embedded/client/test_consumer_faults.py."""
    world = World(protocol, settings=ModelSettings(heartbeat_interval_s=5.0))
    consumer = world.make("a")

    def commit() -> None:
        consumer.client.subscribe([TOPIC], consumer)
        while not consumer.told:
            consumer.poll(0.1)
        changes: dict[str, Any] = {fault: 1.0}
        world.kafka.network.faults = replace(Faults.none(), **changes)
        consumer.client.commit([CommitRequest(TOPIC, 0, 3, "map")])
        world.kernel.later(0.02, "over", world.kafka.calm)
        until = world.kernel.now + 4.0
        while world.kernel.now < until:
            consumer.poll(0.1)

    world.do("a", commit, until=60.0)
    assert len(consumer.commits) == 1
    assert {result.error for result in consumer.commits} <= codes
    assert consumer.calls() == calls


def test_a_commit_waits_for_a_coordinator_and_a_close_does_not() -> None:
    world = World("cooperative", settings=ModelSettings(session_timeout_s=300.0))
    consumer = world.make("a")

    def close() -> None:
        consumer.client.subscribe([TOPIC], consumer)
        while not consumer.told:
            consumer.poll()
        world.kafka.down(100.0)
        consumer.client.commit([CommitRequest(TOPIC, 0, 3, "map")])
        until = world.kernel.now + 5.0
        while world.kernel.now < until:
            consumer.poll()
        assert not consumer.commits
        consumer.commits_on_revoke = False
        began = world.kernel.now
        consumer.closed = consumer.client.close(2.0)
        assert world.kernel.now - began == pytest.approx(2.0)

    world.do("a", close, until=90.0)
    assert consumer.closed is False
    assert consumer.calls() == ["assign", "revoke"]


def test_a_fetch_stops_at_an_offset_that_does_not_exist_until_it_is_assigned_anew() -> None:
    world = World("eager", partitions=1, records=10)
    world.kafka.remove_below((TOPIC, 0), 5)
    world.live("a")
    world.run(20.0)
    assert [(f.kind, f.offset) for f in world.consumers["a"].faults] == [("offset_out_of_range", 0)]
    assert world.consumers["a"].seen == {(TOPIC, 0): [5, 6, 7, 8, 9]}
    assert held(world.told("a")) == {(TOPIC, 0)}


def test_a_pause_throws_the_prefetch_away_and_loses_nothing() -> None:
    world = World("cooperative", partitions=1, records=20)
    consumer = world.make("a")

    def read() -> None:
        consumer.client.subscribe([TOPIC], consumer)
        while consumer.poll() == 0:
            pass
        consumer.client.pause([(TOPIC, 0)])
        assert consumer.poll(1.0) == 0
        assert consumer.client.positions([(TOPIC, 0)]) == {(TOPIC, 0): 10}
        consumer.client.resume([(TOPIC, 0)])
        while consumer.poll() == 0:
            pass

    world.do("a", read, until=60.0)
    assert consumer.seen == {(TOPIC, 0): list(range(20))}
