"""Lifespans: context managers of the user, entered before the first record and left after the last.

Sync ones run on the owner thread, async ones on the handlers' loop. Left in the opposite order.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, cast

from headrace.errors import LifespanFailed

if TYPE_CHECKING:
    from collections.abc import Callable

ENTER_TIMEOUT_S = 60.0


class Lifespans:
    """The lifespans of one app. Filled before the start; entered and left by the owner thread."""

    __slots__ = ("_factories", "_leave_timeout_s", "_stack")

    def __init__(self) -> None:
        self._factories: list[Callable[..., Any]] = []
        self._stack = ExitStack()
        self._leave_timeout_s = ENTER_TIMEOUT_S

    def append(self, factory: Callable[..., Any]) -> None:
        """Register one: a function of the app, or of nothing, that returns a context manager."""
        self._factories.append(factory)

    def take_over(self, other: Lifespans) -> None:
        """Register what is registered there."""
        self._factories += other._factories

    def need_loop(self) -> bool:
        """Whether one of them can be told to be async before it is called."""
        return any(
            inspect.isasyncgenfunction(inspect.unwrap(factory)) or inspect.iscoroutinefunction(factory)
            for factory in self._factories
        )

    def enter(self, app: object, loop: asyncio.AbstractEventLoop | None) -> None:
        """Enter all; raises `LifespanFailed`, after leaving those that were entered."""
        for factory in self._factories:
            name = f"lifespan {getattr(factory, '__qualname__', repr(factory))}"
            try:
                takes_app = bool(inspect.signature(factory).parameters)
                manager: Any = factory(app) if takes_app else factory()
                if isinstance(manager, AbstractAsyncContextManager):
                    self._enter_async(cast(AbstractAsyncContextManager[Any], manager), loop)
                else:  # What is no context manager says so itself.
                    self._stack.enter_context(cast(AbstractContextManager[Any], manager))
            except Exception as error:
                raise LifespanFailed(name, error) from error

    def leave(self, timeout_s: float) -> None:
        """Leave all, in the opposite order; an async one may take `timeout_s`, for its loop may be blocked."""
        self._leave_timeout_s = timeout_s
        self._stack.close()

    def _enter_async(
        self, manager: AbstractAsyncContextManager[Any], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        if loop is None:
            msg = "an async lifespan needs an event loop: write it with @contextlib.asynccontextmanager"
            raise TypeError(msg)
        asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result(ENTER_TIMEOUT_S)

        def leave() -> None:
            asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result(
                self._leave_timeout_s
            )

        self._stack.callback(leave)
