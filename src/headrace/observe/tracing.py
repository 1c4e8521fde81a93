"""Traces: a span around each handler call, which continues the trace that the record's headers carry.

Needs the extra `headrace[otel]`. Decides what a span says, by OpenTelemetry's conventions for messaging. Refuses to export:
the provider and its processors are the user's. Invariant: whatever tracing raises, the handler runs once and its outcome
stands. Spans are made where the handler runs, and nothing of them is shared between threads.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace._runtime.handlers import is_async
from headrace.config import require_choice
from headrace.errors import ConfigError, ExtraMissing
from headrace.records import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._runtime.settings import AppSettings
    from headrace.records import Headers, Record
    from headrace.subscriptions import SubscriptionSettings

log = logging.getLogger("headrace.tracing")

LINKS_MAX = 128
"""OpenTelemetry's own default for one span: what is beyond is dropped there, but made first."""
SPAN_KIND = "CONSUMER"


@dataclass(frozen=True, slots=True)
class Tracing:
    """Spans of handlers, for `App(tracing=...)`.

    provider: an OpenTelemetry `TracerProvider`; None is the global one at the time of the first record. Give it a
    `BatchSpanProcessor`: what its processors do, they do on the handler's thread.
    continue_trace: the span of a record belongs to its producer's trace; False begins one of its own, which is linked. That
    of a batch always begins one of its own, linked to the traces of its records.
    keys: say the record's key, too, where it is text. Keys may be personal data, so they are left out by default.
    Raises `ExtraMissing` where `headrace[otel]` is not installed.
    """

    provider: Any = None
    continue_trace: bool = True
    keys: bool = False

    def __post_init__(self) -> None:
        require_choice("Tracing.continue_trace", self.continue_trace, (True, False))
        require_choice("Tracing.keys", self.keys, (True, False))
        if self.provider is not None and not callable(getattr(self.provider, "get_tracer", None)):
            raise ConfigError("Tracing.provider", self.provider, "an OpenTelemetry TracerProvider, or None")
        _loaded("opentelemetry.trace")

    def around(
        self, settings: SubscriptionSettings, handler: Callable[..., Any], group_id: str
    ) -> Callable[..., Any]:
        """The handler with a span around each call. Raises `ConfigError` where worker processes could not have the provider."""
        if settings.run_in == "processes" and self.provider is not None:
            raise ConfigError(
                "Tracing.provider",
                self.provider,
                f"None, since {settings.name} runs in worker processes: set the global provider in each, in a worker_resource",
            )
        spans = Spans(self, settings.name, group_id)
        return TracedCoroutine(spans, handler) if is_async(handler) else TracedCall(spans, handler)


def checked_tracing(given: object) -> Tracing | None:
    """What `App(tracing=...)` takes."""
    if given is None or isinstance(given, Tracing):
        return given
    raise ConfigError("tracing", given, "a headrace.observe.Tracing, or None")


def traced(
    settings: AppSettings, subscriptions: Sequence[tuple[SubscriptionSettings, Callable[..., Any]]]
) -> Sequence[tuple[SubscriptionSettings, Callable[..., Any]]]:
    """Subscriptions with their handlers as they are to be called: untouched without tracing."""
    tracing = settings.tracing
    if not isinstance(tracing, Tracing):
        return subscriptions
    return [(each, tracing.around(each, handler, settings.group_id)) for each, handler in subscriptions]


def carried(
    settings: AppSettings, headers: Sequence[tuple[str, bytes | None]]
) -> Sequence[tuple[str, bytes | None]]:
    """Headers with the current trace; unchanged without tracing, without a trace, or where they carry one already."""
    if settings.tracing is None:
        return headers
    found: dict[str, str] = {}
    try:
        _loaded("opentelemetry.propagate").inject(found)
    except Exception:  # a propagator of the user's must not fail what is produced
        log.warning("the trace could not be put into headers", exc_info=True)
    taken = {name.lower() for name, _ in headers}
    if taken & {name.lower() for name in found}:
        return headers
    return [*headers, *((name, value.encode()) for name, value in found.items())]


