"""How a reporter fares, as an immutable value that any thread may read.

Refuses to judge. Invariant: each count only rises while its reporter lives.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReporterState:
    """One reporter at one moment.

    reports: made. failures: reports that raised, or could not be made. skipped: reports that were due while an earlier
    one still ran. last_error: of the last failure, empty if the last report was made. running_s: how long the report
    that runs now has run, None if none does. finished_age_s: how long ago the last report was made, None before the first.
    """

    name: str
    every_s: float
    reports: int = 0
    failures: int = 0
    skipped: int = 0
    last_error: str = ""
    running_s: float | None = None
    finished_age_s: float | None = None
