"""Parquet files as the source of a copy: what `headrace read` wrote, and what has the same columns.

Decides the order of files and what their columns and paths mean; refuses to know how records are written. Invariant: a
note counts rows in files whose names and sizes it also names: other files are not taken for them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, final

from headrace.cli.exits import Failed, Unusable
from headrace.cli.export.manifest import NAME as EXPORT_NAME
from headrace.cli.transfer.course import Outgoing
from headrace.ranges.arrow import arrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from headrace.ranges import Loss

_KIND: Final = "files"
_BATCH_ROWS: Final = 5000
_IN_PATH = re.compile(r"(topic|partition)=([^/]+)")


@final
class ParquetOrigin:
    """What is copied from files. Used by one thread."""

    def __init__(self, paths: Sequence[Path], topic: str | None, *, keep_partitions: bool) -> None:
        self._pa = arrow("Parquet")
        self._parquet = importlib.import_module("pyarrow.parquet")
        self._topic, self._keep = topic, keep_partitions
        self._files = [file for path in paths for file in _files(path)]
        if not self._files:
            raise Unusable(f"no Parquet files in {', '.join(map(str, paths))}")
        self._rows = [self._opened(file).metadata.num_rows for file in self._files]
        shapes = [[str(file), rows] for file, rows in zip(self._files, self._rows, strict=True)]
        self._fingerprint = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:32]
        self._at = 0

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `Origin`. Files lose nothing."""
        return ()

    def topics(self) -> set[str]:
        """Where its records go."""
        return {topic for file in self._files for topic in self._topics_of(file)}

    def partitions(self) -> dict[str, int]:
        """How many partitions each target needs, if they are kept; of a file with several topics, each as many as all."""
        needed: dict[str, int] = {}
        for file in self._files:
            numbers = self._said(file, "partition", "; leave --keep-partitions out")
            count = max(map(int, numbers), default=-1) + 1
            for topic in self._topics_of(file):
                needed[topic] = max(needed.get(topic, 0), count)
        return needed

    def _topics_of(self, file: Path) -> set[str]:
        if self._topic is not None:
            return {self._topic}
        return set(map(str, self._said(file, "topic", "; say --topic")))

    def _said(self, file: Path, name: str, advice: str) -> list[Any]:
        """The values of a column, each once: of the path, or of the file."""
        in_path = dict(_IN_PATH.findall(str(file)))
        if name in in_path:
            return [in_path[name]]
        opened = self._opened(file)
        if name not in opened.schema_arrow.names:
            raise Unusable(f"{file}: has no column {name}{advice}")
        found: list[Any] = opened.read([name])[name].unique().to_pylist()
        return found

    def begin(self, noted: str | None) -> None:
        """Go on where the note says. Raises `Unusable` if it is of other files."""
        if noted is not None:
            said = json.loads(noted)
            if said["kind"] != _KIND or said["files"] != self._fingerprint:
                raise Unusable("--name: the copy of that name is one of other files; choose another name")
            self._at = said["rows"]

    def records(self) -> Iterator[Outgoing]:
        """See `Origin`."""
        before = 0
        for file, rows in zip(self._files, self._rows, strict=True):
            if before + rows > self._at:
                yield from self._of(file, self._at - before)
            before += rows

    def note(self) -> str:
        """See `Origin`."""
        return json.dumps({"kind": _KIND, "files": self._fingerprint, "rows": self._at})

    def _opened(self, file: Path) -> Any:
        try:
            return self._parquet.ParquetFile(file)
        except (OSError, self._pa.ArrowInvalid) as error:
            raise Unusable(f"{file}: {error}") from None

    def _of(self, file: Path, skip: int) -> Iterator[Outgoing]:
        opened, said = self._opened(file), dict(_IN_PATH.findall(str(file)))
        there = set(opened.schema_arrow.names)
        if not there & {"key", "value"}:
            raise Unusable(f"{file}: has neither a column key nor a column value")
        wanted = [n for n in ("key", "value", "topic", "partition", "timestamp", "headers") if n in there]
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            rows, skip = batch.slice(skip), 0

            def column(name: str, otherwise: Any = None, rows: Any = rows) -> list[Any]:
                return rows[name].to_pylist() if name in there else [otherwise] * rows.num_rows

            stamps = [None] * rows.num_rows
            if "timestamp" in there:
                milliseconds = self._pa.timestamp("ms", tz="UTC")
                stamps = rows["timestamp"].cast(milliseconds, safe=False).cast(self._pa.int64()).to_pylist()
            topics = [self._topic] * rows.num_rows if self._topic else column("topic", said.get("topic"))
            partitions = column("partition", said.get("partition"))
            for topic, partition, key, value, headers, stamp in zip(
                topics, partitions, column("key"), column("value"), column("headers"), stamps, strict=True
            ):
                self._at += 1
                yield Outgoing(
                    str(topic),
                    int(partition) if self._keep else None,
                    _bytes(file, key),
                    _bytes(file, value),
                    tuple((header["key"], header["value"]) for header in headers or ()),
                    stamp,
                )


def _files(path: Path) -> list[Path]:
    """One file, or those of a folder in the order of their names."""
    if not path.is_dir():
        if not path.exists():
            raise Unusable(f"{path}: there is no such file")
        return [path]
    export = path / EXPORT_NAME
    if export.exists() and not all(part[4] for part in json.loads(export.read_text())["parts"]):
        raise Unusable(f"{path}: the export is not finished; headrace read --resume goes on with it")
    return sorted(file for file in path.rglob("*.parquet") if not file.name.startswith((".", "_")))


def _bytes(file: Path, value: object) -> bytes | None:
    match value:
        case None | bytes():
            return value
        case str():
            return value.encode()
        case _:
            raise Failed(f"{file}: keys and values must be bytes or text, not {type(value).__name__}")
