"""The verifier finds what is wrong: each doctored ledger has one thing that must not happen, and is judged by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.members.ledger import Ledger, Line, Reader
from tests.members.verifier import verify

if TYPE_CHECKING:
    from pathlib import Path


class Script:
    """A ledger written by hand: every line a second after the one before."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def say(
        self, kind: Any, offset: int = -1, member: str = "a", key: str | None = "k", detail: str = ""
    ) -> Script:
        now = float(len(self.lines))
        key = key if kind in {"acked", "start", "end"} else None
        self.lines.append(Line(kind, now, 1e9 + now, member, "t", 0, offset, key, 0, detail))
        return self

    def acked(self, *offsets: int, key: str | None = "k") -> Script:
        for offset in offsets:
            self.say("acked", offset, key=key)
        return self

    def ran(self, *offsets: int, member: str = "a", key: str | None = "k") -> Script:
        for offset in offsets:
            self.say("start", offset, member, key).say("end", offset, member, key, "ok")
        return self

    def killed(self, member: str, committed: int, beyond: str = "") -> Script:
        return self.say("killed", member=member).say("confirmed", committed, member, detail=beyond)

    def names(self, **how: Any) -> set[str]:
        return verify(self.lines, **how).names()


def script() -> Script:
    return Script()


def test_a_good_ledger_has_no_anomaly() -> None:
    """Also with a kill in the middle, whose unconfirmed records are repeated."""
    good = script().acked(0, 1, 2, 3).say("assigned", 0).ran(0, 1, 2).say("committed", 1).killed("a", 1)
    good.say("assigned", 1, "b").ran(1, 2, 3, member="b").say("committed", 4).say(
        "revoked", 4, "b", detail="clean"
    )
    verdict = verify(good.lines)
    assert verdict.anomalies == []
    assert verdict.repeated == [("t", 0, 1), ("t", 0, 2)]


@pytest.mark.parametrize(
    ("doctored", "name"),
    [
        (script().acked(0, 1, 2).ran(0, 2).say("committed", 3), "lost"),
        (script().acked(0, 1).ran(0).say("committed", 1), "stuck"),
        (script().acked(0).say("start", 0), "stuck"),
        (script().acked(0).ran(0).say("stopped", detail="0").ran(0, member="b"), "duplicate"),
        (script().acked(0).ran(0, 0), "duplicate"),
        (script().acked(0).ran(0).say("revoked", 1, detail="clean").ran(0, member="b"), "duplicate"),
        (script().acked(0).ran(0).killed("a", 1).ran(0, member="b"), "duplicate"),
        (script().acked(0, 1, 2).ran(0, 1, 2).killed("a", 1, "2").ran(1, 2, member="b"), "duplicate"),
        (script().acked(0).killed("a", 0).ran(0).ran(0, member="b"), "duplicate"),
        (script().acked(0, 1).say("start", 0).ran(1, member="b").say("end", 0, detail="ok"), "order"),
        (script().acked(0, 1).ran(1, 0), "order"),
        (script().acked(0, 1).say("start", 0).say("end", 0, detail="raised").ran(1, 0), "order"),
        (script().acked(0).say("start", 0).ran(0, member="b").killed("a", 0), "order"),
        (script().acked(0, 1).ran(0).say("committed", 2).ran(1), "commit past unfinished"),
        (script().acked(0).say("assigned", 0).say("revoked", 0, detail="clean").ran(0), "zombie"),
        (script().acked(0).ran(0, 7), "unknown record"),
    ],
)  # fmt: skip
def test_a_doctored_ledger_is_called_by_the_name_of_its_fault(doctored: Script, name: str) -> None:
    assert name in doctored.names()


@pytest.mark.parametrize(
    "excused",
    [
        script().acked(0).ran(0).say("revoked", 0, detail="abandoned").ran(0, member="b"),
        script().acked(0).ran(0).say("unconfirmed", 1).ran(0, member="b"),
        script().acked(0).say("start", 0).say("end", 0, detail="raised").ran(0),
        script().acked(0).say("start", 0).killed("a", 0).ran(0, member="b"),
        script().acked(0, key=None).acked(1, key=None).ran(1, 0, key=None),
        script().acked(0, key="x").acked(1).ran(1).ran(0, key="x"),
    ],
)
def test_what_is_excused_or_not_promised_is_no_anomaly(excused: Script) -> None:
    assert excused.names() == set()


def test_at_most_once_may_lose_and_may_never_start_twice() -> None:
    lossy = script().acked(0, 1).say("start", 0).say("committed", 2).killed("a", 2)
    assert lossy.names(delivery="at_most_once") == set()
    assert lossy.ran(0, member="b").names(delivery="at_most_once") == {"duplicate"}


def test_a_ledger_is_read_while_it_is_written(tmp_path: Path) -> None:
    """A line that is not whole yet waits for the next look."""
    path = tmp_path / "ledger"
    reader = Reader(path)
    assert reader.refresh() == []
    Ledger(path, "a").write("start", topic="t", partition=0, offset=0, key="", attempt=1)
    with path.open("ab") as file:
        file.write(b'{"kind": "end", ')
    assert [(line.kind, line.offset, line.key) for line in reader.refresh()] == [("start", 0, "")]
    with path.open("ab") as file:
        file.write(b'"at": 1, "wall": 2}\n')
    assert [line.kind for line in reader.refresh()] == ["start", "end"]
