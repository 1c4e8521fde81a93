"""Every error a commit may meet, once and again and again, in every phase of a partition's life.

Whatever the error: the app goes on or stops with a typed reason, within its budgets; nothing is committed beyond what
was handled, no offset goes backwards, nothing counts as committed that the broker does not hold; and when the errors
stop, everything is handled and committed. Judged by the handlers' own list and by asking the broker.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from headrace import ClientFailed, FatalError, Fenced, NotAuthorized
from headrace.testing.broker import MockBroker
from tests.embedded.runtime.oracle import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace import App
    from tests.embedded.runtime.conftest import Outcome

Times = Literal["once", "persistently"]
Phase = Literal["run", "drain", "revoke", "assign", "stop"]
Ack = Literal["on_return", "manual"]
Protocol = Literal["classic", "consumer"]

GOES_ON = [
    "REBALANCE_IN_PROGRESS",
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    "REQUEST_TIMED_OUT",
    "_TRANSPORT",
    "OFFSET_METADATA_TOO_LARGE",
    "UNSTABLE_OFFSET_COMMIT",
    "UNKNOWN_TOPIC_OR_PART",
    "UNRELEASED_INSTANCE_ID",
]
GOES_ON_UNDER_KIP848 = [
    "STALE_MEMBER_EPOCH",
    "FENCED_MEMBER_EPOCH",
    "UNKNOWN_MEMBER_ID",
    "REBALANCE_IN_PROGRESS",
    "UNSTABLE_OFFSET_COMMIT",
]
STOPS: dict[str, tuple[type[FatalError], ...]] = {
    "GROUP_AUTHORIZATION_FAILED": (NotAuthorized,),
    "TOPIC_AUTHORIZATION_FAILED": (NotAuthorized,),
    "GROUP_MAX_SIZE_REACHED": (Fenced,),
    "INCONSISTENT_GROUP_PROTOCOL": (Fenced,),
    "FENCED_INSTANCE_ID": (Fenced, ClientFailed),
}
RETRIED_AT_ONCE = {
    "REBALANCE_IN_PROGRESS",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "REQUEST_TIMED_OUT",
    "OFFSET_METADATA_TOO_LARGE",
    "UNSTABLE_OFFSET_COMMIT",
    "UNKNOWN_TOPIC_OR_PART",
    "UNRELEASED_INSTANCE_ID",
    "STALE_MEMBER_EPOCH",
}
"""Refusals after which the member is still one, and the coordinator is still known: the stop tries again."""
NO_MEMBER = {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"}
"""Refusals after which a classic member has lost its partitions and joins anew: while they last, nothing goes on."""
MANY = 1000
DRAIN_S = 1.0
STOP_S = 6.0


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix."""

    code: str
    times: Times
    phase: Phase
    protocol: Protocol = "classic"
    ack: Ack = "on_return"

    def __str__(self) -> str:
        return f"{self.phase}-{self.times}-{self.code}-{self.protocol}-{self.ack}"


CODES: dict[Protocol, list[str]] = {"classic": [*GOES_ON, *STOPS], "consumer": GOES_ON_UNDER_KIP848}
TIMES: list[Times] = ["once", "persistently"]
PHASES: list[Phase] = ["run", "assign", "stop", "revoke", "drain"]
ACKS: list[Ack] = ["on_return", "manual"]
CASES = [
    Case(code, times, phase, protocol, ack)
    for times in TIMES
    for phase in PHASES
    for protocol, codes in CODES.items()
    for code in codes
    for ack in ACKS
]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_commit_error_neither_stops_nor_deceives(case: Case, outcome: Outcome) -> None:
    outcome(case)


def run_case(case: Case) -> None:
    """Run one cell; raises what was wrong."""
    with MockBroker(topics={"orders": 2}) as broker, Group(broker, case.protocol, STOP_S) as group:
        scene = Scene(case, group)
        {
            "run": scene.run,
            "assign": scene.assign,
            "stop": scene.stop,
            "revoke": scene.revoke,
            "drain": scene.drain,
        }[case.phase]()
        scene.relent()
        group.finish()


def reasons(app: App) -> set[str]:
    """What health names now."""
    return {reason.name for reason in app.health().reasons}


