"""Members as processes: started, stopped and killed by a test, which waits for what their ledger says.

Refuses to judge. Invariant: no process outlives the fleet, and every wait has a bound that shows the members' logs.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from headrace._core.offset_map import Replay, decode
from tests.members.ledger import Ledger, Line, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    from confluent_kafka import KafkaError, Message

    from tests.members.plan import Plan

WAIT_S = 30.0
LOG_CHARS_MAX = 3000


@dataclass(slots=True)
class Member:
    """One running member."""

    plan: Plan
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def name(self) -> str:
        return self.plan.name


class Fleet:
    """The members of one group, their ledger, and the outside observer of its commits."""

    def __init__(self, plan: Plan, folder: Path, partitions: int) -> None:
        """`plan`: what all members have in common; its name and ledger are set here."""
        self.path = folder / "ledger.jsonl"
        self._plan = replace(plan, ledger=str(self.path))
        self._folder = folder
        self._places = [(topic, partition) for topic in plan.topics for partition in range(partitions)]
        self._members: dict[str, Member] = {}
        self._ledger = Ledger(self.path)
        self._reader = Reader(self.path)
        self._observer = Consumer({"bootstrap.servers": plan.bootstrap_servers, "group.id": plan.group_id})

    # Members

    def start(self, name: str, **changes: Any) -> Member:
        """Start a member; returns at once."""
        plan = replace(self._plan, name=name, **changes)
        log = self._folder / f"{name}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "tests.members.program", plan.to_argument()]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self._members[name] = Member(plan, process, log)
        return self._members[name]

    def stop(self, *names: str) -> list[int]:
        """SIGTERM these members (none named: all that run) at once, wait for them, return their exit codes."""
        members = [self._members.pop(name) for name in names or tuple(self._members)]
        for member in members:
            member.process.send_signal(signal.SIGTERM)
        codes: list[int] = []
        for member in members:
            codes.append(self._wait_for_end(member))
            self._ledger.write("stopped", member=member.name, detail=str(codes[-1]))
        self.observe()
        return codes

    def kill(self, name: str) -> None:
        """SIGKILL, then write down what the broker held at that moment."""
        member = self._members.pop(name)
        member.process.kill()
        self._wait_for_end(member)
        self._ledger.write("killed", member=name)
        for place in self._committed():
            beyond = finished_beyond(place)
            self._ledger.write(
                "confirmed",
                member=name,
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                detail=",".join(map(str, beyond)),
            )

    def close(self) -> None:
        """Kill what still runs."""
        for member in self._members.values():
            member.process.kill()
            member.process.wait(WAIT_S)
        self._observer.close()
        self._ledger.close()

    def _wait_for_end(self, member: Member) -> int:
        try:
            return member.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{member.name} did not end:\n{tail(member.log)}") from None

    # Records

    def produce(self, records: Iterable[tuple[bytes, bytes]], topic: str | None = None) -> int:
        """Produce keyed records and write down each acknowledgement; returns how many."""
        producer = Producer(
            {"bootstrap.servers": self._plan.bootstrap_servers, "enable.idempotence": True, "linger.ms": 2}
        )
        unacknowledged: list[str] = []

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                unacknowledged.append(str(error))
            else:
                key = message.key()
                self._ledger.write(
                    "acked",
                    topic=message.topic(),
                    partition=message.partition(),
                    offset=message.offset(),
                    key=key.decode() if isinstance(key, bytes) else key,
                )

        count = 0
        for key, value in records:
            producer.produce(topic or self._plan.topics[0], key=key, value=value, on_delivery=acknowledged)
            producer.poll(0)
            count += 1
        assert producer.flush(WAIT_S) == 0
        assert not unacknowledged, unacknowledged
        return count

    def note_acked(self, records: Iterable[tuple[str, int, int, str]]) -> None:
        """Write down records that somebody else produced: (topic, partition, offset, key)."""
        for topic, partition, offset, key in records:
            self._ledger.write("acked", topic=topic, partition=partition, offset=offset, key=key)

    # Waiting and looking

    def lines(self) -> list[Line]:
        """The ledger so far."""
        return self._reader.refresh()

    def wait_until(
        self, condition: Callable[[Sequence[Line]], object], what: str, within_s: float = WAIT_S
    ) -> None:
        """Wait until the ledger shows it; commits are observed meanwhile."""
        deadline = time.monotonic() + within_s
        while not condition(self.lines()):
            self._refuse_dead()
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{self._logs()}"
            self.observe()
            time.sleep(0.05)

    def wait_until_handled(self, share: float = 1.0, within_s: float = WAIT_S) -> None:
        """Wait until handlers returned for so large a share of the acknowledged records."""
        self.wait_until(
            lambda lines: unhandled(lines) <= (1 - share) * acked(lines), f"{share:.0%} handled", within_s
        )

    def wait_until_settled(self, within_s: float = WAIT_S) -> None:
        """Wait until every partition's committed offset is its end."""
        ends = {
            (topic, partition): max(
                (line.offset + 1 for line in self.lines() if is_acked_in(line, topic, partition)), default=0
            )
            for topic, partition in self._places
        }
        deadline = time.monotonic() + within_s
        while (found := {(p.topic, p.partition): max(p.offset, 0) for p in self._committed()}) != ends:
            self._refuse_dead()
            assert time.monotonic() < deadline, f"committed {found}, ends {ends}\n{self._logs()}"
            time.sleep(0.05)

    def observe(self) -> None:
        """Write down what is committed now."""
        for place in self._committed():
            if place.offset > 0:
                self._ledger.write(
                    "committed", topic=place.topic, partition=place.partition, offset=place.offset
                )

    def committed(self) -> dict[tuple[str, int], TopicPartition]:
        """What is committed now, offsets with metadata."""
        return {(place.topic, place.partition): place for place in self._committed()}

    def _committed(self) -> list[TopicPartition]:
        asked = [TopicPartition(*place) for place in self._places]
        return self._observer.committed(asked, timeout=WAIT_S)

    def _refuse_dead(self) -> None:
        for member in self._members.values():
            code = member.process.poll()
            assert code is None, f"{member.name} ended by itself with {code}:\n{tail(member.log)}"

    def _logs(self) -> str:
        return "\n".join(f"--- {path.stem}\n{tail(path)}" for path in sorted(self._folder.glob("*.log")))


