"""The collector at rest: off for a block and on again, whatever else happens in the process."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest

from headrace.ranges.collecting import Collector, collector

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 20.0


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """As the tests found it."""
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_is_off_for_the_block_and_on_after_it() -> None:
    one = Collector()
    for _ in range(2):
        with one.at_rest():
            assert not gc.isenabled()
        assert gc.isenabled()


def test_it_is_on_after_an_exception() -> None:
    one = Collector()
    with pytest.raises(KeyError), one.at_rest():
        raise KeyError
    assert gc.isenabled()
    with one.at_rest():
        assert not gc.isenabled()


def test_who_disabled_it_finds_it_disabled() -> None:
    gc.disable()
    with Collector().at_rest():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_it_is_on_between_two_threads_that_take_turns() -> None:
    """One that comes while another rests does not make that rest longer."""
    one = Collector()
    inside, go_on, seen = threading.Event(), threading.Event(), list[bool]()

    def second() -> None:
        with one.at_rest():
            inside.set()
            assert go_on.wait(WAIT_S)
            seen.append(gc.isenabled())

    with one.at_rest():
        thread = threading.Thread(target=second)
        thread.start()
        assert inside.wait(WAIT_S)
        assert not gc.isenabled()
    assert gc.isenabled()
    go_on.set()
    thread.join(WAIT_S)
    assert seen == [True]
    with one.at_rest():
        assert not gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_is_forked_meanwhile_has_its_collector() -> None:
    """The thread whose block it is does not exist there."""
    inside, go_on = threading.Event(), threading.Event()

    def rest() -> None:
        with collector().at_rest():
            inside.set()
            assert go_on.wait(WAIT_S)

    thread = threading.Thread(target=rest)
    thread.start()
    assert inside.wait(WAIT_S)
    child = os.fork()
    if not child:
        on = gc.isenabled()
        with collector().at_rest():
            off = not gc.isenabled()
        os._exit(0 if on and off and gc.isenabled() else 1)
    go_on.set()
    thread.join(WAIT_S)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()


def test_a_process_has_one() -> None:
    assert collector() is collector()
