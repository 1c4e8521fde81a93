"""One share of a read, played without a broker: ends, gaps, losses, denials, silence; and how shares are made."""

from __future__ import annotations

import gc
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._client.range_consumer import EndSeen, OutOfRange, Unknown
from headrace.errors import ReadStalled, RecordsLost, TopicMissing
from headrace.ranges import Loss, OffsetRange
from headrace.ranges.buffer import Buffer, Closed
from headrace.ranges.fetching import Made, Part, Share, joined, share_out
from tests.unit.ranges.logs import Log, Scripted

if TYPE_CHECKING:
    from headrace._client.range_consumer import Chunk
    from headrace.ranges.fetching import OnDataLoss
    from tests.unit.ranges.logs import Step

Place = tuple[str, int]
T0, T1 = ("t", 0), ("t", 1)


def offsets_of(chunk: Chunk) -> Made[list[tuple[str, int, int]]]:
    """What these shares make of a chunk: where its records stood."""
    assert len(chunk)
    topics = [message.topic() or "" for message in chunk.messages]
    return Made(list(zip(topics, chunk.partitions, chunk.offsets, strict=True)), len(chunk), len(chunk))


class Played:
    """What came of a share."""

    def __init__(
        self, source: Scripted | Log, ranges: list[OffsetRange], on_data_loss: OnDataLoss = "error"
    ) -> None:
        buffer: Buffer[Part[Any]] = Buffer(1 << 40, writers=1)
        Share(
            ranges,
            lambda: source,
            offsets_of,
            buffer,
            source.clock,
            records_max=1000,
            chunk_bytes=1 << 30,
            timeout_s=10,
            on_data_loss=on_data_loss,
        ).run()
        self.records: list[tuple[str, int, int]] = []
        self.passed: dict[Place, int] = {}
        self.losses: list[Loss] = []
        while True:
            try:
                part = buffer.take(0)
            except Closed:
                break
            assert part is not None
            self.records += part.content or []
            self.losses += part.losses
            for place, count in part.passed.items():
                self.passed[place] = self.passed.get(place, 0) + count

    @property
    def offsets(self) -> list[int]:
        return [offset for _, _, offset in self.records]


def play(ranges: list[OffsetRange], *steps: Step, **how: Any) -> tuple[Played, Scripted]:
    """Play a script to its end."""
    on_data_loss = how.pop("on_data_loss", "error")
    source = Scripted(deque(steps), **how)
    return Played(source, ranges, on_data_loss), source


def records(*offsets: int, partition: int = 0) -> list[tuple[str, int, int]]:
    """Records of topic t."""
    return [("t", partition, offset) for offset in offsets]


def test_a_range_ends_at_its_last_record() -> None:
    played, source = play([OffsetRange("t", 0, 5, 8)], (records(5, 6), []), (records(7), []))
    assert played.offsets == [5, 6, 7]
    assert (source.begun, source.dropped, source.closed) == ({T0: 5}, [T0], True)
    assert played.passed == {T0: 3}


def test_what_lies_beyond_the_end_is_not_given() -> None:
    """The client fetches ahead."""
    played, _ = play([OffsetRange("t", 0, 5, 8)], (records(5, 6, 7, 8, 9), []))
    assert played.offsets == [5, 6, 7]


def test_a_range_ends_in_a_hole_when_a_later_record_shows_it() -> None:
    """Compaction took 7 to 20."""
    played, _ = play([OffsetRange("t", 0, 5, 10)], (records(5, 6), []), (records(21), []))
    assert played.offsets == [5, 6]
    assert played.passed == {T0: 5}


def test_a_range_ends_at_markers_when_the_end_of_the_partition_shows_it() -> None:
    played, _ = play([OffsetRange("t", 0, 5, 8)], (records(5, 6), []), ((), [EndSeen(T0, 8)]))
    assert played.offsets == [5, 6]
    played, _ = play([OffsetRange("t", 0, 5, 8)], ((), [EndSeen(T0, 8)]))  # nothing but aborted records
    assert (played.offsets, played.passed) == ([], {T0: 3})


def test_an_end_before_the_end_is_waited_through() -> None:
    """A replica that lags shows an end too early: that is no reason to stop."""
    steps: list[Step] = [((), [EndSeen(T0, 6)]), (records(6), []), (records(7), [])]
    played, _ = play([OffsetRange("t", 0, 5, 8)], *steps)
    assert played.offsets == [6, 7]


def test_partitions_end_each_at_its_own_time() -> None:
    ranges = [OffsetRange("t", 0, 0, 3), OffsetRange("t", 1, 10, 12), OffsetRange("u", 0, 0, 2)]
    played, source = play(
        ranges,
        ([("t", 0, 0), ("u", 0, 0), ("t", 0, 1), ("u", 0, 1), ("u", 0, 2), ("t", 1, 10)], []),
        ([("u", 0, 3), ("t", 0, 2), ("t", 0, 3), ("t", 1, 11)], []),
    )
    assert played.records == [
        ("t", 0, 0), ("u", 0, 0), ("t", 0, 1), ("u", 0, 1), ("t", 1, 10), ("t", 0, 2), ("t", 1, 11)
    ]  # fmt: skip
    assert sorted(source.dropped) == [T0, T1, ("u", 0)]


