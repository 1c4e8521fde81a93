"""What every command shares: help, exit codes, one line per error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.connection import parse_settings
from headrace.cli.exits import EXIT_MEANINGS, Exit, RunFailed, Unusable, exit_of
from headrace.errors import (
    BrokerUnreachable,
    ClientFailed,
    ConfigError,
    Fenced,
    ForcedStop,
    HandlerError,
    Stalled,
    TopicMissing,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = [
    ["run"],
    ["demo"],
    ["produce"],
    ["tail"],
    ["lag"],
    ["doctor"],
    ["version"],
    ["dead-letters"],
    ["dead-letters", "list"],
    ["dead-letters", "replay"],
]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_explains_every_exit_code(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command, "--help"]) is Exit.OK
    shown = " ".join(capsys.readouterr().out.split())
    for code, meaning in EXIT_MEANINGS.items():
        assert f"{code.value} {meaning}" in shown


@pytest.mark.parametrize("command", [[], ["dead-letters"]], ids=" ".join)
def test_a_command_of_commands_alone_shows_its_help(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(command) is Exit.OK
    assert "Commands" in capsys.readouterr().out


def test_version_names_client_and_python(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["version"]) is Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("headrace ")
    assert "librdkafka" in out
    assert "Python 3." in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run"],
        ["lag", "group", "--no-such-option"],
        ["lag", "group", "-X", "no-equals-sign"],
        ["lag", "group", "-X", "group.id=mine"],
        ["lag", "group", "--timeout", "soon"],
        ["demo", "--seconds", "0"],
        ["tail", "topic", "--from-beginning", "--last", "3"],
        ["produce", "topic", "value", "--key", "k", "--key-separator", ":"],
        ["produce", "topic", "value", "--header", "no-equals-sign"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) is Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


def test_a_badly_written_setting_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    execute(["lag", "group", "-X", "sasl.password hunter2"])
    assert "hunter2" not in capsys.readouterr().err


def test_settings_keep_equals_signs_in_their_values() -> None:
    assert parse_settings(["a.b=c=d", "e="]) == {"a.b": "c=d", "e": ""}


def test_an_unreachable_broker_is_one_line_without_settings_of_an_app(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["lag", "group", "-b", "localhost:1", "--timeout", "0.1"]) is Exit.USAGE
    err = capsys.readouterr().err
    assert "no broker answered at localhost:1" in err
    assert "Timeouts" not in err


def test_doctor_cannot_begin_without_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "-b", "localhost:1", "--timeout", "0.1"]) is Exit.USAGE
    out, err = capsys.readouterr()
    assert out.startswith("ok      client:")
    assert err.startswith("error: no broker answered at localhost:1")


def test_debug_shows_the_traceback_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--debug", "run", "no_colon"], ["run", "no_colon", "--debug"]):
        assert execute(arguments) is Exit.USAGE
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("k", 1, "2"), Exit.USAGE),
        (HandlerError("m:a", "no"), Exit.USAGE),
        (Unusable("no"), Exit.USAGE),
        (TopicMissing(["t"]), Exit.USAGE),
        (BrokerUnreachable("b", 1.0), Exit.USAGE),
        (RunFailed(BrokerUnreachable("b", 1.0)), Exit.FAILED),
        (RunFailed(TopicMissing(["t"])), Exit.FAILED),
        (RunFailed(ForcedStop(1.0, [])), Exit.FORCED),
        (RunFailed(Fenced("FENCED_INSTANCE_ID", "taken")), Exit.FENCED),
        (RunFailed(Stalled("orders[0]", 120.0, "hung")), Exit.STALLED),
        (ClientFailed("_FATAL", "dead"), Exit.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_code(error: Exception, code: Exit) -> None:
    known = exit_of(error)
    assert known is not None
    assert known[0] is code


def test_what_is_nobodys_mistake_is_a_bug() -> None:
    assert exit_of(KeyError("x")) is None


def test_every_code_is_explained() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)


@pytest.mark.slow
def test_ctrl_c_ends_a_command_without_a_traceback() -> None:
    """A command that waits for a broker is interrupted at once, though the client waits in C."""
    arguments = [sys.executable, "-m", "headrace", "doctor", "-b", "localhost:1", "--timeout", "30"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ok")
        time.sleep(0.2)  # well into the client's wait
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == Exit.INTERRUPTED
    assert err == ""


@pytest.mark.slow
def test_a_second_signal_ends_with_the_forced_code_though_a_handler_hangs(
    module: Callable[[str], str], tmp_path: object
) -> None:
    """`main`, not the interpreter, ends the process: a thread of the user's cannot keep it."""
    name = module(
        "import sys, threading\n"
        "from headrace import App, ForcedStop\n"
        "class Forced(App):\n"
        "    def run(self):\n"
        "        threading.Thread(target=threading.Event().wait).start()\n"
        "        raise ForcedStop(1.0, ['a handler'])\n"
        "app = Forced('localhost:1', 'g')\n"
        "@app.subscribe('t')\n"
        "def handle(record): ...\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "headrace", "run", f"{name}:app"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=str(tmp_path),
        env=dict(os.environ),
    )
    assert ended.returncode == Exit.FORCED
    assert "abandoned: a handler" in ended.stderr
