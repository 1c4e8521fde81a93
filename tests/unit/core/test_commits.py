"""The commits of one connection: when one leaves, what its answer means, and that dirty stays dirty until confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from headrace._core import notices
from headrace._core.commits import Commits, is_dirty
from headrace._core.effects import Rebuild, SendCommit, StopApp, Tell
from headrace._core.flights import FORGOTTEN_AFTER_S, Flights
from headrace._core.lanes import DONE
from headrace._core.refusals import REFUSALS, CommitAction
from headrace._core.states import CommitState
from headrace.config import Commit
from headrace.errors import Fenced, NotAuthorized, TopicMissing
from headrace.ports import CommitResult
from tests.unit.core.makers import TOPIC, deliver, finish, make_tenure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace._core.effects import Effect
    from headrace._core.tenure import Tenure

T = TypeVar("T")
POLICY = Commit(every_s=1.0, timeout_s=10.0, backoff_initial_s=0.5, backoff_max_s=4.0, alert_after_s=30.0)
RETRIED = (
    "REBALANCE_IN_PROGRESS", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR",
    "REQUEST_TIMED_OUT", "_TIMED_OUT", "_TRANSPORT", "UNSTABLE_OFFSET_COMMIT", "a code of tomorrow",
)  # fmt: skip
REBUILT = (
    "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH", "_MAX_POLL_EXCEEDED",
)  # fmt: skip


class Desk:
    """A `Commits` with two partitions of ours, and a clock."""

    def __init__(self, policy: Commit = POLICY) -> None:
        self.commits = Commits(policy, rebuild_after_s=45.0)
        self.tenures = {(TOPIC, number): make_tenure(number) for number in range(2)}
        self.now = 100.0
        self.told: list[Effect] = []
        for tenure in self.tenures.values():
            tenure.confirmed, tenure.confirmed_mark = 0, (0, 0)
        assert self.step() == []

    def take(self, effects: Iterable[Effect]) -> list[list[tuple[int, int]]]:
        """What was sent: per commit, (partition, offset)."""
        kept = list(effects)
        self.told += kept
        return [
            [(request.partition, request.offset) for request in effect.requests]
            for effect in kept
            if isinstance(effect, SendCommit)
        ]

    def step(self, after_s: float = 0.0) -> list[list[tuple[int, int]]]:
        self.now += after_s
        return self.take(self.commits.step(self.tenures.values(), self.now))

    def answer(self, offset: int, error: str | None = None, partition: int = 0) -> None:
        results = [CommitResult(TOPIC, partition, offset, error)]
        self.take(self.commits.answered(results, self.tenures, self.now))

    def work(self, count: int = 1, partition: int = 0) -> None:
        """So many records come and are finished."""
        tenure = self.tenures[TOPIC, partition]
        records = deliver(tenure, [None] * count)
        tenure.lanes.resolve(tenure.lanes.take(count), DONE)
        finish(tenure, records)
        self.commits.finished_since += count

    def heard(self, kind: type[T]) -> list[T]:
        """Effects and notices of this kind so far."""
        flat: list[Any] = [effect.notice if isinstance(effect, Tell) else effect for effect in self.told]
        return [one for one in flat if isinstance(one, kind)]

    def one_in_flight(self) -> Desk:
        self.work()
        assert self.step(1.0) == [[(0, 1)]]
        return self


def test_nothing_new_sends_nothing() -> None:
    desk = Desk()
    assert [desk.step(1.0) for _ in range(5)] == [[]] * 5


def test_a_commit_leaves_on_its_timer_or_its_count() -> None:
    desk = Desk(Commit(every_s=1.0, every_records=10))
    desk.work(9)
    assert desk.step(0.5) == []
    desk.work()
    assert desk.step() == [[(0, 10)]]
    desk.answer(10)
    desk.work()
    assert desk.step(0.5) == []
    assert desk.step(0.5) == [[(0, 11)]]


def test_sending_does_not_make_clean() -> None:
    """parallel-consumer PR 470: marked clean when sent, and nothing retried what was lost."""
    desk = Desk().one_in_flight()
    assert is_dirty(desk.tenures[TOPIC, 0])
    desk.answer(1)
    assert not is_dirty(desk.tenures[TOPIC, 0])


def test_what_finishes_during_a_flight_stays_dirty() -> None:
    """parallel-consumer #664, also for records beyond the committable offset: only the map changes."""
    desk = Desk()
    tenure = desk.tenures[TOPIC, 0]
    records = deliver(tenure, [None] * 5)
    finish(tenure, records[:1])
    assert desk.step(1.0) == [[(0, 1)]]
    finish(tenure, records[3:4])
    desk.answer(1)
    assert is_dirty(tenure)
    assert desk.step(1.0) == [[(0, 1)]]


