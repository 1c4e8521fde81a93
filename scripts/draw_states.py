"""Writes docs/states.md: the state tables of the runtime as diagrams, with what each state means.

The diagrams are drawn from the tables themselves, so they cannot lie; a test says when the file is out of date.
Usage: python scripts/draw_states.py
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from headrace._core.states import (
    APP_TRANSITIONS,
    COMMIT_TRANSITIONS,
    PHASE_TRANSITIONS,
    AppState,
    CommitState,
    Phase,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Enum)
T = TypeVar("T", bound=Enum)

TARGET = Path(__file__).parents[1] / "docs" / "states.md"

MEANINGS: Mapping[Enum, str] = {
    AppState.NEW: "made, not started: no thread runs, nothing was connected.",
    AppState.STARTING: "looks for a broker, sees that the topics exist, joins the group.",
    AppState.RUNNING: "consumes. Rebalances and paused partitions are part of this, not states of their own.",
    AppState.QUIETING: "still a member of the group, starts nothing new; what runs ends, what is finished is committed.",
    AppState.QUIET: "still a member of the group: nothing runs, nothing is started or taken in, until told otherwise.",
    AppState.REBUILDING: "the group keeps refusing the connection: it was closed, a new one is being made.",
    AppState.DRAINING: "stops: takes in nothing, lets running handlers end, within the budget.",
    AppState.COMMITTING: "sends the last commit and waits until it is confirmed, within the budget.",
    AppState.CLOSING: "leaves the group and closes the client.",
    AppState.STOPPED: "over, as asked.",
    AppState.FAILED: "over, because of an error; `app.wait()` raises it.",
    Phase.ACTIVE: "ours: records are taken in and started.",
    Phase.DRAINING: "going: nothing is taken in, what never started was taken back, running handlers end.",
    Phase.CLOSED: "over: nothing of it starts or is committed any more. A handler that still runs keeps its lane.",
    CommitState.IDLE: "nothing is in flight; the next commit leaves when its timer or its count says so.",
    CommitState.IN_FLIGHT: "a commit was sent and is unanswered. What it says stays dirty until it is confirmed.",
    CommitState.BACKING_OFF: "refused, or unanswered for too long: it is sent again after a pause that doubles.",
}


def page() -> str:
    """The whole of docs/states.md."""
    return "\n".join([
        "# States",
        "",
        "Drawn from `headrace/_core/states.py` by `scripts/draw_states.py`; do not edit. A pair of state and trigger that",
        "has no arrow is refused with `InvalidTransition`: it would be a bug of ours.",
        "",
        *_section("The app, and its connection", APP_TRANSITIONS, AppState.NEW),
        *_section("A tenure: one epoch of one partition on this member", PHASE_TRANSITIONS, Phase.ACTIVE),
        "A lost partition closes at once, without a commit; so does one that is sought, since its tenure at the new",
        "position begins there and then. A second revoke or stop of what already drains changes nothing.",
        "",
        *_section("The commit of a connection", COMMIT_TRANSITIONS, CommitState.IDLE),
        "There is one commit at a time. Only the last commit of partitions that go may overtake one in flight, since there",
        "is no later. Answers in `idle` and `backing off` are late ones, to commits that were given up.",
        "",
    ])  # fmt: skip


def diagram(table: Mapping[S, Mapping[T, S]], first: S) -> list[str]:
    """One state diagram in Mermaid's language. Ends are the states that nothing leaves."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {state.name}' for state in table]
    lines.append(f"    [*] --> {first.name}")
    for state, row in table.items():
        lines += [f"    {state.name} --> {after.name} : {trigger.value}" for trigger, after in row.items()]
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return [*lines, "```"]


def _section(title: str, table: Mapping[S, Mapping[T, S]], first: S) -> list[str]:
    meanings = [f"- **{state.value}**: {MEANINGS[state]}" for state in table]
    return [f"## {title}", "", *diagram(table, first), "", *meanings, ""]


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(page(), encoding="utf-8")
    print(f"wrote {TARGET}")
