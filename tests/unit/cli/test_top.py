"""What `headrace top` draws of two sights of an app, and what it says where there is none."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console

from headrace import CountersSnapshot, EngineSnapshot, HotKey, HotKeys, Snapshot, SubscriptionSnapshot
from headrace._core.durations import Durations
from headrace._runtime.snapshots import OwnerSnapshot
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.top_screen import Sight, drawn, plain, quantile_s
from headrace.observe.reporting import Source
from headrace.web.facts import app_facts
from headrace.web.showing import Showing
from tests.unit.observe.views import offsets, part, view

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from headrace.observe.views import View


def sight(at: float, finished: int, loop: dict[str, float], partitions: int = 2, **changed: Any) -> Sight:
    """What a server would send of an app at this moment."""
    durations = Durations()
    durations.add(99, 0.099, ())
    durations.add(1, 0.0, [2.5])
    subscription = SubscriptionSnapshot("billing:charge", 7, 1, 8, 3, 5, 0.1, durations.snapshot())
    parts = tuple(part("orders", number, **changed) for number in range(partitions))
    known = {("orders", 0): offsets(end=130, stable=130), ("orders", 1): offsets(end=1300, stable=1300)}
    made = view(parts, known)
    engine = EngineSnapshot(parts, CountersSnapshot(finished=finished), (subscription,))
    keys = HotKeys(
        200, 10, 64, (HotKey("orders", 1, b"acme\x1b[2J", 92, 2), HotKey("orders", 0, b"b", 20, 0))
    )
    snapshot = Snapshot(at, 7, "running", engine, OwnerSnapshot(tuple(loop.items()), hot_keys=keys))
    shown: View = replace(made, snapshot=snapshot, now=at)
    return Sight(
        at, json.loads(json.dumps(app_facts(Source("billing", lambda: shown), Showing(records=True))))
    )


def text_of(*sights: Sight, error: str = "", rows_max: int | None = None) -> str:
    out = StringIO()
    now, before = sights[-1], sights[0]
    Console(file=out, width=140).print(drawn(now, before, "http://a/snapshot.json", error, rows_max=rows_max))
    return out.getvalue()


def test_rates_and_shares_are_of_the_time_between() -> None:
    before = sight(98.0, 100, {"poll": 1.0, "idle": 5.0})
    text = text_of(before, sight(100.0, 700, {"poll": 1.5, "idle": 6.5}))
    assert "finished 300/s" in text
    assert "poll 25%  idle 75%" in text
    assert "billing  ok  running, 2 partitions" in text
    assert "<1 ms" in text
    assert text.index("1,220") < text.index(" 50"), "the largest lag first"


def test_hot_keys_are_told_with_the_share_that_is_sure() -> None:
    text = text_of(sight(98.0, 1, {}), sight(99.0, 1, {}))
    assert "hot keys  acme\\x1b[2J 45% (orders[1])  b 10% (orders[0])" in text


def test_the_same_snapshot_twice_has_no_rates() -> None:
    one = sight(98.0, 100, {"poll": 1.0})
    text = text_of(one, one)
    assert "finished ?" in text
    assert "loop  ?" in text


def test_an_app_that_started_anew_has_no_rates() -> None:
    assert "finished ?" in text_of(sight(98.0, 100, {}), sight(100.0, 3, {}))


def test_what_is_not_known_is_no_zero() -> None:
    text = text_of(sight(98.0, 1, {}, partitions=3), sight(99.0, 1, {}, partitions=3))
    assert "lag ?" in text


def test_a_small_screen_says_what_it_leaves_out() -> None:
    two = sight(98.0, 100, {}, partitions=40), sight(99.0, 100, {}, partitions=40)
    text = text_of(*two, rows_max=24)
    assert text.count("\norders") < 24
    assert f"and {40 - text.count(chr(10) + 'orders')} more" in text
    assert "more" not in text_of(*two)


def test_names_and_errors_steer_no_terminal() -> None:
    assert plain("a\x1b[2Jb\nc") == "a?[2Jb?c"
    one = sight(98.0, 1, {}, paused=("\x1b]0;x\x07",))
    text = text_of(one, one, error="\x1b[31mno")
    assert "\x1b" not in text
    assert "?[31mno" in text


def test_quantiles_are_bounds() -> None:
    durations = {"counts": [0, 90, 9, 1], "bounds_s": [0.001, 0.01, 2.0], "total_s": 1.0}
    assert [quantile_s(durations, share) for share in (0.5, 0.99, 1.0)] == ["<10 ms", "<2 s", ">2 s"]
    assert quantile_s({"counts": [0], "bounds_s": []}, 0.5) == "-"


def test_no_app_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["top", "http://127.0.0.1:1", "--once"]) is Exit.USAGE
    assert "does the app run with --serve?" in capsys.readouterr().err
    assert execute(["top", "ftp://127.0.0.1"]) is Exit.USAGE


def test_one_look_waits_for_a_snapshot_that_is_newer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An app of a thousand partitions makes one a second or less: two looks may find the same."""
    looks = [sight(98.0, 100, {}).facts] * 3 + [sight(100.0, 700, {}).facts]

    def asked(_address: str) -> Mapping[str, Any]:
        return looks.pop(0)

    monkeypatch.setattr(sys.modules["headrace.cli.top"], "_asked", asked)
    assert execute(["top", "http://127.0.0.1:1", "--once", "--every", "0.2"]) is Exit.OK
    assert "finished 300/s" in capsys.readouterr().out
    assert looks == []
