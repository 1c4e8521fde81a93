"""Where a simulated world stands at one moment, as a digest: two worlds that stand alike go on alike.

Decides what belongs to it: broker, members' engines, ledgers and work, what is due and when, where each thread waits. Times
are relative. Refuses to know what was seen of it: the history is none of it. Invariant: the same in every process.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from headrace.testing.simulation.model.classic import ClassicGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from headrace.testing.simulation.consumer.consumer import ModelConsumer
    from headrace.testing.simulation.kernel import Kernel, Thread
    from headrace.testing.simulation.member import Member
    from headrace.testing.simulation.model.kafka import ModelKafka
    from headrace.testing.simulation.workers import ModelExecutor
    from headrace.testing.simulation.world import World


def digest_of(world: World) -> bytes:
    """Eight bytes that stand for all of it."""
    return blake2b(repr(standing_of(world)).encode(), digest_size=8).digest()


def standing_of(world: World) -> tuple[Any, ...]:
    """All of it, in words and numbers."""
    now = world.kernel.now
    members = tuple(None if member is None else _member(member, now) for member in world.slots)
    return world.calm, world.over, world.lives, members, _broker(world.kafka, now), _kernel(world.kernel)


def _kernel(kernel: Kernel) -> tuple[Any, ...]:
    now = kernel.now
    timers = [each for each in (*kernel._due, *(timer for _, _, timer in kernel._future)) if each.action]
    due = sorted(
        (round(max(each.at - now, 0.0), 6), each.label, "" if each.process is None else each.process.name)
        for each in timers
        if each.process is None or each.process.alive
    )
    threads = [
        (each.name, _left(each.until, now), each.ready is not None, *_stack(each)) for each in kernel._threads
    ]
    return tuple(due), tuple(sorted(threads))


def _stack(thread: Thread) -> Iterator[tuple[str, int]]:
    frame: FrameType | None = thread.fiber.gr_frame
    while frame is not None:
        yield frame.f_code.co_name, frame.f_lasti
        frame = frame.f_back


def _broker(kafka: ModelKafka, now: float) -> tuple[Any, ...]:
    logs = tuple(
        (place, log.start, log.end, tuple((record.offset(), record.key()) for record in log._records))
        for topic, size in kafka.topics.sizes().items()
        for place in ((topic, number) for number in range(size))
        if (log := kafka.topics.log(place)) is not None
    )
    committed = tuple(
        (place, each.offset, each.metadata) for place, each in kafka._commits._committed.items()
    )
    groups = tuple(
        (each.moves, _left(each._loaded_at, now), tuple(each.refusals), _group(each.group, now))
        for each in kafka._coordinators.values()
    )
    consumers = tuple(_consumer(each, now) for process, each in kafka._consumers if process.alive)
    return kafka.network.down, logs, tuple(sorted(committed)), groups, consumers


def _group(group: Any, now: float) -> tuple[Any, ...]:
    if isinstance(group, ClassicGroup):
        joined = tuple(
            (name, each.share, each.joining is not None, each.syncing is not None, _left(each.seen, now))
            for name, each in group._members.items()
        )
        return group.state, group.generation, group._leader, tuple(group._promised), group._gathers, joined
    members = tuple((name, _plain(each, now)) for name, each in group._members.items())
    return group.epoch, tuple(group._target.items()), members


def _plain(value: Any, now: float) -> tuple[Any, ...]:
    """The fields of a record of the model's, as far as they are words, numbers and places."""
    names = getattr(value, "__slots__", ())
    return tuple(_word(getattr(value, name, None), now) for name in names)


def _word(value: Any, now: float) -> Any:
    if isinstance(value, float):
        return _left(value, now)
    if isinstance(value, (tuple, list)):
        return tuple(_word(each, now) for each in value)  # pyright: ignore[reportUnknownVariableType] - whatever it is
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(map(repr, value)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - see above
    if isinstance(value, dict):
        return tuple((_word(key, now), _word(each, now)) for key, each in value.items())  # pyright: ignore[reportUnknownVariableType] - see above
    return value if value is None or isinstance(value, (str, int, bytes)) else type(value).__name__


def _consumer(consumer: ModelConsumer, now: float) -> tuple[Any, ...]:
    membership, sender, link, fetcher = consumer.membership, consumer.sender, consumer.link, consumer.fetcher
    partitions = tuple(
        (
            place,
            each.version,
            each.next_offset,
            each.position,
            each.queued,
            each.paused,
            each.held,
            each.ended,
        )
        for place, each in fetcher._partitions.items()
    )
    chunks = tuple(
        (each.partition.place, each.version, each.at, each.next_offset, len(each.records), each.code)
        for each in fetcher.queue
    )
    joined = (
        membership.state,
        membership.member_id,
        membership.generation,
        membership.held,
        membership.assign_next,
        membership.rejoin_next,
        membership.lost,
        membership.leaving,
        membership.terminating,
    )
    waiting = (tuple(consumer.callbacks), repr(consumer.answers), tuple(consumer.reports), consumer.closed)
    sent = sender.open, tuple(_word(each.requests, now) for each in sender._put_off)
    lines = link.up, link._known, link._asking, link._connection._arrived, len(link._connection._open)
    fetching = fetcher._asking, fetcher._due, fetcher._closed, partitions, chunks
    return joined, waiting, sent, lines, fetching, _left(consumer._polled_at, now)


def _member(member: Member, now: float) -> tuple[Any, ...]:
    if not member.process.alive:
        return member.name, member.ended, member.error
    engine = member.owner._engine
    deadline = engine.next_deadline()
    snapshot = engine.snapshot([each.busy_workers() for each in member.executors], now)
    tenures = engine._board.tenures.values()
    ledgers = tuple((each.ledger._base, each.ledger._head, bytes(each.ledger._done)) for each in tenures)
    return (
        member.name,
        member.stopping,
        None if deadline is None else _left(deadline, now),
        snapshot.commit_state,
        tuple(_snapshot(each) for each in snapshot.partitions),
        ledgers,
        tuple(type(each).__name__ for each in member._inbox._items),
        tuple(_executor(each, now) for each in member.executors),
    )


def _snapshot(each: Any) -> tuple[Any, ...]:
    counts = each.waiting, each.in_flight, each.parked, each.held, each.settling, each.unacked
    offsets = each.position, each.committable, each.committed
    return each.topic, each.partition, each.epoch, each.phase, counts, offsets, each.paused


def _executor(executor: ModelExecutor, now: float) -> tuple[Any, ...]:
    jobs = tuple(
        (tuple((record.partition, record.offset) for record in each.records), _left(each.began_at, now))
        for each in executor._jobs
    )
    chunks = tuple(
        (each.worker, each.claimed(), tuple((record.partition, record.offset) for record in each.records))
        for each in executor._chunks
    )
    return jobs, chunks, tuple(executor._free), len(executor._queue)


def _left(moment: float, now: float) -> float:
    return moment if moment in (float("inf"), float("-inf")) else round(moment - now, 6)
