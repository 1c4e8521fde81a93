"""`headrace.guard` around the consumers of the client libraries that the embedded broker can serve (kafka-python: `tests/kafka`), on the embedded broker."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer

from headrace import ConcurrentAccess, guard
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 20.0


def refused(call: Callable[[], object]) -> ConcurrentAccess:
    """Call until the other is inside; gives the refusal."""
    give_up_at = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_at:
        try:
            call()
        except ConcurrentAccess as error:
            return error
        time.sleep(0.005)
    pytest.fail("never refused")


def test_confluent_kafka() -> None:
    with MockBroker(topics={"orders": 1}) as broker:
        consumer = guard(Consumer(broker.client_settings("guarded") | {"auto.offset.reset": "earliest"}))
        consumer.subscribe(["orders"])
        leaving = threading.Event()

        def poll() -> None:
            while not leaving.is_set():
                consumer.poll(0.2)
                time.sleep(0.001)

        with ThreadPoolExecutor(1, "polls") as pool:
            polling = pool.submit(poll)
            error = refused(consumer.assignment)
            leaving.set()
            polling.result(WAIT_S)
        consumer.close()
    assert error.inside_call == "poll"
    assert "polls" in error.inside


def test_aiokafka() -> None:
    with MockBroker(topics={"orders": 1}) as broker:
        errors: list[ConcurrentAccess] = []

        async def consume() -> None:
            consumer = guard(AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers))
            await consumer.start()
            try:
                consumer.assign([AioPartition("orders", 0)])
                getting = asyncio.create_task(consumer.getone())
                errors.append(await asyncio.to_thread(refused, consumer.assignment))
                getting.cancel()
                await asyncio.gather(getting, return_exceptions=True)
            finally:
                await consumer.stop()

        asyncio.run(consume())
    assert errors[0].inside_call == "getone"
    assert errors[0].inside.startswith("event loop")
