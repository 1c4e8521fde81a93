"""An observer's questions to the cluster: brokers, topics, what a group committed, how far it lags.

For the command line and for lag: on a client of its own, so that nobody waits for a consumer. Refuses to change
anything. Invariant: every answer is whole or an error; no call outlasts its `timeout_s`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace._client.failures import request_row
from headrace._client.group_reader import GroupReader
from headrace._client.lag import PartitionLag
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, admin_config, refusal
from headrace.errors import BrokerUnreachable, ClientFailed, HeadraceError, NotAuthorized, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import KafkaError

    from headrace._client.settings import ConnectionSettings
    from headrace.ports import TopicPartition as Place

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker, as the cluster names it."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as its metadata tells. A broker's version is not in Kafka's protocol; ask its operator."""

    id: str
    controller: int | None
    brokers: tuple[Broker, ...]


@final
class Observer:
    """Read-only questions. Connects at the first one. Calls may come from any thread."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        config: Any = admin_config(settings)
        for key in ("error_cb", "stats_cb", "statistics.interval.ms"):
            config.pop(key, None)  # the consumer's: it hears of the same brokers
        self._bootstrap_servers = settings.bootstrap_servers
        self._scrub = Scrubber(config)
        self._last_error: tuple[str, str] | None = None
        try:
            # Its hints are partial: what comes out is typed by the methods here.
            self._client: Any = AdminClient(
                config | {"error_cb": self._on_error, "logger": ClientLog(time.monotonic, self._scrub)}
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def cluster(self, timeout_s: float) -> Cluster:
        """Who is there."""
        metadata = self._metadata(timeout_s)
        brokers = tuple(Broker(b.id, b.host, b.port) for _, b in sorted(metadata.brokers.items()))
        controller = metadata.controller_id
        return Cluster(metadata.cluster_id or "", controller if controller >= 0 else None, brokers)

    def topics(self, timeout_s: float) -> dict[str, int]:
        """Every topic that we may see, and its number of partitions."""
        metadata = self._metadata(timeout_s)
        return {name: len(topic.partitions) for name, topic in sorted(metadata.topics.items())}

    def partitions(self, topics: Sequence[str], timeout_s: float) -> list[Place]:
        """All partitions of these topics. Raises `TopicMissing`, and `NotAuthorized` for one that is hidden from us."""
        deadline = time.monotonic() + timeout_s
        metadata = self._metadata(timeout_s)
        known = metadata.topics
        missing = [topic for topic in topics if topic not in known]
        if missing:
            # The embedded broker has no controller, and no topics that it would hide.
            asks = metadata.controller_id in metadata.brokers
            raise (self._hidden(missing, _left(deadline)) if asks else None) or TopicMissing(missing)
        return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]

    def _hidden(self, topics: Sequence[str], timeout_s: float) -> HeadraceError | None:
        """Whether a topic is absent because we may not see it: only who asks for it by name is told so."""
        futures: dict[str, Future[Any]] = self._ask(
            lambda: self._client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s)
        )
        for topic, future in futures.items():
            with suppress(TimeoutError):
                error = future.exception(timeout_s + 1.0)
                code = error_of(error) if isinstance(error, KafkaException) else None
                if code is not None and request_row(code.name()).kind == "not_authorized":
                    return NotAuthorized(f"topic {topic}", self._scrub(code.str()))
        return None

    def topic_ids(self, topics: Sequence[str], timeout_s: float) -> dict[str, str]:
        """The id that each topic was given when it was made. Those of which none is known are left out."""
        deadline = time.monotonic() + timeout_s
        known = self._metadata(timeout_s)
        if known.controller_id not in known.brokers:
            return {}  # the client asks a controller, and waits for one; the embedded broker has none
        futures: dict[str, Future[Any]] = self._ask(
            lambda: self._client.describe_topics(
                TopicCollection(list(topics)), request_timeout=_left(deadline)
            )
        )
        found = {
            topic: str(self._result(future, timeout_s, _left(deadline)).topic_id)
            for topic, future in futures.items()
        }
        return {topic: one for topic, one in found.items() if one.strip("A")}  # all zeros: an old broker

    def committed(self, group_id: str, topics: Sequence[str] | None, timeout_s: float) -> dict[Place, int]:
        """What a group committed: for these topics, or for all that we may see. Partitions without are left out."""
        deadline = time.monotonic() + timeout_s
        if topics is None:
            topics = list(self.topics(timeout_s))
        return self.committed_of(group_id, self.partitions(topics, _left(deadline)), _left(deadline))

    def committed_of(self, group_id: str, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """What a group committed for these partitions, in one request. Those without are left out."""
        reader = GroupReader(replace(self._settings, group_id=group_id, instance_id=None), self.refusal)
        try:
            answers = reader.each_committed(places, timeout_s)
        finally:
            reader.close()
        found: dict[Place, int] = {}
        for place, answer in answers.items():
            if isinstance(answer, HeadraceError):
                raise answer
            if answer is not None:
                found[place] = answer
        return found

    def offsets(self, places: Sequence[Place], timeout_s: float) -> dict[Place, tuple[int, int]]:
        """Start and end of each partition. The end counts records of open transactions: it is the high watermark."""
        deadline = time.monotonic() + timeout_s
        starts = self.starts(places, timeout_s)
        ends = self.ends(places, _left(deadline))
        return {place: (starts[place], ends[place]) for place in places}

    def starts(self, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """The first offset that exists in each partition."""
        return self._list_offsets(dict.fromkeys(places, OffsetSpec.earliest()), timeout_s)

    def ends(
        self, places: Sequence[Place], timeout_s: float, *, committed_only: bool = False
    ) -> dict[Place, int]:
        """The offset after the last record, or, with `committed_only`, before the first open transaction."""
        return self._list_offsets(
            dict.fromkeys(places, OffsetSpec.latest()), timeout_s, committed_only=committed_only
        )

    def each_offset(
        self, places: Sequence[Place], end: Literal["earliest", "latest", "stable"], timeout_s: float
    ) -> dict[Place, int | HeadraceError]:
        """One end of each partition, or why it cannot be had: one topic that we may not see hides no other."""
        spec = OffsetSpec.earliest() if end == "earliest" else OffsetSpec.latest()
        return self._each_offset(dict.fromkeys(places, spec), timeout_s, committed_only=end == "stable")

    def offsets_at(
        self, moments: Mapping[Place, int], timeout_s: float, *, committed_only: bool = False
    ) -> dict[Place, int | None]:
        """The first offset whose timestamp is so many ms since the Unix epoch, or more; None if there is none."""
        asked = {place: OffsetSpec.for_timestamp(ms) for place, ms in moments.items()}
        found = self._list_offsets(asked, timeout_s, committed_only=committed_only)
        return {place: offset if offset >= 0 else None for place, offset in found.items()}

    def _list_offsets(
        self, specs: Mapping[Place, Any], timeout_s: float, *, committed_only: bool = False
    ) -> dict[Place, int]:
        found = self._each_offset(specs, timeout_s, committed_only=committed_only)
        for offset in found.values():
            if not isinstance(offset, int):
                raise offset
        return {place: offset for place, offset in found.items() if isinstance(offset, int)}

    def _each_offset(
        self, specs: Mapping[Place, Any], timeout_s: float, *, committed_only: bool
    ) -> dict[Place, int | HeadraceError]:
        if not specs:
            return {}
        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        asked = {TopicPartition(*place): spec for place, spec in specs.items()}
        deadline = time.monotonic() + timeout_s
        futures: dict[TopicPartition, Future[Any]] = self._ask(
            lambda: self._client.list_offsets(asked, isolation_level=level, request_timeout=timeout_s)
        )
        found: dict[Place, int | HeadraceError] = {}
        for place, future in futures.items():
            try:
                offset: int = self._result(future, timeout_s, _left(deadline)).offset
            except HeadraceError as error:
                found[place.topic, place.partition] = error
            else:
                found[place.topic, place.partition] = offset
        return found

    def lag(self, group_id: str, topics: Sequence[str] | None, timeout_s: float) -> list[PartitionLag]:
        """A group's lag: on these topics, or wherever it has commits."""
        deadline = time.monotonic() + timeout_s
        committed = self.committed(group_id, topics, timeout_s)
        wanted = {topic for topic, _ in committed} if topics is None else topics
        places = self.partitions(sorted(wanted), _left(deadline))
        offsets = self.offsets(places, _left(deadline))
        return [PartitionLag(*place, committed.get(place), *offsets[place]) for place in places]

    # Errors

    def _metadata(self, timeout_s: float) -> Any:
        return self._ask(lambda: self._client.list_topics(timeout=timeout_s), timeout_s)

    def _ask(self, question: Callable[[], T], timeout_s: float = 0.0) -> T:
        try:
            return question()
        except KafkaException as exception:
            self._refuse(error_of(exception), timeout_s)
            raise

    def _result(self, future: Future[Any], timeout_s: float, left_s: float) -> Any:
        try:
            # The client's own bound comes first; this one is for a client that hangs.
            return future.result(left_s + 1.0)
        except KafkaException as exception:
            self._refuse(error_of(exception), timeout_s)
            raise
        except TimeoutError:
            raise BrokerUnreachable(self._bootstrap_servers, timeout_s) from None

    def _refuse(self, error: KafkaError | None, timeout_s: float) -> None:
        if error is not None:
            raise self.refusal(error, timeout_s)

    def refusal(self, error: KafkaError, timeout_s: float) -> HeadraceError:
        """What an error of the client means to a caller. Any thread."""
        code, detail = error.name(), self._scrub(error.str())
        kind = request_row(code).kind
        if kind == "retry" and self._last_error is not None:
            # "Timed out" hides why; the last transport error says it.
            code, detail = self._last_error
            kind = "not_authorized" if request_row(code).kind == "not_authorized" else kind
        if kind == "not_authorized":
            return NotAuthorized(f"the cluster at {self._bootstrap_servers}", detail)
        if kind == "retry":
            return BrokerUnreachable(self._bootstrap_servers, timeout_s, f"{code}: {detail}")
        return ClientFailed(code, detail)

    def _on_error(self, error: KafkaError) -> None:
        if self._last_error is None or error.name() != "_ALL_BROKERS_DOWN":  # which says nothing of why
            self._last_error = (error.name(), self._scrub(error.str()))


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