def test_ranges_of_one_partition_are_read_one_after_the_other() -> None:
    ranges = [OffsetRange("t", 0, 0, 2), OffsetRange("t", 0, 10, 11)]
    played, source = play(ranges, (records(0, 1, 2, 3), []), (records(10, 11), []))
    assert played.offsets == [0, 1, 10]
    assert (source.placed, source.dropped) == ([(T0, 10)], [T0])
    assert played.passed == {T0: 3}


def test_what_came_with_one_range_says_nothing_of_the_next() -> None:
    """The end of the partition is seen with the first range's records; the next range is not read for that."""
    ranges = [OffsetRange("t", 0, 0, 2), OffsetRange("t", 0, 3, 5), OffsetRange("t", 0, 6, 8)]
    first: Step = (records(0, 1, 3, 4, 6, 7), [EndSeen(T0, 8), OutOfRange(T0, 8), Unknown(T0)])
    played, source = play(ranges, first, (records(3, 4, 6, 7), [EndSeen(T0, 8)]), (records(6, 7), []))
    assert played.offsets == [0, 1, 3, 4, 6, 7]
    assert source.placed == [(T0, 3), (T0, 6)]


def test_ranges_that_go_on_where_the_one_before_ends_are_read_as_one() -> None:
    """Also where ranges of other partitions stand between them; one that begins anew or earlier is another."""
    pairs = [(0, 0, 2), (1, 5, 6), (0, 2, 4), (1, 6, 7), (0, 5, 6), (0, 0, 1), (0, 1, 2)]
    ranges = [OffsetRange("t", *pair) for pair in pairs]
    assert [(one.partition, one.start, one.end) for one in joined(ranges)] == [
        (0, 0, 4), (1, 5, 7), (0, 5, 6), (0, 0, 2)
    ]  # fmt: skip
    played, source = play(ranges[:3:2], (records(0, 1, 2, 3, 4), []))
    assert (played.offsets, played.passed, source.placed) == ([0, 1, 2, 3], {T0: 4}, [])


def test_what_the_log_lost_is_an_error() -> None:
    steps: list[Step] = [(records(0, 1), []), ((), [OutOfRange(T0, 4)])]
    with pytest.raises(RecordsLost, match=r"offsets 4 to 7 \(3\)"):
        play([OffsetRange("t", 0, 0, 10)], *steps, bounds_of={T0: (7, 20)})


def test_what_the_log_lost_is_counted_and_the_rest_is_read() -> None:
    """Lost is what the broker was asked for: offsets 2 and 3 held nothing to read when it passed over them."""
    played, source = play(
        [OffsetRange("t", 0, 0, 10)],
        (records(0, 1), []),
        ((), [OutOfRange(T0, 4)]),
        (records(7, 8, 9), []),
        bounds_of={T0: (7, 20)},
        on_data_loss="report",
    )
    assert played.offsets == [0, 1, 7, 8, 9]
    assert played.losses == [Loss("t", 0, 4, 7)]
    assert (source.placed, played.passed) == ([(T0, 7)], {T0: 10})


@pytest.mark.parametrize("first", [10, 15])
@pytest.mark.parametrize("offset", [None, 2])
def test_a_log_that_lost_the_rest_of_the_range_ends_it(offset: int | None, first: int) -> None:
    played, _ = play(
        [OffsetRange("t", 0, 0, 10)],
        (records(0, 1), []),
        ((), [OutOfRange(T0, offset)]),
        bounds_of={T0: (first, 20)},
        on_data_loss="report",
    )
    assert (played.offsets, played.losses) == ([0, 1], [Loss("t", 0, 2, 10)])


def test_a_log_that_was_cut_short_is_believed_only_after_a_while() -> None:
    """A new leader may not know its end yet."""
    script: list[Step] = [((), [OutOfRange(T0, 5)])]
    played, source = play(
        [OffsetRange("t", 0, 5, 10)], *script, bounds_of={T0: (0, 3)}, on_data_loss="report"
    )
    assert (played.losses, source.asked) == ([Loss("t", 0, 5, 10)], 4)
    assert source.now > 1.5
    with pytest.raises(RecordsLost):
        play([OffsetRange("t", 0, 5, 10)], *script, bounds_of={T0: (0, 3)})


def test_an_offset_that_is_there_after_all_is_fetched_again_without_haste() -> None:
    """Not in a busy loop: at most two questions a second."""
    steps: list[Step] = [((), [OutOfRange(T0, 5)]) for _ in range(60)]
    played, source = play([OffsetRange("t", 0, 5, 7)], *steps, (records(5, 6), []), bounds_of={T0: (5, 20)})
    assert played.offsets == [5, 6]
    assert 2 <= source.asked <= 8
    assert set(source.placed) == {(T0, 5)}


def test_a_topic_that_is_gone_is_an_error_once_it_is_sure() -> None:
    with pytest.raises(TopicMissing):
        play([OffsetRange("t", 0, 0, 10)], ((), [Unknown(T0)]), there=False)


