"""What `per_worker` gives to one event loop: entered before the first record, left at the end, by one task.

Refuses to know records. Invariant: entered and left in the same task, as task groups and cancel scopes demand.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from contextvars import Context


class LoopResource:
    """One resource. The loop thread's alone; only `_hold` of its task runs in `context`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        per_worker: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]] | None,
        entered: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._context = context
        self._per_worker = per_worker
        self._on_entered = entered
        self._on_failed = failed
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._entered = per_worker is None
        self._on_left: Callable[[], None] | None = None
        self.value: Any = None

    def ready(self) -> bool:
        """Whether records may start. If not, the entering is on its way: `entered` or `failed` will be called."""
        if not self._entered and self._task is None:
            # Not loop.create_task: see `pump`.
            self._task = asyncio.Task(self._hold(), loop=self._loop, context=self._context)
        return self._entered

    def leave(self, left: Callable[[], None]) -> None:
        """Leave it if it was entered, then call `left`."""
        if self._task is None:
            left()
        else:
            self._on_left = left
            self._closing.set()

    async def _hold(self) -> None:
        assert self._per_worker is not None
        try:
            manager = self._per_worker()
            if isinstance(manager, AbstractAsyncContextManager):
                async with manager as value:
                    await self._serve(value)
            else:
                with manager as value:
                    await self._serve(value)
        except BaseException as error:
            if self._entered:
                raise  # It failed to leave: asyncio tells of it.
            self._on_failed(error)
        finally:
            self._task = None
            self._entered = False
            if self._on_left is not None:
                self._on_left()

    async def _serve(self, value: Any) -> None:
        self.value = value
        self._entered = True
        self._on_entered()
        await self._closing.wait()
