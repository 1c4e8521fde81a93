"""Reporters that write files: JSON lines and CSV, rotated by size.

Decides the formats. Refuses to buffer across reports: a report that could not be written whole is lost, counted as a
failure, and the next one tries anew. Invariant: a file is never larger than its bound and one report, and there are never
more than `files_max` of them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from headrace.config import require_count
from headrace.errors import ConfigError
from headrace.observe.metrics import Unknown, pairs_of

if TYPE_CHECKING:
    from headrace.observe.reporting import Report

BYTES_MAX = 10_000_000
"""Size at which a file is put aside: an hour of 1,000 partitions at 10 s is some sixty of these."""
FILES_MAX = 5


class RotatedFile:
    """A text file that is put aside as `name.1` when it is full, `name.1` as `name.2`, and so on. One thread's alone."""

    def __init__(self, path: Path, header: str, bytes_max: int, files_max: int) -> None:
        self._path = path
        self._header = header
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._file: TextIO | None = None

    def write(self, text: str) -> None:
        """Append the text, on disk as far as the operating system is concerned. Raises `OSError`."""
        file = self._file or self._opened()
        try:
            file.write(text)
            file.flush()
            full = file.tell() >= self._bytes_max
        except BaseException:
            self._forget()  # what is left in its buffer would come out later, torn
            raise
        if full:
            self.close()
            self._rotate()

    def close(self) -> None:
        """Close it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> TextIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = _ends_torn(self._path)
        file = self._path.open("a", encoding="utf-8", newline="")
        self._file = file
        if torn:
            file.write("\n")  # what a full disk cut short becomes a line of its own, and spoils no other
        elif file.tell() == 0 and self._header:
            file.write(self._header)
        return file

    def _forget(self) -> None:
        try:
            self.close()
        except OSError:
            return  # closing writes the buffer once more, and fails as the write did

    def _rotate(self) -> None:
        for number in range(self._files_max - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._files_max == 1:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _ends_torn(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


class JsonLines:
    """Writes one JSON object per report: `at`, `group`, `metrics` by name with labels, and `unknown` with the reasons.

    path: of the file. bytes_max: at this size it is put aside as `path.1`. files_max: how many there are at most.
    """

    def __init__(self, path: str | Path, *, bytes_max: int = BYTES_MAX, files_max: int = FILES_MAX) -> None:
        self._path = checked_path("JsonLines", path, bytes_max, files_max)
        self._file = RotatedFile(self._path, "", bytes_max, files_max)

    def report(self, report: Report) -> None:
        """Append a line."""
        metrics: dict[str, int | float] = {}
        unknown: dict[str, str] = {}
        for sample in report.samples:
            value = sample.value
            if isinstance(value, Unknown):
                unknown[sample.key] = value.reason
            else:
                metrics[sample.key] = value
        line = {"at": report.at.isoformat(), "group": report.group_id, "metrics": metrics, "unknown": unknown}
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __repr__(self) -> str:
        return f"JsonLines({str(self._path)!r})"


class Csv:
    """Writes one row per metric and report: `at,group,name,labels,value,unit,unknown`; the last is the reason, if any.

    path, bytes_max, files_max: as `JsonLines`.
    """

    def __init__(self, path: str | Path, *, bytes_max: int = BYTES_MAX, files_max: int = FILES_MAX) -> None:
        self._path = checked_path("Csv", path, bytes_max, files_max)
        self._file = RotatedFile(
            self._path, "at,group,name,labels,value,unit,unknown\r\n", bytes_max, files_max
        )

    def report(self, report: Report) -> None:
        """Append the rows."""
        text = io.StringIO()
        writer = csv.writer(text)
        at = report.at.isoformat()
        for sample in report.samples:
            metric, value = sample.metric, sample.value
            known, reason = ("", value.reason) if isinstance(value, Unknown) else (value, "")
            labels = pairs_of(metric, sample.labels)
            writer.writerow((at, report.group_id, metric.name, labels, known, metric.unit, reason))
        self._file.write(text.getvalue())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __repr__(self) -> str:
        return f"Csv({str(self._path)!r})"


def checked_path(of: str, path: object, bytes_max: int, files_max: int) -> Path:
    """The path of a reporter's file; raises `ConfigError` for settings that cannot be meant."""
    if not isinstance(path, str | Path) or not str(path):
        raise ConfigError(f"{of}.path", path, "the path of a file")
    require_count(f"{of}.bytes_max", bytes_max, 1000, 100_000_000_000)
    require_count(f"{of}.files_max", files_max, 1, 1000)
    return Path(path)
