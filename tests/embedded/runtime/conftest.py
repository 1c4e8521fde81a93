"""A broker per test, and cases that wait much and compute little, run side by side."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from headrace.testing.broker import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE_MAX = 24
"""Cases that run at the same time: each is a broker and an app or two, and most of their time is waiting."""
CASE_S = 50.0


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """A broker with the empty topics `orders` (2 partitions), `other` (1) and `dead` (1)."""
    with MockBroker(topics={"orders": 2, "other": 1, "dead": 1}) as mock:
        yield mock


class Outcome(Protocol):
    """Waits for one case and raises what it raised."""

    def __call__(self, case: Any) -> None:
        """Wait for this case."""
        ...


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """Outcomes of a module's cases: `run_case` of the module runs those that were selected, many at a time."""
    run_case: Callable[[Any], None] = request.module.run_case
    cases: list[Any] = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and "case" in item.callspec.params
    ]
    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        futures: dict[Any, Future[None]] = {case: pool.submit(run_case, case) for case in cases}

        def wait(case: Any) -> None:
            futures[case].result(CASE_S)

        yield wait
        for future in futures.values():
            future.cancel()
