"""Apache Spark for tests and benchmarks: an environment of its own, Spark's own Kafka source, a cluster, and sessions.

Decides what is installed and started; refuses to know what is tested. Invariant: what is started here ends with its `with`.
Spark is a gigabyte, so its environment is made once, in .tools/, and has Headrace and the rest from the one that runs this.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

ROOT = Path(__file__).parents[1]
TOOLS = Path(os.environ.get("HEADRACE_TOOLS") or ROOT / ".tools")
LOCK = ROOT / "requirements" / "spark.lock"
POM = ROOT / "scripts" / "spark-kafka" / "pom.xml"
PROGRAM = Path(__file__).parent / "spark_program.py"
INSTALL_S = 600
CALL_S = 600.0
START_S = 120.0
WORKERS = 2


class SparkUnavailable(Exception):
    """No Spark can be had on this machine; the text says why."""


def interpreter() -> Path:
    """Python with Spark, installed from requirements/spark.lock, and all that this interpreter has."""
    if shutil.which("java") is None:
        raise SparkUnavailable("Spark needs Java")
    folder = TOOLS / f"spark-{_digest(LOCK, Path(sys.executable))}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        _run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)])
        _run([*uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", str(LOCK)])
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        done.touch()
    return python


def own_source() -> str:
    """The jars of Spark's own Kafka source, with commas between them."""
    folder = TOOLS / f"spark-kafka-{_digest(POM)}"
    if not folder.exists():
        if shutil.which("mvn") is None:
            raise SparkUnavailable("Spark's own Kafka source comes through Maven")
        partial = folder.with_suffix(f".{os.getpid()}")
        maven = ["mvn", "-q", "-B", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies"]
        _run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={partial}"])
        partial.rename(folder)
    return ",".join(sorted(str(jar) for jar in folder.glob("*.jar")))


class Session:
    """A Spark session in a process of its own: see spark_program.py. For one thread, but for `call`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answers: Queue[dict[str, Any]] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, operation: str, **arguments: Any) -> Any:
        """What an operation returns. Raises `RuntimeError` with its text if it raised."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": operation, "with": arguments}) + "\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=CALL_S)
        except Empty:
            raise TimeoutError(f"{operation} had no answer in {CALL_S:g} s") from None
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("answer "):
                self._answers.put(json.loads(line.removeprefix("answer ")))
        self._answers.put({"error": "the session ended"})


@contextmanager
def session(
    folder: Path, *, master: str = "local[2,2]", jars: str = "", settings: Mapping[str, str] | None = None
) -> Generator[Session]:
    """A session; its log is in the folder. `local[2,2]`: two tasks at a time, each of which may fail once."""
    python = interpreter()
    given = {
        "spark.master": master,
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        **({"spark.jars": jars} if jars else {}),
        **(settings or {}),
    }
    with (folder / "session.log").open("a") as log:
        process = subprocess.Popen(
            [str(python), str(PROGRAM), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(python),
            cwd=folder,
        )
    made = Session(process)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A master and its workers."""

    master: str


@contextmanager
def cluster(folder: Path) -> Generator[Cluster]:
    """A standalone cluster on this machine: a master and two workers of one core."""
    python = interpreter()
    (home,) = python.parents[1].glob("lib/python*/site-packages/pyspark")
    spark_class = str(home / "bin" / "spark-class")
    with ExitStack() as stack:
        arguments = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        master_log = folder / "master.log"
        stack.enter_context(
            _java([spark_class, "org.apache.spark.deploy.master.Master", *arguments], master_log, python)
        )
        url = _wait_for(master_log, r"Starting Spark master at (spark://\S+)", 1)[0]
        for number in range(WORKERS):
            place = ["-c", "1", "-m", "1g", "-d", str(folder / f"worker-{number}"), *arguments]
            log = folder / f"worker-{number}.log"
            stack.enter_context(
                _java([spark_class, "org.apache.spark.deploy.worker.Worker", *place, url], log, python)
            )
        _wait_for(master_log, r"Registering worker (\S+)", WORKERS)
        yield Cluster(url)


@contextmanager
def _java(command: list[str], log: Path, python: Path) -> Generator[None]:
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told, env=_environment(python))
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(log: Path, pattern: str, times: int) -> list[str]:
    give_up_at = time.monotonic() + START_S
    while len(found := re.findall(pattern, log.read_text(errors="replace"))) < times:
        assert time.monotonic() < give_up_at, f"no {pattern!r} in {log}: {log.read_text()[-2000:]}"
        time.sleep(0.1)
    return [str(one) for one in found]


def _environment(python: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    return kept | {
        "PYSPARK_PYTHON": str(python),
        "PYSPARK_DRIVER_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1",
    }


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode != 0:
        raise SparkUnavailable((done.stderr or done.stdout)[-2000:])


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file).encode() if file.stat().st_size > 1 << 20 else file.read_bytes())
    return digest.hexdigest()[:12]
