"""`headrace run --processes N`, from its options to its exit code.

Decides what each worker process is told of the options, and what watches all of them together. Invariant: an option that
cannot be meant is refused before anything is started.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace.cli.exits import Exit, Unusable
from headrace.cli.processes.exchange import Limits
from headrace.cli.processes.memory import measurable, parse_size
from headrace.cli.processes.numbering import NumberedLines
from headrace.cli.processes.supervisor import Fleet, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("headrace.processes")

PROCESSES_MAX: Final = 256


def limits_of(memory_limit: str | None, ready_s: float) -> Limits:
    """From the command line. Raises `Unusable`."""
    if memory_limit is not None and not measurable():
        raise Unusable("--memory-limit needs /proc, which this system does not have")
    return Limits(
        memory_bytes=None if memory_limit is None else parse_size(memory_limit),
        ready_s=ready_s,
    )


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `--serve`. Raises `Unusable`."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise Unusable(f"--serve {address}: expected [HOST:]PORT, such as 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def log_to_stderr(level: str, wanted: Callable[[logging.LogRecord], bool]) -> None:
    """Set up logging, unless the app's module did."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # "serving http://..." says it all
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(wanted)
    logging.basicConfig(
        level=level, handlers=[handler], format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )


def supervise(
    target: str,
    count: int,
    limits: Limits,
    log_level: str,
    serve: str | None = None,
    hosts: Sequence[str] = (),
    health_files: Path | None = None,
    show_records: bool = False,
    *,
    debug: bool = False,
) -> Exit:
    """Run `count` processes of the app until all are over. Main thread only. Raises `Unusable` before anything starts."""
    width = len(str(count - 1))
    labels = [str(number).rjust(width) for number in range(count)]
    arguments = [target, "--log-level", log_level, *(["--debug"] if debug else [])]
    fleet = Fleet(count)
    before, sys.stderr = sys.stderr, NumberedLines(2, "*".rjust(width))
    try:
        log_to_stderr(log_level.upper(), lambda _line: True)
        with ExitStack() as watching:
            if serve is not None:
                watching.enter_context(_served(fleet, serve, hosts))
                arguments += ["--serve", "127.0.0.1:0", *(["--show-records"] if show_records else [])]
            if health_files is not None:
                watching.enter_context(_health_files(fleet, health_files))
            return Supervisor(fleet, count, limits, arguments, labels).run()
    finally:
        sys.stderr = before


def _served(fleet: Fleet, address: str, hosts: Sequence[str]) -> Any:
    from headrace.cli.processes.site import serve_fleet  # noqa: PLC0415 - an extra

    server = serve_fleet(fleet, *parse_address(address), hosts)
    log.info("serving %s", server.url)
    if os.environ.get("HEADRACE_ACTIONS_TOKEN"):
        log.warning(
            "HEADRACE_ACTIONS_TOKEN has no effect with --processes: their dashboard shows, and changes nothing"
        )
    return server


def _health_files(fleet: Fleet, directory: Path) -> Any:
    from headrace.cli.processes.site import Judge  # noqa: PLC0415 - beside the server
    from headrace.web import HealthFiles  # noqa: PLC0415 - the same

    judge: Any = Judge(fleet)  # has of an app what the files are made of
    return HealthFiles(judge, directory)
