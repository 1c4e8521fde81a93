"""Settings as values: each checked once, when it is made, with an error that names key, value and expectation.

Every default says why. What the *client* is told is decided in `_client.settings`; what a *subscription* may combine
is decided in `subscriptions`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar, cast

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

HIDDEN = "********"
"""Shown in place of a value that is, or may be, secret."""


OnStall = Literal["report", "rejoin", "exit"]
"""What is done about a stuck partition, or a blocked owner thread, beside reporting it."""


def require_range(key: str, value: float, low: float, high: float) -> None:
    """Raise `ConfigError` unless `low <= value <= high`; NaN and booleans are refused too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        upper = "" if math.isinf(high) else f" to {high:g}"
        expected = f"a number of at least {low:g}" if math.isinf(high) else f"a number from {low:g}{upper}"
        raise ConfigError(key, value, expected)


def require_count(key: str, value: int, low: int, high: int) -> None:
    """Raise `ConfigError` unless `value` is an int with `low <= value <= high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(key, value, f"a whole number from {low} to {high}")


def require_choice(key: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise `ConfigError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(key, value, "one of " + ", ".join(repr(choice) for choice in choices))


def require_function(key: str, value: object) -> None:
    """Raise `ConfigError` unless `value` can be called."""
    if not callable(value):
        raise ConfigError(key, value, "a function")


def require_partitions(key: str, values: Iterable[object]) -> None:
    """Raise `ConfigError` unless each of `values` is a pair of a topic and a partition's number."""
    for value in values:
        match value:
            case (str(), bool()):
                pass
            case (str(), int(number)) if number >= 0:
                continue
            case _:
                pass
        raise ConfigError(key, value, 'a pair (topic, partition), such as ("orders", 0)')


def meant(name: str, names: Iterable[str]) -> str:
    """The end of a complaint about a name that is unknown: the known one that it resembles, if there is one."""
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.75)
    return f"; did you mean {close[0]!r}?" if close else ""


