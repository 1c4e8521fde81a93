"""Prints what a run of the full tier found: each test with its verdict, time and measurements.

Reads the JUnit file that pytest wrote for this run and nothing else, so it can only repeat what was observed.
Usage: python full_summary.py FILE
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path


def main(report: Path) -> None:
    """Print one line for each test, and the totals."""
    if not report.stat().st_size:
        print("full tier: the run ended before it wrote its report")
        return
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - pytest has just written it
    print(
        f"\n==== full tier: headrace {version('headrace')}, confluent-kafka {version('confluent-kafka')} ===="
    )
    for case in cases:
        print(
            f"{verdict(case):>8} {float(case.get('time', 0)):8.1f} s  {case.get('classname')}::{case.get('name')}"
        )
        for fact in case.iter("property"):
            print(f"{'':>20}{fact.get('name')} = {fact.get('value')}")
    counts = ", ".join(
        f"{sum(verdict(case) == word for case in cases)} {word}" for word in ("passed", "failed", "skipped")
    )
    print(f"==== {counts} ====")


def verdict(case: ET.Element) -> str:
    """Passed, failed or skipped; an error in a fixture is a failure."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
