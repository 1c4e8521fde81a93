"""What the cluster says of a group's members and of a topic's replicas: for diagnosis.

Read-only, on a client of its own. Refuses to judge. Invariants: an answer that a broker cannot give is None, never a guess;
a question about a group never times out while its client lives. Where one does that still looks for its coordinator,
librdkafka 2.16 ends the process once there is one (its issue 4605): whoever will not wait any longer drops the client.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, admin_config, refusal

if TYPE_CHECKING:
    from concurrent.futures import Future

    from headrace._client.settings import ConnectionSettings


REQUEST_S = 3600.0
"""The longest that librdkafka grants a question: only so that nobody's patience comes close to it."""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One member of a group, and how many partitions it has."""

    client_id: str
    host: str
    partitions: int


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group as its coordinator describes it. protocol: "classic" or "consumer". A group without members has no assignor."""

    state: str
    protocol: str
    assignor: str
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True)
class GroupOwners:
    """For each member id, the partitions it owns by topic; and the assignor that the members agreed on."""

    assignor: str
    owned: dict[str, dict[str, list[int]]]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic's partitions: how many, how many have no leader, and the fewest replicas and in-sync replicas of any."""

    partitions: int
    leaderless: int
    replicas_min: int
    in_sync_min: int


@final
class Inspector:
    """Questions for a diagnosis. Connects at the first one. One thread at a time."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._config: Any = admin_config(settings)
        self._config.pop("error_cb", None)
        self._client: Any = self._made()

    def group(self, group_id: str, timeout_s: float) -> GroupState | None:
        """The group; None if the broker cannot or will not describe it. One that does not exist has no members."""
        try:
            return self.answer(self.ask_group(group_id), timeout_s)
        except TimeoutError:
            self.drop()
            return None

    def ask_group(self, group_id: str) -> Future[Any]:
        """Ask, and wait later: for `answer`. Who gives up waiting must `drop`."""
        if self._client is None:
            self._client = self._made()
        asked: Future[Any] = self._client.describe_consumer_groups([group_id], request_timeout=REQUEST_S)[
            group_id
        ]
        return asked

    def answer(self, asked: Future[Any], wait_s: float) -> GroupState | None:
        """As `group`; raises `TimeoutError` while there is no answer."""
        return _group_of(asked, wait_s)

    def drop(self) -> None:
        """End the client, and what it was asked: no answer comes any more. The next question makes a new one."""
        self._client = None

    def owners(self, group_id: str, timeout_s: float) -> GroupOwners | None:
        """Who owns what now; None if the broker cannot or will not say. A group that does not exist has no members."""
        try:
            found = self.ask_group(group_id).result(timeout_s)
        except KafkaException as exception:
            return GroupOwners("", {}) if error_of(exception).name() == "GROUP_ID_NOT_FOUND" else None
        except TimeoutError:
            self.drop()
            return None
        owned: dict[str, dict[str, list[int]]] = {}
        for member in found.members:
            mine = owned.setdefault(member.member_id, {})
            for one in member.assignment.topic_partitions if member.assignment else ():
                mine.setdefault(one.topic, []).append(one.partition)
        return GroupOwners(found.partition_assignor or "", owned)

    def topics(self, timeout_s: float) -> dict[str, TopicState]:
        """Every topic that we may see; none if no broker answers."""
        if self._client is None:
            self._client = self._made()
        try:
            metadata = self._client.list_topics(timeout=timeout_s)
        except KafkaException:
            return {}
        return {
            name: _topic_state(list(topic.partitions.values())) for name, topic in metadata.topics.items()
        }

    def _made(self) -> Any:
        scrub = Scrubber(self._config)
        try:
            return AdminClient(
                self._config | {"error_cb": _ignore, "logger": ClientLog(time.monotonic, scrub)}
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, self._config) from None  # the cause's text may hold a secret


def _group_of(asked: Future[Any], wait_s: float) -> GroupState | None:
    try:
        found = asked.result(wait_s)
    except KafkaException as exception:
        if error_of(exception).name() == "GROUP_ID_NOT_FOUND":
            return GroupState("DEAD", "classic", "", ())
        return None
    members = tuple(
        GroupMember(m.client_id, m.host, len(m.assignment.topic_partitions) if m.assignment else 0)
        for m in found.members
    )
    return GroupState(found.state.name, found.type.name.lower(), found.partition_assignor or "", members)


def _topic_state(partitions: list[Any]) -> TopicState:
    return TopicState(
        partitions=len(partitions),
        leaderless=sum(p.leader < 0 for p in partitions),
        replicas_min=min((len(p.replicas) for p in partitions), default=0),
        in_sync_min=min((len(p.isrs) for p in partitions), default=0),
    )


def _ignore(_error: object) -> None:
    """Other checks say what cannot be reached."""
