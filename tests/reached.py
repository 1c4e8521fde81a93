"""Which test has which notice told, and that it does: looked at when the test is over, not believed.

Decides what counts: a notice that a module of Headrace made, on whatever thread of this process, from the test's fixtures to
their end; one that a test makes itself does not. Invariants: what tests see is as without it; each test is judged alone,
so that it does not matter which others ran, in what order, or in how many processes.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import pytest

from headrace._core import connection_notices, notices

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ALL: dict[str, type[notices.Notice]] = {
    notice.name: notice
    for notice in (vars(notices) | vars(connection_notices)).values()
    if isinstance(notice, type) and issubclass(notice, notices.Notice) and notice is not notices.Notice
}
TOLD_BY: dict[str, str] = {
    "state_changed": "unit/runtime/test_health.py::test_an_app_that_idles_and_works_is_well",
    "partition_assigned": "unit/runtime/test_health.py::test_an_app_that_idles_and_works_is_well",
    "partition_revoked": "unit/runtime/test_notices.py::test_a_revoke_and_a_new_connection_are_told",
    "revoke_confirmed": "unit/runtime/test_health.py::test_an_app_that_idles_and_works_is_well",
    "revoke_unconfirmed": "unit/core/test_commits.py::test_a_farewell_that_was_not_written_is_told",
    "partition_lost": "unit/runtime/test_health.py::test_rejoin_gets_a_partition_going_again",
    "partition_sought": "embedded/runtime/test_positions.py::test_a_seek_back_handles_records_again",
    "partition_reassigned": "unit/runtime/test_health.py::test_one_stuck_partition_of_many_is_seen_while_others_flow",
    "partition_stalled": "unit/runtime/test_health.py::test_one_stuck_partition_of_many_is_seen_while_others_flow",
    "stall_ended": "unit/runtime/test_health.py::test_one_stuck_partition_of_many_is_seen_while_others_flow",
    "offset_map_rejected": "unit/runtime/test_notices.py::test_metadata_that_is_no_offset_map_is_told_and_nothing_is_skipped",
    "offset_map_truncated": "unit/core/test_commits.py::test_what_does_not_fit_into_a_map_is_told",
    "offset_out_of_range": "embedded/runtime/test_positions.py::test_an_offset_that_is_gone_follows_the_policy[earliest]",
    "offsets_unreadable": "unit/runtime/test_health.py::test_offsets_that_cannot_be_read_are_a_reason",
    "commit_refused": "unit/runtime/test_health.py::test_refused_commits_are_a_reason_from_the_first_one_on",
    "commit_overdue": "unit/runtime/test_health.py::test_commits_that_stay_refused_are_overdue_and_consumption_goes_on",
    "commit_recovered": "unit/runtime/test_health.py::test_commits_that_stay_refused_are_overdue_and_consumption_goes_on",
    "commit_went_back": "unit/core/test_commits.py::test_a_late_answer_below_what_was_confirmed_is_dirty_again",
    "record_retried": "unit/runtime/test_health.py::test_a_retry_that_never_succeeds_is_a_reason_and_no_stall",
    "record_skipped": "embedded/runtime/test_handling.py::test_a_record_that_used_up_its_attempts[skip-True]",
    "record_dead_lettered": "embedded/runtime/test_handling.py::test_what_is_rejected_goes_to_the_dead_letters_at_once",
    "dead_letter_refused": "embedded/runtime/test_handling.py::test_a_dead_letter_that_is_refused_holds_up_its_key_alone",
    "intake_paused": "unit/runtime/test_notices.py::test_a_full_queue_is_told_with_its_budget_and_its_head",
    "handler_hung": "unit/runtime/test_health.py::test_a_hung_handler_is_told_from_a_slow_one_and_stays_until_it_ends",
    "hook_overran": "unit/runtime/test_health.py::test_hooks_and_listeners_that_exit_end_nothing",
    "drain_overran": "unit/runtime/test_health.py::test_a_lost_claim_list_is_seen",
    "owner_blocked": "unit/runtime/test_health.py::test_the_owner_blocked_by_a_listener",
    "owner_resumed": "unit/runtime/test_health.py::test_the_owner_blocked_by_a_listener",
    "loop_blocked": "unit/runtime/test_health.py::test_a_blocked_event_loop",
    "loop_resumed": "unit/runtime/test_health.py::test_a_blocked_event_loop",
    "broker_awaited": "unit/runtime/test_connection.py::test_a_start_says_what_it_waits_for[30.0-99.0-moments1]",
    "client_fault": "unit/runtime/test_faults.py::test_a_silence_excuses_no_other_fence",
    "connection_rebuilt": "unit/runtime/test_health.py::test_rejoin_gets_a_partition_going_again",
    "connections_changed": "embedded/runtime/test_connections.py::test_connections_come_and_go_under_load_and_nothing_is_lost_repeated_or_disordered",
    "connections_kept": "embedded/runtime/test_connections.py::test_a_connection_that_fails_is_tried_again_shows_in_health_and_takes_nothing_down",
    "connection_moved": "embedded/runtime/test_connections.py::test_a_connection_that_fails_is_tried_again_shows_in_health_and_takes_nothing_down",
    "connection_failed": "embedded/runtime/test_connections.py::test_a_connection_that_fails_is_tried_again_shows_in_health_and_takes_nothing_down",
    "app_failed": "unit/runtime/test_notices.py::test_the_end_of_an_app_is_told_with_the_error",
}
"""For each notice one test; with its parameters where not each of them has it told."""


def untold(test: str, told: set[str]) -> set[str]:
    """What the table wants of this test, by its id, and was not told."""
    names = {test, test.partition("[")[0]}
    return {notice for notice, by in TOLD_BY.items() if f"tests/{by}" in names} - told


class Reached:
    """A plugin of pytest: it fails a test that does not have told what the table says."""

    def __init__(self) -> None:
        # The main thread puts a new one in place; threads of the test add to what they find.
        self._told: set[str] = set()
        self._passed = False
        for notice in ALL.values():
            self._watch(notice)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """A test begins."""
        self._told, self._passed = set(), False
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """One that was skipped or failed has nothing to tell."""
        report = yield
        if report.when == "call":
            self._passed = report.passed
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Its fixtures have ended."""
        result = yield
        if self._passed and (absent := untold(item.nodeid, self._told)):
            pytest.fail(f"by tests/reached.py this test has {', '.join(sorted(absent))} told, but it did not")
        return result

    def _watch(self, notice: type[notices.Notice]) -> None:
        honest: Callable[..., None] = notice.__init__

        @functools.wraps(honest)
        def watched(one: notices.Notice, *given: Any, **named: Any) -> None:
            honest(one, *given, **named)
            maker = sys._getframe(1).f_globals.get("__name__", "")
            if maker.startswith("headrace.") and not maker.startswith("headrace.testing"):
                self._told.add(one.name)

        replaced: Any = watched
        notice.__init__ = replaced  # type: ignore[method-assign]
