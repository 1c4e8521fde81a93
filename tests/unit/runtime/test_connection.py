"""The wait for a first broker: bounded, and not in silence."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace._core.notices import BrokerAwaited
from headrace._runtime.connection import Connection
from headrace._runtime.parts import Parts
from headrace.config import Commit, Timeouts
from headrace.errors import BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.notices import Notice


class Nobody:
    """A client whose broker answers after so many seconds of its own clock."""

    def __init__(self, answers_at: float) -> None:
        self.now = 100.0
        self._answers_at = self.now + answers_at

    def clock(self) -> float:
        return self.now

    def check(self, topics: Sequence[str], timeout_s: float | None) -> None:
        assert timeout_s is not None
        self.now += timeout_s
        if self.now < self._answers_at:
            raise BrokerUnreachable("far:9092", timeout_s, "_TRANSPORT: refused")


def checked(client: Nobody, connect_s: float | None) -> list[Notice]:
    told: list[Notice] = []
    unused = cast("Any", None)
    parts = Parts(
        make_client=lambda: cast("Any", client),
        engine=unused,
        executors=[],
        subscriptions=[],
        topics=["orders"],
        check_topics=["orders"],
        produce_dead_letter=unused,
        on_rebalance=unused,
        inbox=unused,
        tell=told.append,
        clock=client.clock,
        timeouts=Timeouts(connect_s=connect_s),
        commit=Commit(),
    )
    connection = Connection(parts, threading.Event())
    connection.make()
    try:
        connection.check()
    except BrokerUnreachable:
        assert connect_s is not None
    return told


@pytest.mark.parametrize(("connect_s", "answers_at", "moments"), [
    (30.0, 2.5, []),
    (30.0, 99.0, [3.0]),
    (None, 130.0, [3.0, 63.0, 123.0]),
])  # fmt: skip
def test_a_start_says_what_it_waits_for(
    connect_s: float | None, answers_at: float, moments: list[float]
) -> None:
    told = checked(Nobody(answers_at), connect_s)
    assert told == [BrokerAwaited("far:9092", moment, "_TRANSPORT: refused") for moment in moments]
