"""Hooks of the user: called on a thread of their own, so that none of them can hold a rebalance.

A hook gets a frozen tuple of partitions, or a frozen `AssignmentsChange`. One that raises or overruns its budget is told of and delays nothing but the
next hook.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from typing import TYPE_CHECKING, Any

from headrace._core import notices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.assignments import AssignmentsChange
    from headrace._core.notices import Notice
    from headrace.ports import TopicPartition

Hook = "Callable[[tuple[TopicPartition, ...]], Any]"
KINDS = ("assigned", "revoked", "lost", "assignments")
QUEUED_MAX = 1000
"""Calls that may wait for a hook that hangs; beyond it they are dropped and told of."""


class Hooks:
    """The hooks of one app."""

    def __init__(
        self,
        tell: Callable[[Notice], None],
        budget_s: float,
        loop: Callable[[], asyncio.AbstractEventLoop | None],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        # The hooks' thread writes; anyone reads.
        self._running: tuple[str, float] | None = None
        self._tell = tell
        self._budget_s = budget_s
        self._loop = loop
        # Written before the app starts; read by the hooks' thread.
        self._hooks: dict[str, list[Callable[[Any], Any]]] = {kind: [] for kind in KINDS}
        self._queue: queue.Queue[tuple[str, object] | None] = queue.Queue(QUEUED_MAX)
        self._thread: threading.Thread | None = None

    def add(self, kind: str, hook: Callable[[Any], Any]) -> None:
        """Register a hook; before the app starts."""
        self._hooks[kind].append(hook)

    def take_over(self, other: Hooks) -> None:
        """Register what is registered there; before the app starts."""
        for kind, hooks in other._hooks.items():
            self._hooks[kind] += hooks

    def start(self) -> None:
        """Start the thread, if there is anything to call."""
        if any(self._hooks.values()):
            self._thread = threading.Thread(target=self._run, name="headrace-hooks", daemon=True)
            self._thread.start()

    def call(self, kind: str, partitions: Sequence[TopicPartition]) -> None:
        """Any thread: call the hooks of this kind soon. Never blocks."""
        if not self._offer(kind, tuple(partitions)):
            self._dropped(kind)

    def offer_change(self, change: AssignmentsChange) -> bool:
        """Any thread: call the hooks that follow assignments soon; False if no room is left. Neither blocks nor tells."""
        return self._offer("assignments", change)

    def change_dropped(self) -> None:
        """Any thread: tell that a change found no room."""
        self._dropped("assignments")

    def _offer(self, kind: str, argument: object) -> bool:
        if self._thread is None or not self._hooks[kind]:
            return True
        try:
            self._queue.put_nowait((kind, argument))
        except queue.Full:
            return False
        return True

    def _dropped(self, kind: str) -> None:
        self._tell(notices.HookOverran(kind, f"not called: {QUEUED_MAX} calls wait already"))

    def running(self) -> tuple[str, float] | None:
        """Any thread: the hook that runs now, and since when on the hooks' clock."""
        return self._running

    def stop(self, timeout_s: float) -> None:
        """Let waiting calls happen, within the timeout."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            kind, argument = item
            for hook in self._hooks[kind]:
                self._call(kind, hook, argument)

    def _call(self, kind: str, hook: Callable[..., Any], argument: object) -> None:
        name = f"{kind}:{getattr(hook, '__qualname__', repr(hook))}"
        # Told while it overruns, not after: a hook that hangs would otherwise never be told of.
        alarm = threading.Timer(
            self._budget_s,
            self._tell,
            [notices.HookOverran(name, f"runs for more than {self._budget_s:g} s")],
        )
        alarm.daemon = True
        self._running = (name, self._clock())
        try:
            alarm.start()
            result = hook(argument)
            if inspect.isawaitable(result):
                self._await(result)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a user's hook must not end the hooks' thread
            self._tell(notices.HookOverran(name, f"raised {type(error).__name__}: {error}"))
        finally:
            alarm.cancel()
            self._running = None

    def _await(self, result: Any) -> None:
        loop = self._loop()

        async def run() -> None:
            await result

        if loop is None:
            asyncio.run(run())
        else:
            asyncio.run_coroutine_threadsafe(run(), loop).result()
