"""The engine in a small world (`engine_model`): whatever happens in whatever order, every promise holds at every step.

The world runs by chance from a seed, and by Hypothesis, which shrinks what it finds. That the checks can fail is
proved by mutants: known bugs of real systems, put back one at a time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from headrace._core import commits as commits_module
from headrace._core.commits import Commits
from headrace._core.custody import Custody
from headrace._core.lanes import DONE, GONE, Lanes
from headrace._core.ledger import Ledger
from headrace._core.settlement import Settlement
from headrace._core.tenure import Tenure
from tests.unit.core.engine_model import KEYS, PARTITIONS, REFUSALS, World, live

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.events import DeadLettered, Finished
    from headrace._core.states import PhaseTrigger
    from headrace.records import Record

FAST_SEEDS = 150
SLOW_SEEDS = 3000
STEPS = 150


@pytest.mark.parametrize("block", range(5))
def test_every_promise_holds_in_worlds_of_chance(block: int) -> None:
    """A failure prints its seed; `live(seed, STEPS)` repeats it."""
    for seed in range(block * FAST_SEEDS // 5, (block + 1) * FAST_SEEDS // 5):
        live_or_say(seed, STEPS)


@pytest.mark.parametrize("seed", [33235, 41898, 39800])
def test_worlds_that_once_broke_a_promise_do_not(seed: int) -> None:
    """Records that waited for a commit of their own, while one of an epoch before stood above it."""
    live_or_say(seed, 200)


@pytest.mark.slow
def test_every_promise_holds_in_many_long_worlds() -> None:
    """The same, for longer."""
    for seed in range(10_000, 10_000 + SLOW_SEEDS // 4):
        live_or_say(seed, 2 * STEPS)


def test_a_seed_repeats() -> None:
    """Else a failure could not be replayed."""
    first, second = live(3, STEPS), live(3, STEPS)
    assert first.starts == second.starts
    assert first.broker == second.broker
    assert first.now == second.now


def live_or_say(seed: int, steps: int) -> None:
    try:
        live(seed, steps)
    except Exception as error:
        error.add_note(f"replay: live({seed}, {steps})")
        raise


class EngineAgainstWorld(RuleBasedStateMachine):
    """The world, step by step, by Hypothesis. Its teardown asks that everything ends well."""

    world: World

    @initialize(seed=st.integers(0, 10_000))
    def begin(self, seed: int) -> None:
        self.world = World(random.Random(seed))  # noqa: S311 - a plan, not a secret
        for key in PARTITIONS:
            self.world.assign(key)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.calm()

    partition = st.sampled_from(PARTITIONS)

    @rule(key=partition, record_key=st.sampled_from(KEYS), gap=st.sampled_from((0, 0, 1, 5)))
    def produced(self, key: Any, record_key: bytes | None, gap: int) -> None:
        self.world.produce(key, record_key, gap, 10)

    @rule(key=partition, count=st.integers(1, 6), again=st.booleans())
    def fetched(self, key: Any, count: int, again: bool) -> None:
        self.world.fetch(key, count, again=again)

    @rule(key=partition)
    def assigned(self, key: Any) -> None:
        self.world.assign(key)

    @rule(key=partition)
    def revoke_begins(self, key: Any) -> None:
        self.world.revoke_begins([key])

    @precondition(lambda self: self.world.draining)
    @rule()
    def revoke_ends(self) -> None:
        self.world.revoke_ends(tuple(self.world.draining))

    @rule(key=partition)
    def lost(self, key: Any) -> None:
        self.world.lose([key])

    @rule(key=partition, ahead=st.integers(0, 10))
    def sought(self, key: Any, ahead: int) -> None:
        self.world.seek(key, self.world.first[key] + ahead)

    @rule(key=partition, pause=st.booleans())
    def paused_or_resumed(self, key: Any, pause: bool) -> None:
        (self.world.user_pauses if pause else self.world.user_resumes)(key)

    @rule(quiet=st.booleans())
    def quiet_or_not(self, quiet: bool) -> None:
        self.world.be_quiet(quiet=quiet)

    @rule(connections=st.integers(1, 4))
    def places_are_shared(self, connections: int) -> None:
        self.world.share(connections)

    @rule(seconds=st.sampled_from((0.05, 0.3, 1.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def crashes(self) -> None:
        self.world.crash()

    @precondition(lambda self: self.world.chunks)
    @rule(data=st.data())
    def claims(self, data: st.DataObject) -> None:
        self.world.claim(data.draw(st.sampled_from(self.world.chunks)))

    @precondition(lambda self: self.world.running)
    @rule(
        data=st.data(),
        how=st.sampled_from(("ok", "ok", "produced", "fail", "later", "reject")),
        raises=st.booleans(),
    )
    def handler_ends(self, data: st.DataObject, how: str, raises: bool) -> None:
        index = data.draw(st.integers(0, len(self.world.running) - 1))
        record, chunk = self.world.running[index]
        if self.world.settings.batch is None:
            self.world.end(record, how)
        else:
            self.world.end_batch(chunk, lambda one: one is record and how != "ok", raises=raises)

    @rule(pulse=st.booleans())
    def results_come(self, pulse: bool) -> None:
        (self.world.pulse if pulse else self.world.report)()

    @precondition(lambda self: self.world.commits)
    @rule(data=st.data(), how=st.sampled_from(("ok", "ok", "ok", "silent", "lost", "applied", *REFUSALS)))
    def broker_answers(self, data: st.DataObject, how: str) -> None:
        index = data.draw(st.integers(0, len(self.world.commits) - 1))
        self.world.answer(self.world.commits[index], how)

    @precondition(lambda self: self.world.letters)
    @rule(how=st.sampled_from(("ok", "down")))
    def dead_letter_answered(self, how: str) -> None:
        self.world.letter_answered(self.world.letters[0], how)

    @precondition(lambda self: self.world.produced)
    @rule(ok=st.booleans())
    def output_answered(self, ok: bool) -> None:
        self.world.produce_answered(self.world.produced[0], ok=ok)

    @precondition(lambda self: self.world.settings.ack == "manual" and self.world.handled)
    @rule(data=st.data())
    def user_acknowledges(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.world.handled) - 1))
        self.world.acknowledge(self.world.handled[index])


TestEngineAgainstWorld = EngineAgainstWorld.TestCase
TestEngineAgainstWorld.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# ---- The checks can fail


def commit_from_highest_polled(patch: pytest.MonkeyPatch) -> None:
    def highest_polled(tenure: Tenure) -> int:
        return tenure.ledger.position

    patch.setattr(commits_module, "committable", highest_polled)


def clean_when_sent(patch: pytest.MonkeyPatch) -> None:
    send = Commits._send

    def lying(self: Commits, dirty: Sequence[Tenure], now: float) -> Any:
        effects = send(self, dirty, now)
        for tenure in dirty:
            tenure.confirmed_mark = commits_module.mark_of(tenure)
        return effects

    patch.setattr(Commits, "_send", lying)


def stale_work_counts_as_load(patch: pytest.MonkeyPatch) -> None:
    close = Custody._close

    def leaking(self: Custody, tenure: Tenure, trigger: PhaseTrigger, *, cancel: bool = True) -> None:
        close(self, tenure, trigger, cancel=cancel)
        workload = self._board.workloads[tenure.subscription]
        workload.dispatched += tenure.dispatched

    patch.setattr(Custody, "_close", leaking)


def epoch_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: Custody, tenures: Sequence[Tenure]) -> None:
        pass

    patch.setattr(Custody, "_recall", nothing)
    patch.setattr(Tenure, "startable", True)


def dead_letter_finished_when_sent(patch: pytest.MonkeyPatch) -> None:
    produce = Settlement._produce_letter

    def hasty(self: Settlement, tenure: Tenure, record: Record[Any, Any], error: BaseException) -> None:
        produce(self, tenure, record, error)
        tenure.ledger.finish_one(record._sequence)

    patch.setattr(Settlement, "_produce_letter", hasty)


def refused_commit_is_a_success(patch: pytest.MonkeyPatch) -> None:
    answered = Commits.answered

    def deaf(self: Commits, results: Sequence[Any], tenures: Any, now: float) -> Any:
        heard = [type(result)(result.topic, result.partition, result.offset, None) for result in results]
        return answered(self, heard, tenures, now)

    patch.setattr(Commits, "answered", deaf)


def first_restored_record_is_skipped(patch: pytest.MonkeyPatch) -> None:
    start = Ledger.__init__

    def off_by_one(self: Ledger, at: int, restored: Any = None) -> None:
        start(self, at + 1, restored)

    patch.setattr(Ledger, "__init__", off_by_one)


def stale_lane_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    clear = Lanes.clear

    def forgetful(self: Lanes) -> None:
        clear(self)
        self._tails.clear()

    patch.setattr(Lanes, "clear", forgetful)


def given_back_record_frees_its_lane(patch: pytest.MonkeyPatch) -> None:
    def resolve(self: Lanes, records: Sequence[Record[Any, Any]]) -> None:
        self.resolve(records, GONE)

    patch.setattr(Lanes, "drop", resolve)


def failed_record_is_finished(patch: pytest.MonkeyPatch) -> None:
    def careless(
        self: Settlement, tenure: Tenure, record: Record[Any, Any], error: BaseException, now: float
    ) -> None:
        if tenure.open:
            tenure.lanes.resolve([record], DONE)
            self._mark(tenure, [record])
        else:
            self._stale(tenure, [record], now)

    patch.setattr(Settlement, "_failed", careless)


def refused_dead_letter_counts(patch: pytest.MonkeyPatch) -> None:
    settle = Settlement.dead_lettered

    def deaf(self: Settlement, event: DeadLettered, now: float) -> None:
        settle(self, type(event)(event.record, None), now)

    patch.setattr(Settlement, "dead_lettered", deaf)


def results_of_stale_handlers_count(patch: pytest.MonkeyPatch) -> None:
    finished = Settlement.finished

    def trusting(self: Settlement, event: Finished, now: float) -> None:
        finished(self, event, now)
        for record in event.succeeded:
            current = self._board.tenures.get((record.topic, record.partition))
            if current is not None and record._tenure is not current:
                current.ledger.finish_run(0, current.ledger.delivered)

    patch.setattr(Settlement, "finished", trusting)


MUTANTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    commit_from_highest_polled,
    clean_when_sent,
    stale_work_counts_as_load,
    epoch_is_not_checked,
    dead_letter_finished_when_sent,
    refused_commit_is_a_success,
    first_restored_record_is_skipped,
    stale_lane_is_forgotten,
    given_back_record_frees_its_lane,
    failed_record_is_finished,
    refused_dead_letter_counts,
    results_of_stale_handlers_count,
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """Each is a bug that a real system had; the number of seeds it survived is recorded."""
    mutant(monkeypatch)
    for seed in range(1000):
        try:
            live(seed, 2 * STEPS)
        except Exception as caught:  # noqa: BLE001 - an assertion of the world's, or the core refusing itself
            record_property("seeds_to_detection", seed + 1)
            record_property("caught_by", str(caught).partition(":")[0])
            return
    pytest.fail("survived 1000 worlds: the checks do not see it")
