"""What contenders need to run, made once under .tools: Python environments from locks, jars, and compiled programs.

Decides what is installed, and names the reason where it cannot be had: a peer that is missing is reported, not left out.
Refuses to know what runs in them. Invariant: a folder's name holds the digest of what made it, and a half-made one has none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("HEADRACE_TOOLS") or ROOT / ".tools")
POM = Path(__file__).parent / "java" / "pom.xml"
PROGRAM = Path(__file__).parent / "java" / "ParallelConsumerApp.java"
RELEASES = {
    "confluent": ("io.confluent.parallelconsumer", "0.5.3.3"),
    "fork": ("bz.stub.parallelconsumer", "0.6.0.0"),
}
INSTALL_S = 600


class Unavailable(Exception):
    """This contender cannot run here; the text says why, in one line."""


class Environments:
    """Makes what is asked for, once. For one thread."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}

    def python(self, name: str) -> Path:
        """An interpreter: this one, or that of `requirements/bench-NAME.lock`."""
        if name == "own":
            return Path(sys.executable)
        lock = ROOT / "requirements" / f"bench-{name}.lock"
        folder = TOOLS / f"bench-{name}-{digest(lock.read_bytes(), sys.executable.encode())}"
        if not (folder / "done").exists():
            uv = [sys.executable, "-m", "uv"]
            self._run(name, [*uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)])
            python = str(folder / "bin" / "python")
            self._run(
                name, [*uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", str(lock)]
            )
            (folder / "done").touch()
        return folder / "bin" / "python"

    def compiled_c(self, source: Path) -> Path:
        """The C program, linked with the librdkafka that the Python client brings."""
        if shutil.which("cc") is None:
            raise Unavailable("no C compiler")
        found = importlib.util.find_spec("confluent_kafka")
        assert found is not None
        assert found.origin is not None
        folder = Path(found.origin).parents[1] / "confluent_kafka.libs"
        libraries = sorted(folder.glob("librdkafka*"))
        if not libraries:
            raise Unavailable("this confluent-kafka brings no librdkafka to link with")
        program = TOOLS / f"bench-c-{digest(source.read_bytes(), str(libraries[0]).encode())}"
        if not program.exists():
            partial = program.with_suffix(f".{os.getpid()}")
            link = [str(libraries[0]), f"-Wl,-rpath,{folder}", "-Wl,--allow-shlib-undefined"]
            self._run("c", ["cc", "-O2", "-o", str(partial), str(source), *link])
            partial.rename(program)
        return program

    def java(self, release: str) -> list[str]:
        """Java with the jars of that release and the compiled program."""
        group, version = RELEASES[release]
        for needed in ("javac", "mvn"):
            if shutil.which(needed) is None:
                raise Unavailable(f"no {needed}")
        folder = (
            TOOLS
            / f"bench-java-{digest(POM.read_bytes(), PROGRAM.read_bytes(), group.encode(), version.encode())}"
        )
        if not folder.exists():
            partial = folder.with_suffix(f".{os.getpid()}")
            maven = ["mvn", "-q", "-B", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies"]
            chosen = [f"-Dpeer.group={group}", f"-Dpeer.version={version}"]
            self._run(release, [*maven, "-DincludeScope=runtime", f"-DoutputDirectory={partial}", *chosen])
            self._run(release, ["javac", "-nowarn", "-cp", f"{partial}/*", "-d", str(partial), str(PROGRAM)])
            partial.rename(folder)
        return ["java", "-Xmx1g", "-cp", f"{folder}:{folder}/*", "ParallelConsumerApp"]

    def _run(self, name: str, command: list[str]) -> None:
        if name in self._refused:  # asking again would wait again
            raise Unavailable(self._refused[name])
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            self._refused[name] = f"{Path(command[0]).name} took more than {INSTALL_S} s to install it"
        else:
            if done.returncode == 0:
                return
            self._refused[name] = reason(done.stdout + done.stderr)
        raise Unavailable(self._refused[name])


def reason(output: str) -> str:
    """The line that says why, without addresses and colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    lines = [line.strip() for line in plain.splitlines() if line.strip()] or ["it failed without a word"]
    told = next((line for line in lines if "[ERROR]" in line), lines[-1])
    artifact = re.search(r"[\w.]+:[\w.-]+:jar:[\w.]+", told)
    if artifact:
        return f"Maven does not find {artifact[0]}"
    return " ".join(word for word in told.split() if "://" not in word)[:200]


def digest(*parts: bytes) -> str:
    """Short, over all parts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:12]
