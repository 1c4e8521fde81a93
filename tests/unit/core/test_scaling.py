"""When an app should have one connection more or fewer: each rule by itself, all small views, any view, and loads played."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace._core.load import Load, LoadSample
from headrace._core.scaling import (
    MEANINGS,
    RULES,
    Bounds,
    Change,
    ConnectionView,
    GroupView,
    View,
    Why,
    decide,
    fair_share,
)

BOUNDS = Bounds(min=1, max=4, cooldown_s=60.0)
NOW = 10_000.0


def connection(number: int = 0, partitions: int = 5, **changes: object) -> ConnectionView:
    """A connection that has been settled for long and has just told of itself."""
    return replace(ConnectionView(number, NOW, 0.0, partitions), **changes)  # type: ignore[arg-type]


def view(*connections: ConnectionView, **changes: object) -> View:
    """Two connections that fetching holds up, in a group with room; `changes` is what a test is about."""
    standing = View(
        BOUNDS,
        connections or (connection(0), connection(1)),
        group=GroupView(partitions=10, processes=1),
        pressed_since=0.0,
    )
    return replace(standing, **changes)  # type: ignore[arg-type]


def bounds(**changes: object) -> Bounds:
    """The usual ones, with changes."""
    return replace(BOUNDS, **changes)  # type: ignore[arg-type]


FOUR = tuple(connection(number, 2) for number in range(4))
CASES: dict[Why, tuple[View, Change, int | None]] = {
    "stopping": (view(stopping=True), 0, None),
    "cooling_down": (view(changed_at=NOW - 59.9), 0, None),
    "below_min": (view(bounds=bounds(min=3)), 1, None),
    "above_max": (view(*FOUR, bounds=bounds(max=3)), -1, 3),
    "fixed_number": (view(bounds=bounds(min=2, max=2)), 0, None),
    "no_fresh_sample": (view(connection(0), connection(1, sampled_at=NOW - 61), changed_at=NOW - 60), 0, None),
    "unsettled": (view(connection(0), connection(1, settled_since=NOW - 29.9)), 0, None),
    "idle": (view(connection(0), connection(1, 0), connection(2, 3)), -1, 1),
    "beyond_fair_share": (view(group=GroupView(10, 6)), -1, 1),
    "spare": (view(pressed_since=None, spare_since=NOW - 600), -1, 1),
    "at_max": (view(*FOUR), 0, None),
    "failing": (view(connection(0), connection(1, failing=True, settled_since=None)), 0, None),
    "one_partition_each": (view(connection(0, 1), connection(1, 1)), 0, None),
    "group_unknown": (view(group=None), 0, None),
    "at_fair_share": (view(group=GroupView(10, 4)), 0, None),
    "many_partitions": (view(bounds=bounds(grow_when="partitions"), pressed_since=None), 1, None),
    "not_fetch_bound": (view(pressed_since=NOW - 29.9), 0, None),
    "no_gain": (view(last_change=1, gain=1.04, changed_at=NOW - 61), 0, None),
    "fetch_bound": (view(), 1, None),
}  # fmt: skip


@pytest.mark.parametrize("why", CASES)
def test_each_reason_comes_up_where_it_should(why: Why) -> None:
    given_view, change, number = CASES[why]
    decision = decide(given_view, NOW)
    assert (decision.why, decision.change, decision.number) == (why, change, number)
    assert decision.meaning == MEANINGS[why]


def test_every_reason_has_a_rule_a_meaning_and_a_case() -> None:
    assert set(get_args(Why)) == set(MEANINGS) == set(CASES) == {rule.why for rule in RULES} | {"fetch_bound"}
    assert len({rule.why for rule in RULES}) == len(RULES)


def test_with_a_short_cooldown_a_rebalance_still_has_its_rounds() -> None:
    """In its first round a cooperative rebalance gives a new member nothing: it would look idle."""
    short = bounds(cooldown_s=0.5)
    newcomer = connection(1, 0, settled_since=NOW - 3.9)
    assert decide(view(connection(0), newcomer, bounds=short), NOW).why == "unsettled"
    settled = replace(newcomer, settled_since=NOW - 4.0)
    assert decide(view(connection(0, 1), settled, bounds=short), NOW).why == "idle"


def test_where_there_is_enough_for_all_its_share_is_waited_for() -> None:
    """Seen on a machine that was much too busy: the second round took longer than four seconds."""
    short = bounds(cooldown_s=0.5)
    newcomer = connection(1, 0, settled_since=NOW - 29.9)
    assert decide(view(connection(0), newcomer, bounds=short), NOW).why == "fetch_bound"
    settled = replace(newcomer, settled_since=NOW - 30.0)
    assert decide(view(connection(0), settled, bounds=short), NOW).why == "idle"


def test_the_first_connection_is_never_closed() -> None:
    for idle_first in (view(connection(0, 0), connection(1, 2)), view(connection(0, 0), connection(1, 0))):
        assert decide(idle_first, NOW).number == 1


@pytest.mark.parametrize(
    ("calmer", "why"),
    [
        (view(changed_at=NOW - 60), "fetch_bound"),
        (view(connection(0), connection(1, settled_since=NOW - 30)), "fetch_bound"),
        (view(pressed_since=NOW - 30), "fetch_bound"),
        (view(pressed_since=None, spare_since=NOW - 599.9), "not_fetch_bound"),
        (view(last_change=1, gain=1.05, changed_at=NOW - 61), "fetch_bound"),
        (view(last_change=1, gain=1.0, changed_at=NOW - 3600), "fetch_bound"),
        (view(group=GroupView(10, 3)), "fetch_bound"),
        (view(group=None, bounds=bounds(fair=False)), "fetch_bound"),
        (view(group=GroupView(10, 6), bounds=bounds(fair=False)), "fetch_bound"),
        (view(connection(0, 2), connection(1, 1)), "fetch_bound"),
        (view(connection(0, 0), bounds=bounds()), "one_partition_each"),
        (view(pressed_since=None, spare_since=0.0, bounds=bounds(grow_when="partitions")), "many_partitions"),
    ],
)  # fmt: skip
def test_at_its_edge_a_rule_no_longer_applies(calmer: View, why: Why) -> None:
    assert decide(calmer, NOW).why == why


def test_the_age_of_a_sample_is_reckoned_to_now_and_not_to_the_sample() -> None:
    """A connection that settled just before its last sample is settled by now, though nothing new was sampled."""
    old = connection(1, sampled_at=NOW - 29, settled_since=NOW - 30)
    assert decide(view(connection(0), old), NOW).change == 1


def test_a_failing_connection_blocks_no_shrinking_and_goes_first() -> None:
    failing = connection(1, 0, failing=True, settled_since=None, sampled_at=0.0)
    standing = view(connection(0), failing, connection(2, 0), changed_at=NOW - 60)
    decision = decide(standing, NOW)
    assert (decision.change, decision.why, decision.number) == (-1, "idle", 1)


@pytest.mark.parametrize(("partitions", "processes", "share"), [(10, 3, 3), (2, 5, 1), (0, 0, 1), (8, 1, 8)])
def test_the_fair_share_is_partitions_over_processes_and_one_at_least(
    partitions: int, processes: int, share: int
) -> None:
    assert fair_share(GroupView(partitions, processes)) == share


def test_every_small_view_is_answered_within_bounds_and_every_reason_comes_up() -> None:
    """All combinations of a few values of everything: 50,000 views."""
    seen: set[Why] = set()
    connections = [
        tuple(connection(n, held, sampled_at=sampled, settled_since=settled) for n, held in enumerate(holds))
        for holds in [(), (0,), (1,), (4,), (1, 1), (3, 0), (2, 1), (2, 2, 2)]
        for sampled in (NOW - 90, NOW)
        for settled in (None, 0.0)
    ]
    for held, (low, high), grow, group, changed, pressed, spare, gain, stopping, failing in product(
        connections,
        [(1, 1), (1, 2), (2, 3), (1, 4)],
        ["fetching", "partitions"],
        [None, GroupView(6, 1), GroupView(6, 4)],
        [None, NOW - 10, NOW - 80],
        [None, 0.0],
        [None, 0.0],
        [None, 1.0],
        [False, True],
        [False, True],
    ):
        if pressed is not None and spare is not None:
            continue
        limits = Bounds(low, high, 60.0, grow_when="fetching" if grow == "fetching" else "partitions")
        holds = (*held[:-1], replace(held[-1], failing=True)) if failing and held else held
        drawn = View(limits, holds, group, changed, 1 if gain else 0, pressed, spare, gain, stopping)
        decision = decide(drawn, NOW)
        seen.add(decision.why)
        if decision.change:
            assert not stopping
            assert changed != NOW - 10
            assert low <= drawn.count + decision.change <= high or decision.why in ("below_min", "above_max")
    assert seen == set(MEANINGS)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any view at all."""
    low = draw(st.integers(1, 5))
    moments = st.none() | st.floats(NOW - 2000, NOW)
    limits = Bounds(
        low,
        draw(st.integers(low, 6)),
        draw(st.floats(1, 600)),
        draw(st.booleans()),
        draw(st.sampled_from(["fetching", "partitions"])),
    )
    connections = tuple(
        ConnectionView(n, draw(st.floats(NOW - 2000, NOW)), draw(moments), draw(st.integers(0, 9)), draw(st.booleans()))
        for n in range(draw(st.integers(0, 7)))
    )  # fmt: skip
    pressed = draw(moments)
    return View(
        limits,
        connections,
        draw(st.none() | st.builds(GroupView, st.integers(0, 30), st.integers(0, 9))),
        draw(moments),
        draw(st.sampled_from([-1, 0, 1])),
        pressed,
        None if pressed is not None else draw(moments),
        draw(st.none() | st.floats(0.1, 10)),
        draw(st.booleans()),
    )