def known_names(of: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function that takes settings by name: one that it does not know is a `ConfigError`, as a bad value is."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        names = inspect.signature(function).parameters.keys() - {"self"}

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            for name in kwargs.keys() - names:
                # Its value is not shown: it may be a secret, misplaced.
                raise ConfigError(name, HIDDEN, f"a setting of {of}{meant(name, names)}")
            return function(*args, **kwargs)

        return checked

    return decorate


def _settings(made: type[T]) -> type[T]:
    made.__init__ = known_names(made.__name__)(made.__init__)  # type: ignore[method-assign] # the same, checked
    return made


@_settings
@dataclass(frozen=True, slots=True)
class Commit:
    """When finished offsets are committed.

    every_s: at least this often while there is something new. One second bounds what a crash repeats, and costs one
        request a second.
    every_records: also as soon as so many records finished since the last commit; None leaves it to time alone.
    timeout_s: how long one commit may go unanswered before that is told of. Longer than a broker's failover, shorter
        than a session. No newer one leaves before the answer: librdkafka could write the older one after it.
    backoff_initial_s, backoff_max_s: pause after a refused commit, doubling: a rebalance settles within a second, an
        outage must not be hammered.
    alert_after_s: a partition whose finished work stays uncommitted so long is reported (once per episode).
    """

    every_s: float = 1.0
    every_records: int | None = None
    timeout_s: float = 10.0
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 5.0
    alert_after_s: float = 30.0

    def __post_init__(self) -> None:
        require_range("Commit.every_s", self.every_s, 0.01, 3600)
        if self.every_records is not None:
            require_count("Commit.every_records", self.every_records, 1, 10_000_000)
        require_range("Commit.timeout_s", self.timeout_s, 0.1, 300)
        require_range("Commit.backoff_initial_s", self.backoff_initial_s, 0.001, 60)
        require_range("Commit.backoff_max_s", self.backoff_max_s, self.backoff_initial_s, 600)
        require_range("Commit.alert_after_s", self.alert_after_s, 0.1, 86_400)


@_settings
@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed record is tried again: from memory, with exponential backoff and jitter, finitely.

    attempts_max: tries in all, the first included. Five with the defaults last about three seconds: longer than a
        deploy of a dependency's pod, shorter than anyone's patience. Counted per assignment.
    backoff_initial_s, backoff_factor, backoff_max_s: wait before try n+1 is `initial * factor ** (n - 1)`, at most max.
    jitter: each wait is spread by this share up or down, so that records that failed together do not return together.
    fatal: exception types that are not worth a second try; they exhaust the record at once.
    """

    attempts_max: int = 5
    backoff_initial_s: float = 0.2
    backoff_factor: float = 2.0
    backoff_max_s: float = 30.0
    jitter: float = 0.2
    fatal: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        # The upper bound also keeps `factor ** attempts` a finite float.
        require_count("RetryPolicy.attempts_max", self.attempts_max, 1, 100)
        require_range("RetryPolicy.backoff_initial_s", self.backoff_initial_s, 0, 3600)
        require_range("RetryPolicy.backoff_factor", self.backoff_factor, 1, 100)
        require_range("RetryPolicy.backoff_max_s", self.backoff_max_s, 0, 86_400)
        require_range("RetryPolicy.jitter", self.jitter, 0, 1)
        kinds: object = self.fatal
        if not isinstance(kinds, tuple) or not all(map(_is_exception_type, cast("tuple[object]", kinds))):
            raise ConfigError(
                "RetryPolicy.fatal", kinds, "a tuple of exception types, such as (ValueError, KeyError)"
            )


@_settings
@dataclass(frozen=True, slots=True)
class Batching:
    """How records are gathered for a handler that takes a `Batch`.

    records_max: most records in one batch.
    wait_s: how long the first record of a batch may wait for company; 0 takes what is there.
    """

    records_max: int = 500
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        require_count("Batching.records_max", self.records_max, 1, 100_000)
        require_range("Batching.wait_s", self.wait_s, 0, 3600)


@_settings
@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits on what one connection holds in memory. Reaching one pauses intake; nothing is dropped.

    queued_records_max: runnable records of one partition that wait or run. Two seconds of work at 5,000 records/s;
        intake resumes at half.
    lookahead_records_max: how far beyond its first unfinished record one partition may read. Bounds the offset map
        and what a slow head can pile up.
    partition_bytes_max: bytes of unfinished records of one partition.
    total_bytes_max: bytes of unfinished records of the connection; beyond it, partitions above their fair share pause.
    parked_records_max: records of one partition that wait for a retry, their lanes included. They have a budget of
        their own so that failing keys never stop healthy ones.
    """

    queued_records_max: int = 10_000
    lookahead_records_max: int = 100_000
    partition_bytes_max: int = 64 * 1024 * 1024
    total_bytes_max: int = 256 * 1024 * 1024
    parked_records_max: int = 50_000

    def __post_init__(self) -> None:
        require_count("Budgets.queued_records_max", self.queued_records_max, 1, 10_000_000)
        require_count("Budgets.lookahead_records_max", self.lookahead_records_max, 1, 10_000_000)
        require_count("Budgets.partition_bytes_max", self.partition_bytes_max, 1024, 1 << 40)
        require_count("Budgets.total_bytes_max", self.total_bytes_max, 1024, 1 << 40)
        require_count("Budgets.parked_records_max", self.parked_records_max, 1, 10_000_000)


@_settings
@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections an app has to Kafka, each a group member with an owner thread and workers of its own.

    min, max: bounds. One is enough unless fetching or decompressing is what holds the handlers up.
    start: how many at first; None: `min`.
    cooldown_s: nothing changes within so long after a change. A rebalance and what it moves should be over by then.
    fair: keep to partitions over processes, so that a process that has just started finds its share.
    grow_when: "fetching" adds one when fetching has held the handlers up for a while; "partitions" whenever some
        connection has more than one partition.
    """

    min: int = 1
    max: int = 1
    start: int | None = None
    cooldown_s: float = 60.0
    fair: bool = True
    grow_when: Literal["fetching", "partitions"] = "fetching"

    def __post_init__(self) -> None:
        require_count("Connections.min", self.min, 1, 64)
        require_count("Connections.max", self.max, self.min, 64)
        if self.start is not None:
            require_count("Connections.start", self.start, self.min, self.max)
        require_range("Connections.cooldown_s", self.cooldown_s, 0.1, 86_400)
        require_choice("Connections.fair", self.fair, (True, False))
        require_choice("Connections.grow_when", self.grow_when, ("fetching", "partitions"))


@_settings
@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds on every wait.

    connect_s: how long `start()` waits for a first broker; None keeps trying for ever.
    drain_s: how long a revoke waits for running handlers, at most; half of what remains of `max.poll.interval.ms`
        bounds it too. Long enough for ordinary handlers, short enough that the group does not wait.
    stop_s: budget of a whole `stop()`: drain, last commit, leave, close. Kubernetes grants 30 s by default.
    request_s: one request to the broker made on the owner thread (committed offsets, offset look-ups).
    hung_after_s: a handler that runs so long is reported as hung, with its stack where there is one.
    hook_s: a hook that runs longer is reported as overrunning; it delays nothing.
    stalled_after_s: a partition that has work and may go on, and of which nothing is finished for so long, is stuck;
        see `App(on_stall=...)`. Longer than what cures itself: a leader's failover, a session, a fetcher woken anew.
    blocked_after_s: the owner thread, or the handlers' event loop, that does not turn for so long is reported as
        blocked. Longer than a few requests of `request_s`, which the owner waits for.
    rebalance_s: a rebalance that has not ended after so long is a reason in `App.health`. Other members may drain for
        `drain_s`; one that never answers holds the group for its own `max.poll.interval.ms`.
    """

    connect_s: float | None = 30.0
    drain_s: float = 10.0
    stop_s: float = 25.0
    request_s: float = 5.0
    hung_after_s: float = 60.0
    hook_s: float = 1.0
    stalled_after_s: float = 120.0
    blocked_after_s: float = 30.0
    rebalance_s: float = 60.0

    def __post_init__(self) -> None:
        if self.connect_s is not None:
            require_range("Timeouts.connect_s", self.connect_s, 0.1, 86_400)
        require_range("Timeouts.drain_s", self.drain_s, 0, 3600)
        require_range("Timeouts.stop_s", self.stop_s, 0.1, 3600)
        require_range("Timeouts.request_s", self.request_s, 0.1, 300)
        require_range("Timeouts.hung_after_s", self.hung_after_s, 0.1, 86_400)
        require_range("Timeouts.hook_s", self.hook_s, 0.01, 3600)
        require_range("Timeouts.stalled_after_s", self.stalled_after_s, 0.1, 86_400)
        require_range("Timeouts.blocked_after_s", self.blocked_after_s, 0.1, 86_400)
        require_range("Timeouts.rebalance_s", self.rebalance_s, 0.1, 86_400)


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
