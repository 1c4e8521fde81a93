"""Notices told and read by many threads at once."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from headrace._core import notices
from headrace._runtime.telling import RECENT_MAX, Teller

if TYPE_CHECKING:
    from collections.abc import Generator

THREADS = 8
TOLD = 2000


@pytest.fixture(autouse=True)
def switching() -> Generator[None]:
    """Threads that lose the processor as often as the interpreter can manage."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def quiet() -> Teller:
    """A teller whose log is off."""
    logger = logging.getLogger("headrace.test.telling")
    logger.setLevel(logging.CRITICAL + 1)
    return Teller(logger)


def at_once(*bodies: object) -> None:
    """Run these on threads of their own, and raise what one of them raised."""
    errors: list[BaseException] = []

    def run(body: object) -> None:
        try:
            body()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - handed on below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_no_notice_is_lost_and_readers_never_see_a_changing_list() -> None:
    teller = quiet()
    over = threading.Event()

    def tell() -> None:
        for number in range(TOLD):
            teller.tell(notices.ClientFault("_TRANSPORT", str(number)))

    def read() -> None:
        while not over.is_set():
            assert len(teller.recent()) <= RECENT_MAX
            assert sum(teller.counts().values()) <= THREADS * TOLD

    reader = threading.Thread(target=read)
    reader.start()
    try:
        at_once(*[tell] * THREADS)
    finally:
        over.set()
        reader.join()
    assert teller.counts() == {notices.ClientFault.name: THREADS * TOLD}


def test_listeners_added_at_once_all_hear() -> None:
    teller = quiet()
    heard: list[int] = []

    def listen(number: int) -> None:
        teller.listen(lambda _notice: heard.append(number))

    for round_number in range(0, 400, THREADS):
        at_once(*[lambda number=round_number + each: listen(number) for each in range(THREADS)])
    teller.tell(notices.ClientFault("_TRANSPORT", "once"))
    assert sorted(heard) == list(range(400))


def test_a_listener_may_tell_and_read() -> None:
    teller = quiet()

    def listener(notice: notices.Notice) -> None:
        if isinstance(notice, notices.ClientFault) and notice.detail == "first":
            teller.tell(notices.ClientFault("_TRANSPORT", "second"))
            assert len(teller.recent()) == 2

    teller.listen(listener)
    teller.tell(notices.ClientFault("_TRANSPORT", "first"))
    assert teller.counts() == {notices.ClientFault.name: 2}
