"""`headrace.guard` around kafka-python's consumer, which the embedded broker cannot serve."""

from __future__ import annotations

import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from headrace import ConcurrentAccess, guard

if TYPE_CHECKING:
    from tests.topics import Topics

WAIT_S = 20.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it reads its schemas by a deprecated call
def test_a_second_thread_is_refused_while_kafka_python_polls(kafka: str, topics: Topics) -> None:
    kafka_python: Any = importlib.import_module("kafka")
    consumer = guard(kafka_python.KafkaConsumer(bootstrap_servers=kafka, group_id=None))
    consumer.assign([kafka_python.TopicPartition(topics.create(partitions=1), 0)])
    leaving = threading.Event()

    def poll() -> None:
        while not leaving.is_set():
            with suppress(ConcurrentAccess):  # the other may be inside at that moment
                consumer.poll(timeout_ms=200)
            time.sleep(0.001)

    error: ConcurrentAccess | None = None
    with ThreadPoolExecutor(1, "polls") as pool:
        polling = pool.submit(poll)
        give_up_at = time.monotonic() + WAIT_S
        while error is None and time.monotonic() < give_up_at:
            try:
                consumer.assignment()
            except ConcurrentAccess as refused:
                error = refused
            time.sleep(0.005)
        leaving.set()
        polling.result(WAIT_S)
    consumer.close()
    assert error is not None
    assert error.inside_call == "poll"
    assert "polls" in error.inside
