"""What an app is told, as a checked value, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from headrace._client.settings import ConnectionSettings
from headrace.config import Budgets, Commit, Connections, OnStall, Timeouts, require_choice
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The arguments of `App`, whose docstring explains them."""

    bootstrap_servers: str
    group_id: str
    librdkafka: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)  # it may hold secrets
    group_protocol: Literal["classic", "consumer"] = "classic"
    instance_id: str | None = None
    commit: Commit = field(default_factory=Commit)
    budgets: Budgets = field(default_factory=Budgets)
    timeouts: Timeouts = field(default_factory=Timeouts)
    loop: Literal["own", "caller"] = "own"
    on_stall: OnStall = "report"
    reporters: tuple[object, ...] = ()  # checked by `headrace.observe`, which this layer may not know
    gauges: tuple[object, ...] = ()
    tracing: object | None = None  # as reporters
    connections: Connections = field(default_factory=Connections)

    def __post_init__(self) -> None:
        for key in ("bootstrap_servers", "group_id"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(key, value, "a non-empty string")
        require_choice("group_protocol", self.group_protocol, ("classic", "consumer"))
        require_choice("loop", self.loop, ("own", "caller"))
        require_choice("on_stall", self.on_stall, ("report", "rejoin", "exit"))
        if self.instance_id is not None and not (isinstance(self.instance_id, str) and self.instance_id):
            raise ConfigError("instance_id", self.instance_id, "a non-empty string, or None")
        kinds = {"commit": Commit, "budgets": Budgets, "timeouts": Timeouts, "connections": Connections}
        for key, kind in kinds.items():
            if not isinstance(getattr(self, key), kind):
                raise ConfigError(key, getattr(self, key), f"a headrace.{kind.__name__}")


def connection_of(settings: AppSettings) -> ConnectionSettings:
    """What clients need of it; raises `ConfigError` for what no client may be told."""
    return ConnectionSettings(
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.group_id,
        librdkafka=settings.librdkafka,
        group_protocol=settings.group_protocol,
        instance_id=settings.instance_id,
    )


def flatten(value: Any, prefix: str = "") -> dict[str, object]:
    """A settings value as dotted names and plain values, for people to read."""
    flat: dict[str, object] = {}
    for item in fields(value):
        found = getattr(value, item.name)
        if is_dataclass(found) and not isinstance(found, type):
            flat |= flatten(found, f"{prefix}{item.name}.")
        elif callable(found):
            flat[prefix + item.name] = getattr(found, "__qualname__", repr(found))
        else:
            flat[prefix + item.name] = found
    return flat
