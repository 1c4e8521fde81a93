"""The offset watch: one request of each kind and tick, unknown with a reason, revoked partitions forgotten, nobody waits."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from headrace.errors import BrokerUnreachable, HeadraceError, NotAuthorized
from headrace.observe.offsets import UNREAD, OffsetWatch, Question
from tests.unit.observe.views import is_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import TopicPartition

EVERY_S = 0.01
WAIT_S = 10.0
A, B = ("orders", 0), ("orders", 1)
ENDS = {"earliest": 10, "latest": 130, "stable": 125}


class Broker:
    """Answers as the observer does; counts its requests, refuses what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, list[TopicPartition]]] = []
        self.refused: dict[tuple[str, TopicPartition], HeadraceError] = {}
        self.down: dict[str, HeadraceError] = {}
        self.commits: dict[TopicPartition, int] = {A: 80, B: 90}
        self.closed = False
        self.held = threading.Event()
        self.held.set()

    def each_offset(
        self, places: Sequence[TopicPartition], end: Literal["earliest", "latest", "stable"], timeout_s: float
    ) -> dict[TopicPartition, int | HeadraceError]:
        self._heard(end, places)
        return {place: self.refused.get((end, place), ENDS[end]) for place in places}

    def each_committed(
        self, places: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, int | HeadraceError | None]:
        self._heard("committed", places)
        return {place: self.refused.get(("committed", place), self.commits.get(place)) for place in places}

    def close(self) -> None:
        self.closed = True

    def _heard(self, kind: str, places: Sequence[TopicPartition]) -> None:
        assert self.held.wait(WAIT_S)
        self.requests.append((kind, list(places)))
        if kind in self.down:
            raise self.down[kind]


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def test_one_request_of_each_kind_and_the_ends_after_the_commits() -> None:
    broker = Broker()
    found = Question().ask(broker, [A, B])
    assert broker.requests == [(kind, [A, B]) for kind in ("earliest", "committed", "stable", "latest")]
    assert (found[A].start, found[A].stable, found[A].end, found[A].committed) == (10, 125, 130, 80)
    assert found[A].readable == 125
    assert Question(read_committed=False).ask(broker, [A])[A].readable == 130


def test_what_one_partition_may_not_say_hides_no_other() -> None:
    broker = Broker()
    broker.refused["latest", B] = NotAuthorized("the cluster", "no Describe on orders")
    broker.refused["committed", A] = NotAuthorized("the cluster", "no such ACL")
    found = Question().ask(broker, [A, B])
    assert is_unknown(found[B].end, "NotAuthorized")
    assert is_unknown(found[B].end, "no Describe on orders")
    assert (found[B].start, found[B].committed, found[A].end) == (10, 90, 130)
    assert is_unknown(found[A].committed, "no such ACL")


def test_a_kind_that_fails_leaves_the_others_and_nothing_committed_is_known() -> None:
    broker = Broker()
    broker.down["committed"] = NotAuthorized("the group", "no Describe")
    found = Question().ask(broker, [A])
    assert is_unknown(found[A].committed, "NotAuthorized")
    assert found[A].end == 130
    broker.down.clear()
    broker.commits.clear()
    assert Question().ask(broker, [A])[A].committed is None


def test_a_broker_that_is_away_is_asked_once_a_tick() -> None:
    broker = Broker()
    broker.refused["earliest", A] = BrokerUnreachable("b:9092", 5.0)
    found = Question().ask(broker, [A])
    assert is_unknown(found[A].committed, "BrokerUnreachable")
    assert is_unknown(found[A].end, "BrokerUnreachable")
    assert len(broker.requests) == 1, "each further request would wait as long"
    found = Question().ask(broker, [A, B])
    assert is_unknown(found[A].start, "BrokerUnreachable")
    assert found[A].end == 130, "one leader is away, not all"


def test_it_asks_only_while_somebody_wants_to_know_and_forgets_what_is_revoked() -> None:
    broker, assigned, made = Broker(), [A, B], list[int]()

    def make() -> Broker:
        made.append(1)
        return broker

    watch = OffsetWatch(Question(), make, lambda: assigned, EVERY_S)
    watch.start()
    try:
        time.sleep(5 * EVERY_S)
        assert made == []
        assert watch.age_s() is None
        assert watch.of(*A) is UNREAD
        until(lambda: watch.of(*A).end == 130 and watch.of(*B).end == 130)
        age_s = watch.age_s()
        assert age_s is not None
        assert age_s < WAIT_S
        assigned.remove(A)
        until(lambda: watch.of(*A) is UNREAD)
        assert watch.of(*B).end == 130
        assert made == [1], "one connection, kept"

        def asked() -> int:
            before = len(broker.requests)
            time.sleep(5 * EVERY_S)
            return len(broker.requests) - before

        until(lambda: asked() == 0)  # nobody asks any more
    finally:
        watch.request_stop()
    until(lambda: broker.closed)


def test_a_broker_that_hangs_holds_up_nobody_and_a_client_that_cannot_be_made_is_a_reason() -> None:
    broker = Broker()
    broker.held.clear()
    watch = OffsetWatch(Question(), lambda: broker, lambda: [A], EVERY_S)
    watch.start()
    began_at = time.monotonic()
    for _ in range(1000):
        assert watch.of(*A) is UNREAD
    assert time.monotonic() - began_at < WAIT_S / 4
    watch.request_stop()
    broker.held.set()

    def fail() -> Broker:
        raise OSError("no library")

    other = OffsetWatch(Question(), fail, lambda: [A], EVERY_S)
    other.start()
    until(lambda: is_unknown(other.of(*A).end, "OSError: no library"))
    other.request_stop()
