"""What `doctor` concludes from what it was told: pure functions from facts to findings.

Each finding says what is so and, if something is to be done, what. Refuses to ask anybody anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from headrace._client.admin import Cluster
    from headrace._client.inspection import GroupState, TopicState
    from headrace._client.lag import PartitionLag
    from headrace._client.versions import BrokerSpeech, ClientVersions

CLIENT_OLDEST = (2, 15)
FASTSTREAM_BAD = ((0, 5, 0), (0, 5, 3))
DEFAULT_STRATEGY = "cooperative-sticky"
COOPERATIVE = frozenset({"cooperative-sticky"})


class Grade(Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One conclusion; `advice` is empty where nothing is to be done."""

    grade: Grade
    subject: str
    text: str
    advice: str = ""


def of_installation(client: ClientVersions, installed: Mapping[str, str]) -> list[Finding]:
    """The client, and what is installed beside it. `installed`: distribution -> version."""
    text = f"confluent-kafka {client.confluent_kafka}, librdkafka {client.librdkafka}"
    if _numbers(client.confluent_kafka) < CLIENT_OLDEST:
        advice = "install confluent-kafka>=2.15: older clients die of INVALID_REQUEST in KIP-848 groups"
        found = [Finding(Grade.PROBLEM, "client", text, advice)]
    else:
        found = [Finding(Grade.OK, "client", text)]
    faststream = installed.get("faststream")
    if faststream and FASTSTREAM_BAD[0] <= _numbers(faststream)[:3] <= FASTSTREAM_BAD[1]:
        text = f"faststream {faststream} is installed beside: with manual commits, one that a rebalance refuses ends its consuming task in silence"
        found.append(Finding(Grade.PROBLEM, "beside", text, "upgrade faststream to 0.5.4 or newer"))
    if "aiokafka" in installed:
        text = f"aiokafka {installed['aiokafka']} is installed beside; it has no cooperative-sticky assignor"
        advice = "give its consumers groups of their own, or let both sides use one assignor"
        found.append(Finding(Grade.NOTE, "beside", text, advice))
    return found


def of_cluster(cluster: Cluster, speech: BrokerSpeech, protocol: str) -> list[Finding]:
    """Who answers, and what it can do."""
    addresses = ", ".join(f"{b.host}:{b.port}" for b in cluster.brokers)
    found = [Finding(Grade.OK, "cluster", f"{len(cluster.brokers)} broker(s) reached: {addresses}")]
    if len(cluster.brokers) == 0:
        found = [
            Finding(Grade.PROBLEM, "cluster", "the bootstrap server names no brokers", "check its listeners")
        ]
    if not speech.requests:
        return [*found, Finding(Grade.NOTE, "broker", "did not say which requests it speaks")]
    release = speech.release_at_least
    age = f"speaks like Kafka {release} or newer" if release else "is older than Kafka 2.3"
    if speech.new_groups:
        text = f"{age}; group_protocol='consumer' (KIP-848) is possible"
        found.append(Finding(Grade.OK, "broker", text))
    elif protocol == "consumer":
        advice = "use group_protocol='classic', or upgrade to Kafka 4.0 or newer"
        found.append(Finding(Grade.PROBLEM, "broker", f"{age}; it has no KIP-848 groups", advice))
    else:
        found.append(Finding(Grade.OK, "broker", f"{age}; classic groups only"))
    return found


def of_topics(wanted: Sequence[str], there: Mapping[str, TopicState]) -> list[Finding]:
    """The topics of the app, dead-letter topics included."""
    found: list[Finding] = []
    for name in wanted:
        topic = there.get(name)
        subject = f"topic {name}"
        if topic is None:
            advice = "create it (Headrace never does), or grant DESCRIBE on it"
            found.append(Finding(Grade.PROBLEM, subject, "does not exist, or may not be seen", advice))
        elif topic.leaderless:
            text = f"{topic.leaderless} of {topic.partitions} partitions have no leader"
            found.append(Finding(Grade.PROBLEM, subject, text, "bring their brokers back"))
        elif topic.in_sync_min < topic.replicas_min:
            text = f"{_partitions(topic.partitions)}; some have {topic.in_sync_min} of {topic.replicas_min} replicas in sync"
            found.append(Finding(Grade.NOTE, subject, text, "a broker is down or behind"))
        elif topic.replicas_min == 1:
            text = f"{_partitions(topic.partitions)}, one replica"
            found.append(Finding(Grade.NOTE, subject, text, "its records are lost with one broker"))
        else:
            found.append(
                Finding(Grade.OK, subject, f"{_partitions(topic.partitions)}, {topic.replicas_min} replicas")
            )
    return found


