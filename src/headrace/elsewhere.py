"""An app in other surroundings than its own: checked before a start, or started on another Kafka, for trials and rehearsals.

Decides no more than what is swapped, and that it is swapped back. Invariant: afterwards the app is as new, whatever
happened. Reporters are not started: a trial is nothing to report.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headrace.errors import AppStateError
from headrace.observe.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace._core.notices import Notice
    from headrace._runtime.assembly import Assembly
    from headrace._runtime.surroundings import Surroundings
    from headrace.app import App
    from headrace.config import Commit
    from headrace.subscriptions import SubscriptionSettings


def check_before_start(app: App) -> None:
    """Raise what a start of `app` would refuse before it connects: `ConfigError` or `HandlerError`."""
    app._require_subscriptions()
    app._assembly.check(traced(app.settings, app._subscriptions))


@contextmanager
def started_elsewhere(
    app: App,
    surroundings: Surroundings,
    commit: Commit,
    listener: Callable[[Notice], None],
    watched: Callable[
        [SubscriptionSettings, Callable[..., Any]], tuple[SubscriptionSettings, Callable[..., Any]]
    ]
    | None = None,
) -> Generator[Assembly]:
    """Start `app` in other surroundings, for trials and rehearsals; afterwards it is as new, and can be started again.

    watched: what to start in place of each subscription and its handler.

    Until then everything that its handlers ask of the app, such as `app.produce`, happens in those surroundings. Raises
    `AppStateError` if the app was started already. The caller stops the assembly; what runs at the end is abandoned.
    """
    with app._lock:
        app._require_subscriptions()
        if app._assembly.began:
            raise AppStateError("trial", app.state.value, "try an app that was not started")
        own, trial = app._assembly, app._assembly.renewed(surroundings, commit)
        trial.teller.listen(listener)
        app._assembly = trial
        try:
            subscriptions = [
                (settings, handler) if watched is None else watched(settings, handler)
                for settings, handler in app._subscriptions
            ]
            trial.start(subscriptions, None, lambda: 0.5, app)
        except BaseException:
            app._assembly = own
            raise
    try:
        yield trial
    finally:
        trial.request_stop(hard=True)
        trial.over.wait()
        app._assembly = own
