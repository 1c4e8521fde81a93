"""The options of the source: names, meanings and defaults are those of Spark's own Kafka source.

Decides what is valid together; refuses to know brokers and pyspark. Invariant: an option that does nothing is refused, or
a warning says so: what is mistyped is not ignored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace._client.settings import ConnectionSettings
from headrace.config import meant, require_choice, require_count, require_range
from headrace.errors import ConfigError
from headrace.ranges.planning import COUNT_MAX, OFFSET_MAX
from headrace.spark.client_options import librdkafka_of
from headrace.spark.offsets import parsed, parsed_places

if TYPE_CHECKING:
    from headrace.ports import TopicPartition as Place

Mode = Literal["batch", "stream"]

EARLIEST: Final = -2
LATEST: Final = -1
"""Kafka's numbers for the two ends of a partition, as they stand in offsets that users write."""

_BOTH: Final[tuple[Mode, ...]] = ("batch", "stream")
OPTIONS: Final[Mapping[str, tuple[Mode, ...]]] = {
    "subscribe": _BOTH,
    "subscribePattern": _BOTH,
    "assign": _BOTH,
    "startingOffsets": _BOTH,
    "startingOffsetsByTimestamp": _BOTH,
    "startingTimestamp": _BOTH,
    "startingOffsetsByTimestampStrategy": _BOTH,
    "endingOffsets": ("batch",),
    "endingOffsetsByTimestamp": ("batch",),
    "endingTimestamp": ("batch",),
    "failOnDataLoss": _BOTH,
    "includeHeaders": _BOTH,
    "minPartitions": _BOTH,
    "maxRecordsPerPartition": _BOTH,
    "maxOffsetsPerTrigger": ("stream",),
    "minOffsetsPerTrigger": ("stream",),
    "maxTriggerDelay": ("stream",),
    "kafkaConsumer.pollTimeoutMs": _BOTH,
    "groupIdPrefix": _BOTH,
    "spark.kafka.consumer.cache.capacity": _BOTH,
    "spark.kafka.consumer.cache.timeout": _BOTH,
    "fetchOffset.numRetries": (),
    "fetchOffset.retryIntervalMs": (),
}
"""Every option but `kafka.*`, and where it means something. Those that mean nothing anywhere are let pass for Spark's users."""

