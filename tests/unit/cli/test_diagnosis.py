"""What `doctor` concludes."""

from __future__ import annotations

import pytest

from headrace._client.admin import Broker, Cluster
from headrace._client.inspection import GroupMember, GroupState, TopicState
from headrace._client.lag import PartitionLag
from headrace._client.versions import BrokerSpeech, ClientVersions
from headrace.cli import diagnosis
from headrace.cli.diagnosis import Finding, Grade

CLIENT = ClientVersions("0.1", "2.16.1", "2.16.0")
CLUSTER = Cluster("id", 1, (Broker(1, "host", 9092),))


def group(assignor: str, *, protocol: str = "classic", members: int = 1) -> GroupState:
    """A stable group."""
    return GroupState("STABLE", protocol, assignor, (GroupMember("c", "h", 1),) * members)


def joining(
    state: GroupState | None, protocol: str = "classic", strategy: str = "cooperative-sticky"
) -> Finding:
    """The finding about joining a group."""
    return diagnosis.of_group("g", state, protocol, strategy, None)[0]


@pytest.mark.parametrize(
    ("version", "problem"),
    [("0.4.7", False), ("0.5.0", True), ("0.5.3", True), ("0.5.4", False), ("0.6.0", False)],
)
def test_faststream_that_loses_its_consuming_task_is_a_problem(version: str, problem: bool) -> None:
    found = diagnosis.of_installation(CLIENT, {"faststream": version})
    assert diagnosis.healthy(found) is not problem


@pytest.mark.parametrize(("version", "healthy"), [("2.14.0", False), ("2.15.0", True), ("3.0", True)])
def test_an_old_client_is_a_problem(version: str, healthy: bool) -> None:
    found = diagnosis.of_installation(ClientVersions("0.1", version, version), {})
    assert diagnosis.healthy(found) is healthy


@pytest.mark.parametrize(
    ("requests", "release", "new_groups"),
    [
        ({1: (4, 18), 68: (0, 1)}, "4.1", True),
        ({1: (4, 17), 68: (0, 1)}, "4.0", True),
        ({1: (0, 17), 68: (0, 0)}, "3.9", False),
        ({1: (0, 12)}, "2.7", False),
        ({1: (0, 3)}, None, False),
    ],
)
def test_requests_tell_the_least_release(
    requests: dict[int, tuple[int, int]], release: str | None, new_groups: bool
) -> None:
    speech = BrokerSpeech(requests)
    assert (speech.release_at_least, speech.new_groups) == (release, new_groups)
    assert diagnosis.healthy(diagnosis.of_cluster(CLUSTER, speech, "classic"))
    assert diagnosis.healthy(diagnosis.of_cluster(CLUSTER, speech, "consumer")) is new_groups


@pytest.mark.parametrize(
    ("topic", "grade"),
    [
        (None, Grade.PROBLEM),
        (TopicState(3, 1, 3, 3), Grade.PROBLEM),
        (TopicState(3, 0, 3, 2), Grade.NOTE),
        (TopicState(3, 0, 1, 1), Grade.NOTE),
        (TopicState(3, 0, 3, 3), Grade.OK),
    ],
)
def test_topics_are_graded(topic: TopicState | None, grade: Grade) -> None:
    found = diagnosis.of_topics(["t"], {"t": topic} if topic else {})
    assert [finding.grade for finding in found] == [grade]


def test_a_range_group_does_not_take_a_cooperative_member() -> None:
    found = joining(group("range"))
    assert found.grade is Grade.PROBLEM
    assert "stop all members" in found.advice
    assert "'partition.assignment.strategy': 'range'" in found.advice


@pytest.mark.parametrize(
    ("state", "protocol", "strategy", "grade"),
    [
        (group("cooperative-sticky"), "classic", "cooperative-sticky", Grade.OK),
        (group("range"), "classic", "range,roundrobin", Grade.OK),
        (group("sticky"), "classic", "range", Grade.PROBLEM),
        (group("uniform", protocol="consumer"), "consumer", "cooperative-sticky", Grade.OK),
        (group("uniform", protocol="consumer"), "classic", "cooperative-sticky", Grade.NOTE),
        (group("range"), "consumer", "cooperative-sticky", Grade.NOTE),
        (group("", members=0), "classic", "cooperative-sticky", Grade.OK),
        (None, "classic", "cooperative-sticky", Grade.NOTE),
    ],
)
def test_joining_a_group_is_graded(
    state: GroupState | None, protocol: str, strategy: str, grade: Grade
) -> None:
    assert joining(state, protocol, strategy).grade is grade


def test_a_member_without_work_is_noted() -> None:
    found = diagnosis.of_group(
        "g", group("cooperative-sticky", members=2), "classic", "cooperative-sticky", 2
    )
    assert [finding.grade for finding in found] == [Grade.OK, Grade.NOTE]


@pytest.mark.parametrize(
    ("lag", "healthy"),
    [
        (PartitionLag("t", 0, 5, 0, 9), True),
        (PartitionLag("t", 0, None, 3, 9), True),
        (PartitionLag("t", 0, 2, 3, 9), False),
        (PartitionLag("t", 0, 10, 3, 9), False),
    ],
)
def test_offsets_that_do_not_exist_any_more_are_a_problem(lag: PartitionLag, healthy: bool) -> None:
    assert diagnosis.healthy(diagnosis.of_offsets("g", [lag])) is healthy
