"""Every interleaving of a small world: what happens first, and what is quick or slow, in every way, to a stated depth.

Decides which way is played next, and prunes where a world stands as one stood before. Plays by replaying, for a world
cannot be copied. Refuses to judge. Invariant: within a window of choices no way is left out, but for those that lead to
where another one has been with as many choices left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from headrace.subscriptions import SubscriptionSettings
from headrace.testing.simulation.scenario import TOPICS, Deed, Scenario
from headrace.testing.simulation.standing import digest_of
from headrace.testing.simulation.world import World

if TYPE_CHECKING:
    from headrace.testing.invariants import Violation
    from headrace.testing.simulation.model.settings import Protocol
    from headrace.testing.simulation.world import Outcome

_RECORD_EVERY: Final = 4


class _Pruned(BaseException):
    """From here on all has been played before."""


@dataclass(frozen=True, slots=True)
class Explored:
    """What an exploration came to. states: distinct ones. runs: worlds played, of which so many came to their end."""

    states: int
    runs: int
    ended: int
    windows: int
    depth: int
    """Choices that were tried in every order, from the beginning of each window on."""
    complete: bool
    """Whether nothing in its windows was left untried."""
    cpu_s: float
    violations: tuple[tuple[tuple[int, ...], Violation], ...]
    """Each with the choices that lead to it: first the number of choices before its window, then those in it."""


def small_world(protocol: Protocol) -> Scenario:
    """Two members, two partitions, four records of two keys; one member leaves and comes back."""
    settings = SubscriptionSettings(name="explored", topics=TOPICS[:1], run_in="threads", on_exhausted="skip")
    return Scenario(
        seed=0,
        protocol=protocol,
        subscriptions=(settings,),
        partitions=2,
        records=4,
        keys=2,
        members=2,
        deeds=(Deed(5.0, "bounce", 1, 2.0),),
        troubled_s=9.0,
        inbox_stretch=40.0,
        poll_idle_s=1.0,
    )


@final
class Exhaustive:
    """`Choices` that follow a prefix within a window, and take the first option everywhere else."""

    def __init__(self, begins: int, depth: int, prefix: tuple[int, ...], seen: dict[bytes, int]) -> None:
        # How many options there were at each choice that was new.
        self.options: list[int] = []
        self.asked = 0
        self._begins = begins
        self._depth = depth
        self._prefix = prefix
        self._seen = seen
        self._counts: dict[str, int] = {}

    def index(self, label: str, count: int) -> int:
        """See `Choices.index`: what happens next is explored; keys and topics go round."""
        return self._choose(count) if label == "step" else self._next(label) % count

    def chance(self, label: str, probability: float) -> bool:
        """See `Choices.chance`: what may happen and may not is explored."""
        del label
        return probability >= 1 or (probability > 0 and self._choose(2) == 1)

    def between(self, label: str, low: float, high: float) -> float:
        """See `Choices.between`: what takes time is quick or slow; members start at once, records come one by one."""
        match label:
            case "start":
                return low
            case "record":
                return low + (high - low) * (self._next(label) % _RECORD_EVERY) / _RECORD_EVERY
            case "latency" | "takes":
                return (low, high)[self._choose(2)]
            case _:
                return (low + high) / 2

    def look_at(self, world: World) -> None:
        """Before each step of the scheduler: prune if it stands as a world stood that had as many choices left."""
        number = self.asked - self._begins
        if number < 0 or number < len(self._prefix):
            return
        left = max(0, self._depth - number)
        digest = digest_of(world)
        if self._seen.get(digest, -1) >= left:
            raise _Pruned
        self._seen[digest] = left

    def _next(self, label: str) -> int:
        self._counts[label] = self._counts.get(label, -1) + 1
        return self._counts[label]

    def _choose(self, count: int) -> int:
        number, self.asked = self.asked - self._begins, self.asked + 1
        if number < 0 or number >= self._depth:
            return 0
        if number < len(self._prefix):
            return self._prefix[number]
        self.options.append(count)
        return 0


@final
class Explorer:
    """One exploration; one thread."""

    def __init__(self, scenario: Scenario, depth: int, states_max: int) -> None:
        self._scenario = scenario
        self._depth = depth
        self._states_max = states_max
        self._seen: dict[bytes, int] = {}
        self._violations: list[tuple[tuple[int, ...], Violation]] = []
        self._runs = self._ended = 0

    def explore(self, windows: tuple[int, ...]) -> Explored:
        """Explore windows that begin at these choices of the world in which always the first thing happens."""
        began = time.process_time()
        left = [begins for begins in windows if not self._explore(begins)]
        return Explored(
            len(self._seen),
            self._runs,
            self._ended,
            len(windows),
            self._depth,
            not left,
            time.process_time() - began,
            tuple(self._violations),
        )

    def _explore(self, begins: int) -> bool:
        prefixes: list[tuple[int, ...]] = [()]
        while prefixes:
            if len(self._seen) >= self._states_max:
                return False
            prefix = prefixes.pop()
            options = self._play(begins, prefix)
            for number, count in enumerate(options):
                before = (*prefix, *(0,) * number)
                prefixes += [(*before, other) for other in range(1, count)]
        return True

    def _play(self, begins: int, prefix: tuple[int, ...]) -> list[int]:
        """Play one order; the number of options at each choice that was new."""
        choices = Exhaustive(begins, self._depth, prefix, self._seen)
        world = World(self._scenario, choices)
        step = world.kernel.step

        def look_and_step() -> bool:
            choices.look_at(world)
            return step()

        world.kernel.step = look_and_step  # type: ignore[method-assign] # an explorer looks at each step
        self._runs += 1
        try:
            outcome = world.play()
        except _Pruned:
            found = world.judge.violations
        else:
            self._ended += 1
            found = list(outcome.violations)
        self._violations += [((begins, *prefix), each) for each in found]
        return choices.options


def explore(scenario: Scenario, windows: tuple[int, ...], depth: int, states_max: int) -> Explored:
    """Explore a scenario; ends early when it has found so many states."""
    return Explorer(scenario, depth, states_max).explore(windows)


def replay(scenario: Scenario, choices: tuple[int, ...], depth: int) -> Outcome:
    """Play one order of an exploration again, from what `Explored.violations` names."""
    return World(scenario, Exhaustive(choices[0], depth, choices[1:], {})).play()
