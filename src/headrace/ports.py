"""The Protocols the shell fills in: what the owner loop needs of a Kafka client, of executors, of a producer.

Real ones live in `_client` and `_execute`; the simulator brings its own. Nothing here does anything. Unless a
docstring says otherwise, every call is made on the owner thread and returns within its stated bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.records import Record, Source

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group has committed for one partition. `offset` is None where there is no commit."""

    topic: str
    partition: int
    offset: int | None
    metadata: str = ""
    leader_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One partition's part of a commit: the offset of the first record not known finished, and the offset map."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""
    leader_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What the broker said of one partition of a commit. `error` is None where it was written, else Kafka's code name."""

    topic: str
    partition: int
    offset: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something the client reported beside records: an error of a partition, a topic, or of the client as a whole.

    `kind` is the row of the failures table that applies: "ignore", "log", "offset_out_of_range", "topic_missing",
    "not_authorized", "fenced", "rebuild" (make a new connection), "fatal".
    """

    kind: str
    code: str
    detail: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


@dataclass(slots=True)
class Polled:
    """One poll: records grouped by partition, in offset order within each, and faults.

    statistics: the client's own, as JSON, where the user wants them and they were due.
    """

    groups: list[tuple[str, int, list[Source]]] = field(default_factory=list[tuple[str, int, "list[Source]"]])
    count: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    statistics: str | None = None


class RebalanceListener(Protocol):
    """What a client calls, on the owner thread and inside `poll` or `close`, when the group moves partitions.

    `on_assign` must answer by calling `assign` for what it wants to consume now (it may call it again later, outside
    the callback, for the rest); `on_revoke` returns when the partitions may go.
    """

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """These are ours; called inside `poll`."""
        ...

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """The group takes these back; may take as long as the drain."""
        ...

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These were taken without asking."""
        ...

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        """An answer to a commit."""
        ...


class Client(Protocol):
    """One Kafka consumer, as the owner thread uses it. Raises `FatalError` children for what cannot be cured."""

    @property
    def max_poll_interval_s(self) -> float:
        """How long the group waits for a poll before it gives up on us."""
        ...

    @property
    def session_timeout_s(self) -> float:
        """How long the group waits for a heartbeat."""
        ...

    def check(self, topics: Sequence[str], timeout_s: float | None) -> None:
        """Wait for a broker and see that the topics exist; raises `BrokerUnreachable`, `TopicMissing`, `NotAuthorized`."""
        ...

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group. A name that starts with ^ is a pattern in librdkafka's dialect (POSIX extended)."""
        ...

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Up to `records_max` records; waits at most `timeout_s` for the first and not at all for the rest."""
        ...

    def committed(self, partitions: Sequence[TopicPartition], timeout_s: float) -> list[Committed] | None:
        """What the group committed, or None if that could not be read in time (the caller tries again)."""
        ...

    def resolve(
        self, wanted: Mapping[TopicPartition, str | int], timeout_s: float
    ) -> dict[TopicPartition, int] | None:
        """Offsets for "earliest", "latest" or a timestamp in ms (the first record at or after it, else the end); None if not in time."""
        ...

    def earliest(self, partition: TopicPartition, timeout_s: float) -> int | None:
        """The first offset that still exists, or None if that could not be read in time."""
        ...

    def assign(self, starts: Mapping[TopicPartition, int]) -> None:
        """Begin to fetch these partitions at these offsets, beside those already assigned."""
        ...

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these. Partitions that were never assigned to the client are ignored."""
        ...

    def reassign(self, partition: TopicPartition, offset: int) -> None:
        """Unassign and assign one partition: the cure for one that fell silent."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these; unknown ones are ignored."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these again."""
        ...

    def seek(self, partition: TopicPartition, offset: int, timeout_s: float) -> None:
        """Continue this partition at `offset`."""
        ...

    def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The client's positions, local and cheap; partitions without one are left out."""
        ...

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        """Send one asynchronous commit; the answer comes to `on_commit`, inside a later `poll`. Never blocks.

        Raises `CommitNotSent` if the client refuses it at once.
        """
        ...

    def close(self, timeout_s: float) -> bool:
        """Leave the group (unless a static member) and free the client; False if it did not end in time and was left behind."""
        ...


class CommitNotSent(Exception):
    """The client refused to send a commit; `code` says why."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(slots=True)
class Running:
    """One handler that runs now, as an executor sees it. `name` says where, for logs and forced stops."""

    record: Record[Any, Any]
    since: float
    name: str


class Executor(Protocol):
    """Runs the handler of one subscription. `submit`, `recall`, `cancel`, `pulse` are owner-thread calls; none blocks.

    A submitted list of records is a *claim list*, not a commitment: a worker claims each record by one atomic pop just
    before it starts it, and gives it back if its tenure is no longer open. Results arrive as `Finished` events through
    the `deliver` callable given at construction, from any thread, in batches.

    Within one submitted list, records of one lane are in order and must run one after the other: when one fails, the
    later ones of its lane in that list are given back (`Finished.returned`).
    """

    def submit(self, records: list[Record[Any, Any]]) -> None:
        """Take a claim list of one tenure."""
        ...

    def recall(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """Take back every record not yet claimed of these tenures (None: of all), in order. Afterwards none of them starts."""
        ...

    def cancel(self, tenures: Sequence[object]) -> None:
        """Ask running handlers of these tenures to end (cancels `async` ones; threads and processes cannot be)."""
        ...

    def pulse(self, now: float) -> None:
        """Called about every 20 ms: look after chunks whose current record is slow.

        What finished before it is reported, and what was not claimed is given back.
        """
        ...

    def running(self) -> list[Running]:
        """The handlers that run now, oldest first. May be called from any thread."""
        ...

    def stack_of(self, running: Running) -> str | None:
        """The stack of that handler where it can be had, else None."""
        ...

    def busy_workers(self) -> int:
        """Workers that run a handler now. May be called from any thread."""
        ...

    def share(self, connections: int) -> None:
        """So many connections share the subscription: run an equal part of it at once, one handler at least. Any thread."""
        ...

    def close(self, timeout_s: float) -> list[str]:
        """End the workers; returns the names of those that did not end in time (they are daemons and are abandoned)."""
        ...


class Producer(Protocol):
    """The process's one idempotent producer, on a thread of its own. Both calls may be made from any thread and never block."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        done: Callable[[Exception | None], None],
    ) -> None:
        """Produce one record. `done` is called once, on the producer's thread, with None or a `ProduceFailed`."""
        ...

    def close(self, timeout_s: float) -> int:
        """Flush and end; returns how many records were still unacknowledged."""
        ...
