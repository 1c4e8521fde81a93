"""`headrace run`: what it imports, refuses and shows."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from headrace import App
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.processes.site import serve_fleet
from headrace.cli.processes.supervisor import Fleet
from headrace.cli.run import _served
from tests.unit.cli.conftest import APP
from tests.unit.web.asking import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_dry_run_prints_app_subscriptions_and_both_clients(
    module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", f"{module(APP)}:app", "--dry-run"]) is Exit.OK
    out = capsys.readouterr().out
    for expected in (
        "group_id = billing",
        "commit.every_s = 1.0",
        ":charge]",
        "topics = orders",
        "dead_letter = orders.dead",
        "on_exhausted = dead_letter",
        "run_in = threads",
        "[librdkafka consumer]",
        "partition.assignment.strategy = cooperative-sticky",
        "client.id = me",
        "[librdkafka producer]",
        "enable.idempotence = True",
    ):
        assert expected in out


def test_dry_run_hides_secrets(module: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    execute(["run", f"{module(APP)}:app", "--dry-run"])
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert "sasl.password = ********" in out


@pytest.mark.parametrize(
    ("source", "attribute", "complaint"),
    [
        ("", "app", "has no 'app'"),
        ("app = 1", "app", "is an int, not a headrace.App"),
        ("def app(): ...", "app", "is a function, not a headrace.App"),
        ("from headrace import App as app", "app", "is the class App"),
        ("import no_such_package", "app", "No module named 'no_such_package'"),
        ("import math\nmath.inf / 0\n1 / 0", "app", ".py:2: importing it raised ZeroDivisionError"),
        ("x = 1\ndef", "app", ".py:2: SyntaxError: invalid syntax"),
        ("import json\njson.loads('')", "app", ".py:2: importing it raised JSONDecodeError"),
        ("\nimport sys; sys.exit(5)", "app", ".py:2: importing it called sys.exit(5)"),
        ("\nimport headrace.nowhere", "app", ".py:2: cannot import"),
        ("from headrace import App\napp = App('', 'g')", "app", ".py:2: bootstrap_servers = ''"),
        (APP + "app.run()", "app", ".py:6: run() or start() while"),
        (APP + "app.run()", "app", 'behind `if __name__ == "__main__":`'),
        (
            APP + "import asyncio\nasync def main():\n    async with app: ...\nasyncio.run(main())",
            "app",
            "__main__",
        ),
        ("from headrace import App\napp = App('b:1', 'g')", "app", "no subscriptions"),
        ("from headrace import App\napp = App('b:1', 'g', librdkafka={'acks': 1})", "app", "acks"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_code_2(
    module: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    source: str,
    attribute: str,
    complaint: str,
) -> None:
    assert execute(["run", f"{module(source)}:{attribute}"]) is Exit.USAGE
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


SECOND = """
@app.subscribe("orders")
def again(record: Record) -> None: ...
"""
NESTED = """
def make():
    def nested(record: Record) -> None: ...
    return nested
app.subscribe("parcels", run_in="processes")(make())
"""


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        (APP + SECOND, ["topics = 'orders'", "one subscription only"]),
        (APP + NESTED, ["make.<locals>.nested", "define it at the top of a module"]),
        (APP.replace("client.id", "session.timout.ms"), ["did you mean 'session.timeout.ms'?"]),
        (APP.replace("client.id", "linger"), ["linger"]),
        (APP.replace("client.id", "ssl.ca.location").replace("{", "{'security.protocol': 'SSL', "), ["ssl.ca.location"]),
    ],
    ids=["overlap", "not importable", "misspelt", "unknown", "no certificate"],
)  # fmt: skip
def test_dry_run_finds_what_a_start_would_refuse(
    module: Callable[[str], str], capsys: pytest.CaptureFixture[str], source: str, complaints: list[str]
) -> None:
    assert execute(["run", f"{module(source)}:app", "--dry-run"]) is Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for complaint in complaints:
        assert complaint in err
    assert "hunter2" not in err


def test_dry_run_connects_to_nothing_and_asks_for_no_token(
    module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        source = APP.replace("localhost:1", f"127.0.0.1:{server.getsockname()[1]}").replace(
            "librdkafka={", 'librdkafka={"oauth_cb": lambda _: 1 / 0, "security.protocol": "SASL_PLAINTEXT", '
            '"sasl.mechanisms": "OAUTHBEARER", '
        )  # fmt: skip
        assert execute(["run", f"{module(source)}:app", "--dry-run"]) is Exit.OK
        assert capsys.readouterr().err == ""
        with pytest.raises(TimeoutError):
            server.accept()


def test_an_installed_app_is_blamed_where_its_module_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the library that it called, which is installed beside it."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "users_module_installed.py").write_text("\nimport users_module_library\n")
    (folder / "users_module_library.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(folder)
    assert execute(["run", "users_module_installed:app"]) is Exit.USAGE
    assert "users_module_installed.py:2: importing it raised ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["billing", ":app", "billing:", "no_such_module:app"])
def test_a_target_that_names_nothing_is_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", target]) is Exit.USAGE
    assert target in capsys.readouterr().err


@pytest.mark.slow
def test_an_app_that_finds_no_broker_fails_with_code_1(
    module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = APP.replace('"billing",', '"billing", timeouts=Timeouts(connect_s=0.1),')
    name = module(
        source.replace("import App", "import Timeouts, App").replace('"sasl.password": "hunter2", ', "")
    )
    assert execute(["run", f"{name}:app", "--log-level", "error"]) is Exit.FAILED
    assert "no broker answered" in capsys.readouterr().err


@pytest.mark.slow
def test_a_start_that_fails_tells_its_reason_once(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module(
        APP.replace('"billing",', '"billing", timeouts=Timeouts(connect_s=0.1),')
        .replace("import App", "import Timeouts, App")
        .replace('"sasl.password": "hunter2", ', "")
    )
    command = [sys.executable, "-m", "headrace", "run", f"{name}:app"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("no broker answered") == 1
    assert ended.stderr.splitlines()[-1].startswith("error: no broker answered")
    assert "reason=BrokerUnreachable" in ended.stderr


def test_names_that_others_ask_by_go_with_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", "billing:app", "--allow-host", "billing.svc"]) is Exit.USAGE
    assert "--allow-host goes with --serve" in capsys.readouterr().err
    assert execute(["run", "billing:app", "--show-records"]) is Exit.USAGE
    assert "--show-records goes with --serve" in capsys.readouterr().err


def test_who_asks_by_an_allowed_name_is_answered_and_others_are_not() -> None:
    app = App("nowhere:1", "billing")
    fleet = Fleet(1)
    for server in (_served(app, "0", ["billing.svc"]), serve_fleet(fleet, "127.0.0.1", 0, ["billing.svc"])):
        with server:
            assert ask(server, "/health/live", headers={"Host": "billing.svc"}).status != 421
            assert ask(server, "/health/live", headers={"Host": "other.svc"}).status == 421
