"""Every notice has a test that means to provoke it; `reached` sees that it does."""

from __future__ import annotations

from pathlib import Path

from tests.reached import ALL, TOLD_BY, untold

TESTS = Path(__file__).parent


def test_every_notice_has_its_test() -> None:
    assert TOLD_BY.keys() == ALL.keys()
    for test in TOLD_BY.values():
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (TESTS / path).read_text("utf-8"), test


def test_a_test_that_has_not_told_what_it_should_is_found() -> None:
    idles = f"tests/{TOLD_BY['state_changed']}"
    assert untold(idles, {"state_changed"}) == {"partition_assigned", "revoke_confirmed"}
    assert untold(idles, set(ALL)) == untold("tests/test_reached.py::another", set()) == set()


def test_of_a_test_with_parameters_each_is_meant_unless_one_is_named() -> None:
    each, one = f"tests/{TOLD_BY['connections_changed']}", f"tests/{TOLD_BY['record_skipped']}"
    assert untold(f"{each}[6-1-3]", set()) == {"connections_changed"}
    assert untold(one, set()) == {"record_skipped"}
    assert untold(f"{one.partition('[')[0]}[another]", set()) == set()
