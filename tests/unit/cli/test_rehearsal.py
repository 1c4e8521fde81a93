"""Samples and the verdict of a rehearsal: each thing that stands against production is seen, and what is allowed is not."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace import App, Record
from headrace.cli.exits import Unusable
from headrace.cli.rehearsal.ledger import Account, LedgerWriter, Run, read_account
from headrace.cli.rehearsal.plan import TopicPlan
from headrace.cli.rehearsal.samples import Sample, from_file, made_up, topics_of
from headrace.cli.rehearsal.verdict import Evidence, judge

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = TopicPlan("orders", "key", batch=False, guarantee="at_least_once", dead_letter=None)


def a_run(offset: int, began: float, ended: float | None, *, member: str = "first", error: str = "") -> Run:
    return Run(member, "orders", 0, offset, 1, began, ended, error or None)


def an_account(*runs: Run, ended: str = "clean", member: str = "first") -> Account:
    return Account(member, list(runs), running_at=0.0, ended=ended)


def evidence(*accounts: Account, records: int = 2, key: bytes | None = b"k", committed: int = 2) -> Evidence:
    return Evidence(
        topics={"orders": TOPIC},
        keys={("orders", 0, offset): key for offset in range(records)},
        acknowledged=records,
        accounts=accounts,
        killed_at={},
        committed={("orders", 0): committed},
        ends={("orders", 0): records},
        drain_s=20.0,
        stop_s=30.0,
    )


GOOD = an_account(a_run(0, 1.0, 2.0), a_run(1, 2.0, 3.0))


def test_an_app_that_did_all_in_order_may_go() -> None:
    verdict = judge(evidence(GOOD))
    assert verdict.held
    assert (verdict.produced, verdict.handled, verdict.repeated) == (2, 2, 0)


def test_nothing_produced_proves_nothing() -> None:
    assert not judge(evidence(an_account(), records=0, committed=0)).held


def test_a_record_that_nobody_handled_is_seen() -> None:
    verdict = judge(evidence(an_account(a_run(0, 1.0, 2.0))))
    assert (verdict.unhandled, verdict.held) == (1, False)


def test_a_record_that_only_failed_is_unhandled_and_one_given_up_is_not() -> None:
    account = an_account(a_run(0, 1.0, 2.0), a_run(1, 2.0, 3.0, error="KeyError"))
    assert judge(evidence(account)).unhandled == 1
    account.given_up["orders", 0, 1] = 3.1
    verdict = judge(evidence(account))
    assert (verdict.unhandled, verdict.given_up, verdict.errors) == (0, 1, (("KeyError", 1),))


def test_a_filtered_record_is_not_missed() -> None:
    account = an_account(a_run(0, 1.0, 2.0))
    account.filtered.add(("orders", 0, 1))
    assert judge(evidence(account)).held


def test_a_weaker_guarantee_owes_nothing() -> None:
    weak = replace(
        evidence(an_account(a_run(0, 1.0, 2.0))), topics={"orders": replace(TOPIC, guarantee="none")}
    )
    assert judge(weak).held


@pytest.mark.parametrize(("key", "wrong"), [(b"k", 1), (None, 0)])
def test_records_of_a_key_side_by_side_are_seen(key: bytes | None, wrong: int) -> None:
    verdict = judge(evidence(an_account(a_run(0, 1.0, 2.0), a_run(1, 1.5, 3.0)), key=key))
    assert verdict.out_of_order == wrong


def test_records_of_one_batch_begin_together() -> None:
    given = evidence(an_account(a_run(0, 1.0, 2.0), a_run(1, 1.0, 2.0)))
    assert judge(given).out_of_order == 1
    assert judge(replace(given, topics={"orders": replace(TOPIC, batch=True)})).out_of_order == 0


def test_what_is_not_committed_is_seen() -> None:
    assert judge(evidence(GOOD, committed=1)).uncommitted == 1


def test_repeats_are_counted_and_allowed_and_those_of_a_kill_apart() -> None:
    again = an_account(a_run(1, 4.0, 5.0, member="second"), member="second")
    verdict = judge(evidence(GOOD, again))
    assert (verdict.repeated, verdict.repeated_after_kill, verdict.held) == (1, 0, True)
    killed = replace(evidence(GOOD, replace(again, ended="")), killed_at={"second": 5.5})
    assert (judge(killed).repeated_after_kill, judge(killed).held) == (1, True)


def test_a_member_that_ended_badly_is_a_problem_and_says_why() -> None:
    verdict = judge(evidence(replace(GOOD, ended="ForcedStop", ended_with="handlers ran on")))
    assert verdict.problems == ("the first member ended with ForcedStop: handlers ran on",)
    assert not verdict.held
    assert not judge(evidence(replace(GOOD, ended=""))).held


def test_advice_tells_of_handlers_slower_than_the_drain() -> None:
    slow = an_account(a_run(0, 1.0, 13.0), a_run(1, 13.0, 14.0))
    assert "12.0 s" in judge(evidence(slow)).advice[0]
    slow.notices["drain_overran"] = ["once"]
    assert judge(evidence(slow)).advice[0].startswith("1 rebalances could not wait")


def test_the_ledger_is_read_back_but_for_a_line_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    # As a witness in a worker process has it: pickled.
    ledger: LedgerWriter = pickle.loads(pickle.dumps(LedgerWriter(str(path))))  # noqa: S301 - our own bytes
    ledger.write("running")
    ledger.write("start", "orders", 0, 7, 1)
    ledger.write("start", "orders", 0, 8, 1)
    ledger.write("end", "orders", 0, 7, 1, "Val\tue")
    ledger.write("notice", "handler_hung", "two\nlines")
    with path.open("a") as file:
        file.write("5.0\tend\torders\t0\t8\t1")
    account = read_account(path, "first")
    assert [(run.offset, run.error, run.ended_at is None) for run in account.runs] == [
        (7, "Val ue", False),
        (8, None, True),
    ]
    assert account.notices == {"handler_hung": ["two lines"]}


def test_samples_come_as_tail_prints_them(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [
        {"topic": "orders", "key": "k", "value": {"base64": "AP8="}, "headers": [["h", None]]},
        {"topic": "orders", "key": None, "value": None},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert from_file(path) == [
        Sample("orders", b"k", b"\x00\xff", (("h", None),)),
        Sample("orders", None, None),
    ]


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"value": "x"}', '{"topic": "t", "key": 1}', '{"topic": "t", "headers": [1]}']
)
def test_a_sample_that_cannot_be_meant_names_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f'{{"topic": "t"}}\n{line}\n')
    with pytest.raises(Unusable, match=r"records\.jsonl, line 2"):
        from_file(path)


def test_a_file_without_records_or_none_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Unusable, match="holds no record"):
        from_file(tmp_path / "empty")
    with pytest.raises(Unusable, match="cannot read"):
        from_file(tmp_path / "missing")


def an_app() -> App:
    app = App("nowhere:9092", "group")

    @app.subscribe("orders")
    def plain(record: Record) -> None: ...

    @app.subscribe(pattern=r"logs\..*")
    def patterned(record: Record) -> None: ...

    return app


def test_topics_are_those_of_the_app_and_those_that_its_patterns_match() -> None:
    samples = [Sample("logs.a", None, None), Sample("orders", None, None)]
    assert topics_of(an_app().subscriptions, samples) == {"orders": 0, "logs.a": 1}
    with pytest.raises(Unusable, match="give --records"):
        topics_of(an_app().subscriptions, made_up(["orders"]))
    with pytest.raises(Unusable, match="does not subscribe"):
        topics_of(an_app().subscriptions, [*samples, Sample("other", None, None)])
