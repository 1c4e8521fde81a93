"""The queue between reading threads and their user: bounded, and nobody is left waiting."""

from __future__ import annotations

import threading

import pytest

from headrace.ranges.buffer import Buffer, Closed

WAIT_S = 10.0


def test_items_come_in_order_and_then_it_ends() -> None:
    buffer: Buffer[int] = Buffer(100, writers=2)
    for item in range(3):
        buffer.put(item, 10)
    buffer.leave()
    buffer.leave()
    assert [buffer.take(0), buffer.take(0), buffer.take(0)] == [0, 1, 2]
    with pytest.raises(Closed):
        buffer.take(WAIT_S)


def test_nothing_yet_is_none() -> None:
    assert Buffer[int](100, writers=1).take(0.01) is None


def test_no_writers_is_an_end() -> None:
    with pytest.raises(Closed):
        Buffer[int](100, writers=0).take(WAIT_S)


def test_a_writer_waits_for_room_and_the_limit_holds() -> None:
    buffer: Buffer[int] = Buffer(100, writers=1)
    highest = [0]

    def write() -> None:
        for item in range(50):
            buffer.put(item, 40)
            highest[0] = max(highest[0], buffer.queued_bytes)
        buffer.leave()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    taken = [buffer.take(WAIT_S) for _ in range(50)]
    thread.join(WAIT_S)
    assert taken == list(range(50))
    assert highest[0] == 80
    assert buffer.queued_bytes == 0


def test_an_item_above_the_limit_passes_alone() -> None:
    buffer: Buffer[int] = Buffer(10, writers=1)
    buffer.put(1, 1000)
    assert buffer.take(0) == 1


def test_an_error_ends_all_and_what_is_queued_is_not_given_out() -> None:
    """A result that stops short must not look like one that ended."""
    buffer: Buffer[int] = Buffer(100, writers=2)
    buffer.put(1, 10)
    buffer.leave(ValueError("first"))
    buffer.leave(ValueError("second"))
    for _ in range(2):
        with pytest.raises(ValueError, match="first"):
            buffer.take(WAIT_S)
    with pytest.raises(Closed):
        buffer.put(2, 10)


def test_a_close_wakes_who_waits_for_room() -> None:
    buffer: Buffer[int] = Buffer(10, writers=1)
    buffer.put(1, 10)
    ended: list[BaseException] = []

    def write() -> None:
        try:
            buffer.put(2, 10)
        except Closed as error:
            ended.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    buffer.close()
    thread.join(WAIT_S)
    assert len(ended) == 1
    assert buffer.closed
    with pytest.raises(Closed):
        buffer.take(0)


def test_an_error_after_the_close_is_nobodys() -> None:
    buffer: Buffer[int] = Buffer(10, writers=1)
    buffer.close()
    buffer.leave(ValueError("late"))
    with pytest.raises(Closed):
        buffer.take(0)