def of_group(
    group_id: str, group: GroupState | None, protocol: str, strategy: str, partitions: int | None
) -> list[Finding]:
    """Whether an app with this protocol and assignment strategy can join. `partitions`: of its topics, if known."""
    subject = f"group {group_id}"
    if group is None:
        return [
            Finding(Grade.NOTE, subject, "the broker does not describe it", "grant DESCRIBE on the group")
        ]
    if not group.members:
        return [Finding(Grade.OK, subject, f"no members now; a {protocol} member may join")]
    count = len(group.members)
    text = f"{count} member(s), {group.protocol} protocol, assignor {group.assignor or '-'}, {group.state.lower()}"
    found = [_joining(subject, text, group, protocol, strategy)]
    if partitions is not None and count >= partitions:
        text = f"{count} members for {_partitions(partitions)}"
        found.append(Finding(Grade.NOTE, subject, text, "one more member would have nothing to do"))
    return found


def _joining(subject: str, text: str, group: GroupState, protocol: str, strategy: str) -> Finding:
    if group.protocol != protocol:
        text = f"{text}; this app would join with the {protocol} protocol"
        advice = "the broker converts a group member by member if group.consumer.migration.policy allows it; else stop all members first"
        return Finding(Grade.NOTE, subject, text, advice)
    offered = {name.strip() for name in strategy.split(",")}
    if protocol == "consumer" or not group.assignor or group.assignor in offered:
        return Finding(Grade.OK, subject, text)
    text = f"{text}; this app offers {strategy}: the group refuses it (INCONSISTENT_GROUP_PROTOCOL)"
    if offered & COOPERATIVE and group.assignor not in COOPERATIVE:
        # librdkafka takes no list that mixes eager and cooperative, so Kafka's two rolling restarts are not possible.
        advice = (
            f"stop all members, then start this app (committed offsets stay); or join as they do, with "
            f"librdkafka={{'partition.assignment.strategy': '{group.assignor}'}}"
        )
    else:
        advice = f"let all members use one strategy, such as {group.assignor}"
    return Finding(Grade.PROBLEM, subject, text, advice)


def of_offsets(group_id: str, lags: Sequence[PartitionLag]) -> list[Finding]:
    """Whether the committed offsets still exist, and how far behind they are."""
    subject = f"offsets {group_id}"
    deleted = [p for p in lags if p.committed is not None and p.committed < p.start]
    beyond = [p for p in lags if p.committed is not None and p.committed > p.end]
    found: list[Finding] = []
    for wrong, text, advice in (
        (deleted, "retention deleted records that the group had not read", "raise retention.ms"),
        (
            beyond,
            "the committed offset lies beyond the end: the topic was made anew, or cut",
            "reset the group",
        ),
    ):
        if wrong:
            places = ", ".join(f"{p.topic}[{p.partition}]" for p in wrong[:5])
            decides = f"{advice}; on_out_of_range= decides how the app goes on"
            found.append(Finding(Grade.PROBLEM, subject, f"{text}: {places}", decides))
    uncommitted = sum(p.committed is None for p in lags)
    text = f"lag {sum(p.lag for p in lags):,} over {_partitions(len(lags))}"
    if uncommitted:
        text += f", {uncommitted} of them without a committed offset (start_if_no_offset= decides)"
    return [*found, Finding(Grade.OK, subject, text)]


def healthy(findings: Collection[Finding]) -> bool:
    """Whether nothing is a problem."""
    return all(finding.grade is not Grade.PROBLEM for finding in findings)


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
