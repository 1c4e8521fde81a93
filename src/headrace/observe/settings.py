"""Reporters as settings: objects, values, or what a TOML or YAML file says, checked before an app starts.

Decides which names of reporters there are and how one of your own is found. Invariant: what is wrong is a `ConfigError`
that names the reporter.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace.config import require_range
from headrace.errors import ConfigError, ExtraMissing, HeadraceError
from headrace.observe.console import Console
from headrace.observe.files import Csv, JsonLines
from headrace.observe.filters import Expressions
from headrace.observe.metrics import Gauge
from headrace.observe.otel import OpenTelemetry
from headrace.observe.prometheus import Prometheus
from headrace.observe.statsd import StatsD

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.observe.filters import Filter
    from headrace.observe.reporting import Reporter

EVERY_S = 10.0
"""Storm's and most collectors' period: shorter than an alert's patience, and a report costs nothing at that rate."""
TYPES: dict[str, Callable[..., Any]] = {
    "console": Console,
    "jsonl": JsonLines,
    "csv": Csv,
    "statsd": StatsD,
    "prometheus": Prometheus,
    "opentelemetry": OpenTelemetry,
}


@dataclass(frozen=True, slots=True)
class Reporting:
    """A reporter, how often it reports, and what.

    every_s: seconds between reports. filter: which metrics; a string is an expression that must match the whole of
    `name{label=value,...}`, see `Expressions`; None keeps all. name: in logs and metrics; derived from the class if empty.
    """

    reporter: Reporter
    every_s: float = EVERY_S
    filter: Filter | str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not all(callable(getattr(self.reporter, name, None)) for name in ("report", "close")):
            raise ConfigError(
                "reporter", self.reporter, "an object with the methods report(report) and close()"
            )
        require_range("every_s", self.every_s, 0.01, 86_400)
        if not isinstance(self.name, str):
            raise ConfigError("name", self.name, "a string")
        if isinstance(self.filter, str):
            object.__setattr__(self, "filter", Expressions(include=self.filter))
        elif self.filter is not None and not callable(getattr(self.filter, "keeps", None)):
            raise ConfigError("filter", self.filter, "an expression, or an object with the method keeps(key)")
        if not self.name:
            object.__setattr__(self, "name", type(self.reporter).__name__.lower())

    def chosen(self) -> Filter | None:
        """The filter as an object."""
        assert not isinstance(self.filter, str)
        return self.filter


def checked_reporters(given: object) -> tuple[Reporting, ...]:
    """What `App(reporters=...)` takes: each a `Reporting`, a reporter, or a mapping as in a file; names made unique."""
    shown = given
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConfigError("reporters", shown, "a list of reporters")
    found: list[Reporting] = []
    for index, one in enumerate(cast("Sequence[object]", given)):
        reporting = _checked(one, index)
        taken = {other.name for other in found}
        name, number = reporting.name, 2
        while name in taken:
            name, number = f"{reporting.name}-{number}", number + 1
        found.append(replace(reporting, name=name))
    return tuple(found)


def checked_gauges(given: object) -> tuple[Gauge, ...]:
    """What `App(gauges=...)` takes."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError("gauges", given, "a list of headrace.observe.Gauge")
    gauges = tuple(cast("Sequence[object]", given))
    names: set[str] = set()
    for gauge in gauges:
        if not isinstance(gauge, Gauge):
            raise ConfigError("gauges", gauge, "a headrace.observe.Gauge")
        if gauge.name in names:
            raise ConfigError("gauges", gauge.name, "names that differ")
        names.add(gauge.name)
    return cast("tuple[Gauge, ...]", gauges)


def load_reporters(path: str | Path) -> tuple[Reporting, ...]:
    """The `[[reporters]]` of a TOML file, or the list `reporters` of a YAML file (extra `headrace[yaml]`).

    Raises `ConfigError`, `ExtraMissing`, and `OSError` where the file cannot be read.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        found = _yaml(path)
    else:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(str(path), str(error), "a TOML file") from None
    shown: object = found
    if not isinstance(found, Mapping) or "reporters" not in found:
        raise ConfigError(str(path), shown, "a list named reporters")
    return checked_reporters(cast("Mapping[str, object]", found)["reporters"])


def _yaml(path: Path) -> object:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise ExtraMissing("a YAML file of reporters", "yaml") from None
    try:
        found: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(str(path), str(error), "a YAML file") from None
    return found


def _checked(one: object, index: int) -> Reporting:
    if isinstance(one, Reporting):
        return one
    name = f"reporters[{index}]"
    if isinstance(one, Mapping):
        kind = cast("Mapping[str, object]", one).get("type")
        name = f"{name} ({kind})"
    try:
        return (
            _from_mapping(cast("Mapping[str, object]", one))
            if isinstance(one, Mapping)
            else Reporting(cast("Reporter", one))
        )
    except ConfigError as error:
        raise ConfigError(f"{name}.{error.key}", error.value, error.expected) from None


def _from_mapping(given: Mapping[str, object]) -> Reporting:
    rest = dict(given)
    kind = rest.pop("type", None)
    every_s = rest.pop("every_s", EVERY_S)
    name = rest.pop("name", "")
    chosen = _filter(rest)
    reporter = _made("type", kind, TYPES, rest)
    if not name and isinstance(kind, str) and kind in TYPES:
        name = kind
    return Reporting(reporter, cast(float, every_s), chosen, cast(str, name))


def _filter(rest: dict[str, object]) -> Filter | None:
    """Takes what concerns the filter out of the settings."""
    include, exclude, given = (rest.pop(key, None) for key in ("include", "exclude", "filter"))
    if given is None:
        if include is None and exclude is None:
            return None
        return Expressions(cast("str | None", include), cast("str | None", exclude))
    if include is not None or exclude is not None:
        raise ConfigError("filter", given, "it to be absent beside include and exclude")
    if isinstance(given, str):
        return Expressions(given)
    shown = given
    if not isinstance(given, Mapping):
        raise ConfigError("filter", given, 'an expression, or a table such as {expression = "..."}')
    settings = dict(cast("Mapping[str, object]", given))
    if "type" in settings:
        own: Filter = _made("filter.type", settings.pop("type"), {}, settings)
        return own
    expression = settings.pop("expression", None)
    if expression is None or settings:
        raise ConfigError("filter", shown, "expression, or type and what that takes, and nothing else")
    return Expressions(cast(str, expression))


def _made(
    key: str, kind: object, known: Mapping[str, Callable[..., Any]], settings: dict[str, object]
) -> Any:
    """One of ours by name, or one of the user's by dotted path, made with the settings."""
    expected = f"one of {', '.join(known)}, or " if known else ""
    if not isinstance(kind, str) or (kind not in known and ":" not in kind and "." not in kind):
        raise ConfigError(key, kind, f"{expected}a dotted path such as billing.metrics:MyReporter")
    make = known.get(kind) or _imported(key, kind)
    try:
        return make(**settings)
    except HeadraceError:
        raise
    except TypeError as error:
        # The values are not shown: one may be a secret.
        raise ConfigError(
            key, kind, f"settings that it takes, not {', '.join(settings) or 'none'}: {error}"
        ) from None


def _imported(key: str, path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(key, path, f"what can be imported: {error}") from None
    if not callable(found):
        raise ConfigError(key, path, "a class or function that makes one")
    return cast("Callable[..., Any]", found)
