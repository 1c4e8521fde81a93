"""`headrace copy` between two real clusters: what arrives, and what is said of each grant that is missing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from headrace import read
from headrace.cli import execute
from headrace.cli.exits import Exit
from tests.full.test_security import scram
from tests.kafka.witness import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kafka_server import SecureAddresses
    from tests.topics import Topics

    Command = Callable[..., tuple[Exit, str]]
    Grant = tuple[Any, Any]

pytestmark = pytest.mark.timeout(300)

WAIT_S = 30.0
COUNT = 300
FIRST_MS = time.time_ns() // 1_000_000 - 3_600_000
SECRETS = ("headrace-secret", "stranger-secret")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `headrace copy`: its code, and what it said, which never has a password."""

    def run(*arguments: str) -> tuple[Exit, str]:
        code = execute(["copy", *arguments, "--timeout", "60", "-q"])
        said = capfd.readouterr().err
        assert not any(secret in said for secret in SECRETS)
        return code, said

    return run


@pytest.fixture
def admin(secure_kafka: SecureAddresses) -> AdminClient:
    """Of the cluster with ACLs, as the user who may do all."""
    return AdminClient(scram(secure_kafka, "headrace"))


@pytest.fixture
def source(kafka: str, topics: Topics) -> str:
    """Three partitions; keys, nulls, headers, timestamps."""
    topic = topics.create(partitions=3, suffix="-copied")
    producer = Producer({"bootstrap.servers": kafka})
    for n in range(COUNT):
        producer.produce(
            topic,
            None if n % 10 == 9 else b"%d" % n,
            None if n % 7 == 6 else b"" if n % 7 == 5 else b"key-%d" % (n % 11),
            partition=n % 3,
            timestamp=FIRST_MS + n,
            headers=[("n", b"%d" % n), ("n", b""), ("gone", None)] if n % 2 else None,
        )
    assert producer.flush(WAIT_S) == 0
    return topic


def contents(topic: str, servers: str, settings: dict[str, Any] | None = None) -> list[Any]:
    found = read(topic, bootstrap_servers=servers, librdkafka=settings or {}, as_="records", timeout_s=WAIT_S)
    held = [(r.partition, r.timestamp_ms, r.key, r.value, r.headers) for r in found]
    return sorted(held, key=lambda one: one[:2])


def secured(kafka: SecureAddresses, user: str) -> tuple[str, dict[str, Any]]:
    """Address and settings apart, as Headrace takes them."""
    settings: dict[str, Any] = {**scram(kafka, user)}
    return settings.pop("bootstrap.servers"), settings


def options(flag: str, settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (flag, f"{key}={value}")]


def test_there_and_back_everything_is_as_it_was(
    kafka: str,
    secure_kafka: SecureAddresses,
    admin: AdminClient,
    topics: Topics,
    source: str,
    command: Command,
) -> None:
    """From a cluster without security to one with it, under the same name, and from there into another topic."""
    servers, settings = secured(secure_kafka, "headrace")
    admin.create_topics([NewTopic(source, 3, 1)])[source].result(WAIT_S)
    there = ("--to", servers, *options("--to-setting", settings))
    assert command(source, "-b", kafka, *there, "--keep-partitions") == (Exit.OK, "")
    mine = contents(source, kafka)
    assert len(mine) == COUNT
    assert {one[2] for one in mine} >= {None, b""}
    wait_until(lambda: contents(source, servers, settings) == mine, "all there")
    target = topics.create(partitions=3, suffix="-back")
    back = ("-b", servers, *options("-X", settings), "--to", kafka, "--topic", target)
    assert command(source, *back, "--keep-partitions", "--name", target) == (Exit.OK, "")
    # A broker answers that a transaction has ended before its records can be seen.
    wait_until(lambda: contents(target, kafka) == mine, "all back")
    assert command(source, *back, "--keep-partitions", "--name", target) == (Exit.OK, "")
    assert contents(target, kafka) == mine


