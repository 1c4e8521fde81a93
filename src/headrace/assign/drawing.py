"""A forecast as a picture: members as columns, partitions coloured by topic, moves as arrows from the old owner.

Decides how it looks; reads a `Forecast` and writes SVG text, without any library. Refuses to know files and terminals.
Invariant: every name is escaped; the same forecast gives the same text; where single arrows would be a thicket, one
stands for all that go from one member to another, and says how many.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.assign.forecast import Forecast

CELL, GAP, COLUMN, LEFT = 20, 3, 160, 20
PER_ROW = 6
BETWEEN = 90  # the height in which arrows bend
LETTER = 6.6  # the width of one in the font used, about
LEGEND_ROW = 22
ARROWS_MAX = 24
NAME_MAX, TOPIC_MAX = 14, 30
# Told apart also by those who see few colours (Okabe and Ito). From the ninth topic on they come again, outlined.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
INKS = MappingProxyType(
    {colour: "white" if colour in {"#0072b2", "#d55e00"} else "black" for colour in COLOURS}
)
OUTLINES = ("none", "#222222", "#ffffff")

Place = tuple[float, float]


class _Half(NamedTuple):
    """One of both states: where each partition stands, what is drawn, and how high that is."""

    places: dict[tuple[str, int], Place]
    drawn: list[str]
    height: float


def svg(forecast: Forecast) -> str:
    """The picture as the text of an SVG file: now above, then below."""
    names = [*sorted(forecast.before), *sorted(forecast.after.keys() - forecast.before.keys())]
    topics = sorted(
        {topic for owned in (*forecast.before.values(), *forecast.after.values()) for topic in owned}
    )
    colours = {topic: _colour(number) for number, topic in enumerate(topics)}
    width = LEFT * 2 + COLUMN * max(len(names), 3) - (COLUMN - PER_ROW * (CELL + GAP))
    legend, top = _legend(topics, colours, width)
    moving = {(one.topic, one.partition) for one in forecast.handovers}
    above = _half(forecast.before, names, colours, top + 22, moving)
    middle = top + 22 + above.height + BETWEEN
    below = _half(forecast.after, names, colours, middle, moving)
    titles = [
        *_titles(names, forecast.before, top + 14, "now"),
        *_titles(names, forecast.after, middle + below.height + 14, "then"),
    ]
    height = middle + below.height + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="sans-serif" font-size="12">'
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" '
        'markerHeight="9" orient="auto"><path d="M0 0 8 4 0 8z" fill="#444"/></marker></defs>'
    )
    white = '<rect width="100%" height="100%" fill="white"/>'
    squares = [*above.drawn, *below.drawn]
    arrows = _arrows(forecast, above, below, names, middle)
    return "\n".join([head, white, tip, *legend, *titles, *squares, *arrows, "</svg>", ""])


def _colour(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], OUTLINES[number // len(COLOURS) % len(OUTLINES)]


def _legend(
    topics: Sequence[str], colours: Mapping[str, tuple[str, str]], width: float
) -> tuple[list[str], float]:
    """A square and a name for each topic, in as many rows as it takes; and where the last row ends."""
    drawn: list[str] = []
    x, y = float(LEFT), 12.0
    for topic in topics:
        text = _short(topic, TOPIC_MAX)
        room = CELL + 6 + LETTER * len(text) + 18
        if x + room > width and x > LEFT:
            x, y = float(LEFT), y + LEGEND_ROW
        drawn.append(
            f'{_square((x, y), colours[topic])}<text x="{x + CELL + 6:g}" y="{y + 14:g}">{escape(text)}</text>'
        )
        x += room
    return drawn, y + LEGEND_ROW + 14


def _square(place: Place, colour: tuple[str, str], title: str = "") -> str:
    fill, outline = colour
    dashes = ' stroke-dasharray="3 2"' if outline == OUTLINES[-1] else ""
    return (
        f'<rect x="{place[0]:g}" y="{place[1]:g}" width="{CELL}" height="{CELL}" fill="{fill}" stroke="{outline}" '
        f'stroke-width="2"{dashes}>{title}</rect>'
    )


def _half(
    shares: Mapping[str, Mapping[str, Sequence[int]]],
    names: Sequence[str],
    colours: Mapping[str, tuple[str, str]],
    top: float,
    moving: set[tuple[str, int]],
) -> _Half:
    places: dict[tuple[str, int], Place] = {}
    drawn: list[str] = []
    rows = 1
    for column, name in enumerate(names):
        cells = [(topic, p) for topic, owned in sorted(shares.get(name, {}).items()) for p in owned]
        rows = max(rows, -(-len(cells) // PER_ROW))
        for at, (topic, partition) in enumerate(cells):
            x = LEFT + column * COLUMN + at % PER_ROW * (CELL + GAP)
            y = top + at // PER_ROW * (CELL + GAP)
            places[topic, partition] = (x + CELL / 2, y)
            title = f"<title>{escape(topic)}-{partition}</title>"
            weight = ' font-weight="bold" text-decoration="underline"' if (topic, partition) in moving else ""
            drawn.append(
                _square((x, y), colours[topic], title)
                + f'<text x="{x + CELL / 2:g}" y="{y + 14:g}" font-size="9" text-anchor="middle"{weight} '
                f'fill="{INKS[colours[topic][0]]}" pointer-events="none">{partition}</text>'
            )
    return _Half(places, drawn, rows * (CELL + GAP))


def _titles(
    names: Sequence[str], shares: Mapping[str, Mapping[str, Sequence[int]]], y: float, when: str
) -> Iterable[str]:
    shorts = _told_apart(names)
    for column, name in enumerate(names):
        count = sum(map(len, shares[name].values())) if name in shares else "absent"
        yield (
            f'<text x="{LEFT + column * COLUMN}" y="{y:g}">{escape(shorts[name])} {when}: {count}'
            f"<title>{escape(name)}</title></text>"
        )


def _told_apart(names: Sequence[str]) -> dict[str, str]:
    """Names short enough for a column. What all long ones begin and end with goes first: ids differ in between."""
    long = [name for name in names if len(name) > NAME_MAX]
    start = _alike(long)
    end = _alike([name[start:][::-1] for name in long])
    found = {name: name for name in names}
    for name in long:
        inner = name[max(start - 3, 0) : len(name) - max(end - 3, 0)]
        left, right = "…" if start > 3 else "", "…" if end > 3 else ""
        found[name] = _short(f"{left}{inner}{right}", NAME_MAX)
    return found


def _alike(names: Sequence[str]) -> int:
    """How many letters all begin with; none if there is but one name."""
    if len(names) < 2:
        return 0
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))


def _short(name: str, letters_max: int) -> str:
    if len(name) <= letters_max:
        return name
    kept = letters_max - 1
    return name[: kept - kept // 2] + "…" + name[-(kept // 2) :]


def _arrows(
    forecast: Forecast, above: _Half, below: _Half, names: Sequence[str], middle: float
) -> Iterable[str]:
    """Of what goes from one member to another."""
    bottom = middle - BETWEEN
    moved = [one for one in forecast.handovers if one.source is not None and one.target is not None]
    if len(moved) <= ARROWS_MAX:
        for one in moved:
            x, y = above.places[one.topic, one.partition]
            yield _arrow((x, y + CELL), below.places[one.topic, one.partition], bottom, middle, 1.2)
        return
    counts = Counter((str(one.source), str(one.target)) for one in moved)
    sources = sorted({source for source, _ in counts}, key=names.index)
    targets = sorted({target for _, target in counts}, key=names.index)
    for (source, target), count in sorted(counts.items()):
        given = [one for one in targets if (source, one) in counts]
        taken = [one for one in sources if (one, target) in counts]
        x = _beside(names.index(source), given.index(target), len(given))
        end = _beside(names.index(target), taken.index(source), len(taken))
        yield _arrow((x, bottom + 4), (end, middle - 4), bottom, middle, min(1.0 + count / 4, 5.0))
        yield (
            f'<text x="{x:g}" y="{bottom + 20:g}" text-anchor="middle" stroke="white" stroke-width="3" '
            f'paint-order="stroke">{count}</text>'
        )


def _beside(column: int, number: int, of: int) -> float:
    """Where the arrow of that number begins or ends, of so many side by side under or over a column."""
    return LEFT + column * COLUMN + (number + 0.5) / of * PER_ROW * (CELL + GAP)


def _arrow(start: Place, end: Place, bottom: float, middle: float, width: float) -> str:
    """Straight down to the space between both halves, across it in a bend, and straight down again."""
    down, up = max(start[1], bottom), min(end[1], middle)
    bend = (up - down) / 2
    return (
        f'<path d="M{start[0]:g} {start[1]:g} V{down:g} C{start[0]:g} {down + bend:g} {end[0]:g} {up - bend:g} '
        f'{end[0]:g} {up - 4:g} V{end[1]:g}" fill="none" stroke="#444" stroke-opacity="0.6" '
        f'stroke-width="{width:g}" marker-end="url(#tip)"/>'
    )
