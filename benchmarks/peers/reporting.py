"""Results as JSON, as tables in docs/benchmarks.md between its markers, and as pictures.

Decides how results are shown, losing cells included; refuses to measure. Invariant: what stands between two markers is
made from the file of results alone, so the page can be made again without measuring.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.peers import charts
from benchmarks.peers.cells import CELLS
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.environments import ROOT
from benchmarks.peers.judging import LOOPS, Results, bars, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "pictures"
DRAWN = ("def-0", "await-10", "block-10")
NOT_YET = {"trouble": "not measured yet"}
IDENTITY = {
    "cells": ("cell", "contender"),
    "growth": ("name",),
    "handover": ("contender", "event"),
    "profile": ("cell",),
}
"""By what an entry of a part is known: a later one with the same takes its place."""
TITLES = {contender.name: contender.title for contender in CONTENDERS}


def load() -> dict[str, Any]:
    """What was measured last; empty if nothing was."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def store(part: str, machine: dict[str, str], entries: Sequence[dict[str, Any]]) -> None:
    """Put a part ("cells", "growth", "handover", "profile") into the file; only what was measured is replaced."""
    known = load()
    by_name = {
        tuple(entry[name] for name in IDENTITY[part]): entry for entry in (*known.get(part, []), *entries)
    }
    known[part] = list(by_name.values())
    known.setdefault("machine", {})[part] = machine
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def publish() -> None:
    """Write every part of the page and every picture."""
    known = load()
    page = PAGE.read_text()
    PAGE.write_text(shown_on(page, known))
    draw(known)


def shown_on(page: str, known: dict[str, Any]) -> str:
    """The page with every part made from these results."""
    for part, make in (
        ("machine", machine_table),
        ("bars", bar_table),
        ("cells", cell_tables),
        ("missing", missing_table),
        ("growth", growth_table),
        ("handover", handover_table),
        ("profile", profile_tables),
    ):
        page = between(page, part, make(known))
    return page


def between(page: str, part: str, text: str) -> str:
    """The page with that part replaced. Raises `ValueError` if its markers are not there."""
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{PAGE.name} has no markers {begin} and {end}")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, or a sentence where there is nothing."""
    if not rows:
        return "Not measured yet."
    made = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in made)


def results_of(known: dict[str, Any]) -> Results:
    """The runs by cell and contender."""
    return Results({(entry["cell"], entry["contender"]): entry["runs"] for entry in known.get("cells", [])})


def machine_table(known: dict[str, Any]) -> str:
    """The machine of the cells; the other parts' only where they differ."""
    machine = known.get("machine", {})
    rows = [[fact, told] for fact, told in machine.get("cells", {}).items()]
    rows += [
        [f"{part}: {fact}", told]
        for part, facts in machine.items()
        for fact, told in facts.items()
        if part != "cells" and fact in ("when", "load", "headrace")
    ]
    return table(["fact", ""], rows)


def bar_table(known: dict[str, Any]) -> str:
    """Each bar with its number."""
    words = {True: "met", False: "**not met**", None: "not measured"}
    return table(
        ["bar", "found", ""],
        [[bar.asks, bar.found, words[bar.met]] for bar in bars(results_of(known), known.get("growth", []))],
    )


def cell_tables(known: dict[str, Any]) -> str:
    """One table a cell, fastest first; who beats Headrace there stands above it."""
    results = results_of(known)
    made: list[str] = []
    for cell in CELLS:
        entries = [entry for entry in known.get("cells", []) if entry["cell"] == cell.name and entry["runs"]]
        if not entries:
            continue
        made.append(f"### {cell.name}: {cell.title}\n")
        if cell.mode == "rate":
            entries.sort(key=lambda entry: -entry["median"]["per_s"])
            rows = [rate_row(entry, results, cell.name) for entry in entries]
            head = ["", "records/s", "spread", "CPU us per record", "CPU, of raw's", "peak MB", "runs"]
        elif cell.mode == "latency":
            entries.sort(key=lambda entry: entry["median"]["p99_ms"])
            head = ["", "p50 ms", "p99 ms", "peak MB", "runs"]
            rows = [numbers_row(entry, ("p50_ms", "p99_ms", "peak_mb")) for entry in entries]
        else:
            entries.sort(key=lambda entry: entry["median"]["idle_share"])
            head = ["", "share of one core", "peak MB", "runs"]
            rows = [numbers_row(entry, ("idle_share", "peak_mb")) for entry in entries]
        made.append(load_line(entries))
        if cell.name in DRAWN:
            made.append(f"![The same as a picture](pictures/bench-{cell.name}.svg)\n")
        made.append(table(head, rows) + "\n")
    return "\n".join(made) or "Not measured yet."


def load_line(entries: Sequence[dict[str, Any]]) -> str:
    """How busy the machine was with this and all else."""
    loads = [run["load"] for entry in entries for run in entry["runs"] if "load" in run]
    return f"Load of the machine meanwhile: {min(loads):.0f} to {max(loads):.0f}.\n" if loads else ""