NAME = "granted"
GROUP = f"headrace-copy-{NAME}"
TOPIC_DESCRIBE: Grant = (ResourceType.TOPIC, AclOperation.DESCRIBE)
TOPIC_WRITE: Grant = (ResourceType.TOPIC, AclOperation.WRITE)
ID_WRITE: Grant = (ResourceType.TRANSACTIONAL_ID, AclOperation.WRITE)
GROUP_READ: Grant = (ResourceType.GROUP, AclOperation.READ)
TOPIC_READ: Grant = (ResourceType.TOPIC, AclOperation.READ)


@pytest.fixture
def grant(admin: AdminClient) -> Iterator[Callable[..., None]]:
    """Gives the stranger what is named, on a topic or on what a copy calls itself."""
    made: list[Any] = []

    def give(topic: str, *granted: Grant) -> None:
        for kind, operation in granted:
            name = topic if kind is ResourceType.TOPIC else GROUP
            allowed = ("User:stranger", "*", operation, AclPermissionType.ALLOW)
            made.append((kind, name, ResourcePatternType.LITERAL, *allowed))
        if made:
            for created in admin.create_acls([AclBinding(*one) for one in made]).values():
                created.result(WAIT_S)

    yield give
    if made:
        for deleted in admin.delete_acls([AclBindingFilter(*one) for one in made]).values():
            deleted.result(WAIT_S)


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ((), f"transactional id {GROUP} (Write)"),
        ((ID_WRITE,), "topic {topic}"),
        ((ID_WRITE, TOPIC_DESCRIBE), f"group {GROUP} (Read)"),
        ((ID_WRITE, TOPIC_DESCRIBE, GROUP_READ), "the target topics (Write, and Read for the note)"),
        ((ID_WRITE, TOPIC_WRITE, GROUP_READ), "the target topics (Write, and Read for the note)"),
    ],
)
def test_what_the_target_does_not_grant_is_told_and_nothing_appears(
    kafka: str,
    secure_kafka: SecureAddresses,
    admin: AdminClient,
    source: str,
    command: Command,
    grant: Callable[..., None],
    granted: tuple[Grant, ...],
    missing: str,
) -> None:
    servers, settings = secured(secure_kafka, "stranger")
    admin.create_topics([NewTopic(source, 3, 1)])[source].result(WAIT_S)
    grant(source, *granted)
    code, said = command(
        source, "-b", kafka, "--to", servers, *options("--to-setting", settings), "--name", NAME
    )
    assert code in {Exit.USAGE, Exit.FAILED}
    assert f"not authorized for {missing.format(topic=source)}" in said
    assert contents(source, *secured(secure_kafka, "headrace")) == []


def test_what_a_copy_needs_of_its_target_is_enough(
    kafka: str,
    secure_kafka: SecureAddresses,
    admin: AdminClient,
    source: str,
    command: Command,
    grant: Callable[..., None],
) -> None:
    """What docs/howto/copy.md tells to grant."""
    servers, settings = secured(secure_kafka, "stranger")
    admin.create_topics([NewTopic(source, 3, 1)])[source].result(WAIT_S)
    grant(source, ID_WRITE, TOPIC_WRITE, TOPIC_READ, GROUP_READ)
    asked = (source, "-b", kafka, "--to", servers, *options("--to-setting", settings), "--name", NAME)
    assert command(*asked) == (Exit.OK, "")
    wait_until(lambda: len(contents(source, *secured(secure_kafka, "headrace"))) == COUNT, "all there")


def test_a_source_that_may_not_be_read_is_told(
    kafka: str,
    secure_kafka: SecureAddresses,
    admin: AdminClient,
    topics: Topics,
    source: str,
    command: Command,
) -> None:
    servers, settings = secured(secure_kafka, "stranger")
    admin.create_topics([NewTopic(source, 3, 1)])[source].result(WAIT_S)
    target = topics.create(suffix="-target")
    code, said = command(source, "-b", servers, *options("-X", settings), "--to", kafka, "--topic", target)
    assert code is Exit.USAGE
    assert f"not authorized for topic {source}" in said
