"""The thread that decides about connections: what it asks, when it decides, and how it ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from headrace import Connections
from headrace._core.states import AppState
from headrace._runtime.siblings import Siblings
from tests.unit.runtime.fake_links import WAIT_S, Scene, part, until
from tests.unit.runtime.test_questions import Slow

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from headrace._runtime.lookout import Lookout


class Play(Scene):
    """Siblings of a first connection that runs and holds one partition."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        connections: Connections,
        make_lookout: Callable[[], Lookout] | None = None,
    ) -> None:
        super().__init__(monkeypatch, connections)
        self.siblings = Siblings(self.lead, self.shared, make_lookout, self.ends.append, ())
        self.lead.owner.state = AppState.RUNNING
        self.lead.owner.tell(part(0), part(1))
        self.lead.owner.running.set()
        self.siblings.start()

    def stop(self) -> None:
        self.lead.owner.request_stop()
        self.siblings.join(WAIT_S)

    def reasons(self) -> dict[str, int]:
        """How often each was given."""
        scaling = self.siblings.snapshot().scaling
        return {} if scaling is None else dict(scaling.decisions)


def test_a_slow_cluster_keeps_no_connection_from_hearing_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lookout = Slow()
    play = Play(monkeypatch, Connections(max=3, start=2, grow_when="partitions"), lambda: lookout)
    play.lead.owner.stop_timeout_s = 0.3
    asking = play.siblings._questions
    try:
        until(lambda: len(play.links) == 1)
        lookout.group = lambda _timeout_s: lookout.may_answer.wait(WAIT_S)  # type: ignore[method-assign,assignment,return-value]
        until(lambda: asking.waiting and asking._asker is not None and asking._asker._lookout is lookout)
        play.lead.owner.request_stop()
        until(play.links[0].owner.ended.is_set)
        play.siblings.join(WAIT_S)
        assert not lookout.may_answer.is_set(), "nobody waited for the answer"
        assert not play.siblings._thread.is_alive()
    finally:
        lookout.may_answer.set()
        asking.join(WAIT_S)


def test_a_stop_needs_no_thread_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener may hold it when the app stops."""
    held = threading.Event()
    play = Play(monkeypatch, Connections(max=2, min=2))

    def hold(_notice: Any) -> None:
        held.wait(WAIT_S)

    play.shared.tell = hold
    until(lambda: len(play.siblings.states()) == 2)
    play.now += 100.0  # it decides, and tells of it
    play.siblings.request_stop(timeout_s=1.5)
    assert play.links[0].owner.stops == [(False, 1.5)]
    held.set()
    play.stop()


def test_where_the_number_is_fixed_the_cluster_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def lookout() -> Lookout:
        asked.append(1)
        return Slow()

    play = Play(monkeypatch, Connections(min=2, max=2), lookout)
    until(lambda: "fixed_number" in play.reasons() or _later(play))
    play.stop()
    assert asked == []
    assert play.ends == []


def _later(play: Play) -> bool:
    play.now += 1.0
    for link in (play.lead, *play.links):
        link.owner.tell(part(link.number), as_of=play.now)
    return False


def test_one_more_is_opened_for_many_partitions_and_all_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Connections(max=2, cooldown_s=1.0, fair=False, grow_when="partitions")
    play = Play(monkeypatch, settings)

    def later() -> bool:
        play.now += 1.0
        play.lead.owner.tell(part(0), part(1), as_of=play.now)
        return len(play.links) == 1

    until(later)
    (changed,) = play.named("connections_changed")
    assert (changed.before, changed.after, changed.why) == (1, 2, "many_partitions")
    until(play.links[0].owner.running.is_set)
    assert play.siblings.states() == ["running", "running"]
    play.stop()
    assert play.links[0].owner.ended.is_set()
    assert play.siblings.states() == ["running"]
    assert play.ends == []


def test_what_breaks_here_ends_the_app_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Connections(max=2))
    play.siblings._sampling = None  # type: ignore[assignment] # the fault
    play.siblings.join(WAIT_S)
    assert "the thread of the connections" in str(play.ends[0])
