"""The demonstration as lines of text: for logs, pipes and patient readers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.cli.demonstration.members import Report
    from headrace.cli.demonstration.stage import Scene


class PlainView:
    """A line a second, and one where something begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0
        self._act = ""
        self._last = (0.0, 0)

    def show(self, scene: Scene) -> None:
        """Print the scene if it is time."""
        if scene.act != self._act:
            self._act = scene.act
            self._console.print(f"{scene.elapsed_s:5.1f} s  -- {scene.act}", markup=False, highlight=False)
        elif scene.elapsed_s < self._next_s:
            return
        else:
            self._console.print(self._line(scene), markup=False, highlight=False, soft_wrap=True)
        self._next_s = math.floor(scene.elapsed_s) + 1.0

    def _line(self, scene: Scene) -> str:
        then, before = self._last
        span_s = max(0.1, scene.elapsed_s - then)
        rate = (scene.handled - before) / span_s
        self._last = scene.elapsed_s, scene.handled
        dead = scene.first.dead_lettered + scene.second.dead_lettered
        return (
            f"{scene.elapsed_s:5.1f} s  produced {scene.produced:>6,}  handled {scene.handled:>6,} ({rate:4.0f}/s)  "
            f"retried {scene.first.retried + scene.second.retried:>3}  dead letters {dead:>2}  "
            f"partitions {_partitions(scene.first)} | {_partitions(scene.second)}"
        )


def _partitions(report: Report) -> str:
    return "".join(str(p.partition) for p in report.partitions) or "-"