@given(views())
def test_any_view_gets_one_reasoned_answer_within_its_bounds(drawn: View) -> None:
    decision = decide(drawn, NOW)
    assert decision.why in MEANINGS
    after = drawn.count + decision.change
    if decision.change > 0:
        assert after <= drawn.bounds.max
    elif decision.change < 0:
        assert after >= drawn.bounds.min
        assert decision.number in {each.number for each in drawn.connections}
    else:
        assert decision.number is None


@given(views())
def test_nothing_changes_within_a_cooldown(drawn: View) -> None:
    if drawn.changed_at is not None and NOW - drawn.changed_at < drawn.bounds.cooldown_s:
        assert decide(drawn, NOW).change == 0


@given(views())
def test_within_its_bounds_nothing_changes_without_a_fresh_sample(drawn: View) -> None:
    sound = [each for each in drawn.connections if not each.failing]
    stale = drawn.changed_at is not None and any(each.sampled_at <= drawn.changed_at for each in sound)
    if stale and drawn.bounds.min <= drawn.count <= drawn.bounds.max:
        assert decide(drawn, NOW).change == 0


# ---- Loads played in virtual time


@dataclass
class Play:
    """One process of a group under a load: the policy, and a model of what its answers lead to. Times in seconds."""

    bounds: Bounds
    partitions: int = 10
    processes: int = 1
    capacity: float = 1000.0
    """What one connection can fetch a second."""
    count: int = 1
    now: float = 0.0
    lag: float = 0.0
    changed_at: float | None = None
    last_change: Change = 0
    settled_since: float = 0.0
    load: Load = field(default_factory=Load)
    changes: list[tuple[float, int, str]] = field(default_factory=list[tuple[float, int, str]])
    whys: set[str] = field(default_factory=set[str])

    def step(self, rate: float, span_s: float = 5.0) -> None:
        """So many records a second arrive for a span; then the policy is asked once."""
        self.now += span_s
        able = self.capacity * min(self.count, self.share())
        waiting = self.lag + rate * span_s
        done = min(waiting, able * span_s)
        self.lag = waiting - done
        starved = min(1.0, waiting / (able * span_s)) if self.lag else 0.0
        each = LoadSample(done / span_s / self.count, starved, int(self.lag / self.count))
        self.load.observe([each] * self.count, self.now)
        decision = decide(self.view(), self.now)
        self.whys.add(decision.why)
        if decision.change:
            self.count += decision.change
            self.changes.append((self.now, decision.change, decision.why))
            self.changed_at, self.last_change = self.now, decision.change
            self.settled_since = self.now + 1.0
            self.load.changed()

    def share(self) -> int:
        """Partitions of this process, which stand evenly with every process."""
        return self.partitions // self.processes

    def view(self) -> View:
        """What the policy sees: partitions go round, each connection has been sampled now."""
        settled = self.settled_since if self.settled_since <= self.now else None
        held = [self.share() // self.count + (n < self.share() % self.count) for n in range(self.count)]
        return View(
            self.bounds,
            tuple(ConnectionView(n, self.now, settled, held[n]) for n in range(self.count)),
            GroupView(self.partitions, self.processes),
            self.changed_at,
            self.last_change,
            self.load.pressed_since,
            self.load.spare_since,
            self.load.gain,
        )

    def rebalance(self) -> None:
        """Somebody else came or went."""
        self.settled_since = self.now + 1.0

    def spacings(self) -> list[float]:
        """Between one change and the next."""
        return [after[0] - before[0] for before, after in zip(self.changes, self.changes[1:], strict=False)]


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 6),
    st.floats(0, 8000),
    st.sampled_from(["fetching", "partitions"]),
)
def test_a_constant_load_finds_its_number_and_keeps_it(
    partitions: int, processes: int, high: int, rate: float, grow_when: str
) -> None:
    limits = Bounds(1, high, 60.0, grow_when="partitions" if grow_when == "partitions" else "fetching")
    play = Play(limits, partitions=partitions, processes=min(processes, partitions))
    for _ in range(6 * 720):
        play.step(rate)
    directions = [change for _, change, _ in play.changes]
    assert directions == sorted(directions, reverse=True), play.changes
    assert all(spacing >= 60.0 for spacing in play.spacings())
    assert all(when < 2 * 3600 for when, _, _ in play.changes), play.changes
    assert play.count <= max(1, play.share())


