"""The command behind `scripts/chaos`. Decides options and exit code: 0 without an anomaly, 1 with one."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.crew import PROTOCOLS
from tests.chaos.evidence import Evidence
from tests.chaos.report import Outcome, text_of
from tests.chaos.rolling import measure, write
from tests.chaos.run import RATE, Wanted, run
from tests.chaos.versions import versions


def main() -> int:
    """Run as told."""
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--minutes", type=float, default=1.5, help="how long faults go on (default 1.5)")
    parser.add_argument("--protocol", choices=(*PROTOCOLS, "both"), default="both", help="of the groups")
    parser.add_argument("--seed", type=int, default=None, help="of the schedule (default: drawn and printed)")
    parser.add_argument("--rate", type=float, default=RATE, help="records produced a second, in the mean")
    parser.add_argument(
        "--keep", type=Path, default=None, help="folder for ledgers and logs; kept in any case"
    )
    parser.add_argument(
        "--rolling", type=int, metavar="N", help="measure N rolling restarts of each kind of group"
    )
    parser.add_argument("--write", action="store_true", help="with --rolling: into docs/fewer-rebalances.md")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="judge the ledgers of an earlier run again")
    told = parser.parse_args()
    if told.judge is not None:
        return judge_again(told.judge)
    seed = secrets.randbelow(1_000_000) if told.seed is None else told.seed
    folder = told.keep or Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    if told.rolling is not None:
        section = measure(folder, told.rolling, say)
        say(section)
        if told.write:
            write(section)
        shutil.rmtree(folder)
        return 0
    protocols = PROTOCOLS if told.protocol == "both" else (told.protocol,)
    wanted = Wanted(seed, told.minutes * 60, protocols, folder, told.rate)
    say(f"chaos: {wanted.command()}\n  {versions()}")
    outcome = run(wanted, say)
    say(text_of(outcome))
    if outcome.clean and told.keep is None:
        shutil.rmtree(folder)
    return 0 if outcome.clean else 1


def judge_again(folder: Path) -> int:
    """The verdicts on an earlier run; what was seen only while it ran is not in them."""
    evidence = Evidence.read(folder)
    outcome = Outcome(
        command=f"scripts/chaos --judge {folder}",
        versions=versions(),
        seed=-1,
        duration_s=max(1.0, evidence.acked[-1].at - evidence.acked[0].at),
        verdicts=evidence.verdicts(),
        faults_done=Counter(line.detail for line in evidence.faults if line.kind == "fault over"),
        faults_skipped={},
        troubles=evidence.troubles(),
        handovers=evidence.handovers(),
        produced=len(evidence.acked),
        handled=sum(verdict.runs for verdict in evidence.verdicts()),
        files=str(folder),
    )
    say(text_of(outcome))
    return 0 if outcome.clean else 1


def say(text: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
