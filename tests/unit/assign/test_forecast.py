"""Forecasts, their picture, and schedules: every partition accounted for, and what pauses under which protocol."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from headrace.assign import Claim, CooperativeSticky, Member, Range, RoundRobin, Sticky, Topic
from headrace.assign.charts import plot
from headrace.assign.drawing import svg
from headrace.assign.forecast import Handover, Situation, forecast, strategy_named
from headrace.assign.simulate import simulate
from headrace.errors import GroupInvalid
from tests.unit.assign.groups import member_of

SVG = "{http://www.w3.org/2000/svg}"
NOW = Situation((member_of("a t | t-0 t-1 t-2"), member_of("b t | t-3 t-4 t-5")), {"t": 6})


def test_a_member_joins() -> None:
    """Eagerly all six pause; cooperatively the two that move, in two rounds."""
    for name in ("sticky", "cooperative-sticky", "uniform"):
        found = forecast(NOW, NOW.changed(add_members=1), strategy_named(name))
        assert found.handovers == (Handover("t", 2, "a", "new-1"), Handover("t", 5, "b", "new-1"))
        assert (found.imbalance_before, found.imbalance_after) == (0, 0)
        assert (found.paused_eager, found.paused_cooperative, found.rounds_cooperative) == (6, 2, 2)
        assert found.after == {"a": {"t": [0, 1]}, "b": {"t": [3, 4]}, "new-1": {"t": [2, 5]}}


def test_a_member_leaves_and_a_topic_grows() -> None:
    """What the leaver had pauses; what is new has never been read. One round is enough."""
    found = forecast(NOW, NOW.changed(remove=["a"], partitions={"t": 7}), CooperativeSticky())
    assert found.handovers == (*(Handover("t", p, "a", "b") for p in range(3)), Handover("t", 6, None, "b"))
    assert (found.paused_eager, found.paused_cooperative, found.rounds_cooperative) == (6, 3, 1)


def test_the_last_member_leaves() -> None:
    found = forecast(NOW, NOW.changed(remove=["a", "b"]), Sticky())
    assert {one.target for one in found.handovers} == {None}
    assert len(found.handovers) == 6


def test_new_members_have_names_of_their_own() -> None:
    crowded = Situation((Member("new-1", ["t", "u"]),), {"t": 1, "u": 1})
    assert [member.id for member in crowded.changed(add_members=2).members] == ["new-1", "new-2", "new-3"]
    assert list(crowded.changed(add_members=1).members[1].topics) == ["t", "u"]


@pytest.mark.parametrize(
    ("change", "subject"),
    [({"remove": ["c"]}, "member c"), ({"partitions": {"t": 5}}, "topic t")],
)
def test_changes_that_cannot_be(change: dict[str, object], subject: str) -> None:
    with pytest.raises(GroupInvalid) as refused:
        NOW.changed(**change)  # type: ignore[arg-type]
    assert refused.value.subject == subject


def test_a_strategy_that_nobody_knows() -> None:
    with pytest.raises(GroupInvalid):
        strategy_named("my-own")


def test_the_picture_has_every_partition_twice_and_an_arrow_for_each_move() -> None:
    strange = Situation((Member("<a&b>", ["t"], Claim({"t": [0, 1]})),), {"t": 2})
    found = forecast(strange, strange.changed(add_members=1), Sticky())
    drawn = ET.fromstring(svg(found))  # noqa: S314 - our own text
    texts = "".join(drawn.itertext())
    assert "<a&b> now: 2" in texts
    assert "new-1 then: 1" in texts
    names = [title.text for title in drawn.iter(f"{SVG}title")]
    assert sorted(filter(None, names)) == ["<a&b>", "<a&b>", "new-1", "new-1", "t-0", "t-0", "t-1", "t-1"]
    assert len(arrows_of(drawn)) == 1


def arrows_of(drawn: ET.Element) -> list[ET.Element]:
    return [path for path in drawn.iter(f"{SVG}path") if path.get("marker-end")]


def test_many_moves_are_drawn_as_one_arrow_for_each_pair_of_members() -> None:
    """And each says how many; members of long alike names are told apart."""
    names = [f"consumer-of-billing-{n}-at-the-same-host" for n in "xyz"]
    crowd = Situation((Member(names[0], ["t"], Claim({"t": range(90)})), Member(names[1], ["t"])), {"t": 90})
    drawn = ET.fromstring(svg(forecast(crowd, crowd.changed(add_members=1), Sticky())))  # noqa: S314 - our own text
    texts = [text for text in drawn.itertext() if text.strip()]
    assert len(arrows_of(drawn)) == 2
    assert [text for text in texts if text == "30"] == ["30"] * 4  # two counts, and partition 30 twice
    assert [text.split()[0] for text in texts if text.endswith((" now: 90", " now: 0"))] == [
        "…ng-x-at…",
        "…ng-y-at…",
    ]


def test_topics_that_grow_keep_what_is_known_of_them() -> None:
    weighed = Situation((Member("a", ["t"]),), {"t": Topic(1, [["r"]], [7.0])})
    assert weighed.changed(partitions={"t": 3}).topics == {"t": Topic(3, [["r"], (), ()], [7.0, 0.0, 0.0])}


def test_a_schedule_with_several_strategies() -> None:
    """One joins, one joins, one leaves: sticky moves least, and cooperative pauses only what moves."""
    group = [Member(name, ["t"]) for name in "abc"]
    schedule = [group[:1], group[:2], group, group[1:]]
    eager, cooperative, ranged, turns = simulate(
        schedule, {"t": 12}, [Sticky(), CooperativeSticky(), Range(), RoundRobin()], round_s=1.0
    )
    assert [step.moves for step in eager.steps] == [0, 6, 4, 0]
    assert [step.imbalance for step in eager.steps] == [0, 0, 0, 0]
    assert eager.moves == cooperative.moves == 10
    assert eager.paused_s == 36
    assert [step.paused_s for step in cooperative.steps] == [0, 6, 4, 4]
    assert [step.rounds for step in cooperative.steps] == [1, 2, 2, 1]
    assert (ranged.imbalance_max, turns.imbalance_max) == (0, 0)
    assert min(ranged.moves, turns.moves) > eager.moves


def test_the_plot_has_a_line_for_each_strategy_in_each_panel() -> None:
    group = [Member(name, ["t"]) for name in "abc"]
    courses = simulate([group[:1], group], {"t": 12}, [Sticky(), CooperativeSticky(), Range()], round_s=1.0)
    drawn = ET.fromstring(plot(courses))  # noqa: S314 - our own text
    lines = [path.get("d", "") for path in drawn.iter(f"{SVG}path")]
    assert len(lines) == 3 * 3
    assert all(line.count("H") == 2 for line in lines)
    texts = list(drawn.itertext())
    assert {"sticky", "cooperative-sticky", "range", "moves so far", "imbalance"} <= set(texts)
    assert "12" in texts  # eager, at the second rebalance: every partition is without a reader for a second
    assert ET.fromstring(plot([])).tag == f"{SVG}svg"  # noqa: S314 - see above
