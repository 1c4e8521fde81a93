"""The reporters that are shipped, each read back as its readers would: files, a socket, a page."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.observe import Console, Csv, Gauge, JsonLines, Prometheus, Reporting, StatsD, Unknown
from headrace.observe.filters import Selection
from headrace.observe.reporting import Reporters, make_report
from headrace.observe.statsd import PACKET_BYTES_MAX
from tests.unit.observe.views import offsets, part, source, view

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.observe import Report

ODD = 'orders"\x1b[2J,{x}\n|g:1'


def made(*gauges: Gauge, topic: str = "orders", partitions: int = 2) -> Report:
    known = {(topic, 0): offsets()}
    found = view([part(topic, number) for number in range(partitions)], known)
    return make_report(source(*gauges, made=found), Selection(None))


def known(report: Report) -> dict[str, Any]:
    return {s.key: s.value for s in report.samples if not isinstance(s.value, Unknown)}


def reasons(report: Report) -> dict[str, str]:
    return {s.key: s.value.reason for s in report.samples if isinstance(s.value, Unknown)}


def test_the_console_shows_reasons_and_no_control_characters() -> None:
    stream = io.StringIO()
    Console(stream).report(made(topic=ODD))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert '{topic=orders"\\x1b[2J,{x}\\n|g:1,partition=0}' in text
    assert "45 records" in text
    assert "unknown (not asked)" in text
    assert len(text.splitlines()) == len(made(topic=ODD).samples) + 1


def test_json_lines_say_all(tmp_path: Path) -> None:
    reporter = JsonLines(tmp_path / "new" / "m.jsonl")
    report = made(topic=ODD)
    for _ in range(2):
        reporter.report(report)
    reporter.close()
    lines = [json.loads(line) for line in (tmp_path / "new" / "m.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[1]["metrics"] == known(report)
    assert lines[1]["unknown"] == reasons(report)
    assert lines[1]["at"] == report.at.isoformat()
    assert lines[1]["group"] == "billing"


def test_csv_rows_say_all(tmp_path: Path) -> None:
    reporter = Csv(tmp_path / "m.csv")
    report = made(topic=ODD)
    reporter.report(report)
    reporter.close()
    again = Csv(tmp_path / "m.csv")
    again.report(report)
    again.close()
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(report.samples), "one header in all"
    for row, sample in zip(rows, report.samples, strict=False):
        assert row["name"] == sample.metric.name
        if isinstance(sample.value, Unknown):
            assert (row["value"], row["unknown"]) == ("", sample.value.reason)
        else:
            assert (float(row["value"]), row["unknown"]) == (sample.value, "")


@pytest.mark.parametrize("files_max", [1, 2, 4])
def test_files_are_rotated_and_never_too_many(tmp_path: Path, files_max: int) -> None:
    report = made(partitions=1)
    path = tmp_path / "m.jsonl"
    reporter = JsonLines(path, bytes_max=3 * len(json.dumps(known(report))), files_max=files_max)
    for _ in range(30):
        reporter.report(report)
    reporter.close()
    found = sorted(file.name for file in tmp_path.iterdir())
    assert set(found) <= {"m.jsonl"} | {f"m.jsonl.{i}" for i in range(1, files_max)}
    assert len([name for name in found if name != "m.jsonl"]) == files_max - 1
    for file in tmp_path.iterdir():
        assert all(json.loads(line)["metrics"] for line in file.read_text().splitlines()), "no line is torn"


def test_rotated_files_are_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    reporter = Csv(path, bytes_max=1000, files_max=3)
    for _ in range(5):
        reporter.report(made(partitions=1))
    reporter.close()
    for file in (path.with_name("m.csv.1"), path.with_name("m.csv.2")):
        assert file.read_text().startswith("at,group,name")
    assert path.with_name("m.csv.1").read_text() > path.with_name("m.csv.2").read_text(), "1 is newer than 2"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110 - a device
@pytest.mark.parametrize("kind", [JsonLines, Csv])
def test_a_full_disk_costs_reports_and_nothing_else(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    fills = kind("/dev/full")
    stream = io.StringIO()
    reporters = Reporters([Reporting(fills, 0.02), Reporting(Console(stream), 0.02)], source())
    reporters.start()
    give_up_at = time.monotonic() + 10
    while reporters.states()[0].failures < 3 or reporters.states()[1].reports < 3:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    reporters.request_stop()
    assert reporters.join(10) == ()
    full, well = reporters.states()
    assert "No space left" in full.last_error
    assert full.reports == 0
    assert well.failures == 0
    assert caplog.text.count("No space left") == 1


def test_what_a_full_disk_tore_spoils_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"at": "2026-01-01", "metr')
    reporter = JsonLines(path)
    reporter.report(made())
    reporter.close()
    torn, whole = path.read_text().splitlines()
    assert torn == '{"at": "2026-01-01", "metr'
    assert json.loads(whole)["group"] == "billing"


def received(server: socket.socket) -> list[bytes]:
    packets: list[bytes] = []
    server.settimeout(0.3)
    try:
        while True:
            packets.append(server.recv(65_536))
    except TimeoutError:
        return packets


def test_statsd_sends_what_is_known_in_packets_that_fit() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        reporter = StatsD(port=server.getsockname()[1])
        report = made(Gauge("below", lambda: -3), topic="a.b|c", partitions=1)
        reporter.report(report)
        packets = received(server)
        reporter.close()
    lines = b"\n".join(packets).decode().splitlines()
    assert all(len(packet) <= PACKET_BYTES_MAX for packet in packets)
    assert len(packets) > 1
    assert "headrace.billing.partition_lag_records.a_b_c.0:45|g" in lines
    assert lines[-2:] == ["headrace.billing.below:0|g", "headrace.billing.below:-3|g"], (
        "a sign alone means: less by"
    )
    assert len(lines) == len(known(report)) + 1
    assert not [line for line in lines if not line.endswith("|g") or line.count(":") != 1]


def test_statsd_without_a_server_loses_packets_and_raises_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    reporter = StatsD(port=port)
    for _ in range(3):
        reporter.report(made())
    reporter.close()
    with pytest.raises(OSError, match=r".+"):
        StatsD("no-such-host.invalid").report(made())


def page(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_prometheus_reads_what_is_known_at_the_moment_of_the_scrape() -> None:
    counted = [0]

    def count() -> float:
        counted[0] += 1
        return counted[0]

    reporter = Prometheus(0)
    report = made(Gauge("counted", count), topic=ODD)
    reporter.report(report)
    reporter.report(report)
    try:
        first, second = page(reporter.port), page(reporter.port)
    finally:
        reporter.close()
    families = {family.name: family for family in text_string_to_metric_families(first)}
    lag = list(families["headrace_partition_lag_records"].samples)
    assert [(s.labels, s.value) for s in lag] == [
        ({"group": "billing", "topic": ODD, "partition": "0"}, 45.0)
    ]
    assert families["headrace_retries"].type == "counter"
    assert "headrace_topic_lag_records" not in families, "unknown is absent"
    assert sum(len(family.samples) for family in families.values()) == len(known(report))
    assert 'counted{group="billing"} 3.0' in second
    with pytest.raises(urllib.error.URLError):
        page(reporter.port)


def test_prometheus_is_on_the_loopback_alone_and_tries_a_taken_port_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        reporter = Prometheus(taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            reporter.report(made())
        assert reporter.port is None
    reporter.report(made())
    try:
        assert reporter._server.server_address[0] == "127.0.0.1"
        assert "headrace_live" in page(reporter.port)
    finally:
        reporter.close()


def test_prometheus_adds_to_a_registry_of_the_user() -> None:
    registry = CollectorRegistry()
    reporter = Prometheus(registry=registry)
    reporter.report(made())
    assert b'headrace_live{group="billing"} 1.0' in generate_latest(registry)
    reporter.close()
    assert b"headrace_live" not in generate_latest(registry)