@pytest.mark.parametrize(
    ("partitions", "start", "ends"), [(10, 1, 5), (10, 3, 5), (10, 5, 5), (2, 5, 2), (2, 1, 2), (1, 5, 1)]
)
def test_one_connection_for_each_partition_up_to_the_most(partitions: int, start: int, ends: int) -> None:
    play = Play(Bounds(1, 5, 60.0, grow_when="partitions"), partitions=partitions, count=start)
    for _ in range(720):
        play.step(100.0)
    assert play.count == ends
    assert len(play.changes) == abs(ends - start)
    assert all(spacing >= 60.0 for spacing in play.spacings())


def test_families_keep_their_own_cooldowns() -> None:
    quick, slow = (Play(Bounds(1, 5, cooldown, grow_when="partitions")) for cooldown in (5.0, 120.0))
    for _ in range(12):
        quick.step(100.0)
        slow.step(100.0)
    assert quick.count == 5
    assert slow.count <= 2
    assert min(quick.spacings()) < 60.0


def test_a_process_that_comes_gets_its_share() -> None:
    play = Play(Bounds(1, 8, 60.0), partitions=8)
    for _ in range(720):
        play.step(1e6)
    assert play.count == 8
    play.processes = 4
    play.rebalance()
    for _ in range(720):
        play.step(1e6)
    assert play.count == 2
    assert {why for _, change, why in play.changes if change < 0} <= {"idle", "beyond_fair_share"}


