"""Scenarios as JSON: only what differs from the scenario that the seed draws.

Decides how a value is written and read; refuses to know what it means: the values check themselves. Invariant: reading what
was written of a scenario gives that scenario.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from headrace.config import Batching, RetryPolicy, meant
from headrace.errors import ConfigError
from headrace.subscriptions import SubscriptionSettings
from headrace.testing.simulation.scenario import TOPICS, Deed, Refusal, Scenario, scenario_of

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

# What a list of objects is made of: each object says only what differs from this.
LISTED: Final[Mapping[str, Any]] = {
    "subscriptions": SubscriptionSettings(
        "simulated", TOPICS[:1], run_in="threads", on_exhausted="skip", on_out_of_range="earliest"
    ),
    "deeds": Deed(0.0, "start", 0),
    "refusals": Refusal("run", "REQUEST_TIMED_OUT"),
}
# What an object becomes where nothing is set.
UNSET: Final[Mapping[str, Any]] = {"batch": Batching(), "retry": RetryPolicy()}


def written(scenario: Scenario) -> str:
    """One line of JSON: what differs from the scenario of its seed."""
    found = _difference(scenario, scenario_of(scenario.seed))
    return json.dumps(found, separators=(",", ":"), sort_keys=True)


def read(text: str, seed: int | None = None) -> Scenario:
    """The scenario of a seed (given, or named in the text), changed as the text says. Raises `ConfigError`."""
    return read_changes(parsed(text), seed)


def parsed(text: str) -> dict[str, Any]:
    """The changes that a text names. Raises `ConfigError`."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError("scenario", text[:80], f"JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError("scenario", text[:80], "a JSON object")
    changes = cast("dict[str, Any]", found)
    _changed(scenario_of(0), changes, "scenario")
    return changes


def read_changes(changes: Mapping[str, Any], seed: int | None = None) -> Scenario:
    """The scenario of a seed, with these changes."""
    base = scenario_of(changes.get("seed", 0) if seed is None else seed)
    return _changed(base, {**changes, "seed": base.seed}, "scenario")


def _difference(value: Any, base: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from another's, as JSON knows them."""
    found: dict[str, Any] = {}
    for each in fields(value):
        mine, other = getattr(value, each.name), getattr(base, each.name)
        if mine == other:
            continue
        if each.name in LISTED:
            found[each.name] = [_difference(one, LISTED[each.name]) for one in mine]
        elif is_dataclass(mine):
            found[each.name] = _difference(mine, other if is_dataclass(other) else UNSET[each.name])
        else:
            found[each.name] = mine
    return found


def _changed(base: T, changes: Any, where: str) -> T:
    if not isinstance(changes, dict):
        raise ConfigError(where, changes, "an object")
    changes = cast("dict[str, Any]", changes)
    value: Any = base
    names = {each.name for each in fields(value)}
    told: dict[str, Any] = {}
    for name, change in changes.items():
        if name not in names:
            raise ConfigError(f"{where}.{name}", change, f"a field of {where}{meant(name, names)}")
        told[name] = _read_one(name, change, getattr(value, name), f"{where}.{name}")
    try:
        made: T = replace(value, **told)
    except TypeError as error:
        raise ConfigError(where, changes, f"values of other kinds ({error})") from error
    return made


def _read_one(name: str, change: Any, current: Any, where: str) -> Any:
    if name in LISTED:
        if not isinstance(change, list):
            raise ConfigError(where, change, "a list of objects")
        objects: list[Any] = change  # pyright: ignore[reportUnknownVariableType] - whatever the JSON says
        return tuple(_changed(LISTED[name], each, where) for each in objects)
    if is_dataclass(current) or (name in UNSET and change is not None):
        return _changed(current if is_dataclass(current) else UNSET[name], change, where)
    if isinstance(change, list):
        items: list[Any] = change  # pyright: ignore[reportUnknownVariableType] - the same
        return tuple(items)
    for kinds in (bool, int | float, str):
        if isinstance(current, kinds):
            right = isinstance(change, kinds) and isinstance(change, bool) == isinstance(current, bool)
            if not (right or (change is None and kinds is not bool)):
                raise ConfigError(where, change, f"such as {current!r}")
            break
    return change
