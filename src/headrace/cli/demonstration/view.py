"""The demonstration as a live view in the terminal.

Decides how a scene is drawn; what there is to see comes whole, as a value. Fits 80 columns and 24 lines. Shapes tell
what colours tell, for those who see none.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headrace.cli.demonstration.members import PartitionReport, Report
from headrace.cli.demonstration.plan import KEYS, PARTITIONS

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from headrace.cli.demonstration.stage import Scene

PARTS: Final = (
    ("committed", "█", "green"),
    ("finished beyond", "▓", "cyan"),
    ("in flight", "▒", "yellow"),
    ("waiting", "░", "magenta"),
    ("at the broker", "·", "bright_black"),
)
SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKS_MAX: Final = 24
SPARK_S: Final = 0.5
WINDOW_S: Final = 4.0
"""How much of a partition its bar shows: the records of so many last seconds. All that is unfinished is among them."""

BESIDE_BAR: Final = 36
WIDTH_MAX: Final = 110
ACTS_MAX: Final = 4


class LiveView:
    """Draws each scene over the last. One thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._rates: deque[float] = deque([0.0], maxlen=SPARKS_MAX)
        self._measured = (0.0, 0)
        self._acts: deque[tuple[float, str]] = deque(maxlen=ACTS_MAX)
        # What was committed when a partition was last seen: all that is known of it while it moves.
        self._committed = [0] * PARTITIONS

    def show(self, scene: Scene) -> None:
        """Draw it."""
        self._measure(scene)
        if not self._acts or self._acts[-1][1] != scene.act:
            self._acts.append((scene.elapsed_s, scene.act))
        self._live.update(Padding(self._draw(scene), (1, 1, 0, 1)), refresh=True)

    def _measure(self, scene: Scene) -> None:
        then, before = self._measured
        if scene.elapsed_s - then >= SPARK_S:
            # A member's report may be a moment old, and the second one's goes when it does.
            self._rates.append(max(0.0, (scene.handled - before) / (scene.elapsed_s - then)))
            self._measured = scene.elapsed_s, scene.handled

    def _draw(self, scene: Scene) -> RenderableType:
        width = min(WIDTH_MAX, self._console.width) - 2
        return Group(
            _title(scene, width),
            Text(),
            self._numbers(scene),
            Text(),
            self._partitions(scene, width - BESIDE_BAR),
            _legend(),
            Text(),
            _members(scene),
            Text(),
            self._story(),
        )

    def _numbers(self, scene: Scene) -> RenderableType:
        table = Table.grid(padding=(0, 3, 0, 0))
        for justify in ("left", "right", "left"):
            table.add_column(justify=justify)
        top = max(1.0, *self._rates)
        sparks = "".join(SPARKS[round(rate / top * (len(SPARKS) - 1))] for rate in self._rates)
        rates = list(self._rates)[-4:]
        rate = sum(rates) / len(rates)
        table.add_row(
            "produced", Text(f"{scene.produced:,}", "bold"), Text("acknowledged by the broker", "dim")
        )
        table.add_row(
            "handled",
            Text(f"{scene.handled:,}", "bold"),
            Text(f"{rate:4.0f}/s ", "bold").append(sparks, "cyan"),
        )
        dead = scene.first.dead_lettered + scene.second.dead_lettered
        retried = scene.first.retried + scene.second.retried
        table.add_row("retried", Text(f"{retried:,}", "bold"), Text("a few fail once", "dim"))
        table.add_row("dead letters", Text(f"{dead:,}", "bold"), Text("fewer fail always", "dim"))
        return table

    def _partitions(self, scene: Scene, cells: int) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "left", "left", "right"):
            table.add_column(justify=justify, no_wrap=True)
        table.add_row(*(Text(name, "dim") for name in ("partition", "member", "", "committed")))
        owners = {p.partition: ("first", p) for p in scene.first.partitions}
        owners |= {p.partition: ("second", p) for p in scene.second.partitions}
        a_second = scene.produced / max(1.0, scene.elapsed_s) / PARTITIONS
        per_cell = max(1, math.ceil(a_second * WINDOW_S / cells))
        nobody = "moving" if scene.first.state == "running" else "-"
        for partition in range(PARTITIONS):
            unowned = PartitionReport(partition, self._committed[partition], 0, 0, 0)
            owner, report = owners.get(partition, (nobody, unowned))
            self._committed[partition] = max(self._committed[partition], report.committed)
            style = {"second": "blue", "moving": "yellow"}.get(owner, "default")
            bar = _bar(report, scene.ends[partition], cells, per_cell)
            table.add_row(str(partition), Text(f"{owner:<6}", style), bar, f"{self._committed[partition]:,}")
        return table

    def _story(self) -> RenderableType:
        lines = [Text(f"{at_s:5.1f} s  ", "dim").append(act, "default") for at_s, act in self._acts]
        return Group(*lines, *(Text() for _ in range(ACTS_MAX - len(lines))))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()


def _title(scene: Scene, width: int) -> RenderableType:
    left = Text("headrace demo", "bold").append(
        f"   {PARTITIONS} partitions, {KEYS} keys, an embedded broker", "dim"
    )
    right = (
        f"{scene.elapsed_s:.0f} of {scene.seconds:.0f} s" if scene.elapsed_s < scene.seconds else "settling"
    )
    return left.append(right.rjust(max(1, width - left.cell_len)), "bold")


def _bar(report: PartitionReport, end: int, cells: int, per_cell: int) -> Text:
    """The last records of a partition, oldest left: so many cells of each part, as `PARTS` has them."""
    counts = [report.committed, report.beyond, report.in_flight, report.held]
    counts.append(max(0, end - sum(counts)))
    sizes = [math.ceil(count / per_cell) for count in counts]
    # The parts that are not committed come first: they are what moves.
    room = min(cells, math.ceil(sum(counts) / per_cell))
    for index in range(len(sizes) - 1, 0, -1):
        sizes[index] = min(sizes[index], room)
        room -= sizes[index]
    sizes[0] = room
    bar = Text()
    for (_, shape, style), size in zip(PARTS, sizes, strict=True):
        bar.append(shape * size, style)
    bar.append(" " * (cells - sum(sizes)))
    return bar


def _legend() -> RenderableType:
    legend = Text(" " * 5)
    for name, shape, style in PARTS:
        legend.append(f"{shape} ", style).append(f"{name}  ", "dim")
    legend.no_wrap = True
    return legend


def _members(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 3, 0, 0))
    for name, report in (("first member", scene.first), ("second member", scene.second)):
        partitions = " ".join(str(p.partition) for p in report.partitions) or "none"
        state = "waits" if report.state == Report().state else report.state
        handled = Text(f"handled {report.succeeded:,}", "default" if report.succeeded else "dim")
        table.add_row(name, Text(f"{state:<10}", "bold"), Text(f"partitions {partitions:<12}"), handled)
    return table
