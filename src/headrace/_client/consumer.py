"""One Kafka consumer, as its owner thread uses it: `ports.Client` over confluent-kafka.

Decides how librdkafka's calls are used safely; refuses to decide what to consume, commit or retry. Invariants: no call
but `close`'s own thread leaves the owner thread; no exception passes through C; a record that was taken from
librdkafka and could not be handed over is fetched again, and until then no position stands beyond it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace._client.assignment import Assignment
from headrace._client.faults import Faults
from headrace._client.fetched import first_offsets, group
from headrace._client.logs import ClientLog
from headrace._client.lookups import Unanswered, check_topics, committed, error_of, resolve
from headrace._client.settings import Scrubber, consumer_config, refusal
from headrace._client.tokens import TokenSource
from headrace.errors import NotAuthorized
from headrace.ports import CommitNotSent, CommitResult, Polled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._client.fetched import Messages
    from headrace._client.settings import ConnectionSettings
    from headrace.ports import CommitRequest, Committed, RebalanceListener
    from headrace.ports import TopicPartition as Place

_CLOSE_POLL_S = 0.01  # a poll that served a callback still waits out its time


@final
class KafkaClient:
    """A consumer of one connection. Made, used and closed on its owner thread; making one does no network I/O of ours.

    process, connection: numbers that make the client's id and, for static members, the instance id its own.
    Raises `ConfigError` for a setting that librdkafka refuses.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        process: int = 0,
        connection: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = consumer_config(settings, process, connection)
        self._bootstrap_servers = settings.bootstrap_servers
        self._max_poll_interval_s = settings.milliseconds("max.poll.interval.ms", 300_000)
        self._session_timeout_s = settings.milliseconds("session.timeout.ms", 45_000)
        scrub = Scrubber(config)
        self._users_error_cb: Callable[[KafkaError], object] | None = config.pop("error_cb", None)
        self._users_stats_cb: Callable[[str], object] | None = config.pop("stats_cb", None)
        # What the last poll was told; the next `Polled` takes it along.
        self._statistics: str | None = None
        # Made before the client: with an oauth_cb its constructor waits for a token, and calls back with errors.
        self._raised: BaseException | None = None
        self._faults = Faults(clock, scrub)
        tokens = TokenSource(config)
        try:
            self._consumer = tokens.made(
                lambda: Consumer(
                    config
                    | {
                        "error_cb": self._on_error,
                        "stats_cb": self._on_statistics,
                        "on_commit": self._on_commit,
                        "logger": ClientLog(clock, scrub),
                    }
                )
            )
        except (KafkaException, TypeError, ValueError, SystemError) as error:
            if (tokenless := tokens.failure(error)) is not None:
                raise NotAuthorized(f"the cluster at {self._bootstrap_servers}", scrub(tokenless)) from None
            raise refusal(error, config) from None  # the cause's text may hold a secret
        self._assignment = Assignment(self._consumer, cooperative=settings.cooperative)
        self._static = settings.instance_id is not None
        self._listener: RebalanceListener | None = None
        self._commits_open = 0
        self._closed = False
        # Owner thread writes, before the closing thread starts; that one reads.
        self._left_to_closer = False

    @property
    def max_poll_interval_s(self) -> float:
        """`max.poll.interval.ms` as configured."""
        return self._max_poll_interval_s

    @property
    def session_timeout_s(self) -> float:
        """`session.timeout.ms` as configured; under KIP-848 the broker decides, and this is its usual default."""
        return self._session_timeout_s

    # Start

    def check(self, topics: Sequence[str], timeout_s: float | None) -> None:
        """Wait for a broker and see that the topics exist. Call it before `subscribe`: it polls for error reports."""
        assert self._listener is None, "check() polls, and a poll may return records"
        check_topics(
            self._list_topics,
            topics,
            self._bootstrap_servers,
            timeout_s,
            self._serve_errors,
        )
        self._faults.last = None
        self._faults.take()

    def _list_topics(self, topic: str | None, timeout_s: float) -> Any:
        return self._consumer.list_topics(topic, timeout=timeout_s)

    def _serve_errors(self) -> tuple[str, str] | None:
        self._consumer.poll(0)
        return self._faults.last

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group. The listener is called inside `poll`, and inside `close`, always on the owner thread."""
        self._listener = listener
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def unsubscribe(self) -> None:
        """Give everything back; `on_revoke` comes in a later `poll`. Non-static members then leave the group."""
        self._consumer.unsubscribe()

    # The loop

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Up to `records_max` records; waits at most `timeout_s` for the first and not at all for the rest.

        An exception of the listener is raised here, after the client is in order again; records taken in the same call
        are fetched again. A rebalance callback may of course take longer than `timeout_s`.
        """
        self._assignment.forget_moves()
        try:
            self._assignment.in_hand = self._take(records_max, timeout_s)
        except KafkaException as exception:
            self._faults.raised(error_of(exception))
        except BaseException as unexpected:  # noqa: BLE001 - raised again below, when nothing is in hand
            self._raised = unexpected
        self._assignment.overtook = False
        messages = self._assignment.in_hand
        if self._assignment.moved or self._raised is not None:
            messages = self._without_moved(messages)
        self._assignment.in_hand = []
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        groups, errors = group(messages)
        for message in errors:
            self._faults.message(message)
        statistics, self._statistics = self._statistics, None
        count = sum(len(records) for _, _, records in groups)
        return Polled(groups, count, self._faults.take(), statistics)

    def _take(self, records_max: int, timeout_s: float) -> Messages:
        # consume() would wait for all records_max or the whole timeout.
        if timeout_s <= 0:
            return self._consumer.consume(records_max, 0)
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        # A callback may run in consume(): positions() must not count this record as handed over.
        self._assignment.in_hand = [first]
        if records_max == 1:
            return [first]
        rest = self._consumer.consume(records_max - 1, 0)
        rest.insert(0, first)
        return rest

    def _without_moved(self, messages: Messages) -> Messages:
        """Leave out records of partitions that a callback of this poll moved: which tenure they are of cannot be told.

        Those that are still ours are fetched again. So is everything, if the listener failed: nobody will take it.
        """
        moved = self._assignment.moved
        everything = self._raised is not None
        firsts = {p: o for p, o in first_offsets(messages).items() if everything or p in moved}
        for place, offset in firsts.items():
            try:
                self._assignment.seek(place, moved.get(place, offset), timeout_s=0.0)
            except KafkaException as exception:
                # It cannot be fetched again here, so it must be by another connection.
                self._faults.note(
                    "rebuild", error_of(exception).name(), "records could not be fetched again", *place
                )
        return [m for m in messages if m.error() is not None or (m.topic(), m.partition()) not in firsts]

    # Partitions

    def assign(self, starts: Mapping[Place, int]) -> None:
        """Begin to fetch these partitions at these offsets, beside those already assigned.

        Eager protocols know only whole assignments: there the others are assigned anew at their positions.
        """
        self._assignment.add(starts)

    def unassign(self, partitions: Sequence[Place]) -> None:
        """Stop fetching these. Partitions that were never assigned to the client are ignored.

        In a callback the rest is done when the listener returns, so it need not be called there.
        """
        self._assignment.remove(partitions)

    def reassign(self, partition: Place, offset: int) -> None:
        """Unassign and assign one partition: the cure for one that fell silent. Without effect if it is not ours."""
        self._assignment.renew(partition, offset)

    def pause(self, partitions: Sequence[Place]) -> None:
        """Stop delivery of these. Those not assigned are ignored."""
        self._assignment.pause(partitions)

    def resume(self, partitions: Sequence[Place]) -> None:
        """Deliver these again. Those not assigned are ignored."""
        self._assignment.resume(partitions)

    def seek(self, partition: Place, offset: int, timeout_s: float) -> None:
        """Fetch from `offset` next. Waits for librdkafka's own thread, never for a broker; ignored if it is not ours."""
        self._assignment.seek(partition, offset, timeout_s)

    def positions(self, partitions: Sequence[Place]) -> dict[Place, int]:
        """Offset of the next record to hand over, local and cheap; partitions without one are left out."""
        try:
            return self._assignment.positions(partitions)
        except (KafkaException, RuntimeError):  # a dead or a closed client
            return {}

    # Questions

    def committed(self, partitions: Sequence[Place], timeout_s: float) -> list[Committed] | None:
        """What the group committed, or None if that could not be read in time; a refusal is a fault of the next poll."""
        try:
            return committed(self._consumer, partitions, timeout_s)
        except Unanswered as unanswered:
            self._faults.unanswered(unanswered)
            return None

    def resolve(self, wanted: Mapping[Place, str | int], timeout_s: float) -> dict[Place, int] | None:
        """Offsets for "earliest", "latest" or a time in ms; None if not in time; a refusal is a fault of the next poll."""
        try:
            return resolve(self._consumer, wanted, timeout_s)
        except Unanswered as unanswered:
            self._faults.unanswered(unanswered)
            return None

    def earliest(self, partition: Place, timeout_s: float) -> int | None:
        """The first offset that still exists, or None if that could not be read in time."""
        found = self.resolve({partition: "earliest"}, timeout_s)
        return None if found is None else found[partition]

    # Commits

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        """Send one asynchronous commit; the answer comes to `on_commit`, inside a later `poll`. Never blocks.

        librdkafka reports one partition's refusal for every partition of the commit, though the broker wrote the
        others: a refusal means "perhaps not written". To learn which one it is, commit them apart.
        """
        offsets = [
            TopicPartition(
                r.topic, r.partition, r.offset, r.metadata, -1 if r.leader_epoch is None else r.leader_epoch
            )
            for r in requests
        ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            raise CommitNotSent(error_of(exception).name()) from exception
        except RuntimeError as closed:  # confluent-kafka's word for a closed consumer
            raise CommitNotSent("_STATE") from closed
        self._commits_open += 1

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._commits_open -= 1
        listener = self._listener
        if listener is None or self._left_to_closer:
            return
        results: list[CommitResult] = []
        for place in partitions:
            own: KafkaError | None = place.error
            refused = own if own is not None else error
            name = None if refused is None else refused.name()
            results.append(CommitResult(place.topic, place.partition, place.offset, name))
        self._guard(lambda: listener.on_commit(results))

    # Callbacks of the group

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalance("on_assign", partitions)
        # Without a call of ours confluent-kafka assigns everything, at offsets of its own choice.
        self._guard(self._assignment.answer_assign)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalance("on_lost" if self._assignment.overtook else "on_revoke", partitions)
        self._guard(lambda: self._assignment.answer_revoke(_places(partitions)))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalance("on_lost", partitions)
        self._guard(lambda: self._assignment.answer_revoke(_places(partitions)))

    def _rebalance(self, call: str, partitions: list[TopicPartition]) -> None:
        self._assignment.begin_callback()
        if self._listener is not None and not self._left_to_closer:
            method: Callable[[list[Place]], None] = getattr(self._listener, call)
            self._guard(lambda: method(_places(partitions)))

    def _guard(self, call: Callable[[], object]) -> None:
        """Run what may raise inside a callback: through C an exception would take the poll's records with it."""
        try:
            call()
        except BaseException as unexpected:  # noqa: BLE001 - raised again by poll
            if self._raised is None:
                self._raised = unexpected

    # Faults

    def _on_error(self, error: KafkaError) -> None:
        self._faults.report(error)
        if self._users_error_cb is not None:
            self._call_users("error_cb", self._users_error_cb, error)

    def _on_statistics(self, text: str) -> None:
        # Only where the user set statistics.interval.ms. Not parsed here: it may be megabytes, and holds up records.
        self._statistics = text
        if self._users_stats_cb is not None:
            self._call_users("stats_cb", self._users_stats_cb, text)

    def _call_users(self, name: str, callback: Callable[[Any], object], told: Any) -> None:
        """The user's own callbacks only listen: one that raises ends no app, and takes no poll's records with it."""
        try:
            callback(told)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._faults.note(
                "log", name, f"the {name} of librdkafka= raised {type(error).__name__}: {error}"
            )

    # The end

    def close(self, timeout_s: float) -> bool:
        """Leave the group and free the client, in about `timeout_s`; False if it did not end and was left behind.

        First the partitions go back and open commits are answered, on this thread; then librdkafka closes on a daemon
        thread, for with a commit open and no broker it takes 45 s. What is left behind ends by itself, or with the
        process. A listener's exception is raised at the end.
        """
        if self._closed:
            return True
        self._closed = True
        deadline = time.monotonic() + timeout_s
        if self._listener is not None:
            self._give_back(deadline)
        # From here on callbacks run on the closer's thread: the listener must not hear them.
        self._left_to_closer = True
        closer = threading.Thread(target=self._consumer.close, name="headrace-client-close", daemon=True)
        closer.start()
        closer.join(max(0.0, deadline - time.monotonic()))
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return not closer.is_alive()

    def _give_back(self, deadline: float) -> None:
        # Paused, no record comes any more: one thrown away here would move a position past itself.
        self.pause(self._assignment.places())
        if self._static:
            self._serve_callbacks()
            self.pause(self._assignment.places())
            # To unsubscribe is to leave the group, of static members too; only a close on its own is not.
            self._rebalance("on_revoke", [TopicPartition(*place) for place in self._assignment.places()])
        else:
            try:
                self._consumer.unsubscribe()
            except KafkaException:
                return  # a dead client has no group to leave
            self._serve_callbacks()
        while self._goes_on_giving_back() and time.monotonic() < deadline and self._serve_callbacks():
            pass

    def _serve_callbacks(self) -> bool:
        """One poll; False if the client is dead.

        An assignment that is on its way must be taken here: taken inside librdkafka's close, it may wait for ever for an
        answer, and with it everybody, since confluent-kafka holds the interpreter's lock then (librdkafka issue 4884).
        """
        try:
            message = self._consumer.poll(_CLOSE_POLL_S)
        except KafkaException:
            return False
        if message is not None:
            self._assignment.in_hand.append(message)
        return True

    def _goes_on_giving_back(self) -> bool:
        # A static member keeps its partitions: they are its own again when it comes back.
        return self._commits_open > 0 or (not self._static and bool(self._assignment.places()))


def _places(partitions: list[TopicPartition]) -> list[Place]:
    return [(p.topic, p.partition) for p in partitions]
