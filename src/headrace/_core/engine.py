"""The engine: one connection's decisions. `step(event, now)` says what to do next; `next_deadline()` when to ask again.

Pure: the only inputs are events, the time given, and the numbers drawn from `jitter`. Everything here runs on the
owner thread. The parts are Custody (which partitions, intake), Settlement (what becomes of records), Commits, and a
Workload per subscription; they meet on the Board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from headrace._core import events
from headrace._core.board import Board
from headrace._core.commits import Commits, is_dirty
from headrace._core.custody import Custody
from headrace._core.effects import Dispatch
from headrace._core.routing import Routing
from headrace._core.settlement import Settlement
from headrace._core.snapshot import EngineSnapshot, take_snapshot
from headrace._core.stalls import Standing, standing_of
from headrace._core.workload import Capacity, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.effects import Effect
    from headrace.config import Budgets, Commit
    from headrace.ports import TopicPartition
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings


class Engine:
    """Decides for one connection. Owner thread only."""

    __slots__ = ("_board", "_custody", "_settlement")

    def __init__(
        self,
        subscriptions: Sequence[SubscriptionSettings],
        capacities: Sequence[Capacity],
        *,
        commit: Commit,
        budgets: Budgets,
        rebuild_after_s: float,
        acknowledge: Callable[[Record[Any, Any]], bool],
        jitter: Callable[[], float],
    ) -> None:
        """`rebuild_after_s`: a session timeout. `acknowledge`: where `record.ack()` goes. `jitter`: numbers in [0, 1)."""
        workloads = [
            Workload(index, settings, capacity)
            for index, (settings, capacity) in enumerate(zip(subscriptions, capacities, strict=True))
        ]
        self._board = Board(
            subscriptions,
            workloads,
            Routing(subscriptions),
            Commits(commit, rebuild_after_s),
            budgets,
            acknowledge,
            jitter,
        )
        self._custody = Custody(self._board)
        self._settlement = Settlement(self._board)

    def step(self, event: events.Event, now: float) -> list[Effect]:
        """Take in one event; return what to do, in order."""
        board = self._board
        self._take_in(event, now)
        if board.parking:
            self._settlement.due(now)
        if board.squeezed:
            board.relieve()
        self._dispatch(now)
        board.effects += board.commits.step(board.tenures.values(), now)
        board.tell_holdings(now)
        effects, board.effects = board.effects, []
        return effects

    def next_deadline(self) -> float | None:
        """When something is due without an event, or None. The owner steps with `Tick` no later than that."""
        board = self._board
        moments = [
            board.parking.next_due(),
            board.commits.next_deadline(),
            *(workload.next_deadline() for workload in board.workloads),
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    def hungry(self) -> bool:
        """Whether records should be fetched at once; otherwise a poll now and then is enough."""
        board = self._board
        for tenure in board.brimming:
            # A pause would throw away what is fetched ahead, and cost a wait for the broker when it is over.
            workload = board.workloads[tenure.subscription]
            if not tenure.paused and workload.drains_soon(tenure.runnable):
                return False
        return any(workload.hungry() for workload in board.workloads)

    def in_flight(self) -> int:
        """Records of ours that executors hold. A stale one hurries nobody: only its own key waits for it."""
        return sum(workload.dispatched for workload in self._board.workloads)

    def awaits_commit(self) -> bool:
        """Whether a commit is in flight."""
        return self._board.commits.unanswered

    def drained(self, partitions: Sequence[TopicPartition] | None = None) -> bool:
        """Whether nothing is left to wait for before these partitions (None: all) close."""
        tenures = self._board.tenures
        if partitions is None:
            return all(tenure.drained for tenure in tenures.values())
        return all(tenures[key].drained for key in partitions if key in tenures)

    @property
    def quiet(self) -> bool:
        """Whether it was told to take in and start nothing."""
        return self._board.quiet

    def settled(self) -> bool:
        """Whether everything finished is committed and confirmed."""
        return not self._board.commits.unanswered and not any(map(is_dirty, self._board.tenures.values()))

    def subscription_of(self, topic: str) -> int | None:
        """Index of the subscription that a topic belongs to; raises `ConfigError` if two patterns match it."""
        return self._board.routing.subscription_of(topic)

    def partitions(self) -> list[TopicPartition]:
        """The partitions that are ours."""
        return list(self._board.tenures)

    def idle_partitions(self) -> list[TopicPartition]:
        """Partitions with nothing pending: those whose position may have moved over transaction markers."""
        return [
            tenure.key
            for tenure in self._board.tenures.values()
            if not tenure.ledger.pending and not tenure.keeps_position_only
        ]

    def position_of(self, partition: TopicPartition) -> int | None:
        """Offset of the next record of this partition, or None if it is not ours."""
        tenure = self._board.tenures.get(partition)
        return None if tenure is None else tenure.ledger.position

    def is_paused(self, partition: TopicPartition) -> bool:
        """Whether the partition is ours and not being fetched, for any reason."""
        tenure = self._board.tenures.get(partition)
        return tenure is not None and tenure.paused != 0

    def began_fresh(self, partition: TopicPartition) -> bool:
        """Whether the partition began where there was no commit, and nothing of it was delivered yet."""
        tenure = self._board.tenures.get(partition)
        return tenure is not None and tenure.start_resolved and not tenure.ledger.delivered

    def standings(self) -> list[Standing]:
        """Where each partition stands, for those who judge whether it moves."""
        board = self._board
        return [
            standing_of(tenure, _batch_wait_s(board.workloads[tenure.subscription].settings))
            for tenure in board.tenures.values()
        ]

    def workers(self, subscription: int) -> int:
        """How many handlers of this subscription can run at once, by this connection's share of the places."""
        return self._board.workloads[subscription].workers

    def refusals(self) -> tuple[str, int, float] | None:
        """Code, count and beginning of the present episode of refused commits, if there is one."""
        return self._board.commits.episode()

    def commits_confirmed(self) -> int:
        """How many commits were confirmed."""
        return self._board.commits.confirmed

    def dirty(self) -> bool:
        """Whether something finished is not committed."""
        return any(map(is_dirty, self._board.tenures.values()))

    def hurry_commit(self, now: float) -> None:
        """Commit as soon as the rules allow."""
        self._board.commits.press(now)

    def snapshot(
        self, busy_workers: Sequence[int], now: float, last: EngineSnapshot | None = None
    ) -> EngineSnapshot:
        """Freeze the numbers of this moment; what did not change since `last` is taken from there."""
        return take_snapshot(self._board, busy_workers, now, () if last is None else last.partitions)

    def _take_in(self, event: events.Event, now: float) -> None:
        settlement, custody, board = self._settlement, self._custody, self._board
        match event:
            case events.Finished():
                settlement.finished(event, now)
            case events.Fetched():
                custody.fetched(event, now)
            case events.Tick():
                pass
            case events.Acknowledged():
                settlement.acknowledged(event, now)
            case events.Delivered():
                settlement.produced(event, now)
            case events.DeadLettered():
                settlement.dead_lettered(event, now)
            case events.CommitAnswered(results):
                board.effects += board.commits.answered(results, board.tenures, now)
                self._release_gated(now)
            case events.CommitRefused(code):
                board.effects += board.commits.not_sent(code, now)
                self._release_gated(now)
            case events.ConnectionClosed():
                board.effects += board.commits.closed()
            case events.PositionsRead(positions):
                custody.positions_read(positions)
            case events.Assigned():
                custody.assigned(event, now)
            case events.RevokeBegan(partitions):
                custody.revoke_began(partitions)
            case events.RevokeEnded(partitions):
                custody.revoke_ended(partitions, now)
            case events.Lost(partitions):
                custody.lost(partitions)
            case events.PauseAsked(partitions):
                custody.pause_asked(partitions)
            case events.ResumeAsked(partitions):
                custody.resume_asked(partitions)
            case events.QuietAsked():
                custody.quiet_asked()
            case events.QuietEnded():
                custody.quiet_ended(now)
            case events.ShareSet(connections):
                for workload in board.workloads:
                    workload.share(connections)
            case events.SeekAsked():
                custody.sought(event, now)
            case events.StopBegan():
                custody.stop_began()
                board.commits.hurry(now)
            case _:
                assert_never(event)

    def _dispatch(self, now: float) -> None:
        effects = self._board.effects
        for workload in self._board.workloads:
            if not workload.turns:
                continue
            workload.count_backlog()
            while (records := workload.next_chunk(now)) is not None:
                effects.append(Dispatch(workload.index, records))

    def _release_gated(self, now: float) -> None:
        for tenure in self._board.tenures.values():
            if tenure.gated:
                self._custody.release_gated(tenure, now)


def _batch_wait_s(settings: SubscriptionSettings) -> float:
    return 0.0 if settings.batch is None else settings.batch.wait_s
