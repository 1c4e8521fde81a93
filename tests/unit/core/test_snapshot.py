"""Snapshots say all that the engine counts."""

from __future__ import annotations

from dataclasses import fields

from headrace._core.board import Counters
from headrace._core.snapshot import CountersSnapshot

FROM_COMMITS = ["commits_sent", "commits_confirmed", "commits_refused"]


def test_the_counters_and_their_snapshot_have_the_same_names() -> None:
    """One is counted in, the other frozen, so neither can inherit from the other; a name in one alone would stay 0."""
    counted = [field.name for field in fields(Counters)]
    assert [field.name for field in fields(CountersSnapshot)] == counted + FROM_COMMITS
