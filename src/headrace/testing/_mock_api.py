"""The ctypes binding: librdkafka's mock cluster, from the very library that confluent_kafka has loaded.

It speaks C's numbers and pointers; names, seconds and checks of arguments belong to `broker`. Invariant: no pointer is
used after `close`, from whatever thread, because every call holds the lock and looks for the pointer under it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_int16, c_int32, c_int64, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, Final, final

from confluent_kafka import KafkaError, cimpl

from headrace.testing._cluster import MockBrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.testing._cluster import ClusterSettings

_PRODUCER: Final = 0
_ERROR_TEXT_BYTES: Final = 512

# A command on the heels of another may have its wake-up swallowed together with the other's, and then waits a second:
# 9 of 1,260 without a gap, none with one of 0.2 ms.
_COMMAND_GAP_S: Final = 0.0005

# (name, result, arguments). The last function is variadic: only its fixed part is declared, as ctypes requires.
_SIGNATURES: Final[tuple[tuple[str, object, tuple[object, ...]], ...]] = (
    ("rd_kafka_conf_new", c_void_p, ()),
    ("rd_kafka_conf_destroy", None, (c_void_p,)),
    ("rd_kafka_conf_set", c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    ("rd_kafka_new", c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
    ("rd_kafka_destroy", None, (c_void_p,)),
    ("rd_kafka_mock_cluster_new", c_void_p, (c_void_p, c_int)),
    ("rd_kafka_mock_cluster_destroy", None, (c_void_p,)),
    ("rd_kafka_mock_cluster_bootstraps", c_char_p, (c_void_p,)),
    ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (c_void_p, c_int32)),
    ("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", None, (c_void_p, c_int)),
    ("rd_kafka_mock_set_group_consumer_session_timeout_ms", None, (c_void_p, c_int)),
    ("rd_kafka_mock_topic_create", c_int, (c_void_p, c_char_p, c_int, c_int)),
    ("rd_kafka_mock_topic_delete", c_int, (c_void_p, c_char_p)),
    ("rd_kafka_mock_partition_delete_records", c_int, (c_void_p, c_char_p, c_int32, c_int64)),
    ("rd_kafka_mock_partition_set_leader", c_int, (c_void_p, c_char_p, c_int32, c_int32)),
    ("rd_kafka_mock_coordinator_set", c_int, (c_void_p, c_char_p, c_char_p, c_int32)),
    ("rd_kafka_mock_set_apiversion", c_int, (c_void_p, c_int16, c_int16, c_int16)),
    ("rd_kafka_mock_broker_set_down", c_int, (c_void_p, c_int32)),
    ("rd_kafka_mock_broker_set_up", c_int, (c_void_p, c_int32)),
    ("rd_kafka_mock_broker_set_rtt", c_int, (c_void_p, c_int32, c_int)),
    ("rd_kafka_mock_push_request_errors_array", None, (c_void_p, c_int16, c_size_t, POINTER(c_int))),
    ("rd_kafka_mock_clear_request_errors", None, (c_void_p, c_int16)),
    ("rd_kafka_mock_broker_error_stack_cnt", c_int, (c_void_p, c_int32, c_int16, POINTER(c_size_t))),
    ("rd_kafka_mock_start_request_tracking", None, (c_void_p,)),
    ("rd_kafka_mock_stop_request_tracking", None, (c_void_p,)),
    ("rd_kafka_mock_get_requests", POINTER(c_void_p), (c_void_p, POINTER(c_size_t))),
    ("rd_kafka_mock_request_destroy_array", None, (POINTER(c_void_p), c_size_t)),
    ("rd_kafka_mock_request_id", c_int32, (c_void_p,)),
    ("rd_kafka_mock_request_api_key", c_int16, (c_void_p,)),
    ("rd_kafka_mock_request_timestamp", c_int64, (c_void_p,)),
    ("rd_kafka_mock_broker_push_request_error_rtts", c_int, (c_void_p, c_int32, c_int16, c_size_t)),
)


@final
class MockCluster:
    """A mock cluster living in C threads of this process. Safe to call from any thread."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._lock = threading.Lock()
        self._library = _load_library()
        self._host: int | None = _open_host(self._library)
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._host, settings.brokers)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._host)
            raise MockBrokerError("start", f"librdkafka could not start {settings.brokers} mock brokers")
        servers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self._bootstrap_servers = servers.decode()
        self._call("rd_kafka_mock_group_initial_rebalance_delay_ms", settings.rebalance_delay_ms)
        self.set_consumer_group_timing(settings.heartbeat_interval_ms, settings.session_timeout_ms)

    @property
    def bootstrap_servers(self) -> str:
        return self._bootstrap_servers

    def create_topic(self, topic: str, partitions: int, replication: int) -> None:
        self._checked("create_topic", "rd_kafka_mock_topic_create", topic.encode(), partitions, replication)

    def delete_topic(self, topic: str) -> None:
        self._checked("delete_topic", "rd_kafka_mock_topic_delete", topic.encode())

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        self._checked(
            "delete_records",
            "rd_kafka_mock_partition_delete_records",
            topic.encode(),
            partition,
            before_offset,
        )

    def push_errors(self, api_key: int, codes: Sequence[int]) -> None:
        array = (c_int * len(codes))(*codes)
        self._call("rd_kafka_mock_push_request_errors_array", api_key, len(codes), array)

    def push_broker_errors(self, broker: int, api_key: int, faults: Sequence[tuple[int, int]]) -> None:
        flat = [c_int(number) for code, delay_ms in faults for number in (code, delay_ms)]
        name = "rd_kafka_mock_broker_push_request_error_rtts"
        self._checked("push_errors", name, broker, api_key, len(faults), *flat)

    def pending_broker_errors(self, broker: int, api_key: int) -> int:
        count = c_size_t(0)  # left as it is when the broker has no queue for this API
        self._checked("pending_errors", "rd_kafka_mock_broker_error_stack_cnt", broker, api_key, byref(count))
        return count.value

    def clear_errors(self, api_key: int) -> None:
        self._call("rd_kafka_mock_clear_request_errors", api_key)

    def set_broker_down(self, broker: int) -> None:
        self._checked("broker_down", "rd_kafka_mock_broker_set_down", broker)

    def set_broker_up(self, broker: int) -> None:
        self._checked("broker_up", "rd_kafka_mock_broker_set_up", broker)

    def set_round_trip(self, broker: int, delay_ms: int) -> None:
        self._checked("round_trip", "rd_kafka_mock_broker_set_rtt", broker, delay_ms)

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        self._checked("set_leader", "rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker)

    def set_coordinator(self, group: str, broker: int) -> None:
        self._checked("set_coordinator", "rd_kafka_mock_coordinator_set", b"group", group.encode(), broker)

    def set_api_version(self, api_key: int, version_min: int, version_max: int) -> None:
        self._checked("api_version", "rd_kafka_mock_set_apiversion", api_key, version_min, version_max)

    def set_consumer_group_timing(self, heartbeat_interval_ms: int, session_timeout_ms: int) -> None:
        self._call("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", heartbeat_interval_ms)
        self._call("rd_kafka_mock_set_group_consumer_session_timeout_ms", session_timeout_ms)

    def start_tracking(self) -> None:
        self._call("rd_kafka_mock_start_request_tracking")

    def stop_tracking(self) -> None:
        self._call("rd_kafka_mock_stop_request_tracking")

    def requests(self) -> list[tuple[int, int, int]]:
        count = c_size_t(0)
        array = self._call("rd_kafka_mock_get_requests", byref(count))
        library = self._library  # the copies are ours from here on: no lock, no cluster needed
        try:
            return [
                (
                    library.rd_kafka_mock_request_timestamp(array[i]),
                    library.rd_kafka_mock_request_id(array[i]),
                    library.rd_kafka_mock_request_api_key(array[i]),
                )
                for i in range(count.value)
            ]
        finally:
            if array:
                library.rd_kafka_mock_request_destroy_array(array, count)

    def close(self) -> None:
        """Stop the cluster's threads and free it. Idempotent."""
        with self._lock:
            if self._cluster is None:
                return
            time.sleep(_COMMAND_GAP_S)
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._host)
            self._cluster = self._host = None

    # ctypes cannot say what a function returns: this is the one place where Any enters, and its callers name the type.
    def _call(self, name: str, *arguments: object) -> Any:
        with self._lock:
            if self._cluster is None:
                raise MockBrokerError(name, "the broker is closed")
            return getattr(self._library, name)(self._cluster, *arguments)

    def _checked(self, call: str, name: str, *arguments: object) -> None:
        time.sleep(_COMMAND_GAP_S)
        code: int = self._call(name, *arguments)
        if code:
            error = KafkaError(code)
            raise MockBrokerError(call, f"{error.str()} ({error.name()})")


def _load_library() -> ctypes.CDLL:
    # dlsym on the extension's handle also searches the libraries it links to: the same copy, and no path to guess.
    library = ctypes.CDLL(cimpl.__file__)
    for name, result, arguments in _SIGNATURES:
        try:
            function = getattr(library, name)
        except AttributeError:
            advice = "install confluent-kafka 2.15 or newer from its wheel"
            raise MockBrokerError("start", f"this librdkafka has no {name}; {advice}") from None
        function.restype = result
        function.argtypes = arguments
    return library


def _open_host(library: ctypes.CDLL) -> int:
    """A producer handle that produces nothing: librdkafka wants one to keep the books of a mock cluster."""
    text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
    conf = library.rd_kafka_conf_new()
    # Without this every connection cut on purpose is a line on stderr.
    library.rd_kafka_conf_set(conf, b"log_level", b"0", text, len(text))
    host: int | None = library.rd_kafka_new(_PRODUCER, conf, text, len(text))
    if not host:
        library.rd_kafka_conf_destroy(conf)  # owned by the handle only if there is one
        raise MockBrokerError("start", f"librdkafka refused a handle: {text.value.decode(errors='replace')}")
    return host
