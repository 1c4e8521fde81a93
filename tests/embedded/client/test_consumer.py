"""The consumer's side of the `Client` port, on the embedded broker, in each of the three ways partitions move."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from headrace._client.consumer import KafkaClient
from headrace.ports import CommitRequest, Committed
from headrace.testing.broker import MockBroker
from tests.embedded.client.support import PROTOCOLS, Listener, Taken, joined, poll_until, settings_for

ALL = [("orders", 0), ("orders", 1), ("orders", 2)]
EVERYTHING = {place: list(range(100)) for place in ALL}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_record_comes_once_and_in_order(broker: MockBroker, group_id: str, protocol: str) -> None:
    client, listener = joined(broker, group_id, protocol)
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 300, taken, records_max=7)
    assert taken.offsets == EVERYTHING
    assert client.positions([*ALL, ("orders", 9)]) == dict.fromkeys(ALL, 100)
    assert client.close(5.0)
    assert listener.told == [("assign", ALL), ("revoke", ALL)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_committed_is_read_inside_the_callback_with_its_metadata(
    broker: MockBroker, group_id: str, protocol: str
) -> None:
    first, listener = joined(broker, group_id, protocol)
    first.commit([CommitRequest("orders", 0, 40, "a map", 0), CommitRequest("orders", 1, 50)])
    poll_until(first, lambda: bool(listener.commits))
    assert [(r.partition, r.offset, r.error) for r in listener.commits] == [(0, 40, None), (1, 50, None)]
    assert first.close(5.0)

    second, listener = joined(broker, group_id, protocol)
    assert [(c.offset, c.metadata) for c in listener.read] == [(40, "a map"), (50, ""), (None, "")]
    taken = listener.taken
    poll_until(second, lambda: taken.count >= 60 + 50 + 100, taken)
    assert taken.offsets[("orders", 0)] == list(range(40, 100))
    assert second.close(5.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_runs_that_the_listener_did_not_assign_and_the_rest_may_come_later(
    broker: MockBroker, group_id: str, protocol: str
) -> None:
    client = KafkaClient(settings_for(broker.bootstrap_servers, group_id, protocol))
    listener = Listener(client, start=lambda _committed: {})
    client.subscribe(["orders"], listener)
    poll_until(client, lambda: bool(listener.told))
    assert client.poll(500, 0.2).count == 0
    client.assign({("orders", 0): 90})
    taken = Taken()
    poll_until(client, lambda: taken.count >= 10, taken)
    client.assign({("orders", 1): 95})
    poll_until(client, lambda: taken.count >= 15, taken)
    assert taken.offsets == {("orders", 0): list(range(90, 100)), ("orders", 1): list(range(95, 100))}
    assert client.close(5.0)  # gives back two of the three that it was given


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_second_member_takes_over_what_the_first_gives_back(
    broker: MockBroker, group_id: str, protocol: str
) -> None:
    first, one = joined(broker, group_id, protocol)
    second = KafkaClient(settings_for(broker.bootstrap_servers, group_id, protocol))
    two = Listener(second)
    second.subscribe(["orders"], two)
    give_up_at = time.monotonic() + 15
    held: set[tuple[str, int]] = set()
    while time.monotonic() < give_up_at:
        first.poll(500, 0.02)
        second.poll(500, 0.02)
        held = {place for call, places in two.told if call == "assign" for place in places}
        if held and len(one.told) >= 2 and one.told[-1][0] == "assign":
            break
    revoked = next(places for call, places in one.told if call == "revoke")
    assert held
    assert held <= set(revoked)
    assert first.close(5.0)
    assert second.close(5.0)


@pytest.mark.parametrize("protocol", [each for each in PROTOCOLS if each != "eager"])
def test_a_revoke_that_a_partition_assigned_anew_has_answered_is_told_as_a_loss(
    broker: MockBroker, group_id: str, protocol: str
) -> None:
    """The group goes on by that answer, so what is committed from then on could undo the next owner's."""
    first, one = joined(broker, group_id, protocol)
    mine = one.told[-1][1]
    second = KafkaClient(settings_for(broker.bootstrap_servers, group_id, protocol))
    second.subscribe(["orders"], Listener(second))
    give_up_at = time.monotonic() + 15
    while "lost" not in one.calls() and "revoke" not in one.calls() and time.monotonic() < give_up_at:
        first.reassign(mine[0], 0)
        first.poll(500, 0.02)
        second.poll(500, 0.02)
    assert "lost" in one.calls()
    assert "revoke" not in one.calls()
    # Nothing was let go since the last poll: a revoke is one again.
    assert first.close(5.0)
    assert one.calls()[-1] == "revoke"
    assert second.close(5.0)


