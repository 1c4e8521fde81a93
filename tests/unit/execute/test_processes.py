"""Worker processes: what comes of each record, whatever happens to the worker that has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace._execute.process_wire import RemoteError, pack_error, unpack_error
from headrace._execute.processes import ProcessExecutor
from headrace.config import Batching
from headrace.errors import AppStateError, DecodeFailed, HandlerError, HandlerTimeout, WorkerDied
from headrace.outcomes import RetryLater
from headrace.records import Record
from headrace.subscriptions import SubscriptionSettings
from tests.unit.execute import process_handlers as handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace._core.events import Finished

WAIT_MAX_S = 15.0


class FakeSource:
    """A client's message."""

    def __init__(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        self._parts = (offset, key, value)

    def offset(self) -> int:
        return self._parts[0]

    def key(self) -> bytes | None:
        return self._parts[1]

    def value(self) -> bytes | None:
        return self._parts[2]

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("h", b"1")]

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_700_000_000_000)

    def leader_epoch(self) -> int | None:
        return None

    def __len__(self) -> int:
        return len(self._parts[2] or b"")


class FakeTenure:
    """A tenure that stays open until told otherwise."""

    def __init__(self) -> None:
        self.topic = "orders"
        self.partition = 3
        self.epoch = 1
        self.open = True

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        raise NotImplementedError


TENURE = FakeTenure()


def records(*values: str, key: str | None = None, tenure: FakeTenure = TENURE) -> list[Record[Any, Any]]:
    """Records with these values, of one key or each of its own."""
    made: list[Record[Any, Any]] = []
    for offset, value in enumerate(values):
        raw_key = (key or f"key-{offset}").encode()
        made.append(Record(FakeSource(offset, raw_key, value.encode()), tenure, offset, raw_key, offset))
    return made


def until(condition: Callable[[], object], what: str = "it", within_s: float = WAIT_MAX_S) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s"
        time.sleep(0.002)


class Rig:
    """An executor, and what it delivered."""

    def __init__(self, handler: Callable[..., Any], resource: Any = None, **settings: Any) -> None:
        self.events: list[Finished] = []
        self.broken: list[BaseException] = []
        settings.setdefault("workers", 1)
        self.executor = ProcessExecutor(
            0,
            SubscriptionSettings(name="handlers.handle", topics=("orders",), run_in="processes", **settings),
            handler,
            self.events.append,
            self.broken.append,
            resource=resource,
        )

    @property
    def succeeded(self) -> list[int]:
        return [record.offset for event in list(self.events) for record in event.succeeded]

    @property
    def returned(self) -> list[int]:
        return [record.offset for event in list(self.events) for record in event.returned]

    @property
    def failed(self) -> dict[int, BaseException]:
        return {record.offset: error for event in list(self.events) for record, error in event.failed}

    @property
    def settled(self) -> int:
        return (
            len(self.succeeded) + len(self.returned) + sum(len(event.failed) for event in list(self.events))
        )

    def run(self, made: list[Record[Any, Any]]) -> None:
        before = self.settled
        self.executor.submit(made)
        until(lambda: self.settled >= before + len(made), "every outcome")

    def hold(self, path: Path, *more: str) -> list[Record[Any, Any]]:
        """Submit a record that runs until `path` is removed, and others behind it."""
        made = records(f"hold {path}", *more)
        self.executor.submit(made)
        until(lambda: path.exists() and path.read_text(), "the start of the handler")
        return made


@pytest.fixture
def rig() -> Generator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(handler: Callable[..., Any] = handlers.handle, **settings: Any) -> Rig:
        rigs.append(Rig(handler, **settings))
        return rigs[-1]

    yield make
    for made in rigs:
        made.executor.close(0.5)


