"""The parts of chaos do what the judge relies on.

The schedule repeats, the proxy disturbs whom it should, progress tells slow from stuck, the log of commits is read right.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from headrace._core.finished import FinishedBeyond
from headrace._core.offset_map import encode
from tests.chaos.judge import judge
from tests.chaos.offsets import Committed, Generation, read
from tests.chaos.ports import HOST, free_ports
from tests.chaos.progress import SLOW_AFTER_S, STUCK_AFTER_S, STUCK_ANYWAY_S, Progress
from tests.chaos.proxy import Link, Proxy, client_of
from tests.chaos.report import Outcome, handovers, text_of
from tests.chaos.schedule import EVERYBODYS, Kind, schedule
from tests.members.ledger import Ledger, Reader

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

# ---- Schedule


def test_a_seed_repeats_its_schedule() -> None:
    assert schedule(7, 600, ("classic", "consumer")) == schedule(7, 600, ("classic", "consumer"))
    assert schedule(7, 600, ("classic",)) != schedule(8, 600, ("classic",))


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_of_fault_comes_to_every_crew_and_ends_in_time(seed: int) -> None:
    """In ninety seconds, too, but for those that would not end in time."""
    faults = schedule(seed, 300, ("classic", "consumer"))
    for crew in ("classic", "consumer"):
        assert {fault.kind for fault in faults if fault.crew == crew} == set(Kind) - set(EVERYBODYS)
    assert {fault.kind for fault in faults if fault.crew is None} == set(EVERYBODYS)
    assert all(fault.at_s + fault.for_s <= 300 for fault in faults)
    assert len(schedule(seed, 90, ("classic", "consumer"))) >= 30


# ---- Proxy


@contextmanager
def echo_server(port: int) -> Generator[None]:
    """A broker of sorts: says back what it hears."""
    server = socket.create_server((HOST, port))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def first_request(client: str) -> bytes:
    """An ApiVersions request, as much of it as matters here."""
    body = struct.pack(">hhi", 18, 3, 1) + struct.pack(">h", len(client)) + client.encode()
    return struct.pack(">i", len(body)) + body


class Talker:
    """A client of the proxy."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=5.0)
        self._first = first_request(name)
        self._socket.sendall(self._first)

    def hears(self, size: int, within_s: float = 5.0) -> bytes | None:
        """Exactly so many bytes; b"" if the connection ended, None if nothing came."""
        self._socket.settimeout(within_s)
        heard = b""
        try:
            while len(heard) < size:
                data = self._socket.recv(size - len(heard))
                if not data:
                    return b""
                heard += data
        except TimeoutError:
            return None
        except OSError:
            return b""
        return heard

    def is_answered(self, text: bytes, within_s: float = 5.0) -> bool:
        self._socket.sendall(text)
        return self.hears(len(text), within_s) == text

    def is_greeted(self) -> bool:
        return self.hears(len(self._first)) == self._first

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def proxy() -> Generator[tuple[Proxy, int]]:
    port, broker = free_ports(2)
    made = Proxy([(port, broker)])
    made.start()
    with echo_server(broker):
        yield made, port
    made.close()


def test_the_first_request_names_the_client() -> None:
    assert client_of(first_request("consumer-a.1")) == "consumer-a.1"
    assert client_of(first_request("consumer-many-1.3-2")) == "consumer-many-1.3"
    with pytest.raises(ValueError, match="not a request"):
        client_of(b"GET /")


def test_faults_concern_the_client_that_is_meant_and_no_other(proxy: tuple[Proxy, int]) -> None:
    made, port = proxy
    meant, other = Talker(port, "meant"), Talker(port, "other")
    assert meant.is_greeted()
    assert other.is_greeted()
    made.set("meant", Link.CUT)
    assert meant.hears(1) == b""
    refused = Talker(port, "meant")
    assert refused.hears(1) == b""
    refused.close()
    meant.close()
    assert other.is_answered(b"still there")
    made.set("meant", Link.SOUND)
    again = Talker(port, "meant")
    assert again.is_greeted()
    assert made.connections("meant") == 1
    again.close()
    other.close()


