"""What the parts of the engine share: the tenures, the work of each subscription, the counters, and the effects so far.

Decides nothing. Each part of the engine changes its own share and appends effects; `Engine.step` hands them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace._core.effects import HoldingsChanged, Pause, Resume, Tell
from headrace._core.flow import brims, may_resume, reason_to_pause
from headrace._core.notices import IntakePaused
from headrace._core.retry import ParkingLot
from headrace._core.states import Phase
from headrace._core.tenure import PAUSED_BY_FLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.assignments import Reason
    from headrace._core.commits import Commits
    from headrace._core.effects import Effect
    from headrace._core.lanes import Lanes
    from headrace._core.notices import Notice
    from headrace._core.routing import Routing
    from headrace._core.tenure import Tenure
    from headrace._core.workload import Workload
    from headrace.config import Budgets
    from headrace.ports import TopicPartition
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings


@dataclass(slots=True)
class Counters:
    """Totals of one connection since it started.

    Every fetched record is finished (handled, filtered, restored, skipped, dead lettered or acknowledged), dropped
    with its tenure, or still unfinished in one.
    """

    fetched: int = 0
    finished: int = 0
    dropped: int = 0
    restored: int = 0
    """Delivered again, but finished before a restart as the offset map says: finished at once, no handler."""
    succeeded: int = 0
    filtered: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    failed: int = 0
    retried: int = 0
    stale_results: int = 0
    """Results of handlers that outlived their tenure."""
    stale_acks: int = 0
    refetched: int = 0
    """Records that came for a partition that is not ours, or below its position."""
    assigned: int = 0
    revoked: int = 0
    lost: int = 0
    abandoned: int = 0
    """Handlers that still ran when their partition's drain was over."""
    pauses: int = 0
    seeks: int = 0


FAILURE_KINDS_MAX = 50
"""Names of errors that are counted apart, in all: a handler that makes classes as it goes must not fill the memory."""
OTHER_FAILURES = "other"


class Board:
    """Shared by the parts of one engine. Owner thread only."""

    __slots__ = (
        "acknowledge",
        "brimming",
        "budgets",
        "bytes_held",
        "closed",
        "closed_for",
        "commits",
        "counters",
        "effects",
        "epoch",
        "failures",
        "jitter",
        "lanes",
        "opened",
        "parking",
        "quiet",
        "routing",
        "squeezed",
        "stopping",
        "subscriptions",
        "tenures",
        "user_paused",
        "workloads",
    )

    def __init__(
        self,
        subscriptions: Sequence[SubscriptionSettings],
        workloads: Sequence[Workload],
        routing: Routing,
        commits: Commits,
        budgets: Budgets,
        acknowledge: Callable[[Record[Any, Any]], bool],
        jitter: Callable[[], float],
    ) -> None:
        self.subscriptions = subscriptions
        self.workloads = workloads
        self.routing = routing
        self.commits = commits
        self.budgets = budgets
        self.acknowledge = acknowledge
        self.jitter = jitter
        self.tenures: dict[TopicPartition, Tenure] = {}
        # Lanes of partitions that are not ours any more but whose handlers still run.
        self.lanes: dict[TopicPartition, Lanes] = {}
        self.parking = ParkingLot()
        self.counters = Counters()
        # How often tries failed, by subscription and name of the error.
        self.failures: dict[tuple[int, str], int] = {}
        self.effects: list[Effect] = []
        self.bytes_held = 0
        self.epoch = 0
        self.user_paused: set[TopicPartition] = set()
        self.stopping = False
        # Whether nothing is to be taken in or started until the user says so; holds for partitions that come, too.
        self.quiet = False
        # Partitions near their queue budget: with quick handlers they need time, not a pause.
        self.brimming: dict[Tenure, None] = {}
        # Partitions paused for the bytes of all of them together.
        self.squeezed: dict[Tenure, None] = {}
        # (topic, partition, epoch) of tenures that this step opened and closed, and why it closed them.
        self.opened: list[tuple[str, int, int]] = []
        self.closed: list[tuple[str, int, int]] = []
        self.closed_for: Reason = "assigned"

    def count_failure(self, subscription: int, error: BaseException) -> None:
        """Count a try that failed, by the name of its error's class."""
        self.counters.failed += 1
        key = (subscription, type(error).__name__)
        if key not in self.failures and len(self.failures) >= FAILURE_KINDS_MAX:
            key = (subscription, OTHER_FAILURES)
        self.failures[key] = self.failures.get(key, 0) + 1

    def tell(self, notice: Notice) -> None:
        """Append a notice to the effects."""
        self.effects.append(Tell(notice))

    def tell_holdings(self, now: float) -> None:
        """Put what this step opened and closed before its other effects: who hears of them finds it so."""
        if self.opened or self.closed:
            reason = self.closed_for if self.closed else "assigned"
            self.effects.insert(0, HoldingsChanged(reason, self.opened, self.closed, now))
            self.opened, self.closed = [], []

    def pause(self, tenure: Tenure, reason: int) -> None:
        """Set one reason to pause; the client hears of the first."""
        if not tenure.paused:
            self.effects.append(Pause([tenure.key]))
        tenure.paused |= reason

    def unpause(self, tenure: Tenure, reason: int) -> None:
        """Clear one reason to pause; the client resumes with the last."""
        if not tenure.paused & reason:
            return
        tenure.paused &= ~reason
        if not tenure.paused:
            self.effects.append(Resume([tenure.key]))

    def regulate(self, tenure: Tenure) -> None:
        """Pause or resume a partition after its numbers changed."""
        self.brimming.pop(tenure, None)
        if tenure.phase is not Phase.ACTIVE:
            return
        budgets, held, partitions = self.budgets, self.bytes_held, len(self.tenures)
        was = tenure.paused_for
        if was is not None and not may_resume(was, tenure, budgets, held, partitions):
            return
        reason = reason_to_pause(tenure, budgets, held, partitions)
        if reason is None and brims(tenure, budgets):
            self.brimming[tenure] = None
        if reason is was:
            return
        tenure.paused_for = reason
        self.squeezed.pop(tenure, None)
        if reason == "total_bytes_max":
            self.squeezed[tenure] = None
        if reason is None:
            self.unpause(tenure, PAUSED_BY_FLOW)
            return
        if was is None:
            self.counters.pauses += 1
            self.pause(tenure, PAUSED_BY_FLOW)
        self.tell(IntakePaused(*tenure.key, reason=reason, head=tenure.ledger.committable))

    def relieve(self) -> None:
        """Regulate the partitions that stopped for the total: what frees them may have happened to others."""
        if self.bytes_held <= self.budgets.total_bytes_max * 3 // 4:
            for tenure in tuple(self.squeezed):
                self.regulate(tenure)
