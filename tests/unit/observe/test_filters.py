"""Filters: exactly `re.fullmatch`; what is dropped is never read; bad expressions fail at start, naming the reporter."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace import App, ConfigError
from headrace.cli import execute
from headrace.observe import Console, Csv, Expressions, Gauge, Prometheus, Reporting, StatsD, load_reporters
from headrace.observe.filters import Selection
from headrace.observe.metrics import Metric, key_of
from headrace.observe.reporting import make_report
from tests.unit.observe.views import offsets, part, source, view

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.observe import Filter, Report

STORM = "(?!.*partition.*).*"
WORDS = (
    "headrace_",
    "partition",
    "topic",
    "lag",
    "_records",
    "{",
    "}",
    "=",
    ",",
    "orders",
    "0",
    "a.b",
    "\n",
    " ",
)
EXPRESSIONS = st.sampled_from(
    [
        ".*",
        STORM,
        "lag",
        ".*lag.*",
        "headrace_(topic|partition)_.*",
        r".*\{.*\}",
        r"[^{]*",
        "(?s).*",
        "",
        "^.*$",
        "a|ab",
    ]
)
KEYS = st.lists(st.sampled_from(WORDS), max_size=8).map("".join)


@dataclass(frozen=True)
class Thing:
    """Of a metric."""

    metric: Metric


@given(KEYS, st.none() | EXPRESSIONS, st.none() | EXPRESSIONS)
def test_a_filter_is_a_full_match(key: str, include: str | None, exclude: str | None) -> None:
    expected = include is None or re.fullmatch(include, key) is not None
    if exclude is not None and re.fullmatch(exclude, key) is not None:
        expected = False
    assert Expressions(include, exclude).keeps(key) is expected


@given(st.lists(KEYS.map(lambda key: key.replace("{", "")), min_size=1), EXPRESSIONS)
def test_a_remembered_answer_is_the_filters(names: list[str], include: str) -> None:
    selection = Selection(Expressions(include))
    for _ in range(2):
        for name in names:
            thing = Thing(Metric(name or "x", "gauge", "", (), "", "1"))
            expected = [thing] if re.fullmatch(include, thing.metric.name) else []
            assert list(selection.kept([thing], ())) == expected
        selection.end_report()


def keys(report: Report) -> list[str]:
    return [sample.key for sample in report.samples]


def test_a_filtered_gauge_is_never_computed_and_the_broker_never_asked() -> None:
    asked: list[str] = []

    def expensive() -> float:
        asked.append("gauge")
        return 1.0

    def ask(topic: str, partition: int) -> object:
        asked.append(topic)
        return offsets()

    made = view([part()])
    object.__setattr__(made, "offsets_of", ask)
    found = source(Gauge("expensive", expensive), made=made)
    kept = make_report(found, Selection(Expressions(exclude="expensive|.*(lag|offset|_records).*")))
    assert asked == []
    assert kept.samples
    assert kept.again().samples
    assert asked == []
    make_report(found, Selection(None))
    assert {"gauge", "orders"} <= set(asked)


def test_storms_expression_drops_partitions_and_keeps_topics() -> None:
    found = keys(make_report(source(), Selection(Expressions(STORM))))
    assert "headrace_topic_lag_records{topic=orders}" in found
    assert not [key for key in found if "partition" in key]
    assert len(keys(make_report(source(), Selection(None)))) > len(found)


def test_an_exclude_that_matches_nothing_is_known() -> None:
    selection = Selection(Expressions(exclude="headrace_no_such"))
    make_report(source(), selection)
    assert selection.useless_exclude() == "headrace_no_such"
    used = Selection(Expressions(exclude=".*lag.*"))
    make_report(source(), used)
    assert used.useless_exclude() is None


def test_answers_for_what_is_gone_are_forgotten() -> None:
    asked: list[str] = []

    class Asked:
        def keeps(self, key: str) -> bool:
            asked.append(key)
            return key.startswith("m")

    chosen: Filter = Asked()
    selection = Selection(chosen)
    metric = Metric("m", "gauge", "", ("partition",), "", "")
    things = [Thing(metric), Thing(replace(metric, name="n"))]
    for labels in (("0",), ("1",)), (("1",),), (("0",), ("1",)):
        for label in labels:
            assert selection.kept(things, label) == (things[0],)
        selection.end_report()
    assert asked == [key_of(one.metric, label) for label in (("0",), ("1",), ("0",)) for one in things]


# ---- Settings


@pytest.mark.parametrize(
    ("wrong", "named", "said"),
    [
        ({"type": "console", "filter": {"expression": "("}}, "reporters[0] (console)", "regular expression"),
        ({"type": "console", "exclude": "["}, "reporters[0] (console).exclude", "regular expression"),
        ({"type": "console", "every_s": 0}, "reporters[0] (console).every_s", "a number"),
        ({"type": "console", "every_s": "10"}, "reporters[0] (console).every_s", "a number"),
        ({"type": "consol"}, "reporters[0] (consol).type", "one of console"),
        ({"type": "csv"}, "reporters[0] (csv).type", "path"),
        ({"type": "csv", "path": ""}, "reporters[0] (csv).Csv.path", "path"),
        ({"type": "csv", "path": "x", "files_max": 0}, "reporters[0] (csv).Csv.files_max", "whole number"),
        ({"type": "statsd", "port": 0}, "reporters[0] (statsd).StatsD.port", "whole number"),
        ({"type": "console", "filter": {"class": "x"}}, "reporters[0] (console).filter", "expression"),
        ({"type": "no.such:Reporter"}, "reporters[0] (no.such:Reporter).type", "imported"),
        ({"type": "console", "include": "a", "filter": "b"}, "reporters[0] (console).filter", "absent"),
        (7, "reporters[0].reporter", "report(report)"),
    ],
)
def test_what_is_wrong_names_the_reporter(wrong: object, named: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        App("localhost:1", "g", reporters=[wrong])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    assert refused.value.key.startswith(named)
    assert said in str(refused.value)


def test_other_settings_that_cannot_be_meant() -> None:
    for name in ("reporters", "gauges"):
        for wrong in ("console", 7, [7]):
            with pytest.raises(ConfigError):
                App("localhost:1", "g", **{name: wrong})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    for bad in ("headrace_mine", "with space", ""):
        with pytest.raises(ConfigError):
            Gauge(bad, lambda: 1)
    with pytest.raises(ConfigError, match="names that differ"):
        App("localhost:1", "g", gauges=[Gauge("a", lambda: 1), Gauge("a", lambda: 2)])


def test_names_are_unique_and_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        f"""
[[reporters]]
type = "console"
every_s = 10
filter = {{expression = "{STORM}"}}