def test_one_commit_at_a_time() -> None:
    """Two in flight: the older one was written after the newer one."""
    desk = Desk().one_in_flight()
    desk.work()
    assert [desk.step(1.0) for _ in range(9)] == [[]] * 9
    desk.answer(1)
    assert desk.step() == [[(0, 2)]]


@pytest.mark.parametrize("code", [*RETRIED, *REBUILT])
def test_a_refused_commit_is_sent_again_with_backoff(code: str) -> None:
    """FastStream #2: a commit refused in a rebalance ended everything; parallel-consumer 108: it was taken for done."""
    desk = Desk().one_in_flight()
    for pause_s in (0.5, 1.0, 2.0, 4.0, 4.0):
        desk.answer(1, code)
        assert is_dirty(desk.tenures[TOPIC, 0])
        assert desk.commits.next_deadline() == desk.now + pause_s
        assert desk.step(pause_s - 0.01) == []
        assert desk.step(0.02) == [[(0, 1)]]
    desk.answer(1)
    assert not is_dirty(desk.tenures[TOPIC, 0])
    assert len(desk.heard(notices.CommitRecovered)) == 1
    assert not desk.heard(StopApp)


def test_a_hurry_does_not_cut_a_backoff_short_and_a_stop_only_to_its_first() -> None:
    """An outage must not be hammered, whatever comes in."""
    desk = Desk().one_in_flight()
    for _ in range(4):
        desk.answer(1, "NOT_COORDINATOR")
        desk.commits.hurry(desk.now)
        assert desk.step() == []
        desk.step(4.0)
    desk.answer(1, "NOT_COORDINATOR")
    desk.commits.press(desk.now)
    assert desk.step(0.49) == []
    assert desk.step(0.02) == [[(0, 1)]]


def test_no_newer_commit_leaves_while_one_is_unanswered() -> None:
    """Chaos on a real broker, seed 12: given up, the older one was written after the newer one, and nobody mended it."""
    desk = Desk().one_in_flight()
    desk.work()
    assert desk.commits.next_deadline() == desk.now + 10.0
    assert desk.step(10.0) == []
    assert [notice.code for notice in desk.heard(notices.CommitRefused)] == ["no answer"]
    assert desk.step(20.0) == desk.step(20.0) == []
    assert len(desk.heard(notices.CommitOverdue)) == 1
    assert desk.commits.unanswered
    desk.answer(1)
    assert desk.step(1.0) == [[(0, 2)]]
    assert desk.heard(notices.CommitRecovered)


def test_a_refusal_after_a_long_wait_is_sent_again_with_the_newest() -> None:
    desk = Desk().one_in_flight()
    desk.step(10.0)
    desk.work()
    desk.answer(1, "_TIMED_OUT")
    assert desk.commits.state is CommitState.BACKING_OFF
    assert desk.step(0.5) == [[(0, 2)]]


def test_an_answer_that_can_not_come_any_more_is_not_waited_for() -> None:
    desk = Desk().one_in_flight()
    desk.step(10.0)
    assert desk.step(FORGOTTEN_AFTER_S) == []
    assert desk.step(0.5) == [[(0, 1)]]


def test_a_late_answer_below_what_was_confirmed_is_dirty_again() -> None:
    desk = Desk().one_in_flight()
    desk.step(FORGOTTEN_AFTER_S)
    desk.work()
    assert desk.step(0.5) == [[(0, 2)]]
    desk.answer(2)
    assert not is_dirty(desk.tenures[TOPIC, 0])
    desk.answer(1)
    assert desk.heard(notices.CommitWentBack)
    assert is_dirty(desk.tenures[TOPIC, 0])
    assert desk.step(1.0) == [[(0, 2)]]


def test_an_answer_that_may_be_an_older_commits_proves_nothing() -> None:
    """Found in this core: same offset, older map; taken for the newer one's, whose refusal then went unnoticed."""
    desk = Desk()
    tenure = desk.tenures[TOPIC, 0]
    records = deliver(tenure, [None] * 5)
    finish(tenure, records[2:3])
    assert desk.step(1.0) == [[(0, 0)]]
    desk.step(FORGOTTEN_AFTER_S)
    finish(tenure, records[3:4])
    assert desk.step(0.5) == [[(0, 0)]]
    desk.answer(0)
    assert is_dirty(tenure)
    assert desk.step(1.0) == [[(0, 0)]]
    desk.answer(0)
    assert not is_dirty(tenure)
    desk.answer(0, "REBALANCE_IN_PROGRESS")
    assert is_dirty(tenure)


