"""Traces: what a span says, whose trace it belongs to, and that tracing changes nothing for the handler."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from headrace import App, Batch, Batching, ConfigError, ExtraMissing, Record, RetryPolicy
from headrace.observe import Tracing
from headrace.observe.tracing import carried, traced
from headrace.testing import MockBroker
from tests.unit.core.engine_model import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = 0x00F067AA0BA902B7
HEADER = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")


class Kept:
    """A provider, and the spans that ended."""

    def __init__(self, *processors: SpanProcessor) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        for processor in (SimpleSpanProcessor(self.exporter), *processors):
            self.provider.add_span_processor(processor)

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def only(self) -> ReadableSpan:
        (span,) = self.spans()
        return span


class Held:
    """A tenure, as far as a record asks."""

    topic, partition, epoch, open = "orders", 3, 1, True


class Carrying(Source):
    """A record of the client's with headers."""

    def __init__(self, offset: int, headers: Sequence[tuple[str, bytes | None]]) -> None:
        super().__init__(offset, b"k", 1)
        self._given = list(headers)

    def headers(self) -> Any:
        return self._given or None


def a_record(
    *headers: tuple[str, bytes | None], offset: int = 7, key: bytes | None = b"k"
) -> Record[Any, Any]:
    held: Any = Held()
    return Record(Carrying(offset, headers), held, offset, key, 0)


def spanned(tracing: Tracing, handler: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The handler as workers call it."""
    app = App("nowhere", "billing", tracing=tracing)
    app.subscribe("orders", **options)(handler)
    ((_, wrapped),) = traced(app.settings, app._subscriptions)
    return wrapped


def nothing(_given: object) -> None:
    pass


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Spans that end."""
    found = Kept()
    yield found
    found.provider.shutdown()


def test_a_span_says_what_the_conventions_for_messaging_want(kept: Kept) -> None:
    spanned(Tracing(kept.provider), nothing)(a_record())
    span = kept.only()
    assert (span.name, span.kind) == ("process orders", SpanKind.CONSUMER)
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "billing",
        "messaging.kafka.offset": 7,
        "headrace.subscription": f"{__name__}:nothing",
        "headrace.attempt": 1,
    }
    assert span.parent is None
    assert list(span.links) == []
    assert span.status.status_code is StatusCode.UNSET


def test_it_continues_the_producers_trace_and_is_linked_to_it(kept: Kept) -> None:
    spanned(Tracing(kept.provider), nothing)(a_record(HEADER))
    span = kept.only()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (TRACE, PARENT)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(TRACE, PARENT)]


def test_or_it_begins_a_trace_of_its_own_and_is_linked(kept: Kept) -> None:
    spanned(Tracing(kept.provider, continue_trace=False), nothing)(a_record(HEADER))
    span = kept.only()
    assert span.context is not None
    assert span.parent is None
    assert span.context.trace_id != TRACE
    assert [link.context.trace_id for link in span.links] == [TRACE]


