"""A forecast as a picture: members as columns, partitions coloured by topic, moves as arrows from the old owner.

Decides how it looks; reads a `Forecast` and writes SVG text, without any library. Refuses to know files and terminals.
Invariant: every name is escaped; the same forecast gives the same text.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.assign.forecast import Forecast

CELL, GAP, COLUMN, TOP, LEFT = 16, 3, 130, 70, 20
PER_ROW = 6
# Told apart also by those who see few colours (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")

Place = tuple[float, float]


def svg(forecast: Forecast) -> str:
    """The picture as the text of an SVG file: now above, then below."""
    names = sorted(forecast.before.keys() | forecast.after.keys())
    topics = sorted(
        {topic for owned in (*forecast.before.values(), *forecast.after.values()) for topic in owned}
    )
    colour = {topic: COLOURS[number % len(COLOURS)] for number, topic in enumerate(topics)}
    above, height = _half(forecast.before, names, colour, TOP)
    middle = TOP + height + 70
    below, height_below = _half(forecast.after, names, colour, middle)
    width = LEFT * 2 + COLUMN * max(len(names), 2)
    moved = [one for one in forecast.handovers if one.source is not None and one.target is not None]
    arrows = [_arrow(above[one.topic, one.partition][0], below[one.topic, one.partition][0]) for one in moved]
    key = "".join(
        f'<rect x="{LEFT + n * COLUMN}" y="12" width="{CELL}" height="{CELL}" fill="{colour[topic]}"/>'
        f'<text x="{LEFT + n * COLUMN + CELL + 4}" y="25">{escape(topic)}</text>'
        for n, topic in enumerate(topics)
    )
    width = max(width, LEFT * 2 + COLUMN * len(topics))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{middle + height_below + 20}" '
        'font-family="sans-serif" font-size="12">'
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#444"/></marker></defs>'
    )
    squares = [drawn for half in (above, below) for _, drawn in half.values()]
    titles = _titles(names, forecast.before, TOP, "now") + _titles(names, forecast.after, middle, "then")
    parts = [
        head,
        '<rect width="100%" height="100%" fill="white"/>',
        tip,
        key,
        *titles,
        *squares,
        *arrows,
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _half(
    shares: Mapping[str, Mapping[str, Sequence[int]]],
    names: Sequence[str],
    colour: Mapping[str, str],
    top: float,
) -> tuple[dict[tuple[str, int], tuple[Place, str]], float]:
    """Every partition's place and square, and the height of the tallest column."""
    found: dict[tuple[str, int], tuple[Place, str]] = {}
    rows = 1
    for column, name in enumerate(names):
        cells = [(topic, p) for topic, owned in sorted(shares.get(name, {}).items()) for p in owned]
        rows = max(rows, -(-len(cells) // PER_ROW))
        for at, (topic, partition) in enumerate(cells):
            x = LEFT + column * COLUMN + at % PER_ROW * (CELL + GAP)
            y = top + at // PER_ROW * (CELL + GAP)
            square = (
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour[topic]}">'
                f"<title>{escape(topic)}-{partition}</title></rect>"
            )
            found[topic, partition] = ((x + CELL / 2, y + CELL / 2), square)
    return found, rows * (CELL + GAP)


def _titles(
    names: Sequence[str], shares: Mapping[str, Mapping[str, Sequence[int]]], top: float, when: str
) -> list[str]:
    return [
        f'<text x="{LEFT + column * COLUMN}" y="{top - 8}">{escape(_short(name))} {when}: '
        f"{sum(map(len, shares[name].values())) if name in shares else 'absent'}</text>"
        for column, name in enumerate(names)
    ]


def _short(name: str) -> str:
    return name if len(name) <= 10 else name[:4] + "…" + name[-5:]


def _arrow(start: Place, end: Place) -> str:
    return (
        f'<line x1="{start[0]:g}" y1="{start[1]:g}" x2="{end[0]:g}" y2="{end[1]:g}" '
        'stroke="#444" stroke-opacity="0.6" marker-end="url(#tip)"/>'
    )