def test_a_topic_that_a_restarting_broker_denies_once_is_read_on() -> None:
    played, source = play([OffsetRange("t", 0, 0, 2)], ((), [Unknown(T0)]), (records(0, 1), []), there=True)
    assert (played.offsets, source.placed) == ([0, 1], [(T0, 0)])


def test_a_silent_topic_is_asked_after_and_its_deletion_found() -> None:
    with pytest.raises(TopicMissing):
        play([OffsetRange("t", 0, 0, 10)], (records(0), []), there=False)


@pytest.mark.parametrize("there", [True, None])
def test_silence_is_an_error_that_names_what_is_unfinished(there: bool | None) -> None:
    """Never a short result."""
    ranges = [OffsetRange("t", p, 0, 10) for p in range(8)]
    with pytest.raises(ReadStalled) as stalled:
        play(ranges, (records(0, 1, 2), []), there=there, last_error=("_TRANSPORT", "refused"))
    assert stalled.value.unfinished == (
        "t[0] at 3 of 10", "t[1] at 0 of 10", "t[2] at 0 of 10", "t[3] at 0 of 10", "t[4] at 0 of 10", "3 more"
    )  # fmt: skip
    assert "_TRANSPORT: refused" in str(stalled.value)


def test_silence_that_is_not_answered_about_is_a_stall_too() -> None:
    with pytest.raises(ReadStalled):
        play([OffsetRange("t", 0, 0, 10)], ((), [OutOfRange(T0, 0)]))


def test_the_collector_rests_while_a_batch_is_made_and_not_while_it_waits_for_room() -> None:
    seen: list[tuple[str, bool]] = []

    class Noting(Buffer[Part[Any]]):  # type: ignore[misc] # a buffer in all but what it notes
        def put(self, item: Part[Any], size: int) -> None:
            seen.append(("put", gc.isenabled()))
            super().put(item, size)

    def content(chunk: Chunk) -> Made[int]:
        seen.append(("made", gc.isenabled()))
        return Made(len(chunk), 1, 1)

    source = Scripted(deque([(records(0), []), ((), [EndSeen(T0, 2)])]))
    how: Any = {"records_max": 10, "chunk_bytes": 1 << 30, "timeout_s": 10, "on_data_loss": "error"}
    Share([OffsetRange("t", 0, 0, 2)], lambda: source, content, Noting(1 << 40, 1), source.clock, **how).run()
    assert seen == [("made", False), ("put", True), ("put", True)]


def test_what_a_source_raises_reaches_the_reader_and_it_is_closed() -> None:
    class Broken(Scripted):
        def take(self, records_max: int, wait_s: float) -> Any:
            raise ValueError("broken")

    source = Broken(deque())
    with pytest.raises(ValueError, match="broken"):
        Played(source, [OffsetRange("t", 0, 0, 1)])
    assert source.closed


places = st.tuples(st.sampled_from("tu"), st.integers(0, 2))
logs = st.dictionaries(places, st.sets(st.integers(0, 60), max_size=40), min_size=1, max_size=5)


@given(logs, st.data())
def test_any_range_of_any_log_gives_its_records_once_in_order(logs: dict[Place, set[int]], data: Any) -> None:
    """Whatever holes there are, and wherever ranges begin and end."""
    ends = {
        place: data.draw(st.integers(max(offsets, default=-1) + 1, 70)) for place, offsets in logs.items()
    }
    ranges: list[OffsetRange] = []
    for place, end in ends.items():
        marks = sorted(data.draw(st.lists(st.integers(0, end), min_size=2, max_size=4)))
        ranges += [
            OffsetRange(*place, low, high)
            for low, high in zip(marks[::2], marks[1::2], strict=False)
            if high > low
        ]
    expected = {
        place: [
            n for one in ranges if one.place == place for n in sorted(logs[place]) if one.start <= n < one.end
        ]
        for place in logs
    }
    log = Log({place: sorted(offsets) for place, offsets in logs.items()}, ends)
    played = Played(log, ranges)
    found = {place: [n for topic, p, n in played.records if (topic, p) == place] for place in logs}
    assert found == expected
    sizes: dict[Place, int] = {}
    for one in ranges:
        sizes[one.place] = sizes.get(one.place, 0) + one.size
    assert played.passed == sizes


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 1000)), max_size=20), st.integers(1, 6))
def test_shares_are_even_and_a_partition_is_in_one(shapes: list[tuple[int, int]], shares_max: int) -> None:
    ranges = [OffsetRange("t", partition, 0, size) for partition, size in shapes]
    shares = share_out(ranges, shares_max)
    assert sorted(one for share in shares for one in share) == sorted(ranges)
    assert len(shares) == min(shares_max, len({one.place for one in ranges}))
    homes = [{one.place for one in share} for share in shares]
    assert all(homes)
    assert sum(map(len, homes)) == len(set().union(*homes))
    loads = [sum(one.size for one in share) for share in shares]
    largest = max((sum(r.size for r in ranges if r.place == p) for p in set().union(*homes)), default=0)
    assert not loads or max(loads) <= sum(loads) / len(loads) + largest
