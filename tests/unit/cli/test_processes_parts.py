"""The small parts of `headrace run --processes`: what is said through pipes, on stderr, on a page; sizes; options."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from headrace._client.settings import ConnectionSettings, consumer_config, numbered
from headrace.cli import execute
from headrace.cli.exits import Exit, Unusable
from headrace.cli.processes.child import Child
from headrace.cli.processes.exchange import Limits
from headrace.cli.processes.joining import joined, own_metrics
from headrace.cli.processes.member import Place
from headrace.cli.processes.memory import group_memory, measurable, parse_size
from headrace.cli.processes.numbering import PENDING_BYTES_MAX, NumberedLines
from headrace.cli.processes.policy import Policy
from headrace.cli.processes.reports import LINE_BYTES_MAX, Report, Reports
from headrace.cli.processes.site import Judge
from headrace.cli.processes.supervisor import Fleet, Member, State


def test_a_report_comes_through_in_any_pieces_and_what_is_none_is_evidence() -> None:
    report = Report(
        live=True, ready=False, verdict="ok", reasons="x; y", stop_s=7.5, url="http://127.0.0.1:1/"
    )
    sent = report.line() + b"Fatal Python error: Aborted\n\n" + b'{"live": 1}\n' + b"torn"
    for size in (1, 7, 1000):
        reports = Reports()
        found = [said for at in range(0, len(sent), size) for said in reports.feed(sent[at : at + size])]
        assert found == [report, "Fatal Python error: Aborted", '{"live": 1}']
        assert reports.feed(b"") == ["torn"]


def test_a_line_without_end_is_bounded() -> None:
    reports = Reports()
    for _ in range(100):
        assert reports.feed(b"x" * 10_000) == []
    assert reports.feed(b"\n") == ["x" * LINE_BYTES_MAX]


def read_all(descriptor: int) -> str:
    os.set_blocking(descriptor, False)
    return os.read(descriptor, 1_000_000).decode()


def test_each_line_has_the_number_and_leaves_whole() -> None:
    here, there = os.pipe()
    lines = NumberedLines(there, "1")
    print("one", "two", file=lines)
    lines.write("half")
    lines.flush()
    assert read_all(here) == "[1] one two\n"
    lines.write(" and half\nlast")
    lines.end()
    assert read_all(here) == "[1] half and half\n[1] last\n"
    lines.write("x" * (PENDING_BYTES_MAX + 1))
    assert len(read_all(here)) == PENDING_BYTES_MAX + 6
    assert (lines.fileno(), lines.isatty(), lines.encoding) == (there, False, "utf-8")
    os.close(here)
    os.close(there)


def test_bytes_are_numbered_as_text_is_and_pass_unchanged() -> None:
    """`sys.stderr.buffer` in the user's code."""
    here, there = os.pipe()
    lines = NumberedLines(there, "1")
    snow = "\N{SNOWMAN}".encode()
    assert lines.buffer.write(memoryview(b"\xff" + snow[:1])) == 2
    lines.buffer.flush()
    lines.buffer.write(snow[1:])
    lines.write(" text\n")
    assert os.read(here, 1000) == b"[1] \xff" + snow + b" text\n"
    assert (lines.buffer.fileno(), lines.buffer.isatty(), lines.buffer.writable()) == (there, False, True)
    os.close(here)
    os.close(there)


