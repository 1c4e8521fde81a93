"""The policy of worker processes: every row of its table, and what it decides, told event by event."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from headrace.cli.exits import Exit
from headrace.cli.processes.exchange import (
    End,
    Ended,
    Limits,
    Measured,
    Reported,
    RollAsked,
    Send,
    Start,
    StopAsked,
    Tell,
    Tick,
)
from headrace.cli.processes.policy import Policy
from headrace.cli.processes.slots import ALIVE, TRANSITIONS, Phase, Slot, Trigger

if TYPE_CHECKING:
    from headrace.cli.processes.exchange import Effect, Event

LIMITS = Limits(memory_bytes=1000)


class Play:
    """A policy, its clock, and what it asked for."""

    def __init__(self, count: int = 2, limits: Limits = LIMITS, *, up: bool = True) -> None:
        self.now = 0.0
        self.policy = Policy(count, limits, self.now)
        self.told: list[Tell] = []
        self.step(Tick())
        if up:
            for number in range(count):
                self.ready(number)

    def step(self, event: Event, after_s: float = 0.0) -> list[Effect]:
        self.now += after_s
        found = self.policy.step(event, self.now)
        self.told += [effect for effect in found if isinstance(effect, Tell)]
        return [effect for effect in found if not isinstance(effect, Tell)]

    def ready(self, number: int) -> list[Effect]:
        return self.step(Reported(number, live=True, ready=True, stop_s=20.0))

    def phases(self) -> list[str]:
        return [view.phase for view in self.policy.views()]

    def rolling(self) -> bool:
        return self.policy.rolling

    def heard(self, words: str) -> bool:
        return any(words in tell.text for tell in self.told)


# ---- The table


@pytest.mark.parametrize(("phase", "trigger"), list(itertools.product(Phase, Trigger)))
def test_a_pair_that_is_not_in_the_table_is_refused(phase: Phase, trigger: Trigger) -> None:
    slot = Slot(0, 0.0)
    slot.phase = phase
    if trigger in TRANSITIONS[phase]:
        slot.move(trigger)
        assert slot.phase is TRANSITIONS[phase][trigger]
    else:
        with pytest.raises(KeyError):
            slot.move(trigger)


def test_every_phase_is_reached_and_only_over_is_left_by_nothing() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert {after for row in TRANSITIONS.values() for after in row.values()} == set(Phase)
    assert [phase for phase, row in TRANSITIONS.items() if not row] == [Phase.OVER]


# ---- Start, failure, backoff


def test_all_are_started_at_once() -> None:
    assert Policy(3, LIMITS, 5.0).step(Tick(), 5.0) == [Start(0), Start(1), Start(2)]


def test_a_process_that_fails_waits_longer_each_time_and_no_longer_than_the_cap() -> None:
    play, waits = Play(1), list[float]()
    for _ in range(9):
        assert play.step(Ended(0, 1)) == []
        deadline = play.policy.next_deadline()
        assert deadline is not None
        waits.append(deadline - play.now)
        assert play.step(Tick(), waits[-1] - 0.01) == []
        assert play.step(Tick(), 0.02) == [Start(0)]
        play.ready(0)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_failures_are_forgotten_by_a_process_that_was_up_for_long() -> None:
    play = Play(1)
    for _ in range(4):
        play.step(Ended(0, -9))
        play.step(Tick(), 30)
        play.ready(0)
    for _ in range(7):
        play.now += 10
        play.ready(0)
    play.step(Ended(0, 1))
    assert play.policy.next_deadline() == pytest.approx(play.now + 1)


def test_processes_that_fail_together_do_not_come_back_together() -> None:
    play = Play(4)
    for number in range(4):
        play.step(Ended(number, 1))
    starts = [play.step(Tick(), after_s) for after_s in (1.01, 0.025, 0.025, 0.025)]
    assert starts == [[Start(0)], [Start(1)], [Start(2)], [Start(3)]]


def test_a_process_that_ends_well_by_itself_stays_ended_and_all_of_them_end_the_command() -> None:
    play = Play(2)
    assert play.step(Ended(1, 0)) == []
    assert play.step(Tick(), 1) == []
    assert play.step(Ended(0, 0)) == [End(Exit.OK)]
    assert play.step(Tick(), 1) == []


@pytest.mark.parametrize("code", [Exit.USAGE, Exit.FENCED])
def test_settings_that_no_process_can_begin_with_end_all_at_once_with_their_code(code: Exit) -> None:
    play = Play(3, up=False)
    assert play.step(Ended(0, code)) == []
    assert play.step(Ended(2, code), 0.5) == []
    assert Start(0) in play.step(Tick(), 1)  # others may be able to begin
    assert play.step(Ended(1, code)) == [Send(0, "drain")]
    assert play.step(Ended(0, code)) == [End(code)]
    assert play.heard("none of the processes could begin")


def test_one_that_could_begin_shows_that_settings_are_right() -> None:
    play = Play(2, up=False)
    play.ready(0)
    for _ in range(5):
        play.step(Ended(1, Exit.USAGE))
        play.step(Tick(), 20)
        play.ready(0)
    assert play.phases() == ["up", "starting"]
    play.step(Ended(0, Exit.USAGE))  # later both: a broker that is away, say
    play.step(Ended(1, Exit.USAGE))
    assert play.phases() == ["waiting", "waiting"]


@pytest.mark.parametrize("code", [Exit.FAILED, Exit.FORCED, Exit.STALLED, -11])
def test_other_codes_are_tried_again_for_ever(code: int) -> None:
    play = Play(1, up=False)
    for _ in range(50):
        assert play.step(Ended(0, code)) == []
        assert play.step(Tick(), 61) == [Start(0)]


# ---- Liveness


def test_a_process_that_falls_silent_is_ended_with_evidence_then_by_force_then_replaced() -> None:
    play = Play(1)
    assert play.step(Tick(), LIMITS.silent_s - 0.1) == []
    assert play.step(Tick(), 0.2) == [Send(0, "abort")]
    assert play.step(Tick(), LIMITS.evidence_s) == [Send(0, "kill")]
    assert play.step(Tick(), 100) == []
    assert play.step(Ended(0, -9)) == []
    assert play.step(Tick(), 1) == [Start(0)]


def test_a_supervisor_that_stood_still_itself_hears_all_before_it_judges() -> None:
    play = Play(3)
    play.now += 1000
    assert [play.ready(number) for number in range(3)] == [[], [], []]
    assert play.step(Tick()) == []


def test_before_its_first_report_a_process_has_more_time() -> None:
    play = Play(1, up=False)
    assert play.step(Tick(), LIMITS.first_s - 1) == []
    assert play.step(Tick(), 2) == [Send(0, "abort")]


def test_a_process_that_is_not_live_for_a_while_is_replaced_and_one_that_recovers_is_not() -> None:
    play = Play(1)
    stuck = Reported(0, live=False, ready=False, stop_s=20.0, reasons="partition_stuck")
    assert play.step(stuck) == []
    assert play.step(stuck, LIMITS.unlive_s - 1) == []
    assert play.step(Reported(0, live=True, ready=True, stop_s=20.0)) == []
    assert play.step(stuck, 5) == []
    assert play.step(stuck, LIMITS.unlive_s) == []
    assert play.step(Tick()) == [Send(0, "drain")]
    assert play.heard("partition_stuck")
    assert play.step(Ended(0, 0)) == []
    assert play.step(Tick(), 1) == [Start(0)]


def test_one_that_is_not_ready_is_left_alone() -> None:
    play = Play(1)
    for _ in range(1000):
        assert play.step(Reported(0, live=True, ready=False), 10) == []


# ---- Memory


def test_a_process_over_its_limit_is_replaced_at_once_unless_it_has_just_begun() -> None:
    play = Play(2)
    assert play.step(Measured(1, 1000)) == []
    assert play.step(Measured(1, 1001)) == [Send(1, "drain")]
    assert play.step(Measured(1, 5000)) == []
    assert play.step(Ended(1, 0)) == []  # over it within a minute: it would be so again at once
    assert play.step(Tick(), 2) == [Start(1)]
    for _ in range(7):
        play.now += 10
        play.ready(0)
        play.ready(1)
    assert play.step(Measured(1, 1001)) == [Send(1, "drain")]
    assert play.step(Ended(1, 0)) == [Start(1)]


def test_without_a_limit_nothing_is_measured_against_it() -> None:
    assert Play(1, Limits()).step(Measured(0, 2**60)) == []


# ---- Rolling restart


def test_a_roll_replaces_one_at_a_time_and_waits_for_each() -> None:
    play = Play(3)
    assert play.step(RollAsked()) == [Send(0, "drain")]
    assert play.step(Tick(), 1) == []
    assert play.step(Ended(0, 0)) == [Start(0)]
    assert play.step(Tick(), 1) == []
    assert play.ready(0) == [Send(1, "drain")]
    assert play.step(Ended(1, 0)) == [Start(1)]
    assert play.ready(1) == [Send(2, "drain")]
    assert play.step(Ended(2, 0)) == [Start(2)]
    assert play.rolling()
    assert play.ready(2) == []
    assert not play.rolling()
    assert play.heard("rolling restart done")


def keep_alive(play: Play, *numbers: int, after_s: float) -> list[Effect]:
    play.now += after_s
    return [effect for number in numbers for effect in play.ready(number)]


def test_a_roll_stops_at_a_process_that_does_not_become_ready_and_says_so() -> None:
    play = Play(3)
    play.step(RollAsked())
    play.step(Ended(0, 0))
    for _ in range(5):
        assert keep_alive(play, 1, 2, after_s=10) == []
        play.step(Reported(0, live=True, ready=False))
    assert play.rolling()
    assert keep_alive(play, 1, 2, after_s=10.1) == []
    assert not play.rolling()
    assert play.heard("process 0 is not ready after 60 s. Not replaced: 1, 2")
    assert play.phases() == ["starting", "up", "up"]  # it may yet become ready


def test_a_roll_stops_at_a_process_that_ends_and_the_others_stay() -> None:
    play = Play(2)
    play.step(RollAsked())
    play.step(Ended(0, 0))
    assert play.step(Ended(0, Exit.USAGE)) == []
    assert play.heard("process 0 ended before it was ready. Not replaced: 1")
    assert play.step(Tick(), 2) == [Start(0)]  # with backoff, like any that fails
    assert play.phases() == ["starting", "up"]


def test_a_roll_waits_for_others_and_gives_up_if_they_are_not_ready() -> None:
    play = Play(2)
    play.step(Ended(1, 1))
    assert play.step(RollAsked()) == []
    assert play.step(Tick(), 1.1) == [Start(1)]
    assert play.ready(1) == [Send(0, "drain")]
    other = Play(2)
    other.step(Reported(1, live=True, ready=False))
    assert other.step(RollAsked()) == []
    for _ in range(7):
        keep_alive(other, 0, after_s=10)
        other.step(Reported(1, live=True, ready=False))
    assert other.heard("the others are not all ready")
    assert not other.rolling()


def test_a_second_roll_within_one_begins_anew_with_the_first() -> None:
    play = Play(2)
    play.step(RollAsked())
    assert play.step(RollAsked()) == []
    play.step(Ended(0, 0))
    assert play.ready(0) == [Send(0, "drain")]


def test_a_roll_of_one_process_and_of_one_that_waits() -> None:
    play = Play(1)
    assert play.step(RollAsked()) == [Send(0, "drain")]
    assert play.step(Ended(0, Exit.FORCED)) == [Start(0)]
    play.ready(0)
    play.step(Ended(0, 1))
    assert play.step(RollAsked()) == [Start(0)]  # no backoff for what is mended


def test_a_process_that_does_not_end_in_a_roll_is_ended_by_force() -> None:
    play = Play(2)
    play.step(RollAsked())
    after_s = 20 + LIMITS.stop_margin_s
    for _ in range(3):
        keep_alive(play, 1, after_s=after_s / 3 - 0.1)
    assert play.step(Tick(), 1) == [Send(0, "abort")]
    assert play.step(Ended(0, -6)) == [Start(0)]


# ---- The end


def test_a_stop_asks_all_once_and_ends_when_all_have() -> None:
    play = Play(2)
    assert play.step(StopAsked()) == [Send(0, "drain"), Send(1, "drain")]
    assert play.step(Ended(0, 0)) == []
    assert play.step(Ended(1, 0)) == [End(Exit.OK)]


def test_a_second_stop_is_hard_and_a_third_at_once() -> None:
    play = Play(1)
    play.step(StopAsked())
    assert play.step(StopAsked()) == [Send(0, "drain")]
    assert play.step(StopAsked()) == [Send(0, "kill")]
    assert play.step(Ended(0, -9)) == [End(Exit.FORCED)]


def test_who_drains_already_is_not_asked_twice_by_the_first_stop() -> None:
    play = Play(2)
    play.step(RollAsked())
    assert play.step(StopAsked()) == [Send(1, "drain")]
    play.step(Ended(0, 0))
    assert play.step(Ended(1, 0)) == [End(Exit.OK)]


def test_who_does_not_end_is_ended_and_who_cannot_even_be_killed_is_left() -> None:
    play = Play(1)
    play.step(StopAsked())
    assert play.step(Tick(), 30) == [Send(0, "abort")]
    assert play.step(Tick(), 5) == [Send(0, "kill")]
    assert play.step(Tick(), 5) == [End(Exit.FORCED)]


def up_for_long(play: Play, *numbers: int) -> None:
    for _ in range(7):
        keep_alive(play, *numbers, after_s=10)


def test_who_waits_to_be_started_is_not() -> None:
    play = Play(2)
    up_for_long(play, 0, 1)
    play.step(Ended(0, 1))
    assert play.step(StopAsked()) == [Send(1, "drain")]
    assert play.step(Ended(1, 0), 100) == [End(Exit.OK)]


def test_a_stop_of_processes_that_only_failed_has_the_code_of_their_failures() -> None:
    """Whether they wait to be tried again, or begin."""
    play = Play(4)
    for code in (Exit.STALLED, Exit.FAILED):
        for number in range(3):
            play.step(Ended(number, code))
        play.step(Tick(), 2.5)
    play.ready(1)
    play.step(Ended(2, Exit.FAILED))
    assert play.phases() == ["starting", "up", "waiting", "up"]
    play.step(StopAsked())
    play.step(Ended(0, -15))
    play.step(Ended(1, 0))
    assert play.step(Ended(3, 0)) == [End(Exit.FAILED)]


@pytest.mark.parametrize(("ready", "code"), [(True, Exit.OK), (False, Exit.STALLED)])
def test_one_that_failed_and_is_up_again_ends_as_it_ends(ready: bool, code: Exit) -> None:
    play = Play(1)
    play.step(Ended(0, Exit.STALLED))
    play.step(Tick(), 1)
    if ready:
        play.ready(0)
    play.step(StopAsked())
    assert play.step(Ended(0, 0)) == [End(code)]


def test_one_that_failed_and_was_then_up_for_long_ends_as_it_ends() -> None:
    play = Play(2)
    play.step(Ended(0, 1))
    play.step(Tick(), 2)
    up_for_long(play, 0, 1)
    play.step(Ended(1, 1))  # and this one was up for long before it failed
    play.step(Tick(), 2)
    play.step(StopAsked())
    play.step(Ended(0, 0))
    assert play.step(Ended(1, -15)) == [End(Exit.OK)]


def test_one_that_failed_and_then_ended_well_by_itself_has_ended_well() -> None:
    play = Play(1)
    play.step(Ended(0, 1))
    play.step(Tick(), 2)
    play.ready(0)
    assert play.step(Ended(0, 0)) == [End(Exit.OK)]


def test_one_ended_by_a_signal_that_it_did_not_listen_for_yet_has_ended_well() -> None:
    play = Play(1, up=False)
    play.step(StopAsked())
    assert play.step(Ended(0, -15)) == [End(Exit.OK)]


@pytest.mark.parametrize(
    ("codes", "code"),
    [((0, 3), Exit.FORCED), ((1, 0), Exit.FAILED), ((5, 1), Exit.STALLED), ((-11, 0), Exit.FAILED),
     ((5, 3), Exit.FORCED), ((77, 0), Exit.FAILED)],
)  # fmt: skip
def test_the_worst_code_is_that_of_the_command(codes: tuple[int, int], code: Exit) -> None:
    play = Play(2)
    play.step(StopAsked())
    play.step(Ended(0, codes[0]))
    assert play.step(Ended(1, codes[1])) == [End(code)]


# ---- Whatever comes


class Witness(Play):
    """Holds what is asked for against what is there."""

    def __init__(self, count: int) -> None:
        super().__init__(count, up=False)
        self.alive = set(range(count))
        self.ended = False

    def take(self, event: Event, after_s: float) -> None:
        if isinstance(event, Ended):
            self.alive.discard(event.process)
        for effect in self.step(event, after_s) + self.step(Tick()):  # as the supervisor does
            assert not self.ended
            if isinstance(effect, Start):
                assert effect.process not in self.alive
                self.alive.add(effect.process)
            elif isinstance(effect, Send):
                assert effect.process in self.alive
            elif isinstance(effect, End):
                self.ended = True
        assert {v.number for v in self.policy.views() if Phase(v.phase) in ALIVE} == self.alive
        deadline = self.policy.next_deadline()
        assert deadline is None or deadline > self.now, "the supervisor would turn without rest"


def some_event(draw: random.Random, number: int, *, alive: bool) -> Event:
    always: list[Event] = [Tick(), RollAsked()]
    of_living: list[Event] = [
        Reported(number, live=draw.random() < 0.9, ready=draw.random() < 0.8),
        Measured(number, draw.choice((1, 2000))),
        Ended(number, draw.choice((0, 1, 2, 3, -6, -9, -15))),
    ]
    return draw.choice(always + of_living if alive else always)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_comes_a_process_is_started_once_at_a_time_and_a_stop_comes_to_its_end(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a test's
    count = draw.randint(1, 4)
    witness = Witness(count)
    for _ in range(150):
        number = draw.randrange(count)
        event = some_event(draw, number, alive=number in witness.alive)
        witness.take(event, draw.choice((0.0, 0.1, 1.0, 20.0)))
        if witness.ended:
            return
    witness.take(StopAsked(), 0.0)
    for _ in range(20):
        if not witness.ended:
            witness.step(Tick(), 20)
            witness.ended = not any(Phase(v.phase) is not Phase.OVER for v in witness.policy.views())
    assert witness.ended
