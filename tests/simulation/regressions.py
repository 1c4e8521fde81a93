"""Worlds that once broke a promise: a seed, or a scenario as JSON, and one sentence on what was wrong.

A seed draws another world when the drawing changes; what must be kept whatever is drawn is kept as JSON.
"""

from __future__ import annotations

from typing import Final

REGRESSIONS: Final[tuple[tuple[int | str, str], ...]] = ()