@pytest.mark.parametrize(
    "headers",
    [(), (("traceparent", b"\xff\xfe"),), (("traceparent", None),), (("traceparent", b"00-0-0-00"),)],
)
def test_headers_that_carry_no_trace_are_no_trouble(
    kept: Kept, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    spanned(Tracing(kept.provider), nothing)(a_record(*headers))
    assert kept.only().parent is None


def test_keys_are_told_only_if_wanted_and_only_text(kept: Kept) -> None:
    wanted = spanned(Tracing(kept.provider, keys=True), nothing)
    spanned(Tracing(kept.provider), nothing)(a_record(key=b"secret"))
    wanted(a_record(key=b"k1"))
    wanted(a_record(key=b"\xff"))
    found = [(span.attributes or {}).get("messaging.kafka.message.key") for span in kept.spans()]
    assert found == [None, "k1", None]


def test_the_span_is_current_in_the_handler_and_not_after_it(kept: Kept) -> None:
    seen: list[trace.Span] = []

    def handle(_record: Record) -> None:
        seen.append(trace.get_current_span())

    spanned(Tracing(kept.provider), handle)(a_record())
    assert seen[0].get_span_context() == kept.only().context
    assert not trace.get_current_span().get_span_context().is_valid


def test_what_the_handler_returns_and_raises_is_passed_on(kept: Kept) -> None:
    def handle(record: Record) -> object:
        if record.offset:
            raise LookupError("no such order")
        return "kept"

    call = spanned(Tracing(kept.provider), handle)
    assert call(a_record(offset=0)) == "kept"
    with pytest.raises(LookupError):
        call(a_record(offset=1))
    fine, failed = kept.spans()
    assert fine.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "LookupError"
    assert [event.name for event in failed.events] == ["exception"]


def test_async_handlers_have_spans_of_their_own_however_they_overlap(kept: Kept) -> None:
    seen: dict[int, int] = {}

    async def handle(record: Record) -> None:
        await asyncio.sleep(0.01)
        seen[record.offset] = trace.get_current_span().get_span_context().span_id

    call = spanned(Tracing(kept.provider), handle)
    assert inspect.iscoroutinefunction(type(call).__call__)

    async def run() -> None:
        await asyncio.gather(*(call(a_record(HEADER, offset=number)) for number in range(5)))

    asyncio.run(run())
    told = {(span.attributes or {})["messaging.kafka.offset"]: span.context for span in kept.spans()}
    assert {offset: context.span_id for offset, context in told.items() if context} == seen
    assert len(set(seen.values())) == 5


def test_a_batch_has_one_span_linked_to_each_trace_once(kept: Kept) -> None:
    def handle(batch: Batch) -> None:
        assert len(batch) == 4

    records = [a_record(HEADER), a_record(HEADER, offset=8), a_record(offset=9), a_record(offset=10)]
    records[3] = a_record(("traceparent", b"00-11111111111111111111111111111111-00f067aa0ba902b7-01"))
    spanned(Tracing(kept.provider), handle, batch=Batching(10))(Batch(records))
    span = kept.only()
    assert span.parent is None
    assert (span.attributes or {})["messaging.batch.message_count"] == 4
    assert [link.context.trace_id for link in span.links] == [TRACE, int("1" * 32, 16)]


class Broken(SpanProcessor):
    """Raises at whatever it is asked."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("no")

    def on_end(self, span: object) -> None:
        raise RuntimeError("no")


def test_a_processor_that_raises_fails_no_record_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    handled: list[int] = []
    broken = Kept(Broken())

    def handle(record: Record) -> None:
        handled.append(record.offset)

    call = spanned(Tracing(broken.provider), handle)
    with caplog.at_level(logging.WARNING, "headrace.tracing"):
        for number in range(3):
            call(a_record(offset=number))
    assert handled == [0, 1, 2]
    assert len([line for line in caplog.records if line.name == "headrace.tracing"]) == 1
    assert not trace.get_current_span().get_span_context().is_valid


class Hanging(SpanExporter):
    """Does not come back before it is let go."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert spans
        self.came.set()
        self.go.wait()
        return SpanExportResult.SUCCESS


def test_an_exporter_that_hangs_is_in_nobodys_way() -> None:
    """The handler's thread hands over more than the processor's queue holds, while nothing leaves it."""
    hanging = Hanging()
    processor = BatchSpanProcessor(
        hanging, max_queue_size=8, max_export_batch_size=1, schedule_delay_millis=1
    )
    found = Kept(processor)
    call = spanned(Tracing(found.provider), nothing)
    call(a_record())
    try:
        assert hanging.came.wait(30.0)
        for _ in range(100):
            call(a_record())
        assert len(found.spans()) == 101
    finally:
        hanging.go.set()
        found.provider.shutdown()


def test_what_is_produced_carries_the_current_trace_unless_it_carries_one(kept: Kept) -> None:
    settings = App("nowhere", "billing", tracing=Tracing(kept.provider)).settings
    found: list[Sequence[tuple[str, bytes | None]]] = []

    def handle(_record: Record) -> None:
        found.append(carried(settings, [("a", b"1")]))
        found.append(carried(settings, [HEADER]))
        found.append(carried(App("nowhere", "billing").settings, [("a", b"1")]))

    spanned(Tracing(kept.provider), handle)(a_record())
    context = kept.only().context
    assert context is not None
    first, (name, value) = found[0]
    assert (first, name) == (("a", b"1"), "traceparent")
    assert value is not None
    assert value.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-".encode())
    assert found[1:] == [[HEADER], [("a", b"1")]]
    assert carried(settings, [("a", b"1")]) == [("a", b"1")]


def test_worker_processes_have_the_global_provider(kept: Kept) -> None:
    with pytest.raises(ConfigError, match="global provider"):
        spanned(Tracing(kept.provider), nothing, run_in="processes")
    copied = pickle.loads(pickle.dumps(spanned(Tracing(), nothing, run_in="processes")))  # noqa: S301 - our own
    copied(a_record(HEADER))  # nobody has set a provider: the span is of no use, and the handler runs


def test_what_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Any = "provider"
    with pytest.raises(ConfigError, match=r"Tracing\.provider"):
        Tracing(wrong)
    with pytest.raises(ConfigError, match="tracing"):
        App("nowhere", "billing", tracing=wrong)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ExtraMissing, match=r"headrace\[otel\]"):
        Tracing()


@pytest.mark.slow
def test_a_trace_goes_on_through_an_app_and_what_it_produces(kept: Kept) -> None:
    """Threads, a retry, and a record that a handler produced, which another handler of the app gets."""
    done = threading.Event()
    with MockBroker(topics={"orders": 1, "bills": 1}) as broker:
        app = App(
            broker.bootstrap_servers,
            "billing",
            librdkafka=client_settings(broker),
            tracing=Tracing(kept.provider),
        )

        @app.subscribe("orders", retry=RetryPolicy(backoff_initial_s=0.01))
        def bill(record: Record) -> None:
            if record.attempt == 1:
                raise LookupError("not yet")
            app.produce("bills", record.raw_value, headers=[("kind", b"bill")])

        @app.subscribe("bills")
        async def send(_record: Record) -> None:
            done.set()

        broker.produce("orders", [(None, b"v", [HEADER])])
        app.start()
        try:
            assert done.wait(30.0)
        finally:
            app.stop()
    spans = {(span.name, (span.attributes or {})["headrace.attempt"]): span for span in kept.spans()}
    assert set(spans) == {("process orders", 1), ("process orders", 2), ("process bills", 1)}
    assert {span.context.trace_id for span in spans.values() if span.context} == {TRACE}
    billed, sent = spans["process orders", 2], spans["process bills", 1]
    assert billed.context is not None
    assert sent.parent is not None
    assert sent.parent.span_id == billed.context.span_id


def client_settings(broker: MockBroker) -> dict[str, Any]:
    """What an app needs beside what it sets itself."""
    found = dict(broker.client_settings(protocol="classic"))
    for name in ("bootstrap.servers", "group.id", "group.protocol"):
        found.pop(name, None)
    return found