@pytest.mark.parametrize("link", [Link.HALF_OPEN, Link.DEAF])
def test_a_silenced_connection_stays_until_the_silence_ends(proxy: tuple[Proxy, int], link: Link) -> None:
    """What was said meanwhile is gone, so the connection must not go on as if nothing was."""
    made, port = proxy
    talker = Talker(port, "meant")
    assert talker.is_greeted()
    made.set("meant", link)
    assert not talker.is_answered(b"anybody?", within_s=0.2)
    made.set("meant", Link.SOUND)
    assert talker.hears(1) == b""
    talker.close()


def test_a_delayed_connection_is_slow_and_whole(proxy: tuple[Proxy, int]) -> None:
    made, port = proxy
    talker = Talker(port, "meant")
    assert talker.is_greeted()
    made.set("meant", Link.DELAYED, 0.1)
    began = time.monotonic()
    assert talker.is_answered(b"x" * 100)
    assert time.monotonic() - began >= 0.2
    made.set("meant", Link.SOUND)
    talker.close()


# ---- Progress


def test_slow_is_told_from_stuck(tmp_path: Path) -> None:
    """Three partitions have a record that waits: one gets on with others, one does not, one has waited briefly."""
    acked, group = Ledger(tmp_path / "acked"), Ledger(tmp_path / "group", "m")
    for partition, at in ((0, 0.0), (1, 0.0), (2, STUCK_AFTER_S - 2)):
        for offset in (0, 1):
            acked.write("acked", topic="t", partition=partition, offset=offset, at=at)
        group.write("assigned", topic="t", partition=partition, at=0.0)
    group.write("start", topic="t", partition=0, offset=1, at=STUCK_AFTER_S - 1)
    group.write("end", topic="t", partition=0, offset=1, detail="ok", at=STUCK_AFTER_S - 1)
    progress = Progress(tmp_path / "acked", {"g": tmp_path / "group"})
    assert progress.look(STUCK_AFTER_S - 1, {"g": 0.0}) == []
    stalls = progress.look(STUCK_AFTER_S + 1, {"g": 0.0})
    assert [(stall.group, stall.partition, stall.who) for stall in stalls] == [("g", 1, "m")]
    assert progress.slow_s == 4.0  # two partitions, two seconds
    assert progress.oldest_s == STUCK_AFTER_S + 1 > SLOW_AFTER_S
    assert progress.unfinished() == 5
    assert progress.look(STUCK_AFTER_S + 1, {"g": 2.0}) == [], "a fault was over only then"
    assert progress.look(STUCK_ANYWAY_S + 1, {"g": STUCK_ANYWAY_S}), "but there is an end to that"


def test_where_apps_come_and_go_the_last_one_begins_the_calm(tmp_path: Path) -> None:
    acked, group = Ledger(tmp_path / "acked"), Ledger(tmp_path / "group", "m")
    acked.write("acked", topic="t", partition=0, offset=0, at=0.0)
    progress = Progress(tmp_path / "acked", {"g": tmp_path / "group"})
    group.write("stopped", detail="0", at=3.0)
    assert progress.look(STUCK_AFTER_S + 2, {"g": 0.0}) == []
    group.write("assigned", topic="t", partition=0, at=4.0)
    assert progress.look(STUCK_AFTER_S + 3.5, {"g": 0.0}) == []
    assert len(progress.look(STUCK_AFTER_S + 4.5, {"g": 0.0})) == 2
    group.write("stopped", detail="0", at=STUCK_ANYWAY_S)
    assert progress.look(STUCK_ANYWAY_S - 1, {"g": 0.0}) == []
    assert progress.look(STUCK_ANYWAY_S + 1, {"g": 0.0}), "but there is an end to that"


def test_a_member_that_starts_nothing_is_stuck(tmp_path: Path) -> None:
    """A failing handler ends, so its partition is seen as quiet; a silent member is seen by its starts."""
    acked, group = Ledger(tmp_path / "acked"), Ledger(tmp_path / "group", "m")
    acked.write("acked", topic="t", partition=0, offset=0, at=0.0)
    group.write("assigned", topic="t", partition=0, at=0.0)
    progress = Progress(tmp_path / "acked", {"g": tmp_path / "group"})
    details = {stall.detail for stall in progress.look(STUCK_AFTER_S + 1, {"g": 0.0})}
    assert details == {"offset 0 waits", "the member has started nothing since"}
    assert progress.holders("g") == {"m"}
    assert not progress.started_since("m", 0.0)