def test_of_equal_commits_one_answer_leaves_the_other_on_its_way() -> None:
    """Found by the simulator, seed 7: the next commit left beside one that could be written after it."""
    flights = Flights()
    flights.sent({(TOPIC, 0): 1}, 0.0)
    flights.sent({(TOPIC, 0): 1}, 1.0)
    flights.answered({(TOPIC, 0): 7})  # Somebody else's.
    flights.answered({(TOPIC, 0): 1})
    assert flights
    assert flights.flying((TOPIC, 0))
    flights.answered({(TOPIC, 0): 1})
    assert not flights


def test_a_closed_connection_is_not_waited_for_and_leaves_no_revoke_untold() -> None:
    desk = Desk().one_in_flight()
    gone = desk.tenures.pop((TOPIC, 0))
    desk.take(desk.commits.farewell([gone], desk.now))
    desk.take(desk.commits.closed())
    assert [notice.offset for notice in desk.heard(notices.RevokeUnconfirmed)] == [1]
    assert not desk.commits.unanswered
    desk.take(desk.commits.closed())
    assert len(desk.heard(notices.RevokeUnconfirmed)) == 1


def test_a_late_answer_of_an_epoch_before_does_not_count() -> None:
    """Mutant 15; and what that epoch wrote is not taken back."""
    desk = Desk()
    desk.work(3)
    old = desk.tenures[TOPIC, 0]
    assert desk.take(desk.commits.farewell([old], desk.now)) == [[(0, 3)]]
    fresh = desk.tenures[TOPIC, 0] = make_tenure(epoch=2)
    fresh.confirmed, fresh.confirmed_mark = 0, (0, 0)
    desk.work()
    desk.answer(3)
    assert fresh.confirmed == 3
    assert not is_dirty(fresh), "committing 1 would take 3 back"
    desk.work(3)
    assert desk.step(1.0) == [[(0, 4)]]


def test_too_large_a_map_is_left_out() -> None:
    desk = Desk()
    tenure = desk.tenures[TOPIC, 0]
    records = deliver(tenure, [None] * 5)
    finish(tenure, records[3:4])
    desk.step(1.0)
    assert desk.heard(SendCommit)[-1].requests[0].metadata
    desk.answer(0, "OFFSET_METADATA_TOO_LARGE")
    assert desk.step(0.5) == [[(0, 0)]]
    assert desk.heard(SendCommit)[-1].requests[0].metadata == ""


def test_what_does_not_fit_into_a_map_is_told() -> None:
    """Every other of 40,000 records is finished, by no rule that could be written shorter."""
    desk = Desk()
    tenure = desk.tenures[TOPIC, 0]
    records = deliver(tenure, [None] * 40_000)
    finish(tenure, [record for record in records[1:] if (record.offset * 2_654_435_761) >> 7 & 1])
    desk.step(1.0)
    (request,) = desk.heard(SendCommit)[-1].requests
    (told,) = desk.heard(notices.OffsetMapTruncated)
    assert (told.topic, told.partition) == (TOPIC, 0)
    assert 0 < told.dropped < tenure.ledger.finished
    assert 4000 < len(request.metadata) < 4096


@pytest.mark.parametrize("code", REBUILT)
def test_refusals_that_no_rebalance_explains_rebuild_the_connection(code: str) -> None:
    """After one session timeout, and not sooner; a commit error never changes an epoch."""
    desk = Desk().one_in_flight()
    began = desk.now
    while not desk.heard(Rebuild):
        desk.answer(1, code)
        while not desk.step(0.1):
            pass
    assert 45.0 <= desk.now - began < 60.0
    assert desk.tenures[TOPIC, 0].epoch == 1


@pytest.mark.parametrize("code", REBUILT)
def test_a_rebalance_explains_refusals(code: str) -> None:
    desk = Desk().one_in_flight()
    for _ in range(40):
        desk.answer(1, code)
        desk.commits.rebalanced()
        desk.step(4.0)
    assert not desk.heard(Rebuild)


@pytest.mark.parametrize(
    ("action", "error"),
    [(CommitAction.FENCED, Fenced), (CommitAction.NOT_AUTHORIZED, NotAuthorized)],
)
def test_what_cannot_be_cured_stops_the_app(action: CommitAction, error: type[Exception]) -> None:
    codes = [code for code, refusal in REFUSALS.items() if refusal.action is action]
    assert codes
    for code in codes:
        desk = Desk().one_in_flight()
        desk.answer(1, code)
        assert [type(stop.error) for stop in desk.heard(StopApp)] == [error]