@pytest.mark.parametrize("protocol", [each for each in PROTOCOLS if each != "eager"])
def test_an_assignment_on_its_way_is_taken_and_given_back_before_the_close(
    group_id: str, protocol: str
) -> None:
    """Taken inside librdkafka's close it may never be answered, with the interpreter's lock held (issue 4884)."""
    told: list[Any] = []  # an eager member has to look, before it is given anything
    for wait_s in (2.0, 5.0, 10.0):
        told = closed_with_an_assignment_on_its_way(f"{group_id}-{wait_s:g}", protocol, wait_s)
        if told[-2:] == [("assign", [("one", 0)]), ("revoke", [("one", 0)])]:
            return
    pytest.fail(f"it was not taken: {told}")


def closed_with_an_assignment_on_its_way(group_id: str, protocol: str, wait_s: float) -> list[Any]:
    """What a member is told whose group gives it something, a while before it closes without having looked."""
    with MockBroker(topics={"one": 1}) as broker:
        members: list[tuple[KafkaClient, Listener]] = []
        for _ in range(2):
            client = KafkaClient(settings_for(broker.bootstrap_servers, group_id, protocol))
            members.append((client, Listener(client)))
            client.subscribe(["one"], members[-1][1])
        give_up_at = time.monotonic() + 15
        # Under KIP-848 a member that is given nothing is told nothing.
        enough = any if protocol == "kip848" else all
        while not enough(listener.told for _, listener in members) and time.monotonic() < give_up_at:
            for client, _ in members:
                client.poll(1, 0.02)
        (heir, listener), (away, _) = sorted(
            members, key=lambda each: any(places for _, places in each[1].told)
        )
        assert away.close(5.0)
        time.sleep(wait_s)
        assert heir.close(5.0)
        return list(listener.told)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_seek_goes_back_and_forth(broker: MockBroker, group_id: str, protocol: str) -> None:
    client, listener = joined(broker, group_id, protocol)
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 300, taken)
    client.seek(("orders", 1), 97, 1.0)
    client.seek(("orders", 7), 3, 1.0)  # not ours: ignored
    poll_until(client, lambda: taken.count >= 303, taken)
    assert taken.offsets[("orders", 1)][100:] == [97, 98, 99]
    assert client.close(5.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_partition_begins_anew_and_the_others_go_on(
    broker: MockBroker, group_id: str, protocol: str
) -> None:
    client, listener = joined(broker, group_id, protocol)
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 300, taken)
    client.reassign(("orders", 2), 90)
    poll_until(client, lambda: taken.count >= 310, taken)
    client.poll(500, 0.1)
    assert taken.offsets[("orders", 2)][100:] == list(range(90, 100))
    assert [len(taken.offsets[place]) for place in ALL] == [100, 100, 110]
    assert client.close(5.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unassign_of_some_and_of_strangers(broker: MockBroker, group_id: str, protocol: str) -> None:
    client, listener = joined(broker, group_id, protocol)
    client.unassign([("orders", 0), ("orders", 8), ("nowhere", 0)])
    client.unassign([("orders", 0)])
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 200, taken)
    client.poll(500, 0.1)
    assert sorted(taken.offsets) == [("orders", 1), ("orders", 2)]
    assert client.close(5.0)


def test_a_paused_partition_is_silent_and_others_are_not(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    client.pause([("orders", 0), ("orders", 9), ("nowhere", 0)])
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 200, taken)
    assert client.poll(500, 0.1).count == 0
    client.resume([("orders", 0), ("orders", 9)])
    poll_until(client, lambda: taken.count >= 300, taken)
    assert taken.offsets == EVERYTHING
    assert client.close(5.0)


