"""Parquet in folders: `topic=T/partition=N/` or `topic=T/hour=H/`, as tools that know such folders read them.

Decides which file a row goes into, and when a part is whole; refuses to know where an export begins and ends. Invariant:
the files of a part appear together, after its last row, or not at all; what is open and held in memory is bounded.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import IO, TYPE_CHECKING, Any, Final, Self, final

from headrace.cli.exits import Unusable
from headrace.cli.export.manifest import PARTIAL, stem_of
from headrace.cli.export.writers import ROW_GROUP_BYTES, decoded, decoded_schema
from headrace.ranges.arrow import COLUMNS, arrow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from headrace.cli.export.decoding import Decoder
    from headrace.cli.export.manifest import Manifest
    from headrace.ranges import Batches, OffsetRange
    from headrace.ranges.arrow import Column

FILES_OPEN_MAX: Final = 128
HOUR_MS: Final = 3_600_000
NO_HOUR: Final = "__HIVE_DEFAULT_PARTITION__"
"""What such folders call null."""


class By(Enum):
    """What folders are made of."""

    PARTITION = "partition"
    HOUR = "hour"


IN_PATH: Final[dict[By, frozenset[Column]]] = {
    By.PARTITION: frozenset({"topic", "partition"}),
    By.HOUR: frozenset({"topic"}),
}
"""Columns that a path tells: they are not in the files."""

NEEDED: Final[dict[By, tuple[Column, ...]]] = {
    By.PARTITION: ("topic", "partition", "offset"),
    By.HOUR: ("topic", "partition", "offset", "timestamp"),
}


def columns_written(by: By, asked: Sequence[Column] | None) -> list[Column]:
    """What files hold. Raises `Unusable` if that is nothing."""
    written: list[Column] = [
        name for name in (COLUMNS if asked is None else asked) if name not in IN_PATH[by]
    ]
    if not written:
        raise Unusable(f"--columns: with --by {by.value} the path tells these; nothing is left for the files")
    return written


def columns_read(by: By, asked: Sequence[Column] | None) -> list[Column]:
    """What must be read for that."""
    written = columns_written(by, asked)
    return [*written, *(name for name in NEEDED[by] if name not in written)]


@dataclass(slots=True, eq=False)
class _File:
    """One file under way. `names`: what it and its forerunners are called; a forerunner was closed to make room."""

    where: Path
    stem: str
    names: list[str] = field(default_factory=list[str])
    batches: list[Any] = field(default_factory=list[Any])
    held_bytes: int = 0
    file: IO[bytes] | None = None
    writer: Any = None


@final
class FolderWriter:
    """Takes the batches of a read, in the order of each partition's offsets. Use it in `with`, by one thread."""

    def __init__(
        self, manifest: Manifest, by: By, columns: Sequence[Column], decoder: Decoder | None
    ) -> None:
        self._pa = arrow("Parquet")
        self._pc = importlib.import_module("pyarrow.compute")
        self._parquet = importlib.import_module("pyarrow.parquet")
        self._manifest, self._by, self._columns, self._decoder = manifest, by, list(columns), decoder
        self._ahead: dict[tuple[str, int], deque[OffsetRange]] = {}
        for part in manifest.left:
            self._ahead.setdefault(part.place, deque()).append(part)
        self._texts: Any = None  # the schema of all columns that are read, once it is known
        # By part and hour; those written last stand at the end.
        self._files: dict[tuple[OffsetRange, str], _File] = {}

    def write(self, batches: Batches) -> None:
        """All of a read, to its end."""
        self._texts = decoded_schema(self._pa, batches.schema, self._decoder)
        written = self._pa.schema([self._texts.field(name) for name in self._columns])
        for batch in batches:
            for place, rows in self._by_place(batch):
                self._take(place, rows, written)
        for parts in self._ahead.values():
            while parts:
                self._finish(parts.popleft(), written)

    def _by_place(self, batch: Any) -> list[tuple[tuple[str, int], Any]]:
        """The rows of each partition, in their order."""
        pc, found = self._pc, list[tuple[tuple[str, int], Any]]()
        for topic in pc.unique(batch["topic"]).to_pylist():
            of_topic = batch.filter(pc.equal(batch["topic"].cast(self._pa.string()), topic))
            for partition in pc.unique(of_topic["partition"]).to_pylist():
                found.append(
                    ((topic, partition), of_topic.filter(pc.equal(of_topic["partition"], partition)))
                )
        return found

    def _take(self, place: tuple[str, int], rows: Any, schema: Any) -> None:
        parts = self._ahead[place]
        while rows.num_rows:
            part = parts[0]
            count = self._pc.sum(self._pc.less(rows["offset"], part.end)).as_py()
            if count:
                self._put(part, rows.slice(0, count), schema)
                rows = rows.slice(count)
            else:
                self._finish(parts.popleft(), schema)

    def _decoded(self, part: OffsetRange, rows: Any) -> Any:
        if self._decoder is None:
            return rows
        before = self._decoder.left_out
        texts = decoded(self._pa, rows, self._texts, self._decoder)
        count = self._decoder.left_out - before
        self._manifest.left_out[part] = self._manifest.left_out.get(part, 0) + count
        return texts

    def _put(self, part: OffsetRange, rows: Any, schema: Any) -> None:
        rows = self._decoded(part, rows)
        if not rows.num_rows:
            return
        root = self._manifest.folder / f"topic={part.topic}"
        if self._by is By.PARTITION:
            self._hold(part, "", root / f"partition={part.partition}", rows, schema)
            return
        pc, stamps = self._pc, rows["timestamp"].cast(self._pa.int64())
        hours = pc.divide(stamps, HOUR_MS)
        for hour in pc.unique(hours).to_pylist():
            mask = pc.is_null(hours) if hour is None else pc.fill_null(pc.equal(hours, hour), False)
            label = (
                NO_HOUR if hour is None else datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")
            )
            self._hold(part, label, root / f"hour={label}", rows.filter(mask), schema)

    def _hold(self, part: OffsetRange, label: str, where: Path, rows: Any, schema: Any) -> None:
        file = self._files.pop((part, label), None) or _File(where, stem_of(part))
        self._files[part, label] = file
        file.batches.append(rows.select(self._columns))
        file.held_bytes += rows.nbytes
        if sum(one.held_bytes for one in self._files.values()) >= ROW_GROUP_BYTES:
            self._flush(max(self._files.values(), key=lambda one: one.held_bytes), schema)

    def _flush(self, file: _File, schema: Any) -> None:
        """Write what is held in memory as a row group."""
        if file.writer is None:
            opened = [one for one in self._files.values() if one.writer is not None]
            if len(opened) >= FILES_OPEN_MAX:
                self._shut(opened[0])
            serial = f"-{len(file.names)}" if file.names else ""
            file.names.append(f"{file.stem}{serial}.parquet")
            file.where.mkdir(parents=True, exist_ok=True)
            file.file = (file.where / f".{file.names[-1]}{PARTIAL}").open("wb")
            file.writer = self._parquet.ParquetWriter(file.file, schema, compression="zstd")
        file.writer.write_table(self._pa.Table.from_batches(file.batches, schema))
        file.batches.clear()
        file.held_bytes = 0

    @staticmethod
    def _shut(file: _File) -> None:
        writer, handle = file.writer, file.file
        file.writer = file.file = None
        if writer is not None and handle is not None:
            with handle:
                writer.close()
                handle.flush()
                os.fsync(handle.fileno())

    def _finish(self, part: OffsetRange, schema: Any) -> None:
        mine = [key for key in self._files if key[0] == part]
        for key in mine:
            if self._files[key].batches:
                self._flush(self._files[key], schema)
            self._shut(self._files[key])
        for key in mine:
            file = self._files.pop(key)
            for name in file.names:
                (file.where / f".{name}{PARTIAL}").replace(file.where / name)
        self._manifest.note(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            with contextlib.suppress(Exception):  # closed for order's sake: the file is removed below
                self._shut(file)
        self._files.clear()
        if error is not None:
            self._manifest.sweep()
