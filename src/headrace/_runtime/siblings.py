"""How many connections an app has: looks at them, lets `_core.scaling` decide, and has the roster do it, on one thread.

Decides nothing itself. Refuses to touch an engine or a client, and to wait for an answer of the cluster: it reads snapshots,
and asks owners to stop. The first connection is the app's own: it is never closed here, and with its end all end.
Invariant: one change at a time; while a connection closes nothing else is decided.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from headrace._core.connection_notices import ConnectionsChanged, ConnectionsKept
from headrace._core.load import Load
from headrace._core.scaling import Bounds, View, decide
from headrace._runtime.connections_told import ScalingSnapshot
from headrace._runtime.questions import Questions
from headrace._runtime.roster import Roster
from headrace._runtime.sampling import Sampling
from headrace.errors import InternalFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.health import Health
    from headrace._core.scaling import Change, Decision
    from headrace._runtime.inbox import MoveAsked
    from headrace._runtime.link import Link, Shared
    from headrace._runtime.lookout import Lookout
    from headrace._runtime.owner import Owner
    from headrace._runtime.questions import Answers
    from headrace._runtime.roster import Request
    from headrace._runtime.snapshots import Snapshot
    from headrace.errors import ConfigError, FatalError

LOOK_S = 0.1
SAMPLE_S = 5.0
LEAVE_S = 3.0
"""How long the end of the app waits for that of the questions: one that is out is answered, or given up, in two."""


class Siblings:
    """See the module's docstring. Any thread: `request_stop`, `ask`, `seek`, `snapshot`, `health`, `states`."""

    def __init__(
        self,
        lead: Link,
        shared: Shared,
        make_lookout: Callable[[], Lookout] | None,
        give_up: Callable[[FatalError | ConfigError], None],
        asked: Sequence[Request],
    ) -> None:
        """`asked`: requests that came before the start."""
        self._lead = lead
        self._shared = shared
        self._give_up = give_up
        self._clock = shared.surroundings.clock
        settings = shared.settings.connections
        self._bounds = Bounds(
            settings.min, settings.max, settings.cooldown_s, settings.fair, settings.grow_when
        )
        self._start = settings.start or settings.min
        self._roster = Roster(lead, shared, give_up)
        for item in asked:
            self._roster.note(item)
        # This thread writes, whole; anyone reads.
        self._scaling = ScalingSnapshot()
        # This thread's alone. Where the number is fixed nothing is asked: no answer could change it.
        varies = settings.min < settings.max
        self._questions = Questions(
            make_lookout,
            ends=varies and settings.grow_when == "fetching",
            group=varies and settings.fair,
        )
        self._load = Load()
        self._sampling = Sampling(self._clock)
        self._sample_s = min(SAMPLE_S, settings.cooldown_s / 4)
        self._sampled_at = 0.0
        self._changed_at: float | None = None
        self._last: Change = 0
        self._decisions: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="headrace-connections", daemon=True)

    def start(self) -> None:
        """Begin, once the first connection was started."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until all siblings are closed; they close when the first one stops."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # Any thread

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Have all siblings stop now, those to come included, whatever their own thread is busy with. Takes no lock."""
        self._roster.request_stop(hard=hard, timeout_s=timeout_s)

    def states(self) -> list[str]:
        """The state of each connection, the first one first."""
        return [link.owner.state.value for link in self._roster.standing.links]

    def ask(self, item: Request) -> None:
        """Pass a request on to every connection, those to come included."""
        self._roster.ask(item)

    def seek(self, item: MoveAsked) -> None:
        """Pass a seek on to the connection that holds the partition."""
        self._roster.seek(item)

    def snapshot(self) -> Snapshot:
        """All connections together."""
        return self._roster.snapshot(self._scaling)

    def health(self, judged: Callable[[Owner], Health]) -> Health:
        """The verdict on all connections together; `judged`: that on one."""
        return self._roster.health(judged)

    # The siblings' thread

    def _run(self) -> None:
        lead = self._lead.owner
        try:
            while not self._ending and not lead.running.wait(LOOK_S):
                continue
            for _ in range(self._start - 1):
                if not self._ending:
                    self._roster.open()
            while not self._ending:
                self._turn(self._clock())
                lead.stop_asked.wait(LOOK_S)
        except BaseException as error:  # noqa: BLE001 - must end as a typed reason, never in silence
            self._give_up(InternalFailure("the thread of the connections", error))
        finally:
            until = self._clock() + lead.stop_timeout_s
            self._questions.close()
            self._roster.close_all(lead.stop_timeout_s, lead.stop_hard)
            # The lookout's clients should be gone before the app is over; one that hangs must not hold it up.
            self._questions.join(0.0 if lead.stop_hard.is_set() else min(LEAVE_S, until - self._clock()))

    @property
    def _ending(self) -> bool:
        owner = self._lead.owner
        return owner.stop_asked.is_set() or owner.ended.is_set()

    def _turn(self, now: float) -> None:
        self._roster.look_after(now)
        self._sampling.look(self._roster.working())
        if not self._questions.waiting:
            if now - self._sampled_at < self._sample_s or self._roster.closing:
                return
            self._sampled_at = now
            self._questions.ask(self._shared.tracker.latest.partitions(), now)
        answers = self._questions.take(now)
        if answers is not None and not self._ending:
            self._decide(answers)

    def _decide(self, answers: Answers) -> None:
        standing = self._roster.standing
        views, samples = self._sampling.take(standing.links, standing.failing(), answers.ends)
        self._load.observe(samples, self._clock())
        view = View(
            self._bounds,
            views,
            answers.group,
            self._changed_at,
            self._last,
            self._load.pressed_since,
            self._load.spare_since,
            self._load.gain,
        )
        self._follow(decide(view, self._clock()), len(views))

    def _follow(self, decision: Decision, count: int) -> None:
        before, why = self._scaling, decision.why
        self._decisions[why] += 1
        if decision.change:
            self._changed_at, self._last = self._clock(), decision.change
            self._load.changed()
        self._scaling = ScalingSnapshot(
            why,
            decision.meaning,
            self._changed_at,
            before.opened + (decision.change > 0),
            before.closed + (decision.change < 0),
            tuple(sorted(self._decisions.items())),
        )
        if decision.change:
            after = count + decision.change
            self._shared.tell(ConnectionsChanged(count, after, why, decision.meaning))
            if decision.number is not None:
                self._roster.close(decision.number)
            else:
                self._roster.open()
        elif before.why != why:
            self._shared.tell(ConnectionsKept(count, why, decision.meaning))
