"""A commit refused at any phase of a member's life, with any code, acknowledged by hand or not: consumption goes on.

This is what ended FastStream 0.5's one consuming task for ever. The judge holds each world to every promise: nothing is lost,
nothing is stuck, and what was refused is committed later.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from headrace.subscriptions import SubscriptionSettings
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.history import CommitApplied, FaultBegan, HandlerStarted
from headrace.testing.simulation.notation import written
from headrace.testing.simulation.scenario import PHASES, Deed, Refusal, Scenario, codes_of
from headrace.testing.simulation.world import play

if TYPE_CHECKING:
    from headrace.subscriptions import Ack, RunIn
    from headrace.testing.simulation.model.settings import Protocol
    from headrace.testing.simulation.scenario import Phase
    from headrace.testing.simulation.world import Outcome

PROTOCOLS: tuple[Protocol, ...] = ("eager", "cooperative", "kip848")
WAYS: tuple[RunIn, ...] = ("threads", "asyncio")
SEEDS_EACH = 4


def refused(seed: int, protocol: Protocol, phase: Phase, code: str, ack: Ack, run_in: RunIn) -> Scenario:
    """Two members, one of which comes and goes while handlers run; commits are refused when a phase is reached."""
    settings = SubscriptionSettings(
        "refused", ("orders",), run_in=run_in, ack=ack, on_exhausted="skip", on_out_of_range="earliest"
    )
    return Scenario(
        seed,
        protocol,
        (settings,),
        partitions=3,
        records=30,
        keys=5,
        troubled_s=14.0,
        members=2,
        deeds=(Deed(5.0, "bounce", 1, 2.0), Deed(9.0, "stop", 0), Deed(10.0, "start", 0)),
        refusals=(Refusal(phase, code, commits=2, rounds=3),),
        handlers=Handlers(quick_s=0.4, slow=0.2, slow_s=2.0, raises=0.1, acks_late_s=1.0),
        workers=3,
        preemption=0.1,
        inbox_stretch=20.0,
    )


def refusals_in(outcome: Outcome) -> list[float]:
    """When commits were refused as the scenario asked."""
    entries = outcome.history.entries
    return [now for now, entry in entries if isinstance(entry, FaultBegan) and entry.kind == "refusals"]


@pytest.mark.slow
@pytest.mark.parametrize("ack", ["on_return", "manual"])
@pytest.mark.parametrize("phase", PHASES)
def test_consumption_goes_on_after_refused_commits(phase: Phase, ack: Ack) -> None:
    seeds = count(1)
    struck: Counter[tuple[str, str]] = Counter()
    worlds = went_on = 0
    for protocol in PROTOCOLS:
        for code in codes_of(protocol):
            for number in range(SEEDS_EACH):
                scenario = refused(next(seeds), protocol, phase, code, ack, WAYS[number % 2])
                outcome = play(scenario)
                assert not outcome.violations, (
                    f"{outcome.violations[0]}; headrace simulate --log --scenario '{written(scenario)}'"
                )
                moments = refusals_in(outcome)
                if moments:
                    struck[protocol, code] += len(moments)
                    later = [entry for now, entry in outcome.history.entries if now > moments[-1]]
                    assert any(isinstance(entry, CommitApplied) for entry in later)
                    went_on += any(isinstance(entry, HandlerStarted) for entry in later)
                    worlds += 1
    # The last refusal may come when everything is handled.
    assert went_on > worlds / 2
    expected = {(protocol, code) for protocol in PROTOCOLS for code in codes_of(protocol)}
    assert set(struck) == expected, f"never refused: {sorted(expected - set(struck))}"
