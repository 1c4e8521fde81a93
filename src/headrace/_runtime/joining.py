"""Outcomes that arrive together, as one event.

Handlers that wait are given one record at a time, and hundreds of threads answer each for its own. A step of the engine
costs the same for one record as for hundreds, so neighbours among the answers are joined before it. Decides what may be
joined: only outcomes of one subscription, and only with nothing of another kind between them, so that nothing overtakes
anything. Refuses to judge an outcome. Invariant: every record of the outcomes is in what they are joined to, in the same
part of it and in the same order.

Pure; any thread.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from headrace._core.events import Finished

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT_RECORDS = 16
"""Outcomes of more records than this pay for their own step: to copy their lists would cost more than it saves."""


def joined(items: Sequence[Any]) -> list[Any]:
    """The items in their order, neighbours that are short outcomes of one subscription joined."""
    found: list[Any] = []
    run: list[Finished] = []
    for item in items:
        short = isinstance(item, Finished) and item.started <= SHORT_RECORDS
        if run and not (short and item.subscription == run[0].subscription):
            found.append(_one(run))
            run = []
        if short:
            run.append(item)
        else:
            found.append(item)
    if run:
        found.append(_one(run))
    return found


def _one(run: list[Finished]) -> Finished:
    if len(run) == 1:
        return run[0]
    return Finished(
        run[0].subscription,
        list(chain.from_iterable(each.succeeded for each in run)),
        list(chain.from_iterable(each.failed for each in run)),
        list(chain.from_iterable(each.returned for each in run)),
        list(chain.from_iterable(each.awaiting for each in run)),
        sum(each.filtered for each in run),
        sum(each.busy_s for each in run),
        sum(each.cpu_s for each in run),
        sum(each.started for each in run),
        list(chain.from_iterable(map(_durations_s, run))),
    )


def _durations_s(outcome: Finished) -> list[float]:
    """Of each record that was started; told one by one, since a mean over several handlers would be nobody's."""
    quick = outcome.started - len(outcome.waits_s)
    return [*outcome.waits_s, *([outcome.busy_s / quick] * quick if quick > 0 else ())]
