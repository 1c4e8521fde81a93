"""`headrace top FILE`: it shows what the app itself would have told, follows a file that is put aside, and takes no zero for unknown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from headrace import CountersSnapshot, EngineSnapshot, OwnerSnapshot, Snapshot, SubscriptionSnapshot
from headrace._core.durations import Durations
from headrace.cli import execute, top_file
from headrace.cli.exits import Exit, Unusable
from headrace.cli.top_file import ReportFile
from headrace.cli.top_screen import Sight, drawn
from headrace.observe import Expressions, JsonLines
from headrace.observe.filters import Selection
from headrace.observe.reporting import Source, make_report
from headrace.web.facts import app_facts
from headrace.web.showing import Showing
from tests.unit.observe.views import offsets, part, view

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.observe import Filter
    from headrace.observe.views import View


def seen(at: float, finished: int) -> View:
    """An app with a name that nobody would expect, a lag that is known and one that is not."""
    durations = Durations()
    durations.add(99, 0.099, ())
    durations.add(1, 0.0, [2.5])
    subscription = SubscriptionSnapshot("billing:charge,le={x}", 7, 1, 8, 3, 5, 0.1, durations.snapshot())
    parts = part("orders", 0), part("or=d,ers", 1, paused=("user",)), part("orders", 2, oldest_age_s=None)
    known = {("orders", 0): offsets(end=130, stable=130), ("or=d,ers", 1): offsets(end=1300, stable=1300)}
    engine = EngineSnapshot(parts, CountersSnapshot(finished=finished, fetched=900), (subscription,))
    loop = (("poll", at - 90), ("idle", 2 * at))
    return replace(
        view(parts, known), snapshot=Snapshot(at, 7, "running", engine, OwnerSnapshot(loop)), now=at
    )


def write(path: Path, *views: View, filter_: Filter | None = None) -> None:
    reporter = JsonLines(path)
    for one in views:
        report = make_report(Source("billing", lambda one=one: one), Selection(filter_))  # type: ignore[misc]
        reporter.report(replace(report, at=datetime.fromtimestamp(1_700_000_000 + one.now, UTC)))
    reporter.close()


def text_of(before: Sight, now: Sight) -> str:
    out = StringIO()
    Console(file=out, width=150).print(drawn(now, before, "here", "", rows_max=None))
    return out.getvalue()


def test_a_file_shows_what_the_app_would_have_told(tmp_path: Path) -> None:
    views = seen(98.0, 100), seen(100.0, 700)
    path = tmp_path / "reports.jsonl"
    write(path, *views)
    by_file = text_of(*ReportFile(path).newest())
    hidden = Showing(records=False)
    told = [
        Sight(v.now, json.loads(json.dumps(app_facts(Source("billing", lambda v=v: v), hidden))))  # type: ignore[misc]
        for v in views
    ]
    by_app = text_of(*told).replace("user", "yes")

    def lines(text: str) -> list[str]:
        return [re.sub(r" +", " ", line).strip() for line in text.splitlines()[1:]]

    assert lines(by_file) == lines(by_app)
    assert "finished 300/s" in by_file
    assert "lag ?" in by_file


def test_what_was_filtered_out_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    write(path, seen(98.0, 1), seen(99.0, 2), filter_=Expressions(r"headrace_(live|partition_position).*"))
    text = text_of(*ReportFile(path).newest())
    assert "verdict not reported" in text
    assert "finished ?" in text
    assert "waiting ?" in text
    assert "dead letters ?" in text
    assert "lag ?" in text


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"headrace_live": 0}, "not live"),
        ({"headrace_ready": 0}, "not ready"),
        ({"headrace_health_reasons{reason=x}": 2}, "degraded"),
        ({}, "ok"),
    ],
)
def test_the_verdict_is_what_was_reported(changed: dict[str, int], verdict: str, tmp_path: Path) -> None:
    metrics = {"headrace_live": 1, "headrace_ready": 1, "headrace_health_reasons{reason=x}": 0} | changed
    path = tmp_path / "r.jsonl"
    line = {"at": "2026-11-01T12:00:00+00:00", "group": "g", "metrics": metrics, "unknown": {}}
    path.write_text(json.dumps(line) + "\n")
    assert ReportFile(path).newest()[1].facts["health"]["verdict"] == verdict


def line(number: int, **changed: Any) -> str:
    found: dict[str, Any] = {
        "at": datetime.fromtimestamp(1_700_000_000 + number, UTC).isoformat(),
        "group": "g",
        "metrics": {"headrace_records_finished_total": 10 * number},
        "unknown": {},
    }
    return json.dumps(found | changed) + "\n"


def rate(file: ReportFile) -> float | None:
    before, now = file.newest()
    return now.per_s(before, "finished")


def test_a_file_is_followed_also_when_it_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(line(1))
    file = ReportFile(path)
    assert rate(file) is None, "one report has no rate"
    with path.open("a") as more:
        more.write(line(2) + line(4))
    assert rate(file) == 10.0
    with path.open("a") as more:
        more.write(line(5)[:30])
    assert rate(file) == 10.0, "a line that is not written to its end yet"
    path.rename(tmp_path / "r.jsonl.1")
    assert file.newest()[1].facts["snapshot"]["engine"]["counters"]["finished"] == 40
    path.write_text(line(6))
    assert rate(file) == 10.0
    path.write_text(line(6) + line(7, metrics={"headrace_records_finished_total": 70}))
    assert rate(file) == 10.0


def test_lines_longer_than_what_is_read_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_file, "FIRST_BYTES", 64)
    path = tmp_path / "r.jsonl"
    path.write_text(line(1) * 50 + line(2) + line(3))
    assert rate(ReportFile(path)) == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x\n",
        "[]\n",
        "{}\n",
        '{"at": 7, "metrics": {}, "unknown": {}}\n',
        '{"at": "x", "metrics": {}}\n',
        "\0\xff\n",
    ],
)
def test_a_file_without_reports_says_so(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    assert execute(["top", str(path), "--once"]) is Exit.USAGE
    assert "has no report" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["top", str(tmp_path / "r.jsonl"), "--once"]) is Exit.USAGE
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(Unusable):
        ReportFile(tmp_path).newest()


def test_values_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    bad = {
        "headrace_records_finished_total": "x",
        "headrace_live": None,
        "headrace_partition_position{}": 3,
        "\x1b": 1,
    }
    path.write_text(line(1, metrics=bad, group="\x1b[2J"))
    assert "\x1b" not in text_of(*ReportFile(path).newest())


def test_the_command_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "any name"
    write(path, seen(98.0, 100), seen(100.0, 700))
    assert execute(["top", str(path)]) is Exit.OK
    assert "finished 300/s" in capsys.readouterr().out
