"""Shrinking a scenario that breaks a promise: the same promise broken with less of everything.

Decides what to leave out next, and tries each with a few chances, for whatever is left out shifts all that follows.
Refuses to know why a promise broke. Invariant: what it returns was played and broke the same promise.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from headrace.config import Budgets, Commit, Timeouts
from headrace.errors import ConfigError
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.world import play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.subscriptions import SubscriptionSettings
    from headrace.testing.simulation.scenario import Scenario
    from headrace.testing.simulation.world import Outcome

CHANCES: Final = 6
"""How often each smaller scenario is tried."""
PLAYS_MAX: Final = 2000


def shrink(outcome: Outcome, tell: Callable[[str], None], plays_max: int = PLAYS_MAX) -> Outcome:
    """A smaller scenario that breaks the promise that this one broke first. `tell` hears of each step."""
    promise = outcome.violations[0].promise
    plays = 0
    again = True
    while again:
        again = False
        for what, smaller in _smaller(outcome.scenario):
            for chance in (outcome.scenario.chance, *range(1, CHANCES)):
                if plays >= plays_max:
                    return outcome
                plays += 1
                tried = play(replace(smaller, chance=chance))
                if tried.violations and tried.violations[0].promise == promise:
                    outcome, again = tried, True
                    tell(f"{what} (after {plays} plays, {len(tried.history.entries)} entries)")
                    break
            if again:
                break
    return outcome


def _smaller(scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    """Scenarios with less, the greatest steps first."""
    if scenario.faults.active():
        yield "no faults", replace(scenario, faults=Faults.none())
    for name in ("deeds", "refusals"):
        if getattr(scenario, name):
            yield f"no {name}", _with(scenario, name, ())
    for name, least in (
        ("records", 0),
        ("members", 1),
        ("partitions", 1),
        ("keys", 1),
        ("workers", 1),
        ("stuck", 0),
    ):
        yield from _fewer(scenario, name, least)
    yield from _settings(scenario)
    yield from _one_less(scenario)
    plain = Handlers(quick_s=scenario.handlers.quick_s, slow_s=scenario.handlers.slow_s)
    for each in fields(plain):
        if getattr(scenario.handlers, each.name) != getattr(plain, each.name):
            handlers = replace(scenario.handlers, **{each.name: getattr(plain, each.name)})
            yield f"handlers: no {each.name}", replace(scenario, handlers=handlers)
    if scenario.troubled_s > 2:
        yield "half the time", replace(scenario, troubled_s=round(scenario.troubled_s / 2, 2))


def _one_less(scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    for fault in scenario.faults.active():
        yield f"without {fault}", replace(scenario, faults=scenario.faults.without(fault))
    for name in ("deeds", "refusals"):
        all_of: tuple[Any, ...] = getattr(scenario, name)
        for number in range(len(all_of)) if len(all_of) > 1 else ():
            yield f"one of {name} less", _with(scenario, name, all_of[:number] + all_of[number + 1 :])


def _fewer(scenario: Scenario, name: str, least: int) -> Iterator[tuple[str, Scenario]]:
    count: int = getattr(scenario, name)
    for fewer in dict.fromkeys((least, count // 2, count * 3 // 4, count - 1)):
        if least <= fewer < count:
            yield f"{name}: {fewer}", _with(scenario, name, fewer)


def _settings(scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    if len(scenario.subscriptions) > 1:
        for each in scenario.subscriptions:
            yield "one subscription", replace(scenario, subscriptions=(each,))
    for only in scenario.subscriptions[:1]:
        if len(only.topics) > 1:
            yield "one topic", replace(scenario, subscriptions=(replace(only, topics=only.topics[:1]),))
    for name, value in (
        ("preemption", 0.0),
        ("transactions", 0.0),
        ("hot", 0.0),
        ("keyless", 0.0),
        ("static", False),
        ("foreign", ""),
        ("budgets", Budgets()),
        ("commit", Commit()),
        ("timeouts", Timeouts()),
    ):
        if getattr(scenario, name) != value:
            yield f"plain {name}", _with(scenario, name, value)
    for number, settings in enumerate(scenario.subscriptions):
        for what, plainer in _plainer(settings):
            others = list(scenario.subscriptions)
            others[number] = plainer
            yield what, replace(scenario, subscriptions=tuple(others))


def _plainer(settings: SubscriptionSettings) -> Iterator[tuple[str, SubscriptionSettings]]:
    for changes in (
        {"batch": None},
        {"ack": "on_return"},
        {"timeout_s": None},
        {"start_if_no_offset": "earliest"},
        {"on_out_of_range": "earliest"},
        {"dead_letter": None, "on_exhausted": "skip"},
        {"run_in": "threads"},
        {"order_by": "key"},
    ):
        if any(getattr(settings, name) != value for name, value in changes.items()):
            try:
                yield f"plain {next(iter(changes))}", replace(settings, **changes)
            except ConfigError:
                continue  # A combination that nobody can have.


def _with(scenario: Scenario, name: str, value: Any) -> Scenario:
    return replace(scenario, **{name: value})
