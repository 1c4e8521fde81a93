"""`headrace rehearse`: a good app may go to production, a bad one may not, and is told why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
import asyncio
from headrace import App, Record

app = App("kafka.example:9093", "billing", group_protocol="consumer",
          librdkafka={"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"})

@app.subscribe("orders", filter=lambda record: record.raw_value != b"no")
async def charge(record: Record) -> None:
    await asyncio.sleep(0.005)
"""
BAD = """
from headrace import App, Record

app = App("kafka.example:9093", "billing", group_protocol="consumer")

@app.subscribe("orders")
def charge(record: Record) -> None:
    raise KeyError("no such customer")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(90)
def test_a_good_app_may_go(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "good_billing.py").write_text(GOOD)
    records = [
        {"topic": "orders", "key": f"k{n % 7}", "value": "no" if n == 3 else f"{n}"} for n in range(40)
    ]
    (here / "orders.jsonl").write_text("\n".join(map(json.dumps, records)))
    code = execute(["rehearse", "good_billing:app", "--seconds", "4", "--records", "orders.jsonl"])
    shown = capfd.readouterr()
    assert code is Exit.OK, shown.out + shown.err
    assert "Nothing stands against production." in shown.out
    assert "turned away by the filter" in shown.out
    assert "a second member joins and is killed" in shown.out


@pytest.mark.timeout(60)
def test_a_bad_app_may_not_and_is_told_why(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "bad_billing.py").write_text(BAD)
    code = execute(["rehearse", "bad_billing:app", "--seconds", "4"])
    shown = capfd.readouterr()
    assert code is Exit.FAILED
    assert "NOT READY" in shown.out
    assert "handlers raised KeyError" in shown.out
    assert "RecordFailed" in shown.out


@pytest.mark.timeout(60)
def test_an_app_that_does_not_start_is_no_rehearsal(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "broken_billing.py").write_text(
        GOOD.replace("asyncio.sleep(0.005)", "None").replace(
            "app = App(",
            """
from contextlib import contextmanager

@contextmanager
def fails(app):
    raise OSError("no database")
    yield

app = App(""",
        )
        + "\napp.lifespan(fails)\n"
    )
    code = execute(["rehearse", "broken_billing:app", "--seconds", "4"])
    assert code is Exit.USAGE
    assert "no database" in capfd.readouterr().err