def rate_row(entry: dict[str, Any], results: Results, cell: str) -> list[str]:
    """Medians, and how far the runs lay apart."""
    rates = [run["per_s"] for run in entry["runs"]]
    apart = (max(rates) - min(rates)) / entry["median"]["per_s"]
    cpu = results.ratio(cell, entry["contender"], "raw", "cpu_us")
    return [
        named(entry["contender"]),
        f"{entry['median']['per_s']:,.0f}",
        f"{apart:.0%}",
        f"{entry['median']['cpu_us']:.2f}",
        f"{cpu:.1f}" if cpu else "",
        f"{entry['median']['peak_mb']:.0f}",
        str(len(rates)),
    ]


def numbers_row(entry: dict[str, Any], numbers: Sequence[str]) -> list[str]:
    """Medians alone."""
    values = [f"{entry['median'][number]:.3g}" for number in numbers]
    return [named(entry["contender"]), *values, str(len(entry["runs"]))]


def named(contender: str) -> str:
    """Headrace stands out; it is what one looks for."""
    title = TITLES[contender]
    return f"**{title}**" if contender == "headrace" else title


def missing_table(known: dict[str, Any]) -> str:
    """Who could not run, or has not run yet, where, and why."""
    entries = {(entry["cell"], entry["contender"]): entry for entry in known.get("cells", [])}
    rows = [
        [TITLES[contender], cell.name, entries.get((cell.name, contender), NOT_YET)["trouble"]]
        for cell in CELLS
        for contender in cell.contenders
        if entries.get((cell.name, contender), NOT_YET).get("trouble")
    ]
    return table(["contender", "cell", "reason"], rows) if rows else "All ran."


def growth_table(known: dict[str, Any]) -> str:
    """Cost per record by size, and the exponent."""
    rows = [
        [
            entry["title"],
            ", ".join(f"{size:,}: {cost:.2f}" for size, cost in entry["points"]),
            f"{entry['exponent']:+.2f}" if entry["exponent"] is not None else "not measured",
            f"{entry['bytes_per_record']:,.0f}" if entry.get("bytes_per_record") else "",
            ", ".join(f"{size:,}" for size in entry.get("not_reached", [])),
        ]
        for entry in known.get("growth", [])
    ]
    head = [
        "what grows",
        "CPU us per record",
        "exponent",
        "bytes for each more in flight",
        "too much for the machine",
    ]
    made = table(head, rows)
    drawn = "![The same as a picture](pictures/bench-growth.svg)\n\n"
    return drawn + made if drawable(known) else made


def drawable(known: dict[str, Any]) -> list[tuple[str, Any]]:
    """Sweeps of which there is more than a point."""
    return [
        (each["title"].replace("`", ""), each["points"])
        for each in known.get("growth", [])
        if len(each["points"]) > 1
    ]


def handover_table(known: dict[str, Any]) -> str:
    """Seconds until records were worked on elsewhere, and how many were worked on twice."""
    numbers = ("first_s", "all_s", "pause_s", "repeated")
    rows = [
        [
            TITLES[entry["contender"]],
            entry["event"],
            *(shown(entry[number]) if number in entry else "" for number in numbers),
            str(entry["runs"]),
            entry.get("trouble", ""),
        ]
        for entry in known.get("handover", [])
    ]
    head = [
        "",
        "event",
        "first partition s",
        "all partitions s",
        "longest pause s",
        "records twice",
        "runs",
        "",
    ]
    return table(head, rows)


def profile_tables(known: dict[str, Any]) -> str:
    """Where the time of a record goes, by function and by thread."""
    made: list[str] = []
    for entry in known.get("profile", []):
        rows = [[f"`{place}`", f"{cost:.3f}"] for place, cost in entry["functions"]]
        threads = ", ".join(f"{name} {cost:.2f}" for name, cost in entry["threads"])
        made.append(
            f"### {entry['cell']}\n\n{entry['records']:,} records, {entry['total_us']:.2f} us of Headrace's threads per record. "
            f"CPU by thread, us per record: {threads}.\n\n"
            + table(["function", "us per record"], rows)
            + "\n"
        )
    return "\n".join(made) or "Not measured yet."


def draw(known: dict[str, Any]) -> None:
    """The pictures of chosen cells, and of growth."""
    titles = {cell.name: cell.title.replace("`", "") for cell in CELLS}
    for name in DRAWN:
        entries = [entry for entry in known.get("cells", []) if entry["cell"] == name and entry["runs"]]
        if entries:
            entries.sort(key=lambda entry: -entry["median"]["per_s"])
            rows = [
                (
                    TITLES[entry["contender"]],
                    entry["median"]["per_s"],
                    "ours"
                    if entry["contender"] == "headrace"
                    else "loop"
                    if entry["contender"] in LOOPS
                    else "peer",
                )
                for entry in entries
            ]
            (PICTURES / f"bench-{name}.svg").write_text(charts.bars(titles[name], rows, "records per second"))
    if growth := drawable(known):
        (PICTURES / "bench-growth.svg").write_text(
            charts.lines("Cost as work grows", growth, "CPU us per record")
        )
