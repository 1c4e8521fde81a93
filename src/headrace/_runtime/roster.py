"""The connections of an app beside its first: opened, closed, opened anew after a failure, and seen together.

Decides when one that failed is tried again, and what its end means for the app. Refuses to know how many there should be.
Invariants: a connection that is closed drains, commits and leaves before its number is used again; the number of one that
was abandoned is never used again; readers see links, failures and the past of one moment; after `request_stop` none begins.

One thread, the siblings', calls what has no note.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from operator import is_
from types import MappingProxyType
from typing import TYPE_CHECKING

from headrace._core.connection_notices import ConnectionFailed
from headrace._core.events import PauseAsked, QuietAsked, QuietEnded, ResumeAsked
from headrace._core.health import ConnectionFailing
from headrace._runtime.connection import rebuild_pause_s
from headrace._runtime.connections_told import ConnectionSnapshot, ScalingSnapshot
from headrace._runtime.link import Link
from headrace._runtime.merging import ended, merged, verdict_of
from headrace._runtime.watchdog import Watchdog
from headrace.errors import BrokerUnreachable, ClientFailed, ForcedStop, NotAuthorized, Stalled, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._core.health import Health
    from headrace._runtime.inbox import MoveAsked
    from headrace._runtime.link import Shared
    from headrace._runtime.owner import Owner
    from headrace._runtime.snapshots import Snapshot
    from headrace.errors import ConfigError, FatalError
    from headrace.ports import TopicPartition

Request = PauseAsked | ResumeAsked | QuietAsked | QuietEnded

CURABLE = (BrokerUnreachable, ClientFailed, NotAuthorized, TopicMissing)
"""What ends one connection and not the app: the others may go on, and a new one may do. `Fenced` is not among them: whoever
has one of our instance ids has them all, and a new connection would only fence it in turn."""
JOIN_S = 0.1
WORKERS_END_S = 0.5
"""What the workers of a connection get to end: they are idle, or were waited for already."""
WELL_AFTER_S = 10.0
"""How long one that had failed must run until its failures are forgotten: else one that joins and fails would never back off."""
READS_MAX = 8
"""How often a reader looks again because owners published meanwhile."""


@dataclass(slots=True)
class Sibling:
    """One connection beside the first, and its thread. `closing`: it was asked to end."""

    link: Link
    thread: threading.Thread
    closing: bool = False
    abandoned: bool = False  # The watchdog writes it.
    running_since: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more, or nobody waits for it."""
        return self.abandoned or not self.thread.is_alive()


