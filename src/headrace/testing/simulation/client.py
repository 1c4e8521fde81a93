"""`ports.Client` over the model of Kafka: what the owner thread observes of librdkafka, in virtual time.

Decides what `_client.consumer` decides, in the same order, with the same `Assignment` and the same table of failures.
Writes to the history what the client did, never what the core believes. Invariant: callbacks come inside `poll` and
`close` only, and what the history is told of them is told when they have returned.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from headrace._client.assignment import Assignment
from headrace._client.failures import consume_row, fatal_row
from headrace._client.faults import Faults
from headrace._client.logs import RateLimit
from headrace._client.settings import Scrubber
from headrace.errors import BrokerUnreachable, TopicMissing
from headrace.ports import CommitNotSent, Polled
from headrace.testing.simulation import history as told
from headrace.testing.simulation.consumer.questions import Questions
from headrace.testing.simulation.kernel import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import CommitRequest, Committed, RebalanceListener
    from headrace.ports import TopicPartition as Place
    from headrace.records import Source
    from headrace.testing.simulation.consumer.consumer import ModelConsumer
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.coordinator import Coordinator
    from headrace.testing.simulation.model.leader import Leader
    from headrace.testing.simulation.model.network import Network
    from headrace.testing.simulation.model.topics import Topics

    Taken = list[tuple[Place, list[Source]]]

_CHECK_AGAIN_S = 0.1
_DEAD_POLL_S = 0.01


@final
class ModelClient:
    """One consumer of a member. Used by one thread of its process."""

    def __init__(
        self,
        network: Network,
        topics: Topics,
        leader: Leader,
        coordinator: Coordinator,
        consumer: ModelConsumer,
        process: Process,
        member: str,
        *,
        eager: bool,
        static: bool,
    ) -> None:
        self._network = network
        self._kernel = network.kernel
        self._topics = topics
        self._consumer = consumer
        self._member = member
        self._static = static
        fake: Any = consumer
        self._assignment = Assignment(fake, cooperative=not eager)
        self._faults = Faults(self._kernel.clock, Scrubber({}))
        self._limit = RateLimit(self._kernel.clock)
        self._listener: RebalanceListener | None = None
        self._questions = Questions(
            network, leader, coordinator, consumer.link, process, member, self._faults
        )
        self._commits_open = 0
        self._raised: BaseException | None = None
        self._closed = False

    @property
    def max_poll_interval_s(self) -> float:
        """See `ports.Client`."""
        return self._network.settings.max_poll_interval_s

    @property
    def session_timeout_s(self) -> float:
        """See `ports.Client`."""
        return self._network.settings.session_timeout_s

    # Start

    def check(self, topics: Sequence[str], timeout_s: float | None) -> None:
        """See `ports.Client`."""
        deadline = float("inf") if timeout_s is None else self._kernel.now + timeout_s
        while True:
            self._kernel.wait(self._kernel.now + 2 * self._network.way_s())
            if not self._network.down:
                sizes = self._topics.sizes()
                missing = [each for each in topics if not each.startswith("^") and each not in sizes]
                if missing:
                    raise TopicMissing(missing)
                return
            if self._kernel.now >= deadline:
                raise BrokerUnreachable("model", timeout_s or 0.0, "the model broker is down")
            self._kernel.wait(min(deadline, self._kernel.now + _CHECK_AGAIN_S))

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """See `ports.Client`."""
        self._enter()
        self._listener = listener
        self._consumer.subscribe(topics)

    def unsubscribe(self) -> None:
        """Give everything back; `on_revoke` comes in a later `poll`. Non-static members then leave the group."""
        self._enter()
        self._consumer.unsubscribe()

    # The loop

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """See `ports.Client`."""
        self._enter()
        self._assignment.forget_moves()
        taken = self._take(records_max, timeout_s)
        self._assignment.overtook = False
        self._assignment.in_hand = []
        if self._assignment.moved or self._raised is not None:
            taken = self._without_moved(taken)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        groups: dict[Place, list[Source]] = {}
        for place, records in taken:
            groups.setdefault(place, []).extend(records)
        for place, records in groups.items():
            self._tell(told.Fetched(self._member, place, tuple(each.offset() or 0 for each in records)))
        self._report()
        count = sum(len(records) for records in groups.values())
        return Polled([(*place, records) for place, records in groups.items()], count, self._faults.take())

    def _take(self, records_max: int, timeout_s: float) -> Taken:
        consumer = self._consumer
        consumer.waits(waiting=False)
        if timeout_s <= 0:
            self._serve()
            return self._consume(records_max)
        # The first record, callbacks meanwhile, as poll() does; then what else is there, as consume(n, 0) does.
        deadline = self._kernel.now + timeout_s
        while True:
            self._serve()
            taken = self._consume(1)
            if taken or self._raised is not None or self._kernel.now >= deadline:
                break
            if consumer.fatal:
                # A dead client says so at each poll, at once; a moment passes, or who polls on would poll for ever.
                self._kernel.wait(min(deadline, self._kernel.now + _DEAD_POLL_S))
                break
            consumer.waits(waiting=True)
            self._kernel.wait(deadline, consumer.is_ready)
            consumer.waits(waiting=False)
        if taken and records_max > 1:
            self._assignment.in_hand = [_InHand(*taken[0])]
            self._kernel.preempt()
            self._serve()
            taken += self._consume(records_max - 1)
        return taken

    def _consume(self, records_max: int) -> Taken:
        if not self._consumer.fetcher.queue:
            return []
        taken, errors = self._consumer.fetcher.take(records_max)
        for (topic, partition), code, offset in errors:
            self._faults.note(consume_row(code).kind, code, "in the model", topic, partition, offset)
        return [(place, list(records)) for place, records in taken]

    def _serve(self) -> None:
        """Callbacks that are due: answers to commits before rebalances."""
        while self._consumer.answers or self._consumer.callbacks:
            if self._consumer.answers:
                results = self._consumer.answers.popleft()
                self._commits_open -= 1
                for result in results:
                    place = (result.topic, result.partition)
                    self._tell(told.CommitAnswered(self._member, place, result.offset, result.error))
                listener = self._listener
                if listener is not None:
                    self._guard(partial(listener.on_commit, results))
                continue
            call = self._consumer.next_callback()
            if call is not None:
                self._rebalance(*call)
                self._consumer.waits(waiting=False)

    def _without_moved(self, taken: Taken) -> Taken:
        """Leave out records of partitions that a callback of this poll moved; those still ours are fetched again."""
        moved = self._assignment.moved
        everything = self._raised is not None
        firsts: dict[Place, int] = {}
        for place, records in taken:
            if (everything or place in moved) and place not in firsts:
                firsts[place] = records[0].offset() or 0
        for place, offset in firsts.items():
            self._assignment.seek(place, moved.get(place, offset), timeout_s=0.0)
        return [each for each in taken if each[0] not in firsts]

    # Partitions

    def assign(self, starts: Mapping[Place, int]) -> None:
        """See `ports.Client`."""
        self._enter()
        self._assignment.add(starts)

    def unassign(self, partitions: Sequence[Place]) -> None:
        """See `ports.Client`."""
        self._enter()
        self._assignment.remove(partitions)

    def reassign(self, partition: Place, offset: int) -> None:
        """See `ports.Client`."""
        self._enter()
        self._assignment.renew(partition, offset)

    def pause(self, partitions: Sequence[Place]) -> None:
        """See `ports.Client`."""
        self._enter()
        self._assignment.pause(partitions)

    def resume(self, partitions: Sequence[Place]) -> None:
        """See `ports.Client`."""
        self._enter()
        self._assignment.resume(partitions)

    def seek(self, partition: Place, offset: int, timeout_s: float) -> None:
        """See `ports.Client`. A partition whose fetcher does not run is assigned anew at once: no real time passes here."""
        del timeout_s
        self._enter()
        self._tell(told.Sought(self._member, partition, offset))
        self._assignment.seek(partition, offset, 0.0)

    def positions(self, partitions: Sequence[Place]) -> dict[Place, int]:
        """See `ports.Client`."""
        self._kernel.guard()
        return {} if self._closed else self._assignment.positions(partitions)

    # Questions

    def committed(self, partitions: Sequence[Place], timeout_s: float) -> list[Committed] | None:
        """See `ports.Client`."""
        self._enter()
        return self._questions.committed(partitions, timeout_s)

    def resolve(self, wanted: Mapping[Place, str | int], timeout_s: float) -> dict[Place, int] | None:
        """See `ports.Client`."""
        self._enter()
        return self._questions.resolve(wanted, timeout_s)

    def earliest(self, partition: Place, timeout_s: float) -> int | None:
        """See `ports.Client`."""
        found = self.resolve({partition: "earliest"}, timeout_s)
        return None if found is None else found[partition]

    # Commits

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        """See `ports.Client`."""
        self._enter()
        if self._closed and self._consumer.membership.terminating:
            raise CommitNotSent("_STATE")
        self._commits_open += 1
        self._consumer.commit(requests)

    # Callbacks of the group

    def _rebalance(self, kind: str, places: tuple[Place, ...]) -> None:
        if kind == "revoke" and self._assignment.overtook:
            kind = "lost"
        self._assignment.begin_callback()
        began = self._kernel.now
        if kind == "revoke":
            self._tell(told.RevokeBegan(self._member, places, closing=self._closed))
        if kind == "assign":
            self._tell(told.Assigned(self._member, places))
        if self._listener is not None:
            self._guard(partial(getattr(self._listener, f"on_{kind}"), list(places)))
        if kind == "assign":
            self._tell(told.AssignReturned(self._member, places, self._kernel.now - began))
            self._guard(self._assignment.answer_assign)
            return
        returned = told.RevokeReturned if kind == "revoke" else told.LostReturned
        self._tell(returned(self._member, places, self._kernel.now - began))
        self._guard(lambda: self._assignment.answer_revoke(places))

    def _guard(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Killed:
            raise
        except BaseException as unexpected:  # noqa: BLE001 - raised again by poll, as `_client.consumer` does
            if self._raised is None:
                self._raised = unexpected

    def _report(self) -> None:
        consumer = self._consumer
        while consumer.reports:
            code, detail = consumer.reports.popleft()
            if self._limit.admit(code) is not None:
                self._faults.note(consume_row(code).kind, code, detail)
        if consumer.fatal and not self._faults.fatal:
            self._faults.fatal = True
            self._faults.note(fatal_row(consumer.fatal).kind, consumer.fatal, "the client is dead")

    # The end

    def close(self, timeout_s: float) -> bool:
        """See `ports.Client`."""
        self._enter()
        if self._closed:
            return True
        self._closed = True
        deadline = self._kernel.now + timeout_s
        consumer = self._consumer
        if self._listener is not None:
            self._give_back(deadline)
        self._listener = None
        consumer.close()
        if not consumer.closed:
            self._kernel.wait(max(self._kernel.now, deadline), lambda: consumer.closed)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return consumer.closed

    def _give_back(self, deadline: float) -> None:
        self._assignment.pause(self._assignment.places())
        if self._static:
            self._rebalance_at_close(tuple(self._assignment.places()))
        elif self._consumer.fatal:
            return
        else:
            self._consumer.unsubscribe()
        while self._goes_on_giving_back() and self._kernel.now < deadline:
            self._serve()
            if self._goes_on_giving_back():
                self._kernel.wait(
                    deadline, lambda: bool(self._consumer.answers) or bool(self._consumer.callbacks)
                )

    def _rebalance_at_close(self, places: tuple[Place, ...]) -> None:
        """A static member keeps its partitions: only the listener hears of a revoke."""
        began = self._kernel.now
        self._tell(told.RevokeBegan(self._member, places, closing=True))
        listener = self._listener
        if listener is not None:
            self._guard(lambda: listener.on_revoke(list(places)))
        self._tell(told.RevokeReturned(self._member, places, self._kernel.now - began))

    def _goes_on_giving_back(self) -> bool:
        return self._commits_open > 0 or (not self._static and bool(self._assignment.places()))

    # Inside

    def _enter(self) -> None:
        """A call from outside: a killed process makes none, and any other may lose the processor here."""
        self._kernel.guard()
        self._kernel.preempt()

    def _tell(self, entry: told.Entry) -> None:
        self._network.history.add(self._kernel.now, entry)


@final
class _InHand:
    """A record that was taken and not handed over, as `fetched.first_offsets` asks of a message."""

    __slots__ = ("_offset", "_place")

    def __init__(self, place: Place, records: list[Source]) -> None:
        self._place = place
        self._offset = records[0].offset()

    def error(self) -> None:
        """None: it is a record."""
        return

    def topic(self) -> str:
        """The topic."""
        return self._place[0]

    def partition(self) -> int:
        """The partition."""
        return self._place[1]

    def offset(self) -> int | None:
        """The offset."""
        return self._offset
