"""What an act proved: two columns of measured facts, and which of them are as the act claims.

Pure. Refuses to know how anything was measured. Invariant: an act without a judged fact on either side proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Cell:
    """One fact.

    as_told: whether it is what the act claims: on the naive side that the failure was seen, on Headrace's that it
        held. None: shown, not judged.
    """

    text: str
    as_told: bool | None = None


NOTHING = Cell("-")


@dataclass(frozen=True, slots=True)
class Row:
    """The same question to both forms."""

    what: str
    naive: Cell = NOTHING
    headrace: Cell = NOTHING


@dataclass(frozen=True, slots=True)
class Verdict:
    """All facts of one act."""

    rows: tuple[Row, ...]

    @property
    def naive_failed(self) -> bool:
        """Whether every failure that the act claims was seen."""
        return _all_as_told(row.naive for row in self.rows)

    @property
    def held(self) -> bool:
        """Whether Headrace kept every promise that the act judges."""
        return _all_as_told(row.headrace for row in self.rows)

    @property
    def proved(self) -> bool:
        """The one outcome that is a success: the naive form failed, and Headrace did not."""
        return self.naive_failed and self.held


def _all_as_told(cells: Iterable[Cell]) -> bool:
    judged = [cell.as_told for cell in cells if cell.as_told is not None]
    return bool(judged) and all(judged)
