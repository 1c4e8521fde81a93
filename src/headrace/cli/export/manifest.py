"""What an export into a folder is to have, and what of it is there: a small file in the folder, replaced whole.

Decides whether an export may begin, go on, or has ended; refuses to know how parts are read and written. Invariant: a
part that is noted as done has all its files under their names; files of other parts are not counted, and are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from headrace.cli.exits import Unusable
from headrace.ranges import OffsetRange, split

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from headrace.ranges import Resolved

NAME: Final = "_export.json"
"""What begins with an underscore is no data, say all who read folders of Parquet."""

VERSION: Final = 1
PARTIAL: Final = ".partial"
_FILE = re.compile(r"\.?(?P<stem>.+-\d+-\d{20}-\d{20})(-\d+)?\.parquet(\.partial)?")


def stem_of(part: OffsetRange) -> str:
    """How the files of a part are named: in the order of offsets where names are sorted."""
    return f"{part.topic}-{part.partition}-{part.start:020}-{part.end:020}"


@dataclass(slots=True)
class Manifest:
    """One export. Used by one thread.

    asked: the words of the command, which must be the same to go on. topic_ids: as in `Resolved`. left_out: records that are
    in no file, since they did not decode; kept for the parts that are done.
    """

    folder: Path
    asked: Mapping[str, Any]
    parts: tuple[OffsetRange, ...]
    topic_ids: Mapping[str, str]
    done: set[OffsetRange] = field(default_factory=set[OffsetRange])
    left_out: dict[OffsetRange, int] = field(default_factory=dict[OffsetRange, int])

    @property
    def left(self) -> list[OffsetRange]:
        """What is still to be read."""
        return [part for part in self.parts if part not in self.done]

    def note(self, part: OffsetRange) -> None:
        """Its files are there."""
        self.done.add(part)
        self.save()

    def save(self) -> None:
        """Write it beside itself, then in its place."""
        said = {
            "version": VERSION,
            "asked": self.asked,
            "topic_ids": self.topic_ids,
            "parts": [self._line(part) for part in self.parts],
        }
        beside = self.folder / (NAME + PARTIAL)
        with beside.open("w", encoding="utf-8") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.folder / NAME)

    def _line(self, part: OffsetRange) -> list[Any]:
        done = part in self.done
        left_out = self.left_out.get(part, 0) if done else 0
        return [part.topic, part.partition, part.start, part.end, done, left_out]

    def sweep(self) -> None:
        """Remove the files of parts that are not done: what is left of them would count twice."""
        undone = {stem_of(part) for part in self.left}
        for path in self.folder.rglob("*.parquet*"):
            named = _FILE.fullmatch(path.name)
            if named and named["stem"] in undone:
                path.unlink()


@contextmanager
def held(folder: Path) -> Generator[None]:
    """The folder is this process's alone. Raises `Unusable` if it cannot be made, or another one is at it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise Unusable(f"--to {folder}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unusable(f"--to {folder}: another export is at it") from None
        yield
    finally:
        os.close(handle)


def require_empty(folder: Path) -> None:
    """Raise `Unusable` if it is not: what is there must not be mixed with what comes."""
    if any(folder.iterdir()):
        raise Unusable(
            f"--to {folder}: is not empty; --resume goes on with an export that was interrupted, by the same options"
        )


def begin(folder: Path, asked: Mapping[str, Any], found: Resolved, records_max: int) -> Manifest:
    """A new export into an empty folder."""
    parts = tuple(split(found.ranges, records_max=records_max))
    manifest = Manifest(folder, asked, parts, dict(found.topic_ids))
    manifest.save()
    return manifest


def resume(folder: Path, asked: Mapping[str, Any]) -> Manifest | None:
    """The export that the folder holds; None if it holds none and is empty. Raises `Unusable` if it is another one."""
    try:
        said = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            (folder / (NAME + PARTIAL)).unlink()
        if any(folder.iterdir()):
            raise Unusable(f"--to {folder}: holds files, and no export that could go on") from None
        return None
    except (OSError, ValueError) as error:
        raise Unusable(
            f"--to {folder}: {NAME} cannot be read ({error}); begin anew in another folder"
        ) from None
    if said.get("version") != VERSION:
        raise Unusable(
            f"--to {folder}: was written by another version of Headrace; begin anew in another folder"
        )
    differs = sorted(name for name in asked if said["asked"].get(name) != asked[name])
    if differs:
        name = differs[0]
        raise Unusable(
            f"--resume: that export was asked for with {name} {_shown(said['asked'].get(name))}, "
            f"not {_shown(asked[name])}; give the same options"
        )
    manifest = Manifest(
        folder,
        said["asked"],
        tuple(OffsetRange(*part[:4]) for part in said["parts"]),
        said["topic_ids"],
        {OffsetRange(*part[:4]) for part in said["parts"] if part[4]},
        {OffsetRange(*part[:4]): part[5] for part in said["parts"] if part[5:]},
    )
    manifest.sweep()
    return manifest


def _shown(value: object) -> str:
    if value is None:
        return "left out"
    return str(value).strip("[]").replace("'", "")
