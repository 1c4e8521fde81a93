"""The parts of `headrace read`: moments, files that are whole or not there, lines about progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headrace.cli.exits import Unusable
from headrace.cli.export.files import whole
from headrace.cli.export.meter import Meter, amount, clock, line, summary
from headrace.cli.export.moments import moment
from headrace.cli.export.writers import Format, format_of
from headrace.ranges import PartitionProgress, Progress

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1h", timedelta(hours=1)),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("0s", timedelta(0)),
        ("now", "latest"),
        ("latest", "latest"),
        (" earliest ", "earliest"),
        ("2026-11-01T12:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00+02:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read(text: str, bound: Any) -> None:
    assert moment(text, "--since") == bound


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1h30m"),
        ("yesterday", "1h30m"),
        ("30m1h", "1h30m"),
        ("-1h", "1h30m"),
        ("1.5h", "1h30m"),
        ("2026-11-01", "time zone"),
        ("2026-11-01T12:00", "time zone"),
        ("9999999999999d", "so long ago"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_option(text: str, words: str) -> None:
    with pytest.raises(Unusable, match=f"--until.*{words}"):
        moment(text, "--until")


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"before")
    with whole(target) as file:
        file.write(b"after")
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path, error: type[BaseException]) -> None:

    def write_half() -> None:
        with whole(tmp_path / "out.jsonl") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_says_so_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="No such file"), whole(tmp_path / "nowhere" / "out.csv"):
        raise AssertionError("not reached")
    with pytest.raises(Unusable, match="is a folder"), whole(tmp_path):
        raise AssertionError("not reached")


def test_the_name_says_the_format(tmp_path: Path) -> None:
    names = {
        "a.parquet": Format.PARQUET,
        "a.CSV": Format.CSV,
        "a.jsonl": Format.JSONL,
        "a.ndjson": Format.JSONL,
    }
    assert {name: format_of(tmp_path / name) for name in names} == names
    assert format_of(None) is Format.JSONL
    with pytest.raises(Unusable, match=r"\.parquet"):
        format_of(tmp_path / "a.xlsx")


HALF = Progress(
    (PartitionProgress("t", 0, 1000, 1000, 0), PartitionProgress("t", 1, 1000, 0, 0)),
    900,
    123_456,
    10.0,
    (),
    False,
)


def test_the_line_says_how_far_it_is() -> None:
    assert line(HALF) == " 50%  900 records  123.5 kB  90/s  1 of 2 partitions to go  0:10 left"
    assert (
        line(Progress((), 0, 0, 0.0, (), True))
        == "100%  0 records  0 B  0/s  0 of 0 partitions to go  0:00 left"
    )
    assert summary(HALF) == "900 records, 123.5 kB, in 10.0 s (90/s)"
    assert [amount(size) for size in (999, 1000, 5_000_000, 7_200_000_000)] == [
        "999 B",
        "1.0 kB",
        "5.0 MB",
        "7.20 GB",
    ]
    assert [clock(seconds) for seconds in (0, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_the_line_is_drawn_over_itself_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(live=True)
    meter.show(HALF)
    meter.clear()
    width = len(line(HALF))
    assert capsys.readouterr().err == f"\r{line(HALF)}\r{' ' * width}\r"
    silent = Meter(live=False)
    silent.show(HALF)
    silent.clear()
    assert capsys.readouterr().err == ""
