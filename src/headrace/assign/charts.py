"""The courses of several strategies as a picture: moves, pauses and imbalance, rebalance by rebalance.

Decides how it looks; reads `Course`s and writes SVG text, without any library. Refuses to know files, and how courses
came about. Invariant: every name is escaped; all strategies are drawn to one scale, and none hides another.
"""

from __future__ import annotations

from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from headrace.assign.drawing import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.assign.simulate import Course

LEFT, RIGHT, TOP = 70, 20, 44
PANEL, BETWEEN = 110, 46
STEP_MIN, WIDTH_MIN = 24, 420
LEGEND = 170
SHIFT = 2.5  # lines of equal height stand side by side
DASHES = ("none", "7 3", "2 3", "9 3 2 3")


def plot(courses: Sequence[Course]) -> str:
    """The text of an SVG file: moves so far, seconds without a reader so far, and imbalance, after each rebalance."""
    steps = max((len(course.steps) for course in courses), default=0)
    inner = max(WIDTH_MIN, STEP_MIN * steps, LEGEND * len(courses) - LEFT)
    width, height = LEFT + inner + RIGHT, TOP + 3 * (PANEL + BETWEEN) + 10
    panels = (
        ("moves so far", [list(accumulate(float(s.moves) for s in course.steps)) for course in courses]),
        (
            "partitions x seconds without a reader, so far",
            [list(accumulate(s.paused_s for s in course.steps)) for course in courses],
        ),
        ("imbalance", [[float(s.imbalance) for s in course.steps] for course in courses]),
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>'
    )
    drawn = [head]
    for number, course in enumerate(courses):
        x = 20 + number * LEGEND
        drawn.append(
            f'<line x1="{x}" y1="16" x2="{x + 34}" y2="16" {_stroke(number)}/>'
            f'<text x="{x + 40}" y="20">{escape(course.strategy)}</text>'
        )
    for number, (title, lines) in enumerate(panels):
        drawn += _panel(title, lines, TOP + number * (PANEL + BETWEEN) + 18, inner, steps)
    drawn.append(f'<text x="{LEFT + inner}" y="{height - 8}" text-anchor="end">rebalances</text>')
    return "\n".join([*drawn, "</svg>", ""])


def _stroke(number: int) -> str:
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    return f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}" fill="none"'


def _panel(title: str, lines: Sequence[Sequence[float]], top: float, inner: float, steps: int) -> list[str]:
    """A box with one line for each strategy. What holds from one rebalance to the next is drawn level."""
    most = max((value for line in lines for value in line), default=0) or 1.0
    bottom = top + PANEL
    box = (
        f'<text x="{LEFT}" y="{top - 6:g}">{title}</text>'
        f'<rect x="{LEFT}" y="{top:g}" width="{inner}" height="{PANEL}" fill="none" stroke="#bbb"/>'
        f'<text x="{LEFT - 6}" y="{top + 10:g}" text-anchor="end">{most:,.10g}</text>'
        f'<text x="{LEFT - 6}" y="{bottom:g}" text-anchor="end">0</text>'
    )
    step = inner / max(steps, 1)
    every = max(1, -(-steps // 20))
    drawn = [box]
    drawn += [
        f'<text x="{LEFT + (at + 0.5) * step:g}" y="{bottom + 14:g}" text-anchor="middle" fill="#666">{at + 1}</text>'
        for at in range(0, steps, every)
    ]
    for number, line in enumerate(lines):
        aside = number * SHIFT
        path: list[str] = []
        for at, value in enumerate(line):
            y = bottom - 1 - value / most * (PANEL - 14) - aside
            end = min(LEFT + (at + 1) * step + aside, LEFT + inner)
            path.append(f"{'V' if path else f'M{LEFT} '}{y:g} H{end:g}")
        if path:
            drawn.append(f'<path d="{" ".join(path)}" {_stroke(number)}/>')
    return drawn