# ---- The log of commits


def string(text: str, *, compact: bool = False) -> bytes:
    """As Kafka writes it."""
    size = bytes([len(text) + 1]) if compact else struct.pack(">h", len(text))
    return size + text.encode()


@pytest.mark.parametrize("version", [1, 3, 4])
def test_a_commit_is_read_from_the_log(version: int) -> None:
    """With a map, in each form of the record that brokers have written."""
    beyond = FinishedBeyond(base=10, offsets=array("q", [10, 11]), flags=b"\0\1", position=12)
    metadata = encode(beyond, leader_epoch=2).metadata
    key = struct.pack(">h", 1) + string("group") + string("topic") + struct.pack(">i", 3)
    epoch = struct.pack(">i", 2) if version >= 3 else b""
    value = (
        struct.pack(">hq", version, 10)
        + epoch
        + string(metadata, compact=version >= 4)
        + struct.pack(">q", 0)
    )
    found = read(key, value)
    assert isinstance(found, Committed)
    assert found == Committed("group", "topic", 3, 10, 2 if version >= 3 else -1, metadata)
    assert found.beyond() == ([11] if version >= 3 else [])
    assert read(key, None) is None


def test_generations_of_both_protocols_are_read_from_the_log() -> None:
    classic = struct.pack(">h", 4) + string("consumer", compact=True) + struct.pack(">i", 5)
    assert read(struct.pack(">h", 2) + string("g"), classic) == Generation("g", 5)
    older = struct.pack(">h", 3) + string("consumer") + struct.pack(">i", 6)
    assert read(struct.pack(">h", 2) + string("g"), older) == Generation("g", 6)
    assert read(struct.pack(">h", 3) + string("g"), struct.pack(">hi", 0, 7)) == Generation("g", 7)
    assert read(struct.pack(">h", 5) + string("g"), struct.pack(">hi", 0, 7)) is None


# ---- Report


def test_a_handover_lasts_from_the_end_of_one_member_to_the_start_of_another(tmp_path: Path) -> None:
    lines, faults = Ledger(tmp_path / "g", "a"), Ledger(tmp_path / "f")
    for partition, member in ((0, "a"), (1, "b")):
        lines.write("assigned", member=member, topic="t", partition=partition, at=1.0)
        lines.write("start", member=member, topic="t", partition=partition, offset=0, at=2.0)
    faults.write("killed", member="a", at=3.0)
    lines.write("start", member="b", topic="t", partition=1, offset=1, at=4.0)
    lines.write("start", member="b", topic="t", partition=0, offset=0, at=7.5)
    found = handovers(Reader(tmp_path / "g").refresh(), Reader(tmp_path / "f").refresh())
    assert found == {"kill -9": [4.5], "clean stop": []}


def test_a_report_says_how_to_repeat_what_failed(tmp_path: Path) -> None:
    acked = Ledger(tmp_path / "acked")
    acked.write("acked", topic="t", partition=0, offset=0)
    verdict = judge("g", Reader(tmp_path / "acked").refresh(), [], [])
    outcome = Outcome("scripts/chaos --seed 3", "versions", 3, 1.0, [verdict], {}, {})
    found = text_of(outcome)
    assert "stuck: g[0]@0" in found
    assert "again: scripts/chaos --seed 3" in found
    assert "no anomaly" not in found
    verdict.anomalies.clear()
    assert "no anomaly" in text_of(outcome)
    outcome.troubles.append("died: somebody")
    assert "no anomaly" not in text_of(outcome)


def test_what_was_started_dies_with_the_run() -> None:
    """Also if it is stopped by a signal, and the run is killed: the pipe to the reaper ends."""
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    spared = subprocess.Popen(["sleep", "60"], start_new_session=True)
    reaper = subprocess.Popen([sys.executable, "-m", "tests.chaos.reaper"], stdin=subprocess.PIPE)
    told = f"+{sleeper.pid}\n+{spared.pid}\n-{spared.pid}\n"
    reaper.communicate(told.encode(), timeout=10)
    assert sleeper.wait(10) != 0
    assert spared.poll() is None
    spared.kill()
    spared.wait(10)