def test_outcomes_of_every_kind_cross(rig: Callable[..., Rig]) -> None:
    made = rig()
    made.run(
        records("", "value", "", "odd", "local", "later", "cause", "ack", "sleep 0.005", "", "exit", "never")
    )
    assert made.succeeded == [0, 2, 8, 9]
    assert made.returned == [11]  # nothing starts behind a SystemExit
    failed = made.failed
    assert isinstance(failed[1], ValueError)
    assert any("in headrace-worker-0-0" in note and "Traceback" in note for note in failed[1].__notes__)
    odd = failed[3]
    assert isinstance(odd, handlers.Odd)
    assert (odd.name, odd.count) == ("pear", 3)
    assert isinstance(failed[4], RemoteError)
    assert failed[4].type_name.endswith("Local")
    assert isinstance(failed[5], RetryLater)
    assert (failed[5].after_s, failed[5].count_attempt) == (5, True)
    assert isinstance(failed[6].__cause__, KeyError)
    assert isinstance(failed[7], AppStateError)
    assert isinstance(failed[10], SystemExit)
    assert failed[10].code == 3
    assert sum(event.started for event in made.events) == 11
    made.run(records("interrupt"))
    assert isinstance(made.failed[0], KeyboardInterrupt)
    made.run(records("memory"))
    assert isinstance(made.failed[0], MemoryError)
    assert made.executor.busy_workers() == 0


def test_a_lane_stops_at_its_failure(rig: Callable[..., Rig]) -> None:
    made = rig()
    batch = records("", "value", "", "", key="a")
    batch += [Record(FakeSource(9, b"b", b""), TENURE, 9, b"b", 9)]
    made.run(batch)
    assert made.succeeded == [0, 9]
    assert made.returned == [2, 3]


def test_many_lists_on_two_workers(rig: Callable[..., Rig]) -> None:
    made = rig(workers=2)
    for _ in range(200):
        made.executor.submit(records(*[""] * 50))
    until(lambda: made.settled == 10_000)
    assert len(made.succeeded) == 10_000
    assert sum(event.started for event in made.events) == 10_000


def test_a_large_list_goes_through_a_pipe_that_is_full(rig: Callable[..., Rig]) -> None:
    made = rig()
    big = Record[Any, Any](FakeSource(0, b"k", b" " + bytes(4_000_000)), TENURE, 0, b"k", 0)
    made.run([big])
    assert made.succeeded == [0]