def test_poll_without_patience_returns_at_once_and_takes_no_more_than_asked(
    broker: MockBroker, group_id: str
) -> None:
    client, listener = joined(broker, group_id)
    taken = listener.taken
    poll_until(client, lambda: taken.count >= 1, taken, records_max=1)
    assert taken.count == 1
    time.sleep(0.2)  # let the client fetch
    started = time.monotonic()
    assert client.poll(10, 0.0).count == 10
    client.poll(10_000, 0.0)
    client.poll(10_000, 0.0)
    assert time.monotonic() - started < 0.2
    assert client.close(5.0)


@pytest.mark.parametrize("call", ["assign", "revoke", "commit"])
def test_a_listeners_exception_comes_out_of_poll_and_loses_no_record(
    broker: MockBroker, group_id: str, call: str
) -> None:
    client, listener = joined(broker, group_id)

    def fail(called: str) -> None:
        if called == call:
            listener.during = lambda _call: None
            raise KeyError(call)

    listener.during = fail
    taken = listener.taken
    if call == "commit":
        client.commit([CommitRequest("orders", 0, 1)])
    else:
        listener.told.clear()
        client.unsubscribe()
    if call == "assign":
        poll_until(client, lambda: listener.calls() == ["revoke"], taken)
        client.subscribe(["orders"], listener)
        taken.offsets.clear()
    with pytest.raises(KeyError, match=call):
        poll_until(client, lambda: False, taken, records_max=3)
    if call != "revoke":
        poll_until(client, lambda: taken.count >= 300, taken, records_max=11)
        assert taken.offsets == EVERYTHING
    assert client.close(5.0)


def test_users_callbacks_that_raise_are_told_and_lose_no_record(broker: MockBroker, group_id: str) -> None:
    def fail(_told: object) -> None:
        raise ValueError("the user's own")

    settings = settings_for(broker.bootstrap_servers, group_id, "eager", statistics_interval_ms=50)
    own = {**settings.librdkafka, "stats_cb": fail, "error_cb": fail}
    client = KafkaClient(replace(settings, librdkafka=own))
    client.subscribe(["orders"], listener := Listener(client))
    poll_until(client, lambda: listener.taken.count >= 300, listener.taken)
    broker.broker_down()
    codes: set[str] = set()
    deadline = time.monotonic() + 20
    while codes < {"stats_cb", "error_cb"} and time.monotonic() < deadline:
        codes |= {fault.code for fault in client.poll(500, 0.1).faults}
    assert codes >= {"stats_cb", "error_cb"}
    client.close(1.0)


def test_offsets_by_rule(broker: MockBroker, group_id: str) -> None:
    """The embedded broker knows no timestamps: it says "end" for each, and the end is asked for then."""
    client, _ = joined(broker, group_id)
    broker.delete_records("orders", 0, 30)
    wanted: dict[tuple[str, int], str | int] = {
        ALL[0]: "earliest",
        ALL[1]: "latest",
        ALL[2]: 1_700_000_000_000,
    }
    assert client.resolve(wanted, 5.0) == {ALL[0]: 30, ALL[1]: 100, ALL[2]: 100}
    assert client.earliest(ALL[0], 5.0) == 30
    assert client.resolve({}, 5.0) == {}
    assert client.close(5.0)


def test_an_offset_that_is_gone_is_a_fault_and_a_seek_cures_it(broker: MockBroker, group_id: str) -> None:
    broker.delete_records("orders", 0, 50)
    client, listener = joined(broker, group_id)
    taken = listener.taken
    poll_until(client, lambda: bool(taken.faults), taken)
    fault = taken.faults[0]
    assert (fault.kind, fault.topic, fault.partition) == ("offset_out_of_range", "orders", 0)
    client.seek(("orders", 0), 50, 1.0)
    poll_until(client, lambda: taken.count >= 250, taken)
    assert taken.offsets[("orders", 0)] == list(range(50, 100))
    assert client.close(5.0)


def test_committed_of_a_group_without_commits(broker: MockBroker, group_id: str) -> None:
    client = KafkaClient(settings_for(broker.bootstrap_servers, group_id))
    assert client.committed(ALL[:1], 5.0) == [Committed("orders", 0, None)]
    assert client.close(5.0)


def test_a_pattern_subscribes_to_what_it_matches(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id, topic="^ord.*")
    assert listener.told == [("assign", ALL)]
    assert client.close(5.0)
