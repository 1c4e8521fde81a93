"""From a subscription to the executor that runs its handler, and how many workers it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from headrace.ports import Executor
    from headrace.subscriptions import SubscriptionSettings

THREADS_MAX = 64
"""Threads by default, at most: beyond it their stacks and switches cost more than most handlers gain. `workers` overrides."""


def worker_count(settings: SubscriptionSettings) -> int:
    """How many workers a subscription gets."""
    match settings.run_in:
        case "processes":
            from headrace._execute.processes import usable_cpus

            return settings.workers or usable_cpus()
        case "threads":
            return min(settings.workers or THREADS_MAX, settings.concurrency)
        case _:
            return 1


def refuse_what_cannot_be_shared(subscriptions: Sequence[SubscriptionSettings], connections: int) -> None:
    """Raise `ConfigError` where so many connections could not keep to what a subscription allows: each has one place at least."""
    if connections == 1:
        return
    for settings in subscriptions:
        if settings.run_in == "processes":
            because = f"1, since {settings.name} runs in processes: every connection would start all of them"
            raise ConfigError("Connections.max", connections, because)
        places = min(settings.concurrency, settings.workers or settings.concurrency)
        if settings.run_in == "threads" and places < connections:
            because = f"at most {places}, since {settings.name} runs no more handlers at once (concurrency, workers)"
            raise ConfigError("Connections.max", connections, because)
        if settings.concurrency < connections:
            because = f"at most {settings.concurrency}, the concurrency of {settings.name}"
            raise ConfigError("Connections.max", connections, because)


def make_executor(
    index: int,
    settings: SubscriptionSettings,
    handler: Callable[..., Any],
    deliver: Callable[[Any], None],
    loop: asyncio.AbstractEventLoop | None,
    resource: Callable[..., Any] | None,
    broken: Callable[[str, BaseException], None],
    clock: Callable[[], float],
) -> Executor:
    """Make the executor that `settings.run_in` names. Imports only what is used: processes cost 20 ms to import."""
    match settings.run_in:
        case "threads":
            from headrace._execute.threads import ThreadExecutor

            return ThreadExecutor(index, settings, handler, deliver, per_worker=resource, clock=clock)
        case "asyncio":
            from headrace._execute.tasks import TaskExecutor

            assert loop is not None, "an async handler needs a loop"
            return TaskExecutor(index, settings, handler, deliver, loop, per_worker=resource, clock=clock)
        case "processes":
            from headrace._execute.processes import ProcessExecutor

            def on_broken(error: BaseException) -> None:
                broken(settings.name, error)

            return ProcessExecutor(index, settings, handler, deliver, on_broken, resource=resource)
        case "auto":
            raise AssertionError("run_in is resolved when the handler is registered")
