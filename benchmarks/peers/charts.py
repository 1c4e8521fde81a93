"""Bars and lines as SVG text, without any library: rates of a cell's contenders, and cost as work grows.

Decides how it looks; refuses to know what the numbers mean. Invariant: every name is escaped, every bar has its number
beside it, and a scale that is logarithmic says so.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS, THEIRS, LOOPS = "#0b6e99", "#9aa5ad", "#d3d8dc"
NAME, BAR, ROW, TOP = 340, 360, 22, 46
SIDE, HEIGHT, WIDTH = 70, 170, 420
COLOURS = ("#0b6e99", "#b4531f", "#3b7d3b", "#7a4fa3")


def bars(title: str, rows: Sequence[tuple[str, float, str]], unit: str) -> str:
    """Horizontal bars on a logarithmic scale. rows: name, value, kind ("ours", "peer" or "loop"), drawn as they come."""
    values = [value for _, value, _ in rows]
    low = 10 ** math.floor(math.log10(min(values)))
    span = math.log10(max(values) / low) or 1.0
    width, height = NAME + BAR + 110, TOP + ROW * len(rows) + 12
    drawn = [
        opened(width, height),
        f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    drawn.append(f'<text x="12" y="37" fill="#555">{escape(unit)}, logarithmic scale from {low:,g}</text>')
    for number, (name, value, kind) in enumerate(rows):
        y = TOP + number * ROW
        length = max(2.0, math.log10(value / low) / span * BAR)
        colour = {"ours": OURS, "peer": THEIRS}.get(kind, LOOPS)
        drawn.append(
            f'<text x="{NAME - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{NAME}" y="{y + 2}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
            f'<text x="{NAME + length + 6:.1f}" y="{y + 14}">{figure(value)}</text>'
        )
    return "\n".join([*drawn, "</svg>", ""])


def lines(title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], unit: str) -> str:
    """One panel for each series: (size, cost) points, sizes on a logarithmic scale, costs from zero."""
    width, height = 2 * (SIDE + WIDTH + 30), 40 + ((len(series) + 1) // 2) * (HEIGHT + 60)
    drawn = [
        opened(width, height),
        f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, points) in enumerate(series):
        left = SIDE + (number % 2) * (SIDE + WIDTH + 30)
        top = 62 + (number // 2) * (HEIGHT + 60)
        drawn += panel(name, points, left, top, unit, COLOURS[number % len(COLOURS)])
    return "\n".join([*drawn, "</svg>", ""])


def panel(
    name: str, points: Sequence[tuple[float, float]], left: int, top: int, unit: str, colour: str
) -> list[str]:
    """A box with its line, a mark and a number at each point."""
    sizes = [math.log10(size) for size, _ in points]
    most = max(cost for _, cost in points) * 1.15
    span = (max(sizes) - min(sizes)) or 1.0
    at = [
        (left + 20 + (size - min(sizes)) / span * (WIDTH - 60), top + HEIGHT * (1 - cost / most))
        for size, (_, cost) in zip(sizes, points, strict=True)
    ]
    course = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    box = (
        f'<text x="{left}" y="{top - 8}">{escape(name)} ({escape(unit)})</text>'
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>'
        f'<polyline points="{course}" fill="none" stroke="{colour}" stroke-width="2"/>'
    )
    drawn = [box]
    for (x, y), (size, cost) in zip(at, points, strict=True):
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{figure(cost)}</text>'
            f'<text x="{x:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle" fill="#666">{size:,.0f}</text>'
        )
    return drawn


def opened(width: int, height: int) -> str:
    """The head of a picture, on white: pages may be dark."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>'
    )


def figure(value: float) -> str:
    """As many figures as are worth showing."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