class Spans:
    """Begins and ends the spans of one subscription. Any thread; worker processes get a copy."""

    __slots__ = ("_group_id", "_subscription", "_tools", "_tracing", "_warned")

    def __init__(self, tracing: Tracing, subscription: str, group_id: str) -> None:
        self._tracing = tracing
        self._subscription = subscription
        self._group_id = group_id
        # Made at the first record, where it runs. Threads that come together make equal ones.
        self._tools: _Tools | None = None
        # Any thread sets it; told twice does no harm.
        self._warned = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Spans, (self._tracing, self._subscription, self._group_id)

    def begin(self, given: Record[Any, Any] | Batch[Any, Any]) -> _Open | None:
        """A span that is current from now on; None if there is none, for whatever reason."""
        try:
            tools = self._tools
            if tools is None:
                tools = self._tools = _Tools(self._tracing.provider)
            return self._of_batch(tools, given) if isinstance(given, Batch) else self._of_record(tools, given)
        except Exception as error:  # noqa: BLE001 - of a sampler or processor of the user's: it must not fail a record
            self._warn("a span could not be begun", error)
            return None

    def end(self, span: _Open | None, error: BaseException | None) -> None:
        """The handler returned, or raised."""
        if span is not None:
            try:
                span.end(error)
            except Exception as failure:  # noqa: BLE001 - as above
                self._warn("a span could not be ended", failure)

    def _of_record(self, tools: _Tools, record: Record[Any, Any]) -> _Open:
        origin = tools.origin(record.headers)
        attributes = self._attributes(record.topic, record.partition)
        attributes["messaging.kafka.offset"] = record.offset
        attributes["headrace.attempt"] = record.attempt
        if record.raw_value is None:
            attributes["messaging.kafka.message.tombstone"] = True
        if self._tracing.keys and (key := _text(record.raw_key)) is not None:
            attributes["messaging.kafka.message.key"] = key
        links = tools.links([origin])
        parent = origin if self._tracing.continue_trace else tools.nothing
        return tools.open(f"process {record.topic}", parent, attributes, links)

    def _of_batch(self, tools: _Tools, batch: Batch[Any, Any]) -> _Open:
        attributes = self._attributes(batch.topic, batch.partition)
        attributes["messaging.batch.message_count"] = len(batch)
        attributes["messaging.kafka.offset"] = batch.records[0].offset
        origins = [tools.origin(record.headers) for record in batch.records[:LINKS_MAX]]
        return tools.open(f"process {batch.topic}", tools.nothing, attributes, tools.links(origins))

    def _attributes(self, topic: str, partition: int) -> dict[str, Any]:
        return {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": self._group_id,
            "headrace.subscription": self._subscription,
        }

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s for %s; it is told once", what, self._subscription, exc_info=error)


class TracedCall:
    """A `def` handler with a span around each call."""

    __slots__ = ("_handler", "_spans")

    def __init__(self, spans: Spans, handler: Callable[[Any], object]) -> None:
        self._spans = spans
        self._handler = handler

    def __reduce__(self) -> tuple[Any, ...]:
        return TracedCall, (self._spans, self._handler)

    def __call__(self, given: Any) -> object:
        """Call the handler."""
        span = self._spans.begin(given)
        try:
            result = self._handler(given)
        except BaseException as error:
            self._spans.end(span, error)
            raise
        self._spans.end(span, None)
        return result


class TracedCoroutine:
    """An `async def` handler with a span around each call."""

    __slots__ = ("_handler", "_spans")

    def __init__(self, spans: Spans, handler: Callable[[Any], Any]) -> None:
        self._spans = spans
        self._handler = handler

    def __reduce__(self) -> tuple[Any, ...]:
        return TracedCoroutine, (self._spans, self._handler)

    async def __call__(self, given: Any) -> object:
        """Call the handler."""
        span = self._spans.begin(given)
        try:
            result: object = await self._handler(given)
        except BaseException as error:
            self._spans.end(span, error)
            raise
        self._spans.end(span, None)
        return result


class _Tools:
    """What of OpenTelemetry is used, looked up once: it is asked for at every record."""

    __slots__ = ("_context", "_kind", "_propagate", "_trace", "_tracer", "nothing")

    def __init__(self, provider: Any) -> None:
        self._trace = _loaded("opentelemetry.trace")
        self._context = _loaded("opentelemetry.context")
        self._propagate = _loaded("opentelemetry.propagate")
        self._kind = self._trace.SpanKind[SPAN_KIND]
        self._tracer = self._trace.get_tracer("headrace", tracer_provider=provider)
        self.nothing = self._context.Context()

    def origin(self, headers: Headers) -> Any:
        """The context that a record carries: where headers are repeated, the last one counts."""
        carrier = {name: value.decode("latin-1") for name, value in headers if value is not None}
        return self._propagate.extract(carrier, self.nothing) if carrier else self.nothing

    def links(self, origins: Sequence[Any]) -> list[Any]:
        """Links to the spans of these contexts, each once, as far as there are any."""
        found: dict[Any, Any] = {}
        for origin in origins:
            linked = self._trace.get_current_span(origin).get_span_context()
            if linked.is_valid:
                found[linked.trace_id, linked.span_id] = self._trace.Link(linked)
        return list(found.values())

    def open(self, name: str, parent: Any, attributes: dict[str, Any], links: list[Any]) -> _Open:
        """Begin a span, and make it the current one."""
        span = self._tracer.start_span(
            name, context=parent, kind=self._kind, attributes=attributes, links=links
        )
        token = self._context.attach(self._trace.set_span_in_context(span, parent))
        return _Open(self, span, token)

    def close(self, span: Any, token: Any, error: BaseException | None) -> None:
        """The other end of `open`: the context is as before, whatever else happens."""
        self._context.detach(token)
        if error is not None and span.is_recording():
            span.set_attribute("error.type", type(error).__qualname__)
            span.record_exception(error)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
        span.end()


class _Open:
    """A span that was begun."""

    __slots__ = ("_span", "_token", "_tools")

    def __init__(self, tools: _Tools, span: Any, token: Any) -> None:
        self._tools = tools
        self._span = span
        self._token = token

    def end(self, error: BaseException | None) -> None:
        """End it, in the context in which it was begun."""
        self._tools.close(self._span, self._token, error)


def _text(key: bytes | None) -> str | None:
    """The key as text, None where it is none."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _loaded(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ExtraMissing("traces", "otel") from None
