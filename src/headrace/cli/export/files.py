"""A file that appears whole or not at all.

Decides where the bytes go until then; refuses to know what they are. Invariant: whatever ends the block, the target is
what it was before or what is complete, and no other file is left; only a kill leaves the one named `.partial`.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from headrace.cli.exits import Unusable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def whole(target: Path | None) -> Generator[IO[bytes]]:
    """Somewhere to write bytes: beside the target, which takes their place at the end of the block; None is stdout."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if target.is_dir():
        raise Unusable(f"--to {target}: is a folder")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise Unusable(f"--to {target}: {error.strerror or error}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