@contextmanager
def fleet_of(plan: Plan, folder: Path, partitions: int) -> Generator[Fleet]:
    """A fleet that ends with the block."""
    fleet = Fleet(plan, folder, partitions)
    try:
        yield fleet
    finally:
        fleet.close()


def tail(log: Path) -> str:
    """The end of a member's log."""
    return log.read_text(errors="replace")[-LOG_CHARS_MAX:]


def finished_beyond(place: TopicPartition) -> list[int]:
    """Offsets that a commit's map calls finished."""
    if place.offset < 0 or not place.metadata:
        return []
    decoded = decode(place.metadata, committed=place.offset, leader_epoch=place.leader_epoch)
    return [] if isinstance(decoded, Replay) else list(decoded)


def acked(lines: Iterable[Line]) -> int:
    """How many records were acknowledged."""
    return sum(line.kind == "acked" for line in lines)


def unhandled(lines: Iterable[Line]) -> int:
    """How many acknowledged records no handler returned for."""
    wanted: set[tuple[str, int, int]] = set()
    done: set[tuple[str, int, int]] = set()
    for line in lines:
        if line.kind == "acked":
            wanted.add((line.topic, line.partition, line.offset))
        elif line.kind == "end" and line.ok:
            done.add((line.topic, line.partition, line.offset))
    return len(wanted - done)


def holders(lines: Iterable[Line]) -> dict[tuple[str, int], str]:
    """Who holds which partition, by the ledger."""
    held: dict[tuple[str, int], str] = {}
    for line in lines:
        if line.kind == "assigned":
            held[(line.topic, line.partition)] = line.member
        elif line.kind == "revoked" and held.get((line.topic, line.partition)) == line.member:
            del held[(line.topic, line.partition)]
    return held


def is_acked_in(line: Line, topic: str, partition: int) -> bool:
    """Whether the line acknowledges a record of this partition."""
    return line.kind == "acked" and line.topic == topic and line.partition == partition
