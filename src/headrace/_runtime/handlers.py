"""What a handler is: async or not, one record or a batch, and where it should run.

Reads signatures and annotations; runs nothing. An annotation that disagrees with `batch=` is refused, since the first
record would only fail in production.
"""

from __future__ import annotations

import functools
import inspect
import typing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from headrace.errors import ConfigError, HandlerError
from headrace.records import Batch, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.subscriptions import SubscriptionSettings

Kind = Literal["threads", "asyncio", "processes"]


def name_of(handler: Callable[..., Any]) -> str:
    """Module and qualified name, for errors and logs."""
    target = handler.func if isinstance(handler, functools.partial) else handler
    name = getattr(target, "__qualname__", None) or type(target).__qualname__
    return f"{getattr(target, '__module__', '?')}:{name}"


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; sees through partials and callable objects."""
    target: Any = handler.func if isinstance(handler, functools.partial) else handler
    if inspect.iscoroutinefunction(target):
        return True
    return not inspect.isfunction(target) and inspect.iscoroutinefunction(type(target).__call__)


def check_handler(handler: Callable[..., Any], settings: SubscriptionSettings) -> None:
    """Raise `HandlerError` unless `handler` can be called with one record, or one batch, as `settings` say."""
    if not callable(handler):
        raise HandlerError(repr(handler), "is not callable")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise HandlerError(
            settings.name, "is a generator: a handler handles its record when called, it yields nothing"
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # Built-ins tell nothing; the first call will.
    try:
        signature.bind(object())
    except TypeError as error:
        raise HandlerError(
            settings.name, f"must be callable with one argument, the record (or batch): {error}"
        ) from None
    annotated = _annotation(handler, signature)
    if annotated is Batch and settings.batch is None:
        raise HandlerError(settings.name, "takes a Batch, but batch= is not set; set batch=Batching(...)")
    if annotated is Record and settings.batch is not None:
        raise HandlerError(settings.name, "takes a Record, but batch= is set; take a Batch or drop batch=")


def takes_batch(handler: Callable[..., Any]) -> bool:
    """Whether its first parameter is annotated as a `Batch`."""
    try:
        return _annotation(handler, inspect.signature(handler)) is Batch
    except (TypeError, ValueError):
        return False


def resolve_kind(handler: Callable[..., Any], settings: SubscriptionSettings) -> Kind:
    """Where the handler runs; raises `ConfigError` where `run_in` cannot be meant."""
    run_async = is_async(handler)
    match settings.run_in:
        case "auto":
            return "asyncio" if run_async else "threads"
        case "asyncio":
            if not run_async:
                raise ConfigError(
                    "run_in", "asyncio", f"'threads' or 'processes' for {settings.name}, which is not async"
                )
            return "asyncio"
        case "threads":
            if run_async:
                raise ConfigError(
                    "run_in", "threads", f"'asyncio' or 'processes' for {settings.name}, which is async"
                )
            return "threads"
        case "processes":
            return "processes"


def with_timeout_checked(settings: SubscriptionSettings, kind: Kind) -> SubscriptionSettings:
    """Raise `ConfigError` for a timeout that cannot be kept: a thread cannot be cancelled."""
    if settings.timeout_s is not None and kind == "threads":
        raise ConfigError(
            "timeout_s",
            settings.timeout_s,
            f"None for {settings.name}: a thread cannot be cancelled; use async def or run_in='processes'",
        )
    return replace(settings, run_in=kind)


def _annotation(handler: Callable[..., Any], signature: inspect.Signature) -> Any:
    """The class that the first parameter is annotated with, without its arguments; None if there is none to be had."""
    parameters = list(signature.parameters.values())
    if not parameters:
        return None
    target: Any = handler.func if isinstance(handler, functools.partial) else handler
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        hints = typing.get_type_hints(target)
    except Exception:  # noqa: BLE001 - a name that only a type checker sees is no reason to refuse a handler
        return _by_name(parameters[0].annotation)
    hint = hints.get(parameters[0].name)
    return typing.get_origin(hint) or hint


def _by_name(annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return None
    bare = annotation.split("[")[0].rsplit(".", 1)[-1]
    return {"Record": Record, "Batch": Batch}.get(bare)
