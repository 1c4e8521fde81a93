"""What one `@app.subscribe` says, as a checked value.

Decides which combinations of settings make sense; refuses to know how any of them is carried out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from headrace.config import (
    Batching,
    RetryPolicy,
    require_choice,
    require_count,
    require_range,
)
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Record

OrderBy = Literal["key", "partition", "none"]
RunIn = Literal["auto", "threads", "asyncio", "processes"]
OnExhausted = Literal["dead_letter", "stop", "skip"]
Guarantee = Literal["at_least_once", "at_most_once", "none"]
Ack = Literal["on_return", "manual"]
Start = Literal["earliest", "latest", "error"]
OutOfRange = Literal["stop", "earliest", "latest"]


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Settings of one subscription; the arguments of `App.subscribe`, whose docstring explains them.

    `name` is the handler's qualified name and stands for the subscription in logs, metrics and errors.
    """

    name: str
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    order_by: OrderBy = "key"
    concurrency: int = 64
    workers: int | None = None
    run_in: RunIn = "auto"
    batch: Batching | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    dead_letter: str | None = None
    on_exhausted: OnExhausted | None = None
    on_dead_letter_failure: Literal["wait", "stop"] = "wait"
    timeout_s: float | None = None
    start_if_no_offset: Start | datetime = "earliest"
    on_out_of_range: OutOfRange = "stop"
    guarantee: Guarantee = "at_least_once"
    ack: Ack = "on_return"
    key_decoder: Callable[[bytes], Any] | None = None
    value_decoder: Callable[[bytes], Any] | None = None
    filter: Callable[[Record[Any, Any]], bool] | None = None

    def __post_init__(self) -> None:
        self._check_topics()
        require_choice("order_by", self.order_by, ("key", "partition", "none"))
        require_count("concurrency", self.concurrency, 1, 100_000)
        if self.workers is not None:
            require_count("workers", self.workers, 1, 1024)
        require_choice("run_in", self.run_in, ("auto", "threads", "asyncio", "processes"))
        require_choice("on_exhausted", self.on_exhausted, (None, "dead_letter", "stop", "skip"))
        require_choice("on_dead_letter_failure", self.on_dead_letter_failure, ("wait", "stop"))
        self._check_kinds()
        if self.timeout_s is not None:
            require_range("timeout_s", self.timeout_s, 0.001, 86_400)
        if not isinstance(self.start_if_no_offset, datetime):
            if self.start_if_no_offset not in ("earliest", "latest", "error"):
                expected = "'earliest', 'latest', 'error', or a datetime with a time zone"
                raise ConfigError("start_if_no_offset", self.start_if_no_offset, expected)
        elif self.start_if_no_offset.tzinfo is None:
            raise ConfigError(
                "start_if_no_offset",
                self.start_if_no_offset,
                "a datetime with a time zone",
            )
        require_choice("on_out_of_range", self.on_out_of_range, ("stop", "earliest", "latest"))
        require_choice("guarantee", self.guarantee, ("at_least_once", "at_most_once", "none"))
        require_choice("ack", self.ack, ("on_return", "manual"))
        self._check_combinations()

    def _check_topics(self) -> None:
        if bool(self.topics) == (self.pattern is not None):
            raise ConfigError(
                "topics",
                self.topics,
                "one or more topic names, or pattern= and no names",
            )
        for topic in self.topics:
            if callable(topic):
                raise ConfigError(
                    "topics", topic, 'topic names before the handler, as in @app.subscribe("orders")'
                )
            if not _is_topic(topic):
                raise ConfigError("topics", topic, "topic names, each of 1 to 249 of a-z A-Z 0-9 . _ -")
        if len(set(self.topics)) != len(self.topics):
            raise ConfigError("topics", self.topics, "each topic once")
        if self.pattern is not None:
            if not isinstance(self.pattern, str):
                raise ConfigError("pattern", self.pattern, "a regular expression, as a string")
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ConfigError("pattern", self.pattern, f"a regular expression ({error})") from error

    def _check_kinds(self) -> None:
        """Users who run no type checker are told here, not by the first record."""
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigError("retry", self.retry, "a headrace.RetryPolicy")
        if self.batch is not None and not isinstance(self.batch, Batching):
            raise ConfigError("batch", self.batch, "a headrace.Batching, or None")
        if self.dead_letter is not None and not _is_topic(self.dead_letter):
            raise ConfigError("dead_letter", self.dead_letter, "a topic name, or None")
        for key in ("key_decoder", "value_decoder", "filter"):
            if getattr(self, key) is not None and not callable(getattr(self, key)):
                raise ConfigError(key, getattr(self, key), "a function, or None")

    def _check_combinations(self) -> None:
        if self.on_exhausted == "dead_letter" and self.dead_letter is None:
            raise ConfigError("on_exhausted", "dead_letter", "dead_letter= to name a topic")
        if self.dead_letter is not None and self.on_exhausted in ("stop", "skip"):
            raise ConfigError(
                "dead_letter",
                self.dead_letter,
                f"None, since on_exhausted is {self.on_exhausted!r}",
            )
        if self.dead_letter is not None and self.dead_letter in self.topics:
            raise ConfigError(
                "dead_letter",
                self.dead_letter,
                "a topic that this subscription does not read",
            )
        if self.guarantee != "at_least_once" and self.ack == "manual":
            raise ConfigError("ack", "manual", f"'on_return', since guarantee is {self.guarantee!r}")
        if self.ack == "manual" and self.batch is not None:
            raise ConfigError(
                "ack",
                "manual",
                "'on_return' with batch=; use batch.fail() for single records",
            )
        if self.run_in == "processes" and self.ack == "manual":
            raise ConfigError(
                "ack",
                "manual",
                "'on_return' with run_in='processes': a record cannot be acknowledged from there",
            )

    @property
    def exhausted(self) -> OnExhausted:
        """What happens to a record that used up its attempts."""
        if self.on_exhausted is not None:
            return self.on_exhausted
        return "stop" if self.dead_letter is None else "dead_letter"


def _is_topic(name: object) -> bool:
    """Kafka's own rule; it also keeps a "^" out, which librdkafka would take for a pattern."""
    return isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name) is not None
