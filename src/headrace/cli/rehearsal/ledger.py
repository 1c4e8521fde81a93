"""A rehearsal's own record of what handlers did: a line at every start and end, in a file per member.

Knows nothing of commits. Invariant: a line is in the file before the call returns, so that a killed member loses none;
a last line that was cut off is passed over.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Run:
    """One call of a handler for one record. Moments are of the monotonic clock, which all processes share.

    ended_at: None if it was cut off. error: class of what it raised, None if it returned.
    """

    member: str
    topic: str
    partition: int
    offset: int
    attempt: int
    started_at: float
    ended_at: float | None = None
    error: str | None = None

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset."""
        return self.topic, self.partition, self.offset

    @property
    def ok(self) -> bool:
        """Whether the handler returned."""
        return self.ended_at is not None and self.error is None


@dataclass(slots=True)
class Account:
    """What one member's ledger says.

    given_up: when records were dead-lettered or skipped. notices: how often each was told. ended: "" if it never
    ended by itself, "clean", or the class of what ended it; `stop_took_s` with it.
    """

    member: str
    runs: list[Run] = field(default_factory=list["Run"])
    filtered: set[tuple[str, int, int]] = field(default_factory=set["tuple[str, int, int]"])
    given_up: dict[tuple[str, int, int], float] = field(default_factory=dict["tuple[str, int, int]", float])
    notices: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    running_at: float | None = None
    ended: str = ""
    ended_with: str = ""
    stop_took_s: float = 0.0


class LedgerWriter:
    """One process's end of a member's file. Any thread: a line is one append. Pickles as its path."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Opened at the first line, so that a copy in another process opens its own.
        self._file: int | None = None

    def write(self, *words: object) -> None:
        """One line: words, and the moment."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        line = "\t".join([f"{time.monotonic():.6f}", *(_word(each) for each in words)])
        os.write(self._file, f"{line}\n".encode())

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_file": None}


def read_account(path: Path, member: str) -> Account:
    """What a member's ledger says."""
    account = Account(member)
    if not path.exists():
        return account
    open_runs: dict[tuple[tuple[str, int, int], int], Run] = {}
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        moment, what, *words = line.split("\t")
        _take(account, open_runs, float(moment), what, words)
    return account


def _take(
    account: Account,
    open_runs: dict[tuple[tuple[str, int, int], int], Run],
    moment: float,
    what: str,
    words: list[str],
) -> None:
    match what, words:
        case "start", [topic, partition, offset, attempt]:
            run = Run(account.member, topic, int(partition), int(offset), int(attempt), moment)
            open_runs[run.place, run.attempt] = run
            account.runs.append(run)
        case "end", [topic, partition, offset, attempt, error]:
            ended = open_runs.pop(((topic, int(partition), int(offset)), int(attempt)), None)
            if ended is not None:
                ended.ended_at, ended.error = moment, error or None
        case "filtered", [topic, partition, offset]:
            account.filtered.add((topic, int(partition), int(offset)))
        case "given_up", [topic, partition, offset]:
            account.given_up.setdefault((topic, int(partition), int(offset)), moment)
        case "notice", [name, text]:
            account.notices.setdefault(name, []).append(text)
        case "running", []:
            account.running_at = moment
        case "ended", [how, text, took_s]:
            account.ended, account.ended_with, account.stop_took_s = how, text, float(took_s)
        case _:
            raise ValueError(f"not a line of a ledger: {what} {words}")


def _word(word: object) -> str:
    return str(word).replace("\t", " ").replace("\n", " ")