def test_a_killed_worker_fails_only_what_it_ran(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    made.run(records(f"pid {tmp_path / 'pid'}"))
    made.events.clear()
    made.run(records("", "", "die", "", ""))
    assert made.succeeded == [0, 1]
    assert made.returned == [3, 4]
    error = made.failed[2]
    assert isinstance(error, WorkerDied)
    assert (error.pid, error.exit_code) == (int((tmp_path / "pid").read_text()), -signal.SIGKILL)
    made.events.clear()
    made.run(records(""))  # by its replacement
    assert made.succeeded == [0]


@pytest.mark.slow
def test_a_worker_that_always_dies_is_replaced_each_time(rig: Callable[..., Rig]) -> None:
    made = rig()
    for _ in range(3):
        made.run(records("die"))
        assert isinstance(made.failed[0], WorkerDied)
    assert not made.broken


def test_a_worker_that_is_ended_while_it_starts_says_nothing_of_the_handler(rig: Callable[..., Rig]) -> None:
    """Seen on a loaded machine: a stop in the first second ended the app with `WorkersFailed`."""
    made = rig(resource=handlers.slow_resource)
    made.executor.submit(records(""))
    time.sleep(0.5)  # Long enough to be within the resource, usually: before it, nothing can go wrong.
    made.executor.close(2.0)
    assert not made.broken


@pytest.mark.slow
@pytest.mark.parametrize("resource", [handlers.broken_resource, handlers.dying_resource])
def test_workers_that_cannot_start_are_reported_once(rig: Callable[..., Rig], resource: Any) -> None:
    made = rig(resource=resource)
    batch = records("", "")
    made.executor.submit(batch)
    until(lambda: made.broken, "the report")
    assert len(made.broken) == 1
    assert isinstance(made.broken[0], HandlerError)
    assert made.executor.recall(None) == batch


def test_recall_takes_back_all_that_is_not_claimed(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    other = FakeTenure()
    first = made.hold(tmp_path / "held", "", "")
    second, third = records("", ""), records("", tenure=other)
    made.executor.submit(second)
    made.executor.submit(third)
    assert made.executor.recall([TENURE]) == first[1:] + second
    assert [running.record for running in made.executor.running()] == first[:1]
    assert made.executor.busy_workers() == 1
    assert made.executor.recall([TENURE]) == []
    (tmp_path / "held").unlink()
    until(lambda: made.settled == 2)
    assert [record for event in made.events for record in event.succeeded] == [first[0], third[0]]


def test_recall_races_with_claims_and_loses_nothing(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig(workers=2)
    log = tmp_path / "log"
    recalled: list[Record[Any, Any]] = []
    submitted: list[Record[Any, Any]] = []
    made.run(records("", ""))
    made.events.clear()
    for turn in range(60):
        batch = records(*[f"touch {log}-{turn}-{index}" for index in range(20)])
        submitted += batch
        made.executor.submit(batch)
        until(lambda turn=turn: Path(f"{log}-{turn}-{turn % 20}").exists() or made.settled)  # type: ignore[misc]
        recalled += made.executor.recall(None)
    until(lambda: made.settled + len(recalled) == len(submitted))
    ran = [record for event in made.events for record in event.succeeded]
    assert {id(record) for record in ran + recalled} == {id(record) for record in submitted}
    assert all(not Path(str(record.raw_value)[8:-1]).exists() for record in recalled)
    assert len(list(tmp_path.iterdir())) == len(ran)


def test_a_slow_record_strands_nobody(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    made.run(records(""))
    made.events.clear()
    batch = records("", "value", "", f"hold {tmp_path / 'held'}", "", "")
    made.executor.submit(batch)
    until((tmp_path / "held").exists)

    def pulsed() -> bool:
        made.executor.pulse(time.monotonic())
        return made.settled == 5

    until(pulsed, "the rest to come back")
    assert (made.succeeded, list(made.failed), made.returned) == ([0, 2], [1], [4, 5])
    (tmp_path / "held").unlink()
    until(lambda: made.settled == 6)
    assert made.succeeded == [0, 2, 3]


def test_a_handler_over_its_time_is_killed(rig: Callable[..., Rig]) -> None:
    made = rig(timeout_s=0.3)
    made.run(records("", "sleep 20", ""))
    assert made.succeeded == [0]
    assert isinstance(made.failed[1], HandlerTimeout)
    assert made.returned == [2]
    made.run(records(""))
    assert made.succeeded == [0, 0]


def test_stale_records_are_not_started(rig: Callable[..., Rig]) -> None:
    made = rig()
    tenure = FakeTenure()
    tenure.open = False
    made.run(records("", tenure=tenure))
    assert made.returned == [0]


def test_close_keeps_to_its_time_with_a_hung_worker(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    made.hold(tmp_path / "held", "")
    pid = int((tmp_path / "held").read_text())
    started = time.monotonic()
    assert made.executor.close(0.6) == [f"headrace-worker-0-0 (pid {pid})"]
    assert time.monotonic() - started < 0.9
    assert made.returned == [1]
    assert not made.failed  # it was not the record's fault
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_close_right_after_the_start(rig: Callable[..., Rig]) -> None:
    made = rig()
    assert made.executor.close(10) == []


def test_close_lets_a_running_handler_end(
    rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_TEST_RESOURCE", str(tmp_path))
    made = rig(resource=handlers.resource)
    made.run(records(""))
    made.executor.submit(records("sleep 0.1"))
    until(lambda: made.executor.busy_workers() == 1)
    assert made.executor.close(5) == []
    assert made.succeeded == [0, 0]
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["entered", "left"]


def test_workers_outlive_signals_to_the_group(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig()
    made.hold(tmp_path / "held")
    pid = int((tmp_path / "held").read_text())
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    (tmp_path / "held").unlink()
    until(lambda: made.settled)
    assert made.succeeded == [0]


def test_batches(rig: Callable[..., Rig]) -> None:
    made = rig(handlers.handle_batch, batch=Batching())
    made.run(records("", "bad", ""))
    assert (made.succeeded, list(made.failed)) == ([0, 2], [1])
    made.events.clear()
    made.run(records("", "bad", "", key="a"))
    assert (made.succeeded, list(made.failed), made.returned) == ([0], [1], [2])
    made.events.clear()
    made.run(records("", "raise"))
    assert list(made.failed) == [0, 1]
    made.events.clear()
    made.run(records("", "die"))
    assert {type(error) for error in made.failed.values()} == {WorkerDied}
    assert list(made.failed) == [0, 1]


def test_async_handlers(rig: Callable[..., Rig]) -> None:
    made = rig(handlers.handle_async)
    made.run(records("", "value", "exit"))
    made.run(records(""))
    assert made.succeeded == [0, 0]
    assert [type(error) for error in made.failed.values()] == [ValueError, SystemExit]


def test_decoders_and_filter_run_in_the_worker(rig: Callable[..., Rig], tmp_path: Path) -> None:
    made = rig(handlers.see_value, value_decoder=handlers.decode, filter=handlers.wanted)
    made.run(records(str(tmp_path / "seen"), "rotten", "unwanted"))
    assert made.succeeded == [0, 2]
    error = made.failed[1]
    assert isinstance(error, DecodeFailed)
    assert isinstance(error.__cause__, ValueError)
    assert sum(event.filtered for event in made.events) == 1
    assert (tmp_path / "seen").read_text() == "orders 3 0 1"


def test_what_cannot_be_imported_is_named() -> None:
    def local(anything: object) -> object:
        return anything

    with pytest.raises(HandlerError, match="the handler cannot be imported"):
        Rig(local)
    with pytest.raises(HandlerError, match="value_decoder cannot be imported"):
        Rig(handlers.handle, value_decoder=local)


def test_an_error_that_cannot_be_shown_still_crosses() -> None:
    class Mute(SystemExit):
        def __str__(self) -> str:
            raise RuntimeError

    error = unpack_error(*pack_error(Mute()), "a worker")
    assert type(error) is SystemExit


PARENT = """
import sys, time
from headrace._core.events import Finished
from tests.unit.execute.test_processes import Rig, handlers, records
if __name__ == "__main__":
    rig = Rig(handlers.handle, workers=2)
    for path in sys.argv[1:]:
        rig.executor.submit(records(f"hold {path}"))
    if len(sys.argv) > 1:
        time.sleep(60)
    rig.run(records(""))
"""


@pytest.mark.slow
def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    held = [tmp_path / "a", tmp_path / "b"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, script, *held], env=environment) as parent:
        try:
            until(lambda: all(path.exists() and path.read_text() for path in held))
        finally:
            parent.kill()
    for path in held:
        stat = Path(f"/proc/{path.read_text()}/stat")
        until(lambda stat=stat: not stat.exists() or " Z " in stat.read_text(), "the end of a worker")  # type: ignore[misc]


@pytest.mark.slow
def test_an_interpreter_that_forgets_to_close_ends(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, script], env=environment, timeout=WAIT_MAX_S, check=False)
    assert done.returncode == 0


PROGRAM = """
import signal
from headrace import App
from headrace.testing import run
from users_handlers import handle

signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
app = App("unused:1", "g")
app.subscribe("orders", run_in="processes", workers=1)(handle)
print(len(run(app, [("orders", b"k", b"v")]).handled), flush=True)
"""
SLOW_START = """
import sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    print("starting", flush=True)
    time.sleep(1)
"""


@pytest.mark.slow
def test_ctrl_c_while_a_worker_starts_is_the_parents_to_decide_about(tmp_path: Path) -> None:
    """It reaches the whole foreground group, and a worker that imports its modules would die of it, with a traceback."""
    (tmp_path / "users_handlers.py").write_text("def handle(record): pass\n")
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "starting\n"
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=30)
    assert (out, err) == ("heard\n1\n", "")
    assert program.returncode == 0
