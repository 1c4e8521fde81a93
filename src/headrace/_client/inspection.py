"""What the cluster says of a group's members and of a topic's replicas: for diagnosis.

Read-only, on a client of its own. Refuses to judge. Invariant: an answer that a broker cannot give is None, never a guess.
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
    from headrace._client.settings import ConnectionSettings


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
    """Questions for a diagnosis. Connects at the first one."""

    def __init__(self, settings: ConnectionSettings) -> None:
        config: Any = admin_config(settings)
        config.pop("error_cb", None)
        scrub = Scrubber(config)
        try:
            self._client: Any = AdminClient(
                config | {"error_cb": _ignore, "logger": ClientLog(time.monotonic, scrub)}
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def group(self, group_id: str, timeout_s: float) -> GroupState | None:
        """The group; None if the broker cannot or will not describe it. One that does not exist has no members."""
        try:
            future = self._client.describe_consumer_groups([group_id], request_timeout=timeout_s)[group_id]
            found = future.result(timeout_s + 1.0)
        except KafkaException as exception:
            if error_of(exception).name() == "GROUP_ID_NOT_FOUND":
                return GroupState("DEAD", "classic", "", ())
            return None
        except TimeoutError:
            return None
        members = tuple(
            GroupMember(m.client_id, m.host, len(m.assignment.topic_partitions) if m.assignment else 0)
            for m in found.members
        )
        return GroupState(found.state.name, found.type.name.lower(), found.partition_assignor or "", members)

    def owners(self, group_id: str, timeout_s: float) -> GroupOwners | None:
        """Who owns what now; None if the broker cannot or will not say. A group that does not exist has no members."""
        future = self._client.describe_consumer_groups([group_id], request_timeout=timeout_s)[group_id]
        try:
            found = future.result(timeout_s + 1.0)
        except KafkaException as exception:
            return GroupOwners("", {}) if error_of(exception).name() == "GROUP_ID_NOT_FOUND" else None
        except TimeoutError:
            return None
        owned: dict[str, dict[str, list[int]]] = {}
        for member in found.members:
            mine = owned.setdefault(member.member_id, {})
            for one in member.assignment.topic_partitions if member.assignment else ():
                mine.setdefault(one.topic, []).append(one.partition)
        return GroupOwners(found.partition_assignor or "", owned)

    def topics(self, timeout_s: float) -> dict[str, TopicState]:
        """Every topic that we may see; none if no broker answers."""
        try:
            metadata = self._client.list_topics(timeout=timeout_s)
        except KafkaException:
            return {}
        return {
            name: _topic_state(list(topic.partitions.values())) for name, topic in metadata.topics.items()
        }


def _topic_state(partitions: list[Any]) -> TopicState:
    return TopicState(
        partitions=len(partitions),
        leaderless=sum(p.leader < 0 for p in partitions),
        replicas_min=min((len(p.replicas) for p in partitions), default=0),
        in_sync_min=min((len(p.isrs) for p in partitions), default=0),
    )


def _ignore(_error: object) -> None:
    """Other checks say what cannot be reached."""
