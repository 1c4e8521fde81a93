"""librdkafka's consumer as confluent-kafka shows it: calls of the application, and what waits for its polls.

Puts together membership, fetching and commits. Decides nothing of its own but when the application has slept too long.
Invariant: callbacks and commits' answers wait here until the application polls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.testing.simulation.consumer.classic_member import ClassicMember
from headrace.testing.simulation.consumer.committing import CommitSender
from headrace.testing.simulation.consumer.fetching import Fetcher
from headrace.testing.simulation.consumer.kip848_member import Kip848Member
from headrace.testing.simulation.consumer.link import CoordinatorLink
from headrace.testing.simulation.model.classic import ClassicGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import CommitRequest, CommitResult
    from headrace.ports import TopicPartition as Place
    from headrace.testing.simulation.consumer.membership import Membership
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.coordinator import Coordinator
    from headrace.testing.simulation.model.leader import Leader
    from headrace.testing.simulation.model.network import Network
    from headrace.testing.simulation.model.topics import Topics


@final
class ModelConsumer:
    """One consumer: what `_client.assignment.Assignment` calls, and what a client's poll takes from."""

    def __init__(
        self,
        network: Network,
        topics: Topics,
        leader: Leader,
        coordinator: Coordinator,
        process: Process,
        member: str,
        member_id: str,
        instance: str | None,
        *,
        eager: bool,
    ) -> None:
        self._network = network
        self._kernel = network.kernel
        self._process = process
        self.link = CoordinatorLink(network, coordinator, process)
        group = coordinator.group
        self.membership: Membership
        if isinstance(group, ClassicGroup):
            self.membership = ClassicMember(
                network, self.link, process, instance, member, group, topics, eager=eager
            )
        else:
            self.membership = Kip848Member(network, self.link, process, instance, member, member_id, group)
        self.fetcher = Fetcher(network, leader, process)
        self.sender = CommitSender(self.membership, coordinator)
        self.callbacks: deque[tuple[str, tuple[Place, ...]]] = deque()
        self.answers: deque[list[CommitResult]] = deque()
        self.reports: deque[tuple[str, str]] = deque()
        self.fatal = ""
        self.closed = False
        self._polled_at = float("inf")
        self._wire()

    def _wire(self) -> None:
        membership, fetcher, sender = self.membership, self.fetcher, self.sender
        membership.call_back = lambda kind, places: self.callbacks.append((kind, places))
        membership.hold = lambda: fetcher.hold(held=True)
        membership.let_go = lambda: fetcher.hold(held=False)
        membership.drop_all = self._drop_all
        membership.commits_open = lambda: sender.open
        membership.slept = lambda: self._slept_s() > self._network.settings.max_poll_interval_s
        membership.die = self._die
        fetcher.may_start = lambda: sender.open == 0
        fetcher.broke = lambda code: self.reports.append((code, "a fetch failed"))
        sender.answered = self.answers.append
        sender.idle = self._commits_done
        self.link.ask()

    # The application's calls; those named as in confluent-kafka are what `Assignment` needs

    def subscribe(self, names: Sequence[str]) -> None:
        """Join the group."""
        self._polled_at = self._kernel.now
        self.membership.subscribe(names)
        self._tick()
        self._watch_sleep()

    def unsubscribe(self) -> None:
        """Give everything back, then leave."""
        self.membership.unsubscribe()

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        """Fetch these too."""
        self._starts(places)
        self.membership.assign_called()

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        """Stop fetching these."""
        self.fetcher.unassign([(place.topic, place.partition) for place in places])
        self.membership.unassign_called(some=True)

    def assign(self, places: list[TopicPartition]) -> None:
        """Fetch exactly these."""
        self.fetcher.unassign(self.fetcher.places())
        self._starts(places)
        self.membership.assign_called()

    def unassign(self) -> None:
        """Fetch nothing."""
        self.fetcher.unassign(self.fetcher.places())
        self.membership.unassign_called(some=False)

    def seek(self, place: TopicPartition) -> None:
        """Go on at an offset; raises where the partition's fetcher does not run."""
        key = (place.topic, place.partition)
        if not self.fetcher.started(key):
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.fetcher.seek(key, place.offset)

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Where the application stands; a negative offset where it was given nothing yet."""
        found: list[TopicPartition] = []
        for place in places:
            at = self.fetcher.position((place.topic, place.partition))
            found.append(TopicPartition(place.topic, place.partition, -1001 if at is None else at))
        return found

    def pause(self, places: list[TopicPartition]) -> None:
        """Be silent."""
        self.fetcher.pause([(place.topic, place.partition) for place in places], paused=True)

    def resume(self, places: list[TopicPartition]) -> None:
        """Speak again."""
        self.fetcher.pause([(place.topic, place.partition) for place in places], paused=False)

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        """Send a commit."""
        self.sender.send(requests)

    # Polling

    def is_ready(self) -> bool:
        """Whether a poll would find something."""
        # Asked before every step of the simulation, by each member that waits in a poll.
        return bool(self.answers or self.callbacks or self.fatal or self.fetcher.queue)

    def waits(self, *, waiting: bool) -> None:
        """A poll begins to wait, or served something: time counts as slept only between."""
        self._polled_at = float("inf") if waiting else self._kernel.now

    def next_callback(self) -> tuple[str, tuple[Place, ...]] | None:
        """The next rebalance callback: assign, revoke or lost. Whether it is lost is decided now, as in librdkafka."""
        if not self.callbacks:
            return None
        kind, places = self.callbacks.popleft()
        if kind == "revoke" and self.membership.lost:
            kind = "lost"
        return kind, places

    # The end

    def close(self) -> None:
        """End without callbacks: open commits are answered, then the group is left, then everything is silent."""
        membership = self.membership
        membership.terminating = True
        self.callbacks.clear()
        self.fetcher.close()
        if membership.names:
            membership.names = ()
            membership.leaving = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.closed or self.sender.open:
            return
        self.membership.leave_if_asked()
        self.closed = True
        self.sender.closed = True
        # What was sent last is still on its way.
        self._kernel.later(self._network.settings.session_timeout_s, "close", self.link.close, self._process)

    # Inside

    def _starts(self, places: list[TopicPartition]) -> None:
        self.fetcher.assign({(place.topic, place.partition): place.offset for place in places})

    def _commits_done(self) -> None:
        if self.membership.terminating:
            self._close_if_done()
            return
        self.membership.serve_assignment()
        self.fetcher.start_waiting()

    def _drop_all(self) -> None:
        self.fetcher.unassign(self.fetcher.places())

    def _die(self, code: str) -> None:
        self.fatal = code

    def _tick(self) -> None:
        if self.closed:
            return
        self.membership.tick()
        self._kernel.later(
            self._network.settings.heartbeat_interval_s, "heartbeat", self._tick, self._process
        )

    def metadata_changed(self) -> None:
        """The client has looked at the topics."""
        if not self.closed and not self.membership.terminating:
            self.membership.metadata_changed()

    def _slept_s(self) -> float:
        return max(0.0, self._kernel.now - self._polled_at)

    def _watch_sleep(self) -> None:
        """max.poll.interval.ms: look when it could have passed."""
        if self.closed or not self.membership.names:
            return
        limit_s = self._network.settings.max_poll_interval_s
        slept_s = self._slept_s()
        if slept_s >= limit_s and not self.membership.overslept and not self.fatal:
            self.reports.append(("_MAX_POLL_EXCEEDED", "the application did not poll in time"))
            self.membership.slept_too_long()
        # Not before it could have passed again; while it sleeps on, its next poll is what matters.
        wait_s = max(0.001, limit_s - slept_s) if slept_s < limit_s else limit_s
        self._kernel.later(wait_s, "max poll interval", self._watch_sleep, self._process)