def test_where_one_more_brings_nothing_no_further_one_is_tried_for_an_hour() -> None:
    """The network, or the one processor, is what holds the fetching up."""
    play = Play(Bounds(1, 4, 60.0))
    for _ in range(700):
        play.capacity = 1000.0 / play.count
        play.step(5000.0)
    assert [why for _, _, why in play.changes] == ["fetch_bound"]
    assert "no_gain" in play.whys


@pytest.mark.parametrize("seed", range(5))
def test_a_day_of_noisy_load_and_rebalances_goes_up_and_back_without_flapping(seed: int) -> None:
    """24 virtual hours: a night at 300 records/s, a day at 3,300, every span off by up to a half, bursts, foreign rebalances."""
    draw = random.Random(seed)  # noqa: S311 - a load, not a secret
    play = Play(Bounds(1, 6, 60.0))
    night_s, day_s = 8 * 3600, 18 * 3600
    counts: dict[str, set[int]] = {"night": set(), "day": set(), "evening": set()}
    while play.now < 24 * 3600:
        name = "night" if play.now < night_s else "day" if play.now < day_s else "evening"
        base = 3300.0 if name == "day" else 300.0
        burst = 3.0 if draw.random() < 0.01 else 1.0
        play.step(base * draw.uniform(0.5, 1.5) * burst)
        if draw.random() < 0.002:
            play.rebalance()
        if play.now % 3600 > 1800 and (play.now - day_s > 3 * 3600 or play.now < day_s):
            counts[name].add(play.count)
    assert counts["night"] == {1}
    assert len(counts["day"]) <= 2
    assert min(counts["day"]) >= 4
    assert counts["evening"] == {1}
    assert len(play.changes) <= 12, play.changes
    assert all(spacing >= 60.0 for spacing in play.spacings())
    for before, after in zip(play.changes, play.changes[1:], strict=False):
        if before[1] != after[1]:
            assert after[0] - before[0] >= 600.0, (before, after)


