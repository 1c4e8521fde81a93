"""How far each micro-batch of a stream goes: Spark's limits, and its wish for an end.

Decides when there is enough and how much of it is taken; refuses to know pyspark and clocks. Invariant: once an end is in
sight every answer comes nearer to it, so that a query to what is there now ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.spark.offsets import limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.spark.options import SourceOptions
    from headrace.spark.planning import Offsets, Planner


@final
class Triggers:
    """One query's. Lives as long as the query; used by one thread."""

    def __init__(self, options: SourceOptions, planner: Planner, clock: Callable[[], float]) -> None:
        self._options = options
        self._planner = planner
        self._clock = clock
        self._target: Offsets | None = None
        self._taken_at: float | None = None
        self.known: Offsets | None = None
        """The ends as they were last seen."""

    def stop_at_what_is_there(self) -> None:
        """From now on nothing newer is seen."""
        self._target = self._planner.latest()

    def next_end(self, start: Offsets, *, all_of_it: bool) -> Offsets:
        """Where the next micro-batch ends; `start` if there is none. all_of_it: whatever the options' limits are."""
        end = self.known = self._planner.latest()
        if self._target is not None:
            end = {place: min(end[place], to) for place, to in self._target.items() if place in end}
        if all_of_it:
            return end
        starts = self._planner.starts_of_new(start, end)
        if self._waits(sum(max(0, end[place] - starts[place]) for place in end)):
            return start
        most = self._options.trigger_max
        return end if most is None else limited(starts, end, most)

    def _waits(self, new: int) -> bool:
        """Whether there is too little, and not for too long. With an end in sight nothing is waited for."""
        least, now = self._options.trigger_min, self._clock()
        if least is None or self._target is not None:
            return False
        since = self._taken_at
        if since is not None and now - since <= self._options.trigger_delay_s and new < least:
            return True
        self._taken_at = now
        return False
