"""Fixtures that more than one folder of tests uses: a real Kafka, and names nobody else has.

A test gets the marker `kafka` by asking for a Kafka, and `full` by living in tests/full: neither can be forgotten.
"""

from __future__ import annotations

import re
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests import kafka_server
from tests.reached import Reached
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from typing import TypeVar

    T = TypeVar("T")

KAFKA_FIXTURES = {"kafka", "secure_kafka"}


def pytest_configure(config: pytest.Config) -> None:
    """See that the notices are reached; no property fails because the machine is slow."""
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    config.pluginmanager.register(Reached(), "reached")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the markers that follow from what a test uses and where it is, before `-m` chooses."""
    for item in items:
        if not KAFKA_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
        if item.nodeid.startswith("tests/full/"):
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Bootstrap address of a real Kafka, shared by the whole run: use own topics and groups."""
    with ExitStack() as stack:
        yield _enter_or_skip(stack, kafka_server.plain_broker(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Generator[kafka_server.SecureAddresses]:
    """Addresses of a real Kafka with SASL, TLS and ACLs. See scripts/kafka for its users."""
    with ExitStack() as stack:
        yield _enter_or_skip(stack, kafka_server.secure_broker(tmp_path_factory.mktemp("secure-kafka")))


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name for topics and groups that tells which test it belongs to and that no other run uses."""
    readable = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.node.name)[:60].strip("-")
    return f"{readable}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def group_id(unique_name: str) -> str:
    """A consumer group of this test's own."""
    return f"group-{unique_name}"


@pytest.fixture
def topics(kafka: str, unique_name: str) -> Generator[Topics]:
    """Makes topics of this test's own on the real Kafka; they go when the test ends."""
    made = Topics(kafka, prefix=unique_name)
    yield made
    made.delete_all()


def _enter_or_skip(stack: ExitStack, broker: AbstractContextManager[T]) -> T:
    try:
        return stack.enter_context(broker)
    except kafka_server.KafkaUnavailable as absent:
        if kafka_server.is_required():
            pytest.fail(f"HEADRACE_REQUIRE_KAFKA=1, but: {absent}")
        pytest.skip(f"no Kafka: {absent}")
