"""The course of a copy: records from a source, in transactions, each with a note of how far the source is.

Decides when a transaction ends; refuses to know where records come from and go. Invariant: what was committed is what
the note says, no more and no less, whatever ends the course.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from headrace.cli.exits import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.ranges import Loss

RECORDS_MAX: Final = 10_000
EVERY_S: Final = 5.0
"""A transaction ends with so many records, or after so long: its readers wait for it."""


class Outgoing(NamedTuple):
    """A record on its way. partition: None where the key decides. timestamp_ms: None for the moment of writing."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_ms: int | None


class Origin(Protocol):
    """Where records come from. Used by one thread."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was gone; complete at the end."""
        ...

    def records(self) -> Iterator[Outgoing]:
        """All of them, in order within a partition."""
        ...

    def note(self) -> str:
        """How far it is: behind the record that was given last, or at its end."""
        ...


class Target(Protocol):
    """Where records go to, by transactions."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        timestamp_ms: int | None,
    ) -> None:
        """One record more."""
        ...

    def commit(self, topic: str, count: int, note: str) -> None:
        """What was sent since appears, with the note."""
        ...

    def abort(self) -> None:
        """What was sent since never appears."""
        ...


@dataclass(slots=True)
class Course:
    """One copy. `anchor`: the topic that keeps the note. `copied`: records that appeared."""

    origin: Origin
    target: Target
    anchor: str
    note_chars_max: int
    clock: Callable[[], float] = time.monotonic
    copied: int = 0

    def run(self) -> None:
        """To the end of the source. Raises what the two raise, after what was not committed has been taken back."""
        sent, began_at = 0, self.clock()
        try:
            for record in self.origin.records():
                self.target.send(
                    record.topic,
                    record.value,
                    record.key,
                    record.headers,
                    record.partition,
                    record.timestamp_ms,
                )
                sent += 1
                if sent >= RECORDS_MAX or self.clock() - began_at >= EVERY_S:
                    self._commit(sent)
                    sent, began_at = 0, self.clock()
            self._commit(sent)
        except BaseException:
            self.target.abort()
            raise

    def _commit(self, sent: int) -> None:
        note = self.origin.note()
        if len(note) > self.note_chars_max:
            raise Unusable(
                f"the places of so many partitions take {len(note)} characters, more than a broker keeps beside an offset; "
                "copy fewer topics at once"
            )
        self.target.commit(self.anchor, self.copied + sent, note)
        self.copied += sent