GROUP_PREFIX: Final = "headrace-spark"
_LOG: Final = logging.getLogger("headrace.spark")
_SELECTORS: Final = ("assign", "subscribe", "subscribePattern")
_SPAN: Final = re.compile(r"\s*(\d+)\s*(ms|s|m|min|h|d)?\s*")
_SPAN_S: Final = {"": 0.001, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class At:
    """Where the first record with a timestamp of at least so many ms stands."""

    ms: int


Where = int | At
"""An offset, `EARLIEST` or `LATEST`; or a moment."""

Wheres = Where | Mapping["Place", Where]
"""The same for all partitions, or one for each."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read: topics by name, those that match a pattern, or single partitions. One of the three."""

    topics: tuple[str, ...] = ()
    pattern: str | None = None
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options, understood. Pickled to the workers."""

    connection: ConnectionSettings
    selection: Selection
    start: Wheres
    end: Wheres
    late_start_is_error: bool
    fail_on_data_loss: bool
    parts_min: int | None
    records_max: int | None
    trigger_max: int | None
    trigger_min: int | None
    trigger_delay_s: float
    timeout_s: float
    cache_capacity: int
    cache_timeout_s: float

    @property
    def committed_only(self) -> bool:
        """Whether records of open and aborted transactions are kept back."""
        return bool(self.connection.librdkafka["isolation.level"] == "read_committed")


def include_headers(given: Mapping[str, str]) -> bool:
    """Whether there is a column of headers. Raises `ConfigError` for names that no mode knows: the first look at them."""
    known = {name.lower(): name for name in OPTIONS}
    for name in given:
        if name.lower() not in known and not name.lower().startswith("kafka."):
            raise ConfigError("option", name, f"an option of Spark's Kafka source{meant(name, OPTIONS)}")
    return _Given(given).flag("includeHeaders", default=False)


def understood(options: Mapping[str, str], mode: Mode) -> SourceOptions:
    """The options of a batch or a stream. Raises `ConfigError`."""
    include_headers(options)
    given = _Given(options)
    for name, modes in OPTIONS.items():
        if given.has(name) and mode not in modes:
            if name.startswith("ending"):
                raise ConfigError(name, given.text(name), "it to be absent; a stream has no end")
            _LOG.warning("option %s has no meaning in a %s read here, and is left out", name, mode)
    client = {name[6:]: value for name, value in given.lower.items() if name.startswith("kafka.")}
    servers = client.pop("bootstrap.servers", "")
    if not servers:
        raise ConfigError("kafka.bootstrap.servers", servers, "host:port of the brokers")
    prefix = given.text("groupIdPrefix") or GROUP_PREFIX
    connection = ConnectionSettings(servers, client.pop("group.id", prefix), librdkafka_of(client))
    strategy = given.text("startingOffsetsByTimestampStrategy") or "error"
    require_choice("startingOffsetsByTimestampStrategy", strategy.lower(), ("error", "latest"))
    return SourceOptions(
        connection=connection,
        selection=_selection(given),
        start=_start(given, mode),
        end=_end(given),
        late_start_is_error=strategy.lower() == "error",
        fail_on_data_loss=given.flag("failOnDataLoss", default=True),
        parts_min=given.count("minPartitions", COUNT_MAX),
        records_max=given.count("maxRecordsPerPartition", OFFSET_MAX),
        trigger_max=given.count("maxOffsetsPerTrigger", OFFSET_MAX),
        trigger_min=given.count("minOffsetsPerTrigger", OFFSET_MAX),
        trigger_delay_s=given.span_s("maxTriggerDelay", 900.0),
        timeout_s=(given.count("kafkaConsumer.pollTimeoutMs", 86_400_000) or 120_000) / 1000,
        cache_capacity=given.count("spark.kafka.consumer.cache.capacity", 1000) or 64,
        cache_timeout_s=given.span_s("spark.kafka.consumer.cache.timeout", 300.0),
    )


class _Given:
    """What a user gave, by name in any case."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.lower = {name.lower(): value for name, value in options.items()}

    def has(self, name: str) -> bool:
        return name.lower() in self.lower

    def text(self, name: str) -> str | None:
        return self.lower.get(name.lower())

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name)
        if text is None:
            return default
        require_choice(name, text.lower(), ("true", "false"))
        return text.lower() == "true"

    def count(self, name: str, most: int) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        number = self._number(name, text)
        require_count(name, number, 1, most)
        return number

    def moment(self, name: str) -> At | None:
        text = self.text(name)
        if text is None:
            return None
        number = self._number(name, text)
        require_count(name, number, 0, OFFSET_MAX)
        return At(number)

    def span_s(self, name: str, default_s: float) -> float:
        text = self.text(name)
        if text is None:
            return default_s
        found = _SPAN.fullmatch(text)
        if found is None:
            raise ConfigError(name, text, 'a time such as "15m", "90s" or "500ms"')
        span_s = int(found[1]) * _SPAN_S[found[2] or ""]
        require_range(name, span_s, 0.001, 30 * 86_400)
        return span_s

    def _number(self, name: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(name, text, "a whole number") from None


def _selection(given: _Given) -> Selection:
    named = [name for name in _SELECTORS if given.has(name)]
    if len(named) != 1:
        raise ConfigError("options", ", ".join(named) or "none", f"exactly one of {', '.join(_SELECTORS)}")
    text = given.text(named[0]) or ""
    match named[0]:
        case "assign":
            return Selection(places=parsed_places("assign", text))
        case "subscribe":
            topics = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
            if not topics:
                raise ConfigError("subscribe", text, "names of topics, with commas between them")
            return Selection(topics=topics)
        case _:
            try:
                re.compile(text)
            except re.error as error:
                raise ConfigError("subscribePattern", text, f"a regular expression ({error})") from None
            if not text.strip():
                raise ConfigError("subscribePattern", text, "a regular expression")
            return Selection(pattern=text)


def _start(given: _Given, mode: Mode) -> Wheres:
    start = _by_time(given, "startingTimestamp", "startingOffsetsByTimestamp")
    if start is not None:
        return start
    text = given.text("startingOffsets")
    if text is None:
        return EARLIEST if mode == "batch" else LATEST
    found = _wheres("startingOffsets", text)
    numbers: tuple[Any, ...] = tuple(found.values()) if isinstance(found, Mapping) else (found,)
    if mode == "batch" and LATEST in numbers:
        raise ConfigError("startingOffsets", text, "anything but latest (-1): a batch would be empty")
    return found


def _end(given: _Given) -> Wheres:
    end = _by_time(given, "endingTimestamp", "endingOffsetsByTimestamp")
    if end is not None:
        return end
    text = given.text("endingOffsets")
    if text is None:
        return LATEST
    found = _wheres("endingOffsets", text)
    numbers: tuple[Any, ...] = tuple(found.values()) if isinstance(found, Mapping) else (found,)
    if EARLIEST in numbers:
        raise ConfigError("endingOffsets", text, "anything but earliest (-2): a batch would be empty")
    return found


def _by_time(given: _Given, of_all: str, of_each: str) -> Wheres | None:
    at = given.moment(of_all)
    text = given.text(of_each)
    if at is not None or text is None:
        return at
    found = parsed(of_each, text)
    if min(found.values()) < 0:
        raise ConfigError(of_each, text, "milliseconds since the Unix epoch, none below 0")
    return {place: At(ms) for place, ms in found.items()}


def _wheres(option: str, text: str) -> Wheres:
    words = {"earliest": EARLIEST, "latest": LATEST}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    found = parsed(option, text)
    if min(found.values()) < EARLIEST:
        raise ConfigError(option, text, "offsets, -2 for earliest or -1 for latest")
    return dict(found)
