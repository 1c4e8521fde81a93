"""What crosses between the app's process and a worker process: frames, records, errors, and the claim board.

Decides formats only; refuses to know who sends when. Both sides always run the same interpreter and the same version
of this module (a worker is spawned, never attached), so nothing here is versioned. Records and reports travel as
marshal: only plain values are in them, and it is the fastest. Errors travel pickled, for they are the user's types.

Invariant: whatever a handler raises arrives as an exception that can be raised; at worst as `RemoteError`.
"""

from __future__ import annotations

import marshal
import multiprocessing
import pickle
import struct
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

from headrace.errors import AppStateError, HeadraceError
from headrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.subscriptions import OrderBy

# The claim board: shared 64-bit integers of one worker. The worker writes FIRST and LAST under the claim lock, in this
# order, since it may be killed between the two: then LAST still says that nothing runs.
FIRST = 0
"""Sequence number of the first record of the newest claim. Worker writes, under the claim lock."""
LAST = 1
"""Its last record: the same one, except for batches. Worker writes, under the claim lock."""
ENDED = 2
"""The newest claim that has ended, by its last record. Below LAST exactly while a handler runs. Worker writes."""
SINCE_NS = 3
"""When the newest claim was made, on the monotonic clock that both processes share. Worker writes."""
VOID_BELOW = 4
"""No record below this may be claimed any more: the parent took them back. Parent writes, under the claim lock."""
CLOSING = 5
"""Not zero once the parent is about to end this worker by signal. Parent writes."""
BOARD_SIZE = 6

# What a worker reports; the first item of each message.
READY = 0
"""(READY,): the handler is imported and the resource entered."""
BROKEN = 1
"""(BROKEN, error): the worker cannot start."""
FAILED = 2
"""(FAILED, sequence numbers, stops, error): sent before ENDED covers them, so no failure is taken for a success."""
PASSED = 3
"""(PASSED, through, filtered, started, busy_s, cpu_s): the worker is over with every record up to `through`."""

WireRecord = tuple[str, int, int, int, "bytes | None", "bytes | None", Any, "tuple[int, int]", int]
"""topic, partition, epoch, offset, raw key, raw value, headers, (timestamp type, timestamp), attempt."""

STOPPING = (SystemExit, KeyboardInterrupt, MemoryError)
"""What a handler may raise to stop the app: the worker starts nothing more of that list."""

CAUSES_MAX = 5
"""Causes carried with an error. The traceback text shows them all; the objects are for code that looks at types."""

WORKER_PREFIX = "headrace-worker-"

_HEADER = struct.Struct("!Q")


@final
class RemoteError(HeadraceError):
    """A handler in a worker process raised an exception that cannot be pickled; this one stands for it.

    `type_name` is the original's qualified name. Make the exception picklable where `RetryPolicy.fatal` must know it.
    """

    def __init__(self, type_name: str, text: str) -> None:
        self.type_name = type_name
        self.text = text
        super().__init__(f"{type_name}: {text}")

    def __reduce__(self) -> tuple[object, ...]:
        return (RemoteError, (self.type_name, self.text))


def in_process_worker() -> bool:
    """Whether this process is a worker of `run_in="processes"`; there is no producer and no app there."""
    return multiprocessing.current_process().name.startswith(WORKER_PREFIX)


def frame(payload: bytes) -> bytes:
    """One message as it goes into the pipe. An empty payload asks the worker to end."""
    return _HEADER.pack(len(payload)) + payload


def frame_length(header: bytes) -> int:
    """Length of the payload that follows this header of `HEADER_BYTES` bytes."""
    length: int = _HEADER.unpack(header)[0]
    return length


HEADER_BYTES = _HEADER.size


class FrameReader:
    """Cuts a byte stream into messages; for the parent, whose end never blocks."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages completed by `data`."""
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            end = start + HEADER_BYTES + frame_length(bytes(buffer[start : start + HEADER_BYTES]))
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[start + HEADER_BYTES : end]))
            start = end
        del buffer[:start]
        return messages


def lane_of(order_by: OrderBy, topic: str, partition: int, raw_key: bytes | None) -> object | None:
    """The lane of a record, or None if it has none. Both sides ask, and must agree on what a failure holds back."""
    if order_by == "key":
        return None if raw_key is None else (topic, partition, raw_key)
    return (topic, partition) if order_by == "partition" else None


def pack_records(first: int, records: Iterable[Record[Any, Any]]) -> bytes:
    """A claim list as one message; its records are numbered from `first` on."""
    wires: list[WireRecord] = []
    append = wires.append
    for record in records:
        source = record._source
        tenure = record._tenure
        append(
            (
                tenure.topic,
                tenure.partition,
                tenure.epoch,
                record.offset,
                record.raw_key,
                source.value(),
                source.headers(),
                source.timestamp(),
                record.attempt,
            )
        )
    return marshal.dumps((first, wires))