def test_a_missing_topic_stops_the_app_only_if_it_stays_so() -> None:
    desk = Desk().one_in_flight()
    began = desk.now
    while not desk.heard(StopApp):
        assert desk.now - began < 60.0
        desk.answer(1, "UNKNOWN_TOPIC_OR_PART")
        while not desk.step(0.1):
            pass
    assert desk.now - began >= 30.0
    assert isinstance(desk.heard(StopApp)[0].error, TopicMissing)


def test_an_outage_is_told_once_per_doubling_and_alerted_once() -> None:
    desk = Desk().one_in_flight()
    for _ in range(20):
        desk.answer(1, "NOT_COORDINATOR")
        desk.step(4.1)
    assert [notice.count for notice in desk.heard(notices.CommitRefused)] == [1, 2, 4, 8, 16]
    assert len(desk.heard(notices.CommitOverdue)) == 1


def test_a_farewell_may_overtake_and_says_what_became_of_it() -> None:
    desk = Desk().one_in_flight()
    desk.work(2, partition=1)
    gone = desk.tenures[TOPIC, 1]
    assert desk.take(desk.commits.farewell([gone], desk.now)) == [[(1, 2)]]
    del desk.tenures[TOPIC, 1]
    desk.answer(1)
    assert desk.commits.state.value == "in flight", "the older commit's answer does not end the newer one's"
    desk.answer(2, partition=1)
    assert desk.commits.state.value == "idle"
    assert [notice.offset for notice in desk.heard(notices.RevokeConfirmed)] == [2]


def test_a_farewell_on_its_way_is_not_sent_twice() -> None:
    desk = Desk().one_in_flight()
    assert desk.take(desk.commits.farewell([desk.tenures[TOPIC, 0]], desk.now)) == []


def test_a_farewell_is_sent_again_if_the_commit_with_it_was_given_up() -> None:
    """Found in this core: it counted as on its way because another farewell was in flight."""
    desk = Desk().one_in_flight()
    desk.step(10.0)
    desk.work(partition=1)
    assert desk.take(desk.commits.farewell([desk.tenures[TOPIC, 1]], desk.now)) == [[(1, 1)]]
    assert desk.take(desk.commits.farewell([desk.tenures[TOPIC, 0]], desk.now)) == [[(0, 1)]]


@pytest.mark.parametrize("how", ["refused", "not sent", "unanswered"])
def test_a_farewell_that_was_not_written_is_told(how: str) -> None:
    desk = Desk()
    desk.work()
    gone = desk.tenures.pop((TOPIC, 0))
    desk.take(desk.commits.farewell([gone], desk.now))
    match how:
        case "refused":
            desk.answer(1, "REBALANCE_IN_PROGRESS")
        case "not sent":
            desk.take(desk.commits.not_sent("_STATE", desk.now))
        case _:
            desk.step(10.0)
    assert [notice.offset for notice in desk.heard(notices.RevokeUnconfirmed)] == [1]


def test_a_farewell_counts_as_confirmed_only_when_no_older_commit_can_follow_it() -> None:
    """Chaos on a real broker, seed 12."""
    desk = Desk().one_in_flight()
    desk.work()
    gone = desk.tenures.pop((TOPIC, 0))
    assert desk.take(desk.commits.farewell([gone], desk.now)) == [[(0, 2)]]
    desk.answer(2)
    assert not desk.heard(notices.RevokeConfirmed)
    desk.answer(1)
    assert [notice.offset for notice in desk.heard(notices.RevokeUnconfirmed)] == [2]
    assert not desk.heard(notices.RevokeConfirmed)


def test_a_farewell_is_confirmed_when_the_older_commit_failed_after_it() -> None:
    desk = Desk().one_in_flight()
    desk.work()
    gone = desk.tenures.pop((TOPIC, 0))
    desk.take(desk.commits.farewell([gone], desk.now))
    desk.answer(2)
    desk.answer(1, "_TIMED_OUT")
    assert [notice.offset for notice in desk.heard(notices.RevokeConfirmed)] == [2]


def test_what_is_lost_is_not_asked_about_again() -> None:
    desk = Desk().one_in_flight()
    lost: Tenure = desk.tenures.pop((TOPIC, 0))
    desk.commits.forget(lost)
    desk.answer(1)
    assert not desk.heard(notices.RevokeConfirmed)
    assert [desk.step(1.0) for _ in range(3)] == [[]] * 3


def test_idle_commits_need_one_look_a_second() -> None:
    """L5."""
    desk = Desk()
    looks, until = 0, desk.now + 60
    while desk.commits.next_deadline() <= until:
        desk.now = desk.commits.next_deadline()
        desk.step()
        looks += 1
    assert looks <= 61