class Scene:
    """One case on its group."""

    def __init__(self, case: Case, group: Group) -> None:
        self.case = case
        self.group = group

    def run(self) -> None:
        """Errors while it works: it goes on working, and commits when they stop."""
        group = self.group
        group.produce(20)
        app = self.start()
        group.eventually(group.all_committed, "the first commit")
        self.inject()
        group.produce(20)
        if self.case.code not in STOPS:
            group.eventually(group.all_handled, "consumption")
            if self.case.times == "persistently":
                self.meet_errors()
                group.produce(20)
                group.eventually(group.all_handled, "consumption with refused commits")
                if self.case.code not in NO_MEMBER:
                    group.eventually(lambda: "commits_refused" in reasons(app), "health that says so")
                assert app.health().live
                self.relent()
            group.eventually(group.all_committed, "the commit")
            group.eventually(lambda: app.health().verdict == "ok", "health")
        self.end_of(app)

    def assign(self) -> None:
        """Errors from the first commit on, that of the resolved start included."""
        group = self.group
        group.produce(20)
        self.inject()
        app = self.start()
        if self.case.code not in STOPS:
            if self.case.code not in NO_MEMBER:
                group.eventually(group.all_handled, "consumption")
            if self.case.times == "persistently":
                self.meet_errors()
                self.relent()
            group.eventually(group.all_committed, "the commit")
        self.end_of(app)

    def stop(self) -> None:
        """Errors at the last commit: it stops within its budget, and what was not committed is handled again."""
        group = self.group
        group.produce(20)
        app = self.start(commit_every_s=30.0)
        group.eventually(group.all_handled, "consumption")
        self.inject()
        self.end_of(app)
        if self.case.times == "once" and self.case.code in RETRIED_AT_ONCE:
            assert group.all_committed(), "one refusal was not made good within the stop"
            assert group.no_duplicates()

    def revoke(self) -> None:
        """Errors at the last commit of partitions that go: their new owner handles what was not committed."""
        group = self.group
        group.produce(20)
        first = self.start(commit_every_s=30.0)
        group.eventually(group.all_handled, "consumption")
        self.inject()
        second = self.start(commit_every_s=30.0)
        if self.case.code not in STOPS:
            group.eventually(lambda: group.each_has(1, first, second), "the rebalance")
        group.produce(20)
        if self.case.times == "persistently":
            self.meet_errors(1)
            self.relent()
        for app in (first, second):
            self.end_of(app)

    def drain(self) -> None:
        """Errors while handlers of partitions that go are let end: what they finish is not taken for committed."""
        group, go_on, waits, entered = self.group, threading.Event(), threading.Event(), threading.Event()

        def wait() -> None:
            if waits.is_set():
                entered.set()
                go_on.wait(DRAIN_S)

        group.produce(20)
        first = self.start(before=wait)
        group.eventually(group.all_committed, "the first commit")
        waits.set()
        group.produce(1)
        group.eventually(entered.is_set, "running handlers")
        self.inject()
        second = self.start()
        go_on.set()
        if self.case.code not in STOPS:
            group.eventually(lambda: group.each_has(1, first, second), "the rebalance")
        group.produce(10)
        if self.case.times == "persistently":
            self.meet_errors(1)
            self.relent()
        for app in (first, second):
            self.end_of(app)

    def start(self, commit_every_s: float = 0.05, before: Callable[[], object] = lambda: None) -> App:
        """One more member: static where the error is one of static members."""
        # Any other that is told so never ends to close: librdkafka then turns in circles for ever.
        static = f"member-{len(self.group.apps)}" if self.case.code == "FENCED_INSTANCE_ID" else None
        return self.group.start(commit_every_s, self.case.ack, before, instance_id=static)

    def inject(self) -> None:
        """Refuse the next commit, or all."""
        self.group.broker.track_requests()
        count = 1 if self.case.times == "once" else MANY
        self.group.broker.push_errors("OffsetCommit", *[self.case.code] * count)

    def meet_errors(self, count: int = 2) -> None:
        """Wait until commits were refused, and see that nobody takes them for written."""
        self.group.eventually(lambda: self.group.requests("OffsetCommit") >= count, "a refused commit")

    def relent(self) -> None:
        """The errors stop."""
        self.group.broker.clear_errors("OffsetCommit")

    def end_of(self, app: App) -> None:
        """Stop it, or see that it stopped itself: in time, and if with a reason then with a typed one."""
        code = self.case.code
        began = time.monotonic()
        if code in STOPS and self.case.phase in ("run", "assign"):
            with pytest.raises(STOPS[code]):
                app.wait()
        else:
            with suppress(*STOPS.get(code, ())):
                app.stop()
        took_s = time.monotonic() - began
        assert took_s < STOP_S + 4.0, f"it took {took_s:.1f} s to end"
        self.group.look()
