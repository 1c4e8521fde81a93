"""A member process under chaos: one app, or several of different groups that come and go inside one process.

Run as `python -m tests.chaos.program JOB`. Decides when its own apps churn, by a seed; refuses to know of faults, but
for the one it does to itself: SIGUSR2 makes a C call that keeps the interpreter's lock for longer than
`max.poll.interval.ms`. SIGUSR1 writes all stacks to its log. SIGTERM drains; exit code 0 after a clean stop.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import random
import signal
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace import ForcedStop
from headrace._core import connection_notices, notices
from headrace._core.scaling import Decision, decide
from headrace._runtime import siblings
from tests.chaos.judge import STOP_UNCONFIRMED
from tests.members.ledger import Ledger
from tests.members.plan import Plan
from tests.members.program import FORCED_EXIT_CODE, make_app, named

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from headrace import App
    from headrace._core.notices import Notice
    from headrace._core.scaling import View

TOLD = (
    connection_notices.ConnectionFailed,
    connection_notices.ConnectionsChanged,
    notices.ClientFault,
    notices.CommitOverdue,
    notices.CommitRefused,
    notices.CommitWentBack,
    notices.ConnectionRebuilt,
    notices.DrainOverran,
    notices.OffsetMapRejected,
    notices.OffsetMapTruncated,
    notices.OffsetsUnreadable,
    notices.PartitionReassigned,
)
"""Notices that the report counts."""
RESTS_S = 5.0
"""A restless app changes its connections when they have been settled for so long: longer than the policy waits, whose turn
comes first."""
OUT_OF_TURN = ("stopping", "cooling_down", "below_min", "above_max", "no_fresh_sample")
"""What a restless app decides as any other."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process is to do.

    label: its name in the ledger of faults; the members in it are called `label`, or `label/group.n` if they churn.
    faults: that ledger's file.
    churn_seed: None runs the one plan until SIGTERM; a number stops and starts the apps of all plans at random.
    wedge_s: how long SIGUSR2 keeps the interpreter's lock.
    """

    label: str
    faults: str
    plans: tuple[Plan, ...]
    churn_seed: int | None = None
    wedge_s: int = 12

    def to_argument(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Job:
        """Back again."""
        told = json.loads(text)
        plans = tuple(Plan.from_argument(json.dumps(plan)) for plan in told["plans"])
        return cls(**(told | {"plans": plans}))


class Restless:
    """In place of the policy: up to max and down to min, again and again. Of one app alone."""

    def __init__(self) -> None:
        self._falling = False

    def __call__(self, view: View, now: float) -> Decision:
        """As `decide`."""
        told = decide(view, now)
        if told.why in OUT_OF_TURN:
            return told
        if any(each.settled_since is None or now - each.settled_since < RESTS_S for each in view.connections):
            return Decision(0, "unsettled")
        bounds = view.bounds
        self._falling = view.count >= bounds.max or (self._falling and view.count > bounds.min)
        if self._falling:
            return Decision(-1, "spare", max(each.number for each in view.connections))
        return Decision(1, "many_partitions")


def app_of(plan: Plan, ledger: Ledger) -> App:
    """The plan's app; what it tells beyond custody goes to the ledger too."""
    if plan.restless:
        setattr(siblings, "decide", Restless())  # noqa: B010 - an assignment is refused by mypy
    app = make_app(plan, ledger)

    def tell(notice: Notice) -> None:
        match notice:
            case notices.StateChanged(_, _, "unconfirmed"):
                who = {"member": named(plan, 0)} if plan.names_connections else {}
                ledger.write("told", detail=STOP_UNCONFIRMED, **who)
            case connection_notices.ConnectionMoved(number, _, _, "unconfirmed"):
                ledger.write("told", detail=STOP_UNCONFIRMED, member=named(plan, number))
            case _:
                pass
        if isinstance(notice, TOLD):
            facts = notice.facts()
            code = facts.get("code") or facts.get("reason") or facts.get("why") or facts.get("error") or ""
            ledger.write(
                "told", detail=f"{notice.name} {code}".strip()[:80], partition=facts.get("partition", -1)
            )

    app.listen(tell)
    return app


def wedge_on_signal(job: Job, faults: Ledger) -> None:
    """Let SIGUSR2 keep the interpreter's lock: no Python runs meanwhile, while the client's heartbeats go on."""
    # PyDLL, unlike CDLL, does not give the lock up for the call.
    sleep: Callable[[int], int] = ctypes.PyDLL(None).sleep

    def wedge(_number: int, _frame: FrameType | None) -> None:
        faults.write("adrift", member=job.label, detail="wedge")
        sleep(job.wedge_s)
        faults.write("back", member=job.label, detail="wedge")

    signal.signal(signal.SIGUSR2, wedge)


def run_one(plan: Plan) -> int:
    """One app until SIGTERM."""
    app = app_of(plan, Ledger(plan.ledger_path, plan.name))
    try:
        app.run()
    except ForcedStop:
        logging.getLogger(__name__).exception("forced")
        return FORCED_EXIT_CODE
    return 0


def churn(plan: Plan, seed: str, ended: threading.Event) -> None:
    """Start and stop this plan's app again and again, until the process is to end. One thread per plan."""
    chance = random.Random(seed)  # noqa: S311 # a seed has to repeat it
    number = 0
    while not ended.is_set():
        number += 1
        named = replace(plan, name=f"{plan.name}.{number}")
        ledger = Ledger(plan.ledger_path, named.name)
        app = app_of(named, ledger)
        code = 0
        try:
            app.start()
            ended.wait(chance.uniform(3.0, 12.0))
            app.stop()
        except ForcedStop:
            code = FORCED_EXIT_CODE
        except Exception:
            # An app that could not start, or died: the judge sees the code, the log says why.
            logging.getLogger(__name__).exception("%s ended by itself", named.name)
            code = 1
        # The ledger stays open: a handler that was abandoned may still write to it.
        ledger.write("stopped", detail=str(code))
        ended.wait(chance.uniform(0.2, 2.0))


def run_many(job: Job) -> int:
    """All plans churn, each on a thread of its own, until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    threads = [
        threading.Thread(target=churn, args=(plan, f"{job.churn_seed}/{plan.name}", ended))
        for plan in job.plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def main(job: Job) -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    faulthandler.register(signal.SIGUSR1)
    wedge_on_signal(job, Ledger(Path(job.faults)))
    return run_one(job.plans[0]) if job.churn_seed is None else run_many(job)


if __name__ == "__main__":
    sys.exit(main(Job.from_argument(sys.argv[1])))
