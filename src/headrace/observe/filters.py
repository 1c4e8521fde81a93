"""Which metrics a reporter gets: filters, and their answers remembered for as long as a metric is there.

Decides by the text `name{label=value,...}` alone. Refuses to evaluate metrics. Invariant: a filter is asked once per
text while the metric lasts, and what it drops is never read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Protocol, TypeVar

from headrace.errors import ConfigError
from headrace.observe.metrics import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.observe.metrics import Metric


class Described(Protocol):
    """Anything that is of one metric."""

    @property
    def metric(self) -> Metric:
        """Which."""
        ...


M = TypeVar("M", bound=Described)


class Filter(Protocol):
    """Which metrics a reporter gets. Write one of your own where an expression does not do."""

    def keeps(self, key: str) -> bool:
        """Whether the metric `name{label=value,...}` is reported. Called on the reporter's threads."""
        ...


@dataclass(frozen=True, slots=True)
class Expressions:
    """A filter of Python regular expressions, each of which must match the whole of `name{label=value,...}`.

    include: only what it matches is kept; None keeps all. exclude: what it matches is dropped, also if it is included.
    Raises `ConfigError` for one that is no regular expression. Beware of nested repetition such as `(a+)+b`: Python
    holds the whole process while it tries.
    """

    include: str | None = None
    exclude: str | None = None
    _included: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _excluded: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_included", compiled("include", self.include))
        object.__setattr__(self, "_excluded", compiled("exclude", self.exclude))

    def keeps(self, key: str) -> bool:
        """Whether it is included and not excluded. Any thread."""
        return (self._included is None or self._included.fullmatch(key) is not None) and not self.drops(key)

    def drops(self, key: str) -> bool:
        """Whether the exclude expression matches. Any thread."""
        return self._excluded is not None and self._excluded.fullmatch(key) is not None


def compiled(name: str, expression: object) -> re.Pattern[str] | None:
    """The expression, compiled; raises `ConfigError` that shows it."""
    if expression is None:
        return None
    if not isinstance(expression, str):
        raise ConfigError(name, expression, "a regular expression, as a string")
    try:
        return re.compile(expression)
    except re.error as error:
        raise ConfigError(name, expression, f"a regular expression; this is none: {error}") from None


class Selection:
    """One reporter's filter and its answers. Its thread's alone."""

    __slots__ = ("_answers", "_exclude_matched", "_seen", "filter")

    def __init__(self, chosen: Filter | None) -> None:
        self.filter = chosen
        self._answers: dict[tuple[str, int, tuple[str, ...]], tuple[bool, ...]] = {}
        self._seen: dict[tuple[str, int, tuple[str, ...]], tuple[bool, ...]] = {}
        self._exclude_matched = False

    def kept(self, things: Sequence[M], labels: tuple[str, ...]) -> Sequence[M]:
        """Those whose metric, with these labels, the filter keeps, or kept.

        The metrics of one kind of thing are asked for and remembered together: known by the first of them and their number.
        """
        if self.filter is None or not things:
            return things
        place = (things[0].metric.name, len(things), labels)
        answers = self._answers.get(place)
        if answers is None:
            answers = tuple(self._asked(self.filter, thing.metric, labels) for thing in things)
        self._seen[place] = answers
        return things if all(answers) else tuple(compress(things, answers))

    def _asked(self, chosen: Filter, metric: Metric, labels: tuple[str, ...]) -> bool:
        key = key_of(metric, labels)
        if isinstance(chosen, Expressions) and not self._exclude_matched:
            self._exclude_matched = chosen.drops(key)
        return chosen.keeps(key)

    def end_report(self) -> None:
        """Forget the answers for metrics that are gone: revoked partitions must not pile up."""
        self._answers, self._seen = self._seen, {}

    def useless_exclude(self) -> str | None:
        """The exclude expression, if it has matched nothing so far."""
        if isinstance(self.filter, Expressions) and not self._exclude_matched:
            return self.filter.exclude
        return None
