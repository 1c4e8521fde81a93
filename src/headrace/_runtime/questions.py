"""What the cluster is asked before the number of connections is decided, on a thread of its own: answers may take seconds.

Decides nothing; refuses to keep anybody waiting. Invariants: one round is out at a time; after `close` none begins, and the
lookout's clients are closed by the thread that used them. What cannot be learnt is None: no answer must end the app, and
a call of a client that hangs must not fix the number for ever: its thread is left to itself, and another one asks.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._core.scaling import GroupView
    from headrace._runtime.lookout import Lookout
    from headrace.ports import TopicPartition

T = TypeVar("T")

QUESTION_S = 2.0
"""How long one question may take: a decision that waits longer is one about the past."""
HANGS_S = 15.0
"""When a round that is not over hangs: two questions, and making and dropping their clients, take a third of it."""
LEFT_MAX = 3
"""How many threads that hang may be left to themselves: as long as they all do, nothing is asked."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one round of questions brought."""

    ends: Mapping[TopicPartition, int] | None = None
    group: GroupView | None = None


class Questions:
    """See the module's docstring. All of it is the siblings' thread's; only `join` waits."""

    def __init__(self, make_lookout: Callable[[], Lookout] | None, *, ends: bool, group: bool) -> None:
        """`ends`, `group`: what is asked for at all; with neither, or with nobody to ask, no thread is ever started."""
        self._make_lookout = make_lookout if ends or group else None
        self._ends = ends
        self._group = group
        self._asker: _Asker | None = None
        self._left: list[_Asker] = []
        self._asked_at = 0.0
        self.waiting = False

    def ask(self, held: Sequence[TopicPartition], now: float) -> None:
        """Begin a round, about these partitions; the one before was taken."""
        assert not self.waiting, "one round at a time"
        self.waiting, self._asked_at = True, now
        if self._asker is None:
            self._asker = self._started()
        if self._asker is not None:
            self._asker.ask(held)

    def take(self, now: float) -> Answers | None:
        """What the round brought, once; None as long as it is under way."""
        if self._asker is None:
            answers = Answers() if self.waiting else None
        else:
            answers = self._asker.take()
            if answers is None and self.waiting and now - self._asked_at >= HANGS_S:
                self._asker.close()
                self._left.append(self._asker)
                self._asker, answers = None, Answers()
        self.waiting = self.waiting and answers is None
        return answers

    def close(self) -> None:
        """Ask nothing more; the clients are closed when the question that is out was answered."""
        if self._asker is not None:
            self._asker.close()

    def join(self, timeout_s: float) -> None:
        """Wait for that, so long at most."""
        if self._asker is not None:
            self._asker.join(timeout_s)

    def _started(self) -> _Asker | None:
        self._left = [left for left in self._left if left.hangs()]
        if self._make_lookout is None or len(self._left) >= LEFT_MAX:
            return None
        asker = _Asker(self._make_lookout, ends=self._ends, group=self._group)
        try:
            asker.start()
        except RuntimeError:  # The process can have no more threads: tried again with the next round.
            return None
        return asker


@final
class _Asker:
    """One thread and the lookout that it makes and closes. The methods are the siblings' thread's."""

    def __init__(self, make_lookout: Callable[[], Lookout], *, ends: bool, group: bool) -> None:
        self._make_lookout = make_lookout
        self._ends = ends
        self._group = group
        self._asked: SimpleQueue[Sequence[TopicPartition] | None] = SimpleQueue()
        self._answers: SimpleQueue[Answers] = SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-lookout", daemon=True)
        # Its own thread's alone.
        self._lookout: Lookout | None = None

    def start(self) -> None:
        """Begin to wait for questions; raises `RuntimeError` where no thread can be had."""
        self._thread.start()

    def ask(self, held: Sequence[TopicPartition]) -> None:
        """Begin a round."""
        self._asked.put(held)

    def take(self) -> Answers | None:
        """What the round brought, if it is over."""
        return None if self._answers.empty() else self._answers.get()

    def close(self) -> None:
        """Begin no question any more, and end."""
        self._closed.set()
        self._asked.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the end, so long at most."""
        self._thread.join(timeout_s)

    def hangs(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    # The thread of the questions

    def _run(self) -> None:
        while (held := self._asked.get()) is not None:
            self._answers.put(self._round(held))
        if self._lookout is not None:
            self._lookout.close()

    def _round(self, held: Sequence[TopicPartition]) -> Answers:
        ends, group = None, None
        if self._ends and held:
            ends = self._learn(lambda lookout: lookout.ends(held, QUESTION_S))
        if self._group:
            group = self._learn(lambda lookout: lookout.group(QUESTION_S))
        return Answers(ends, group)

    def _learn(self, question: Callable[[Lookout], T | None]) -> T | None:
        if self._closed.is_set():
            return None
        try:
            if self._lookout is None:
                self._lookout = self._make_lookout()
            return question(self._lookout)
        except Exception:  # noqa: BLE001 - see the module's docstring; the decision says that it is not known
            return None