@dataclass(frozen=True, slots=True)
class Failure:
    """A connection that ended by an error: how often in a row, since when, and when it is opened anew."""

    count: int
    since: float
    again_at: float
    error: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The connections at one moment, the first one first. past, rebuilds: what those that are over have left, added up."""

    links: tuple[Link, ...]
    failures: Mapping[int, Failure]
    past: Snapshot | None = None
    rebuilds: int = 0

    def failing(self) -> set[int]:
        """Numbers of those that failed and do not run (again)."""
        run = {
            link.number
            for link in self.links
            if link.owner.running.is_set() and not link.owner.ended.is_set()
        }
        return self.failures.keys() - run


class Roster:
    """See the module's docstring. Any thread: `standing`, `request_stop`, `ask`, `seek`, `snapshot`, `health`."""

    def __init__(
        self, lead: Link, shared: Shared, give_up: Callable[[FatalError | ConfigError], None]
    ) -> None:
        self._shared = shared
        self._give_up = give_up
        self._clock = shared.surroundings.clock
        # Guards what new connections must be told against being told while they are made.
        self._lock = threading.Lock()
        self._paused: set[TopicPartition] = set()
        self._quiet = False
        # Written whole, under the lock; anyone reads.
        self.standing = Standing((lead,), MappingProxyType({}))
        # Any reader writes it, whole: what it was made of, and the snapshot.
        self._made: tuple[tuple[object, ...], Snapshot] | None = None
        # Any thread writes it, whole: how to stop. Without a lock: a signal handler may be what stops the app.
        self._stop: tuple[bool, float | None] | None = None
        self._siblings: list[Sibling] = []
        self._abandoned: set[int] = set()

    @property
    def closing(self) -> bool:
        """Whether one is being closed now."""
        return any(sibling.closing for sibling in self._siblings)

    def working(self) -> list[Link]:
        """The first, and those that nobody asked to end."""
        return [self.standing.links[0], *(each.link for each in self._siblings if not each.closing)]

    # Any thread

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Have all but the first begin to stop; those that are being opened too."""
        # Written before the links are read; `open` adds its link before it reads this. So one of both sees the other.
        self._stop = (hard, timeout_s)
        self._pass_stop_on(self.standing.links[1:])

    def _pass_stop_on(self, links: Sequence[Link]) -> None:
        if (stop := self._stop) is not None:
            for link in links:
                link.owner.request_stop(hard=stop[0], timeout_s=stop[1])

    def ask(self, item: Request) -> None:
        """Pass a request on to every connection, those to come included."""
        with self._lock:
            self.note(item)
            for link in self.standing.links:
                link.inbox.put(item)

    def note(self, item: Request) -> None:
        """Remember it for connections to come; under the lock, or before the start."""
        match item:
            case PauseAsked(partitions):
                self._paused |= set(partitions)
            case ResumeAsked(partitions):
                self._paused -= set(partitions)
            case QuietAsked():
                self._quiet = True
            case QuietEnded():
                self._quiet = False

    def seek(self, item: MoveAsked) -> None:
        """Pass a seek on to the connection that holds the partition."""
        held = self._shared.tracker.latest.holding(*item.partition)
        links = self.standing.links
        holders = [link for link in links if held is not None and link.number == held.connection]
        (holders or links)[0].inbox.put(item)

    def health(self, judged: Callable[[Owner], Health]) -> Health:
        """The verdict on all connections together, as they are at one moment; `judged`: that on one."""
        now, standing = self._clock(), self.standing
        found = ((number, standing.failures[number]) for number in sorted(standing.failing()))
        failing = [
            ConnectionFailing(number, each.error, each.count, now - each.since) for number, each in found
        ]
        healths = [(link.number, judged(link.owner)) for link in standing.links]
        return verdict_of(healths, failing, standing.rebuilds)

    def snapshot(self, scaling: ScalingSnapshot) -> Snapshot:
        """All connections together, each as it was at one moment that they share, or nearly so."""
        standing, latest = self._read()
        for _ in range(READS_MAX):
            before = (standing, *latest)
            standing, latest = self._read()
            if len(before) == 1 + len(latest) and all(map(is_, before, (standing, *latest))):
                break
        key = (standing, scaling, *latest)
        made = self._made
        if made is not None and len(made[0]) == len(key) and all(map(is_, made[0], key)):
            return made[1]
        whole = replace(merged(latest, standing.past), connections=_told(standing, latest), scaling=scaling)
        self._made = (key, whole)
        return whole

    def _read(self) -> tuple[Standing, list[Snapshot]]:
        standing = self.standing
        return standing, [link.owner.snapshots.latest for link in standing.links]

    # The siblings' thread

    def open(self, number: int | None = None) -> None:
        """Open one: the lowest number that is free, or one that failed. What goes wrong is a failure of that connection."""
        if self._stop is not None:
            return
        number = self._free_number() if number is None else number
        try:
            link = Link(number, self._shared, self._shared.surroundings.make_inbox())
        except Exception as error:  # noqa: BLE001 - such as no more threads: tried again, told, and no reason to end
            self._note_failure(number, error)
            return
        thread = threading.Thread(
            target=self._live, args=(link,), name=f"headrace-owner-{number}", daemon=True
        )
        sibling = Sibling(link, thread)
        with self._lock:
            link.inbox.put(PauseAsked(tuple(self._paused)))
            if self._quiet:
                link.inbox.put(QuietAsked())
            self.standing = replace(self.standing, links=(*self.standing.links, link))
        self._pass_stop_on((link,))
        self._share()
        self._begin(sibling)

    def _begin(self, sibling: Sibling) -> None:
        """Start its thread, and one that watches it: without the other, neither stays."""
        link, settings = sibling.link, self._shared.settings
        try:
            sibling.thread.start()
        except RuntimeError as error:
            self._leave(link)
            link.close_executors(lambda: WORKERS_END_S)
            self._note_failure(link.number, error)
            return
        self._siblings.append(sibling)
        watchdog = Watchdog(
            link.owner,
            sibling.thread,
            self._shared.tell,
            partial(self._abandon, sibling),
            settings.timeouts,
            settings.on_stall,
        )
        try:
            watchdog.start()
        except RuntimeError as error:
            sibling.closing = True
            link.owner.request_stop()
            self._note_failure(link.number, error)

    def _free_number(self) -> int:
        used = {link.number for link in self.standing.links} | self.standing.failures.keys()
        return next(number for number in range(1000) if number not in used | self._abandoned)

    def close(self, number: int) -> None:
        """Ask one to end; one that fails is not tried again."""
        self._forget_failures({number})
        for sibling in self._siblings:
            if sibling.link.number == number:
                sibling.closing = True
                sibling.link.owner.request_stop()

    def look_after(self, now: float) -> None:
        """See to what ended, and open anew what failed and has waited."""
        for sibling in [sibling for sibling in self._siblings if sibling.over]:
            self._siblings.remove(sibling)
            self._leave(sibling.link)
            if sibling.abandoned:
                self._abandoned.add(sibling.link.number)
            self._judge(sibling)
        well: set[int] = set()
        for sibling in self._siblings:
            owner = sibling.link.owner
            if owner.running.is_set() and not owner.ended.is_set():
                sibling.running_since = sibling.running_since or now
                if now - sibling.running_since >= WELL_AFTER_S:
                    well.add(sibling.link.number)
        self._forget_failures(well)
        live = {sibling.link.number for sibling in self._siblings}
        for number, failure in self.standing.failures.items():
            if failure.again_at <= now and number not in live:
                self.open(number)

    def close_all(self, stop_timeout_s: float, hard: threading.Event) -> None:
        """With the app: all at once, within its budget. One that hangs beyond it is left behind."""
        until = self._clock() + stop_timeout_s
        self.request_stop(hard=hard.is_set(), timeout_s=stop_timeout_s)
        for sibling in self._siblings:
            while not sibling.over and self._clock() < until:
                sibling.thread.join(JOIN_S)
        for sibling in self._siblings:
            fatal = sibling.link.owner.fatal
            if sibling.over:
                self._leave(sibling.link)
            if fatal is not None and not isinstance(fatal, CURABLE):
                self._give_up(fatal)

    def _live(self, link: Link) -> None:
        """Body of a sibling's owner thread."""
        try:
            link.owner.run()
            link.close_executors(lambda: WORKERS_END_S)
        finally:
            self._shared.tracker.gone(link.number)

    def _abandon(self, sibling: Sibling) -> None:
        """The watchdog's: its thread is over, or will never be."""
        # A thread that is over has said so itself, and its number may be another one's by now.
        if sibling.thread.is_alive():
            self._shared.tracker.gone(sibling.link.number)
            sibling.abandoned = True

    def _judge(self, sibling: Sibling) -> None:
        """What its end means: nothing where it was asked for, a new try where one may help, else the end of the app."""
        fatal = sibling.link.owner.fatal
        if fatal is None or (sibling.closing and isinstance(fatal, (ForcedStop, Stalled, *CURABLE))):
            return
        if not isinstance(fatal, CURABLE):
            self._give_up(fatal)
        elif self._stop is None:
            number = sibling.link.number
            if sibling.abandoned:
                number = self._renumbered(number)
            self._note_failure(number, fatal)

    def _renumbered(self, number: int) -> int:
        """Another number for the one that comes in place of an abandoned one: its thread may wake, and take its own away."""
        fresh, failures = self._free_number(), dict(self.standing.failures)
        if number in failures:
            failures[fresh] = failures.pop(number)
            self._set_failures(failures)
        return fresh

    def _leave(self, link: Link) -> None:
        with self._lock:
            standing = self.standing
            self.standing = replace(
                standing,
                links=tuple(other for other in standing.links if other is not link),
                past=ended(standing.past, link.owner.snapshots.latest),
                rebuilds=standing.rebuilds + link.owner.snapshots.vitals.rebuilds,
            )
        self._share()

    def _note_failure(self, number: int, error: BaseException) -> None:
        now, before = self._clock(), self.standing.failures.get(number)
        count = 1 if before is None else before.count + 1
        pause_s = rebuild_pause_s(count)
        kind = type(error).__name__
        since = now if before is None else before.since
        failure = Failure(count, since, now + pause_s, f"{kind}: {error}")
        self._set_failures({**self.standing.failures, number: failure})
        self._shared.tell(ConnectionFailed(number, kind, str(error), count, pause_s))

    def _forget_failures(self, numbers: set[int]) -> None:
        failures = self.standing.failures
        if not numbers.isdisjoint(failures):
            self._set_failures({number: each for number, each in failures.items() if number not in numbers})

    def _set_failures(self, failures: dict[int, Failure]) -> None:
        with self._lock:
            self.standing = replace(self.standing, failures=MappingProxyType(failures))

    def _share(self) -> None:
        links = self.standing.links
        for link in links:
            link.share(len(links))


def _told(standing: Standing, latest: Sequence[Snapshot]) -> tuple[ConnectionSnapshot, ...]:
    failing = standing.failing()
    found: dict[int, ConnectionSnapshot] = {}
    for number in failing:
        failure = standing.failures[number]
        found[number] = ConnectionSnapshot(number, "failing", failures=failure.count, error=failure.error)
    for link, snapshot in zip(standing.links, latest, strict=True):
        if link.number not in failing:
            failure_of = standing.failures.get(link.number)
            found[link.number] = ConnectionSnapshot(
                link.number,
                snapshot.state,
                partitions=len(snapshot.engine.partitions),
                in_flight=sum(part.in_flight for part in snapshot.engine.partitions),
                finished=snapshot.engine.counters.finished,
                failures=0 if failure_of is None else failure_of.count,
                error="" if failure_of is None else failure_of.error,
            )
    return tuple(found[number] for number in sorted(found))
