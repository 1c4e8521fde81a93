"""What the engine wants done: the outputs of `Engine.step`, performed in order by the owner loop.

Effects carry everything needed to perform them. Handing out work has already changed the engine's state when its
effect is made; performing it must not be skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.assignments import Reason
    from headrace._core.notices import Notice
    from headrace._core.tenure import Tenure
    from headrace.errors import FatalError
    from headrace.ports import CommitRequest, TopicPartition
    from headrace.records import Record


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand these records to the executor of the subscription, as one claim list. A batch is of one tenure."""

    subscription: int
    records: list[Record[Any, Any]]


@dataclass(frozen=True, slots=True)
class Recall:
    """Take every unclaimed record of these tenures back; answer with `Finished(returned=...)` at once."""

    subscription: int
    tenures: Sequence[Tenure]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the handlers that still run for these closed tenures to end."""

    subscription: int
    tenures: Sequence[Tenure]


@dataclass(frozen=True, slots=True)
class SendCommit:
    """Send one asynchronous commit."""

    requests: Sequence[CommitRequest]


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop fetching these."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class Resume:
    """Fetch these again."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class Seek:
    """Move the client's position."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ProduceDeadLetter:
    """Produce this record to the dead-letter topic of its subscription; answer with `DeadLettered`."""

    subscription: int
    record: Record[Any, Any]
    error: BaseException


@dataclass(frozen=True, slots=True)
class StopApp:
    """Stop everything with this error."""

    error: FatalError


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Close this connection and make a new one: the group keeps refusing it."""

    reason: str


@dataclass(frozen=True, slots=True)
class HoldingsChanged:
    """Tenures opened and closed in this step: (topic, partition, epoch) of each. Comes first among the step's effects."""

    reason: Reason
    opened: Sequence[tuple[str, int, int]]
    closed: Sequence[tuple[str, int, int]]
    at: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Something worth telling: goes to logs, counters and listeners."""

    notice: Notice


Effect = (
    Dispatch
    | Recall
    | Cancel
    | SendCommit
    | Pause
    | Resume
    | Seek
    | ProduceDeadLetter
    | StopApp
    | Rebuild
    | HoldingsChanged
    | Tell
)