[[reporters]]
type = "console"
exclude = ".*lag.*"

[[reporters]]
type = "csv"
path = "{tmp_path}/m.csv"
name = "file"
"""
    )
    first, second, third = load_reporters(tmp_path / "r.toml")
    assert [one.name for one in (first, second, third)] == ["console", "console-2", "file"]
    assert first.filter == Expressions(STORM)
    assert first.every_s == 10
    assert second.filter == Expressions(exclude=".*lag.*")
    assert isinstance(third.reporter, Csv)
    app = App("localhost:1", "g", reporters=[first, Console(), {"type": "statsd"}])
    assert [state.name for state in app.reporters()] == ["console", "console-2", "statsd"]


def test_storms_fragment_in_yaml(tmp_path: Path) -> None:
    """What `docs/howto/from-storm.md` maps: Storm's keys on the left of ours, its expression as it is."""
    (tmp_path / "r.yaml").write_text(
        'reporters:\n  - type: console\n    every_s: 10\n    filter:\n      expression: "(?!.*partition.*).*"\n'
    )
    (only,) = load_reporters(tmp_path / "r.yaml")
    assert isinstance(only.reporter, Console)
    assert only.filter == Expressions(STORM)
    parsed = yaml.safe_load((tmp_path / "r.yaml").read_text())["reporters"]
    assert App("localhost:1", "g", reporters=parsed).reporters()[0].every_s == 10


def test_files_that_cannot_be_meant(tmp_path: Path) -> None:
    for name, text in (("a.toml", "= 3"), ("b.toml", "x = 1"), ("c.yaml", "a: ["), ("d.yml", "- 1")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            load_reporters(tmp_path / name)


class Own:
    """A reporter of the user's, and a filter of theirs, found by dotted path."""

    def __init__(self, colour: str = "none") -> None:
        self.colour = colour

    def report(self, report: Report) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def keeps(self, key: str) -> bool:
        return self.colour in key


def test_ones_own_reporter_and_filter_by_dotted_path() -> None:
    here = f"{__name__}:Own"
    app = App(
        "localhost:1",
        "g",
        reporters=[{"type": here, "colour": "red", "filter": {"type": here, "colour": "lag"}}],
    )
    (only,) = app.settings.reporters
    assert isinstance(only, Reporting)
    assert isinstance(only.reporter, Own)
    assert only.reporter.colour == "red"
    assert not isinstance(only.filter, str)
    assert only.filter is not None
    assert only.filter.keeps("lag")
    assert only.name == "own"


def test_reporters_show_no_more_than_where_they_report_to() -> None:
    assert repr(StatsD()) == "StatsD('127.0.0.1', 8125)"
    assert "127.0.0.1" in repr(Prometheus(0))


def test_the_command_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["metrics", "--filter", STORM, "--exclude", ".*nope.*"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"kept +gauge +headrace_topic_lag_records\{topic=orders\}", out)
    assert re.search(r"dropped +gauge +headrace_partition_lag_records\{topic=orders,partition=0\}", out)
    assert "nothing here matches" in err
    assert execute(["metrics", "--filter", "("]) == 2
