"""The states of the runtime, as tables. A pair that is absent from a table is refused.

Rules: everything that changes a state does so through `advance`; no flag elsewhere may repeat what a state says; the
diagrams in the documentation are drawn from these tables; tests walk every pair.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class AppState(Enum):
    """Life of an app, and of its one connection."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    QUIETING = "quieting"
    QUIET = "quiet"
    REBUILDING = "rebuilding"
    DRAINING = "draining"
    COMMITTING = "committing"
    CLOSING = "closing"
    STOPPED = "stopped"
    FAILED = "failed"


class AppTrigger(Enum):
    """What moves an app."""

    START = "start() called"
    SUBSCRIBED = "broker reached, group joined"
    QUIET = "quiet asked"
    STILL = "nothing runs, and what is finished is committed"
    RESUME = "quiet ended"
    STOP = "stop asked"
    FATAL = "fatal error"
    BROKEN = "connection must be rebuilt"
    DRAINED = "no handler runs, or the drain's budget is spent"
    CONFIRMED = "last commit confirmed, or its budget is spent"
    CLOSED = "client closed"
    CLOSED_AFTER_FATAL = "client closed after a fatal error"


APP_TRANSITIONS: Mapping[AppState, Mapping[AppTrigger, AppState]] = {
    AppState.NEW: {AppTrigger.START: AppState.STARTING, AppTrigger.STOP: AppState.STOPPED},
    AppState.STARTING: {
        AppTrigger.SUBSCRIBED: AppState.RUNNING,
        AppTrigger.STOP: AppState.CLOSING,
        AppTrigger.FATAL: AppState.CLOSING,
    },
    AppState.RUNNING: {
        AppTrigger.QUIET: AppState.QUIETING,
        AppTrigger.STOP: AppState.DRAINING,
        AppTrigger.FATAL: AppState.DRAINING,
        AppTrigger.BROKEN: AppState.REBUILDING,
    },
    AppState.QUIETING: {
        AppTrigger.STILL: AppState.QUIET,
        AppTrigger.RESUME: AppState.RUNNING,
        AppTrigger.STOP: AppState.DRAINING,
        AppTrigger.FATAL: AppState.DRAINING,
        AppTrigger.BROKEN: AppState.REBUILDING,
    },
    AppState.QUIET: {
        AppTrigger.RESUME: AppState.RUNNING,
        AppTrigger.STOP: AppState.DRAINING,
        AppTrigger.FATAL: AppState.DRAINING,
        AppTrigger.BROKEN: AppState.REBUILDING,
    },
    # Also where it was to be quiet: it comes back as running, and is quiet again in the next turn.
    AppState.REBUILDING: {
        AppTrigger.SUBSCRIBED: AppState.RUNNING,
        AppTrigger.STOP: AppState.DRAINING,
        AppTrigger.FATAL: AppState.DRAINING,
    },
    AppState.DRAINING: {AppTrigger.DRAINED: AppState.COMMITTING},
    AppState.COMMITTING: {AppTrigger.CONFIRMED: AppState.CLOSING},
    AppState.CLOSING: {
        AppTrigger.CLOSED: AppState.STOPPED,
        AppTrigger.CLOSED_AFTER_FATAL: AppState.FAILED,
    },
    AppState.STOPPED: {},
    AppState.FAILED: {},
}


JOINED = frozenset({AppState.RUNNING, AppState.QUIETING, AppState.QUIET})
"""States in which the app is a member of its group and takes what it is assigned."""


class Phase(Enum):
    """Life of a tenure: one epoch of one partition on this member."""

    ACTIVE = "active"
    DRAINING = "draining"
    CLOSED = "closed"


class PhaseTrigger(Enum):
    """What moves a tenure."""

    REVOKE_BEGAN = "revoke began"
    REVOKE_ENDED = "revoke ended"
    LOST = "lost"
    SEEK = "seek"
    STOP = "stop began"


PHASE_TRANSITIONS: Mapping[Phase, Mapping[PhaseTrigger, Phase]] = {
    Phase.ACTIVE: {
        PhaseTrigger.REVOKE_BEGAN: Phase.DRAINING,
        PhaseTrigger.LOST: Phase.CLOSED,
        PhaseTrigger.SEEK: Phase.CLOSED,
        PhaseTrigger.STOP: Phase.DRAINING,
    },
    Phase.DRAINING: {
        PhaseTrigger.REVOKE_BEGAN: Phase.DRAINING,
        PhaseTrigger.REVOKE_ENDED: Phase.CLOSED,
        PhaseTrigger.LOST: Phase.CLOSED,
        PhaseTrigger.STOP: Phase.DRAINING,
    },
    Phase.CLOSED: {},
}


class CommitState(Enum):
    """What the one commit of a connection is doing."""

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    BACKING_OFF = "backing off"


class CommitTrigger(Enum):
    """What moves the commit."""

    SENT = "sent"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNANSWERED = "no answer in time"
    BACKED_OFF = "backoff over"


COMMIT_TRANSITIONS: Mapping[CommitState, Mapping[CommitTrigger, CommitState]] = {
    CommitState.IDLE: {
        CommitTrigger.SENT: CommitState.IN_FLIGHT,
        # A late answer to a commit that was given up: its content is taken in, the state stays.
        CommitTrigger.CONFIRMED: CommitState.IDLE,
        CommitTrigger.REFUSED: CommitState.BACKING_OFF,
    },
    CommitState.IN_FLIGHT: {
        # Only the last commit before partitions go may overtake one in flight.
        CommitTrigger.SENT: CommitState.IN_FLIGHT,
        CommitTrigger.CONFIRMED: CommitState.IDLE,
        CommitTrigger.REFUSED: CommitState.BACKING_OFF,
        CommitTrigger.UNANSWERED: CommitState.BACKING_OFF,
    },
    CommitState.BACKING_OFF: {
        CommitTrigger.SENT: CommitState.IN_FLIGHT,
        CommitTrigger.CONFIRMED: CommitState.IDLE,
        CommitTrigger.REFUSED: CommitState.BACKING_OFF,
        CommitTrigger.BACKED_OFF: CommitState.IDLE,
    },
}

S = TypeVar("S", bound=Enum)
T = TypeVar("T", bound=Enum)


class InvalidTransition(Exception):
    """A trigger met a state that does not know it: a bug of ours, never the user's."""

    def __init__(self, state: Enum, trigger: Enum) -> None:
        self.state = state
        self.trigger = trigger
        super().__init__(f"{type(state).__name__}.{state.name} does not know {trigger.name}")


def advance(table: Mapping[S, Mapping[T, S]], state: S, trigger: T) -> S:
    """The state that follows; raises `InvalidTransition` for a pair that is not in the table."""
    try:
        return table[state][trigger]
    except KeyError:
        raise InvalidTransition(state, trigger) from None