@pytest.mark.parametrize(
    ("lags", "starved", "pressed", "spare"),
    [
        (lags, starved, pressed, spare)
        for (lags, pressing, calm), (starved, wanting) in product(
            [((10_000, 20_000), True, False), ((20_000, 10_000), False, False), ((0, 0), False, True)],
            [(0.6, True), (0.59, False)],
        )
        for pressed, spare in [(pressing and wanting, calm)]
    ],
)
def test_pressure_and_slack(lags: tuple[int, int], starved: float, pressed: bool, spare: bool) -> None:
    load = Load()
    for _ in range(2):  # So that what a connection can fetch is known.
        load.observe([LoadSample(1000.0, 1.0, 10)] * 2, 0.0)
    for at, lag in enumerate(lags, start=1):
        load.observe([LoadSample(100.0, starved, lag), LoadSample(100.0, 0.0, 0)], at * 10.0)
    assert (load.pressed_since is not None) is pressed
    assert (load.spare_since is not None) is spare


def test_a_lag_that_is_not_known_says_nothing() -> None:
    load = Load()
    known, unknown = [LoadSample(1000.0, 1.0, 10**6)], [LoadSample(1000.0, 1.0, None)]
    load.observe(known, 1.0)
    before = (load.pressed_since, load.spare_since)
    load.observe(unknown, 2.0)
    assert before == (1.0, None)
    assert (load.pressed_since, load.spare_since) == (None, None)


def test_a_change_forgets_what_was_measured_before_it_and_keeps_its_rate_to_compare() -> None:
    load = Load()
    load.observe([LoadSample(1000.0, 1.0, 10**6)], 1.0)
    load.changed()
    assert (load.pressed_since, load.gain) == (None, None)
    load.observe([LoadSample(700.0, 1.0, 10**6), LoadSample(700.0, 1.0, 10**6)], 2.0)
    assert load.gain == pytest.approx(1.4)