def unpack_records(payload: bytes) -> tuple[int, list[WireRecord]]:
    """The inverse of `pack_records`."""
    first, wires = marshal.loads(payload)  # noqa: S302 - from our own parent
    return first, wires


class WireSource:
    """A record's source in a worker: the wire tuple under the client's calls."""

    __slots__ = ("_wire",)

    def __init__(self, wire: WireRecord) -> None:
        self._wire = wire

    def offset(self) -> int | None:
        return self._wire[3]

    def key(self) -> bytes | None:
        return self._wire[4]

    def value(self) -> bytes | None:
        return self._wire[5]

    def headers(self) -> Any:
        return self._wire[6]

    def timestamp(self) -> tuple[int, int]:
        return self._wire[7]

    def leader_epoch(self) -> int | None:
        return None  # Only commits need it, and they are made by the parent.

    def __len__(self) -> int:
        value = self._wire[5]
        return 0 if value is None else len(value)


class WireHolder:
    """A record's tenure in a worker. Always open: the parent voids what must not start."""

    __slots__ = ("epoch", "open", "partition", "topic")

    def __init__(self, topic: str, partition: int, epoch: int) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = epoch
        self.open = True

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        raise AppStateError(
            f"ack() of {record!r}",
            "in another process",
            "a worker process cannot acknowledge; use ack='on_return' or run_in='threads'",
        )


def rebuild_record(wire: WireRecord, holder: WireHolder, sequence: int) -> Record[Any, Any]:
    """The record a handler sees in the worker."""
    record = Record[Any, Any](WireSource(wire), holder, wire[3], wire[4], sequence)
    record.attempt = wire[8]
    return record


# blob (None where it cannot be pickled), qualified type, text, name of the stopping type or "", cause
WireError = tuple["bytes | None", str, str, str, Any]


def pack_error(error: BaseException) -> tuple[WireError, str]:
    """An exception for the pipe, and its traceback as text."""
    try:
        text = "".join(traceback.format_exception(error))
    except (
        Exception
    ) as broken:  # a user's __str__ may raise anything; the record's failure must still get through
        text = f"{type(error).__qualname__} (its traceback cannot be shown: {type(broken).__qualname__})"
    return _pack_error(error, CAUSES_MAX), text


def unpack_error(wire: WireError, text: str, where: str) -> BaseException:
    """The exception, or its stand-in, with the worker's traceback as a note."""
    error = _unpack_error(wire)
    with suppress(Exception):  # A class may forbid notes; the error matters more.
        error.add_note(f"in {where}:\n{text}")
    return error


def _pack_error(error: BaseException, depth: int) -> WireError:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    stops = next((stop.__name__ for stop in STOPPING if isinstance(error, stop)), "")
    cause = error.__cause__
    wire_cause = _pack_error(cause, depth - 1) if cause is not None and depth else None
    return (_pickled(error), name, _text_of(error), stops, wire_cause)


def _text_of(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "replace").decode()  # exactly a str: marshal takes no subclass
    except Exception:  # see pack_error
        return "<its text cannot be shown>"


def _pickled(error: BaseException) -> bytes | None:
    """Pickled the usual way if that can be read back, else as class, arguments and attributes, else None.

    The second way exists because exceptions whose __init__ takes more than one message cannot be unpickled by default.
    """
    for shape in (error, _Parts(error)):
        try:
            blob = pickle.dumps(shape, 5)
            if type(pickle.loads(blob)) is type(error):  # noqa: S301 - our own bytes
                return blob
        except Exception:  # noqa: S112 - pickling runs the user's code, which may raise anything
            continue
    return None


class _Parts:
    """Pickles as a call that makes the exception without running its __init__."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        return (_from_parts, (type(error), error.args, dict(vars(error))))


def _from_parts(
    kind: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


def _unpack_error(wire: WireError) -> BaseException:
    blob, name, text, stops, wire_cause = wire
    error: BaseException | None = None
    if blob is not None:
        try:
            loaded = pickle.loads(blob)  # noqa: S301 - from our own worker, which runs the same code as we do
        except Exception:  # the user's class may not be importable here
            loaded = None
        if isinstance(loaded, BaseException):
            error = loaded
    if error is None:
        # A stand-in must still stop the app where the original would have.
        stopping = next((stop for stop in STOPPING if stop.__name__ == stops), None)
        error = RemoteError(name, text) if stopping is None else stopping(text)
    if wire_cause is not None:
        error.__cause__ = _unpack_error(wire_cause)
    return error
