"""Every pair of state and trigger of every table, and the page that is drawn from them."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace._core.states import (
    APP_TRANSITIONS,
    COMMIT_TRANSITIONS,
    PHASE_TRANSITIONS,
    AppState,
    AppTrigger,
    CommitState,
    CommitTrigger,
    InvalidTransition,
    Phase,
    PhaseTrigger,
    advance,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

ROOT = Path(__file__).parents[3]
TABLES = {
    "app": (APP_TRANSITIONS, AppState, AppTrigger, AppState.NEW),
    "phase": (PHASE_TRANSITIONS, Phase, PhaseTrigger, Phase.ACTIVE),
    "commit": (COMMIT_TRANSITIONS, CommitState, CommitTrigger, CommitState.IDLE),
}
PAIRS = [
    pytest.param(table, state, trigger, id=f"{name}-{state.name}-{trigger.name}")
    for name, (table, states, triggers, _) in TABLES.items()
    for state, trigger in product(states, triggers)
]
each_table = pytest.mark.parametrize(("table", "states", "triggers", "first"), TABLES.values(), ids=TABLES)


@pytest.mark.parametrize(("table", "state", "trigger"), PAIRS)
def test_a_pair_leads_where_the_table_says_or_is_refused(
    table: Mapping[Any, Mapping[Any, Any]], state: Enum, trigger: Enum
) -> None:
    if trigger in table[state]:
        assert advance(table, state, trigger) is table[state][trigger]
        return
    with pytest.raises(InvalidTransition) as refused:
        advance(table, state, trigger)
    assert (refused.value.state, refused.value.trigger) == (state, trigger)
    assert trigger.name in str(refused.value)


@each_table
def test_every_state_has_a_row_and_every_trigger_an_arrow(
    table: Mapping[Any, Mapping[Any, Any]], states: type[Enum], triggers: type[Enum], first: Enum
) -> None:
    assert set(table) == set(states)
    assert {trigger for row in table.values() for trigger in row} == set(triggers)


@each_table
def test_every_state_is_reached_and_none_but_the_ends_is_dead(
    table: Mapping[Any, Mapping[Any, Any]], states: type[Enum], triggers: type[Enum], first: Enum
) -> None:
    assert reached(table, first) == set(states)
    ends = {state for state in states if not table[state]}
    assert ends == {AppState.STOPPED, AppState.FAILED, Phase.CLOSED} & set(states)
    for state in states:
        if ends:
            assert reached(table, state) & ends, f"{state} cannot end"
        else:
            assert first in reached(table, state), f"{state} cannot come back"


def test_a_closed_tenure_never_opens_again() -> None:
    """Whatever comes next is a new tenure with a new epoch (guarantee S4)."""
    assert PHASE_TRANSITIONS[Phase.CLOSED] == {}


def test_an_app_always_drains_and_commits_before_it_closes_what_ran() -> None:
    """Stop closing the consumer before the handlers have finished, and their commits fail."""
    into_closing = {state for state, row in APP_TRANSITIONS.items() if AppState.CLOSING in row.values()}
    assert into_closing == {AppState.STARTING, AppState.COMMITTING}
    into_committing = {state for state, row in APP_TRANSITIONS.items() if AppState.COMMITTING in row.values()}
    assert into_committing == {AppState.DRAINING}


def test_the_page_of_states_is_up_to_date() -> None:
    """Run scripts/draw_states.py after a change of the tables."""
    drawn = drawing().page()
    assert (ROOT / "docs/states.md").read_text(encoding="utf-8") == drawn


def test_the_page_explains_every_state() -> None:
    """A state nobody can explain should not exist."""
    assert set(drawing().MEANINGS) == {*AppState, *Phase, *CommitState}


def reached(table: Mapping[Any, Mapping[Any, Any]], first: Enum) -> set[Enum]:
    found, todo = {first}, [first]
    while todo:
        for after in table[todo.pop()].values():
            if after not in found:
                found.add(after)
                todo.append(after)
    return found


def drawing() -> Any:
    """scripts/ is no package: load the one file."""
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "scripts/draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("draw_states", module)
    spec.loader.exec_module(module)
    return module