def test_lines_of_many_threads_do_not_mix() -> None:
    here, there = os.pipe()
    lines = NumberedLines(there, "1")

    def prints(mark: str) -> None:
        for _ in range(50):
            print(mark * 20, file=lines)

    threads = [threading.Thread(target=prints, args=(mark,)) for mark in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_all(here).splitlines()
    assert sorted(found) == sorted(f"[1] {mark * 20}" for mark in "abcd" for _ in range(50))
    os.close(here)
    os.close(there)


def test_pages_are_one_page_with_each_metric_together() -> None:
    page = "# HELP a_total of a\n# TYPE a_total counter\na_total 1.0\n# HELP b of b\n# TYPE b gauge\n"
    pages = {0: page + 'b{topic="{x}"} 2.0\n', 1: page + "b{} 3e-05 17\n", 2: "# TYPE c gauge\nc NaN\n"}
    assert joined(pages) == (
        '# HELP a_total of a\n# TYPE a_total counter\na_total{process="0"} 1.0\na_total{process="1"} 1.0\n'
        '# HELP b of b\n# TYPE b gauge\nb{process="0",topic="{x}"} 2.0\nb{process="1"} 3e-05 17\n'
        '# TYPE c gauge\nc{process="2"} NaN\n'
    )


def test_a_joined_page_is_one_that_prometheus_reads() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    page = '# HELP a_total of a\n# TYPE a_total counter\na_total{group="x"} 1.0\n'
    members = [Member(view, 1, "") for view in Policy(2, Limits(), 0.0).views()]
    families = list(parser.text_string_to_metric_families(joined({0: page, 1: page}) + own_metrics(members)))
    found = {
        (sample.name, sample.labels["process"]): sample.value
        for family in families
        for sample in family.samples
    }
    assert found["a_total", "1"] == 1.0
    assert found["headrace_process_ready", "0"] == 0.0
    assert len(families) == 4


@pytest.mark.parametrize(
    ("text", "size"), [("1M", 2**20), ("800m", 800 * 2**20), ("1.5GiB", 3 * 2**29), ("2097152", 2**21)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", "G", "-1G", "1T", "1000", "nan"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(Unusable, match="--memory-limit"):
        parse_size(text)


@pytest.mark.skipif(not measurable(), reason="no /proc")
def test_memory_of_a_group_counts_all_its_processes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; x = b'x' * 50_000_000; print(flush=True); time.sleep(60)"],
        process_group=0,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        held = group_memory({process.pid, 2**30})
        assert 50_000_000 < held[process.pid] < 200_000_000
        assert held[2**30] == 0
    finally:
        process.kill()
        process.communicate()


BEREFT = """
import os, sys, threading, types
from headrace.cli.processes.member import Member, Place

class App:
    settings = types.SimpleNamespace(timeouts=types.SimpleNamespace(stop_s=-5))

    def health(self):
        raise SystemExit  # ends the thread of reports

    def request_stop(self):
        os.write(1, b"stop asked")

    lifeline, alive = os.pipe()
    reports = os.open(os.devnull, os.O_WRONLY)

app = App()
if sys.argv[1] == "full":
    os.set_blocking(2, False)
    try:
        while os.write(2, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(2, True)
Member(Place(0, "0", app.reports, app.lifeline)).watch(app, "")
sys.stdin.readline()
os.close(app.alive)
threading.Event().wait(300)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["broken", "full"])
def test_a_process_ends_after_its_supervisor_though_nobody_reads_its_stderr(stderr: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEREFT, stderr],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if stderr == "broken":
            process.stderr.close()
        process.stdin.write(b"the supervisor dies\n")
        process.stdin.flush()
        assert process.wait(50) == Exit.FORCED
        assert process.stdout.read() == b"stop asked"
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.mark.parametrize("pipes", [0, 1])
def test_a_process_for_which_there_is_no_room_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, pipes: int
) -> None:
    opened: list[int] = []
    honest = os.pipe

    def pipe() -> tuple[int, int]:
        if len(opened) == 2 * pipes:
            raise OSError(errno.EMFILE, "Too many open files")
        opened.extend(honest())
        return opened[-2], opened[-1]

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many"):
        Child(0, "0", [])
    assert len(opened) == 2 * pipes
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


def test_each_process_is_a_static_member_of_its_own() -> None:
    with numbered(3):
        settings = ConnectionSettings("localhost:1", "billing", instance_id="till")
    assert consumer_config(settings)["group.instance.id"] == "till-3-0"
    assert consumer_config(settings, connection=2)["client.id"] == "headrace-3-2"
    plain = ConnectionSettings("localhost:1", "billing", instance_id="till")
    assert consumer_config(plain)["group.instance.id"] == "till-0-0"


def test_the_place_of_a_process_is_for_the_supervisor() -> None:
    assert Place.parsed(str(Place(3, " 3", 7, 8))) == Place(3, " 3", 7, 8)
    with pytest.raises(Unusable):
        Place.parsed("3")


@pytest.mark.parametrize(
    "options",
    [
        ["--memory-limit", "1G"],
        ["--ready-timeout", "60"],
        ["--processes", "0"],
        ["--processes", "2", "--memory-limit", "much"],
        ["--processes", "2", "--serve", "nowhere"],
        ["--member", "x"],
    ],
)
def test_options_that_cannot_be_meant_are_one_line(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", "no_such_module:app", *options]) is Exit.USAGE
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "no_such_module" not in told


def fleet_of(phases: list[tuple[str, bool]], *, rolling: bool = False, age_s: float = 0.0) -> Fleet:
    fleet = Fleet(len(phases))
    members = tuple(
        Member(replace(member.view, phase=phase, ready=ready), 1, "")
        for member, (phase, ready) in zip(fleet.state.members, phases, strict=True)
    )
    fleet.state = State(fleet.state.at - age_s, members, rolling=rolling, stopping=False)
    return fleet


@pytest.mark.parametrize(
    ("phases", "rolling", "ready"),
    [
        ([("up", True), ("up", True)], False, True),
        ([("up", True), ("up", False)], False, False),
        ([("up", True), ("starting", False)], True, True),
        ([("up", False), ("starting", False)], True, False),
        ([("starting", False)], True, False),
        ([("up", True), ("over", False)], False, True),
        ([("over", False), ("over", False)], False, False),
        ([("up", True), ("waiting", False)], False, False),
    ],
)
def test_the_whole_is_ready_while_nobody_is_missed(
    phases: list[tuple[str, bool]], rolling: bool, ready: bool
) -> None:
    assert Judge(fleet_of(phases, rolling=rolling)).health().ready is ready


def test_a_supervisor_that_does_not_turn_is_not_live() -> None:
    assert Judge(fleet_of([("up", True)])).health().live
    assert not Judge(fleet_of([("up", True)], age_s=11.0)).health().live
