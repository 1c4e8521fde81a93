"""Lines of several processes on one stderr: each with the number of its process, and none torn.

Decides no more than the prefix. Invariant: a line leaves in one write, so lines of processes that write at once do not mix.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

PENDING_BYTES_MAX = 8192
"""A line that is longer is cut into several: somebody may write without ever ending one."""


class NumberedLines(io.TextIOBase):
    """Takes the place of `sys.stderr`. Any thread."""

    def __init__(self, descriptor: int, label: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._prefix = f"[{label}] ".encode()
        # Reentrant: a signal handler may write while the same thread does.
        self._lock = threading.RLock()
        # By thread: print() writes a line and its end apart, and another thread may come between.
        self._pending: dict[int, bytes] = {}
        self.buffer = _Buffer(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of a class that has it as an attribute
        """Of what is written."""
        return "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Where the lines go to. What is written there directly has no number."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether somebody may be looking."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Complete lines leave at once, the rest with its end. `flush` sends nothing: a line without its end would be torn."""
        self.write_bytes(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """The same of what is encoded already."""
        me = threading.get_ident()
        with self._lock:
            *lines, rest = (self._pending.pop(me, b"") + data).split(b"\n")
            if len(rest) > PENDING_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            if rest:
                self._pending[me] = rest
            if lines:
                self._send(lines)

    def end(self) -> None:
        """Send what has no end yet; for the end of the process."""
        with self._lock:
            lines, self._pending = list(self._pending.values()), {}
            if lines:
                self._send(lines)

    def _send(self, lines: list[bytes]) -> None:
        data = b"".join(b"%b%b\n" % (self._prefix, line) for line in lines)
        while data:
            data = data[os.write(self._descriptor, data) :]


class _Buffer(io.RawIOBase):
    """What `sys.stderr.buffer` is for those who write bytes. Any thread."""

    def __init__(self, lines: NumberedLines) -> None:
        super().__init__()
        self._lines = lines

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """As of the lines."""
        return self._lines.fileno()

    def isatty(self) -> bool:
        """As of the lines."""
        return self._lines.isatty()

    def write(self, data: Buffer) -> int:
        """All of it, as text is written."""
        whole = bytes(data)
        self._lines.write_bytes(whole)
        return len(whole)
