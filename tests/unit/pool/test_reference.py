"""docs/reference/pool.md says what the code does: settings, counters, events, and both tables."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import pytest

from headrace.pool import ConsumerPool, EndReason, GrantReason, Lease, PoolCounters, PoolEvent, PoolSettings

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "pool.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading."""
    section = re.split(rf"^## {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    found = [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    return [row for row in found if row[0] not in {"setting", "field", "event", "member", "argument"}]


def names(cell: str) -> list[str]:
    """What stands between backquotes, without arguments."""
    return [re.split(r"[(.]", name)[0] for name in re.findall(r"`([^`]+)`", cell)]


def test_settings() -> None:
    """With their defaults."""
    told = {row[0].strip("`"): row[1].strip("`") for row in rows("`PoolSettings`")}
    assert told == {field.name: repr(field.default) for field in dataclasses.fields(PoolSettings)}


def test_counters() -> None:
    """Each once."""
    told = [name for row in rows("`PoolCounters`") for name in names(row[0])]
    assert told == [field.name for field in dataclasses.fields(PoolCounters)]


def test_events() -> None:
    """With level and fields."""
    told = {names(row[0])[0]: (row[1], names(row[2])) for row in rows("Events")}
    assert told == {
        kind.__name__: (
            logging.getLevelName(kind.level),
            [field.name for field in dataclasses.fields(kind)],
        )
        for kind in PoolEvent.__subclasses__()
    }


def test_reasons() -> None:
    """The last column of either table."""
    told = [name for row in rows("Which consumer a lease gets") for name in names(row[-1])]
    assert set(told) - {"reason"} == {reason.value for reason in (*GrantReason, *EndReason)}


@pytest.mark.parametrize(("kind", "heading"), [(ConsumerPool, "`ConsumerPool`"), (Lease, "`Lease`")])
def test_members(kind: type, heading: str) -> None:
    """All that are public, but those that leases call."""
    told = {name for row in rows(heading) for name in names(row[0])}
    public = {name for name in vars(kind) if not name.startswith("_")}
    assert public - told - {"give_back", "drop", "count_seek", "forked"} == set()
