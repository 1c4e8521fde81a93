"""Questions to the cluster: asked on a thread of their own, one round at a time, and none after the end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace._core.scaling import GroupView
from headrace._runtime.questions import HANGS_S, LEFT_MAX, Answers, Questions
from tests.unit.runtime.fake_links import WAIT_S, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from headrace.ports import TopicPartition

HELD = (("orders", 0),)


class Slow:
    """A lookout that answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.closed_by: int | None = None
        self.broken = False

    def ends(
        self, partitions: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, int] | None:
        """See `Lookout`."""
        del timeout_s
        self.asked.append("ends")
        self.may_answer.wait(WAIT_S)
        if self.broken:
            raise OSError("no such thing")
        return dict.fromkeys(partitions, 7)

    def group(self, timeout_s: float) -> GroupView | None:
        """See `Lookout`."""
        del timeout_s
        self.asked.append("group")
        return GroupView(4, 2)

    def close(self) -> None:
        """See `Lookout`."""
        self.closed_by = threading.get_ident()


def taken(questions: Questions) -> Answers:
    """Wait for the round to end."""
    found: list[Answers] = []

    def is_over() -> bool:
        answers = questions.take(0.0)
        if answers is not None:
            found.append(answers)
        return answers is not None

    until(is_over)
    return found[0]


def test_a_round_brings_its_answers_once_and_nobody_waits() -> None:
    lookout = Slow()
    questions = Questions(lambda: lookout, ends=True, group=True)
    questions.ask(HELD, 0.0)
    until(lambda: lookout.asked == ["ends"])
    assert (questions.take(0.0), questions.waiting) == (None, True)
    lookout.may_answer.set()
    assert taken(questions) == Answers({("orders", 0): 7}, GroupView(4, 2))
    assert (questions.take(0.0), questions.waiting) == (None, False)
    questions.close()
    questions.join(WAIT_S)


def test_the_second_question_is_not_asked_after_the_end_and_the_clients_are_closed_where_they_were_used() -> (
    None
):
    lookout = Slow()
    questions = Questions(lambda: lookout, ends=True, group=True)
    questions.ask(HELD, 0.0)
    until(lambda: lookout.asked == ["ends"])
    questions.close()
    questions.join(0.0)
    assert lookout.closed_by is None
    lookout.may_answer.set()
    questions.join(WAIT_S)
    assert lookout.asked == ["ends"]
    assert lookout.closed_by not in (None, threading.get_ident())


def test_what_cannot_be_learnt_is_not_known() -> None:
    lookout = Slow()
    lookout.broken = True
    lookout.may_answer.set()
    questions = Questions(lambda: lookout, ends=True, group=True)
    questions.ask(HELD, 0.0)
    assert taken(questions) == Answers(None, GroupView(4, 2))
    questions.ask((), 0.0)
    assert taken(questions) == Answers(None, GroupView(4, 2))
    assert lookout.asked == ["ends", "group", "group"], "of no partitions there are no ends"
    questions.close()
    questions.join(WAIT_S)


def test_with_nothing_to_ask_or_nobody_the_answer_is_there_at_once() -> None:
    for questions in (
        Questions(Slow, ends=False, group=False),
        Questions(None, ends=True, group=True),
    ):
        questions.ask(HELD, 0.0)
        assert questions.take(0.0) == Answers()
        assert questions._asker is None
        questions.close()
        questions.join(0.0)


def test_without_a_thread_nothing_is_known_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookout = Slow()
    lookout.may_answer.set()
    questions = Questions(lambda: lookout, ends=False, group=True)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        questions.ask(HELD, 0.0)
    assert questions.take(0.0) == Answers()
    questions.ask(HELD, 0.0)
    assert taken(questions).group == GroupView(4, 2)
    questions.close()
    questions.join(WAIT_S)


def test_a_question_that_hangs_is_left_to_itself_and_another_thread_asks() -> None:
    hanging, answering = Slow(), Slow()
    answering.may_answer.set()
    lookouts = [hanging, answering]
    questions = Questions(lambda: lookouts.pop(0), ends=True, group=False)
    questions.ask(HELD, 100.0)
    until(lambda: hanging.asked)
    assert questions.take(100.0 + HANGS_S - 0.1) is None
    assert questions.take(100.0 + HANGS_S) == Answers()
    assert not questions.waiting
    questions.ask(HELD, 200.0)
    assert taken(questions) == Answers({("orders", 0): 7}, None)
    assert hanging.closed_by is None
    hanging.may_answer.set()
    until(lambda: hanging.closed_by)
    questions.close()
    questions.join(WAIT_S)


def test_where_all_hang_nothing_is_asked_until_one_comes_back() -> None:
    made: list[Slow] = []

    def make() -> Slow:
        made.append(Slow())
        return made[-1]

    questions = Questions(make, ends=True, group=False)

    def hang() -> None:
        before = len(made)
        questions.ask(HELD, 0.0)
        until(lambda: len(made) > before)
        assert questions.take(HANGS_S) == Answers()

    for _ in range(LEFT_MAX):
        hang()
    questions.ask(HELD, 0.0)
    assert questions.take(0.0) == Answers()
    assert len(made) == LEFT_MAX
    made[0].may_answer.set()
    until(lambda: made[0].closed_by)
    made[0].may_answer.clear()

    def asked_anew() -> bool:
        questions.ask(HELD, 0.0)
        return questions.take(0.0) is None

    until(asked_anew)
    for lookout in made:
        lookout.may_answer.set()
    questions.close()
    questions.join(WAIT_S)
