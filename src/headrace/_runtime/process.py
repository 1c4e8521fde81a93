"""What is done to a process that belongs to one app: `App.run` and `headrace run`, never `App.start`.

Decides about the garbage collector alone. Records and messages are freed by reference counts; the collector only walks
them, again and again, while they wait. At its default thresholds that is a sixth of the runtime's cost per record.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 50_000
"""New objects before a young collection: a few polls' worth. Cycles that users make are still found, a little later."""


def own_process() -> None:
    """Tune the collector for this process. Everything imported so far is taken out of its sight."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)
