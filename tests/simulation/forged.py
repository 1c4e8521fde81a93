"""Histories that never happened, written in a few words: what a judge must tell apart.

One member "m" (others by name) holds ("t", 0); records are numbered from 0, and their keys are "a" unless said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.testing.invariants import Bounds, Judge, TopicRules
from headrace.testing.simulation import history as told

if TYPE_CHECKING:
    from headrace.testing.simulation.history import Entry

T0 = ("t", 0)


@final
class Story:
    """Tells a judge what happened; `broken` are the promises that it then calls broken, in order and once each."""

    def __init__(self, rules: TopicRules | None = None, bounds: Bounds | None = None) -> None:
        self.now = 0.0
        self.judge = Judge({"t": rules or TopicRules()}, bounds)
        self._run = 0
        self._runs: dict[tuple[str, int], int] = {}
        self._open = 0

    @property
    def broken(self) -> list[str]:
        return list(dict.fromkeys(violation.promise for violation in self.judge.violations))

    def add(self, entry: Entry) -> Story:
        self.judge.see(self.now, entry)
        return self

    def wait(self, seconds: float) -> Story:
        self.now += seconds
        return self

    def over(self) -> Story:
        self.judge.end(self.now)
        return self

    # The log

    def log(self, count: int, keys: str = "") -> Story:
        for offset in range(count):
            key = keys[offset] if keys else "a"
            self.add(told.Produced(T0, offset, None if key == "-" else key.encode()))
        return self

    # Members

    def member(self, name: str = "m", *, holds: bool = True) -> Story:
        self.add(told.MemberStarted(name))
        return self.assign(name) if holds else self

    def assign(self, name: str = "m") -> Story:
        return self.add(told.Assigned(name, (T0,))).add(told.AssignReturned(name, (T0,), 0.0))

    def revoke(self, name: str = "m", took_s: float = 0.0, *, closing: bool = False) -> Story:
        return self.revoke_begins(name, closing=closing).wait(took_s).revoke_ends(name, took_s)

    def revoke_begins(self, name: str = "m", *, closing: bool = False) -> Story:
        return self.add(told.RevokeBegan(name, (T0,), closing=closing))

    def revoke_ends(self, name: str = "m", took_s: float = 0.0) -> Story:
        return self.add(told.RevokeReturned(name, (T0,), took_s))

    def lose(self, name: str = "m") -> Story:
        return self.add(told.LostReturned(name, (T0,)))

    def kill(self, name: str = "m") -> Story:
        return self.add(told.MemberKilled(name))

    # Records

    def fetch(self, *offsets: int, name: str = "m") -> Story:
        return self.add(told.Fetched(name, T0, offsets))

    def start(self, offset: int, name: str = "m", key: str = "a", attempt: int = 1, run: int = 0) -> Story:
        self._run += 1
        number = self._runs[name, offset] = run or self._run
        return self.add(told.HandlerStarted(name, T0, offset, key.encode(), attempt, number))

    def ends(self, offset: int, outcome: str = "returned", name: str = "m") -> Story:
        return self.add(told.HandlerEnded(name, T0, offset, outcome, self._runs[name, offset]))

    def refuses_output(self, offset: int, name: str = "m") -> Story:
        return self.add(told.OutputRefused(name, T0, offset, self._runs[name, offset]))

    def settle(self, offset: int, how: str = "handled", name: str = "m", run: int | None = None) -> Story:
        number = self._runs[name, offset] if run is None else run
        return self.add(told.Settled(name, T0, offset, how, number))

    def handle(self, *offsets: int, name: str = "m", key: str = "a") -> Story:
        for offset in offsets:
            self.start(offset, name, key).ends(offset, name=name).settle(offset, name=name)
        return self

    # Commits

    def send(self, offset: int, name: str = "m", metadata: str = "", in_flight: int = 1) -> Story:
        return self.add(told.CommitSent(name, (("t", 0, offset),), in_flight, (metadata,)))

    def apply(self, offset: int, before: int | None = None, name: str = "m", metadata: str = "") -> Story:
        return self.add(told.CommitApplied(name, T0, offset, before, metadata))

    def answer(self, offset: int, error: str | None = None, name: str = "m") -> Story:
        return self.add(told.CommitAnswered(name, T0, offset, error))

    def commit(self, offset: int, before: int | None = None, name: str = "m", metadata: str = "") -> Story:
        return (
            self.send(offset, name, metadata).apply(offset, before, name, metadata).answer(offset, name=name)
        )
