"""The one Kafka client of an owner: made, joined, closed, and made anew; always on the owner thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core import notices
from headrace.errors import BrokerUnreachable

if TYPE_CHECKING:
    import threading

    from headrace._runtime.parts import Parts
    from headrace.ports import Client, RebalanceListener

AWAITED_FIRST_S = 3.0
"""When a start that waits for a broker says so: a broker that restarts elsewhere has answered by then."""
AWAITED_AGAIN_S = 60.0
CHECK_SLICE_S = 1.0
"""How long a start waits for a broker before it looks whether it should stop."""


REBUILD_BACKOFF_S = 1.0
REBUILD_BACKOFF_MAX_S = 60.0


def rebuild_pause_s(rebuilds: int) -> float:
    """How long to wait before a connection is made anew for the nth time: doubling, with a cap."""
    return float(min(REBUILD_BACKOFF_S * 2 ** min(rebuilds - 1, 10), REBUILD_BACKOFF_MAX_S))


class Connection:
    """The client of one owner. Owner thread only."""

    __slots__ = ("_parts", "_stop_asked", "client", "closing")

    def __init__(self, parts: Parts, stop_asked: threading.Event) -> None:
        self._parts = parts
        self._stop_asked = stop_asked
        self.client: Client | None = None
        # While it closes: it calls back, and the last commits go through it.
        self.closing: Client | None = None

    @property
    def usable(self) -> Client | None:
        """The client to send through, also while it closes."""
        return self.client or self.closing

    def make(self) -> Client:
        """Make the client; nothing is sent yet."""
        self.client = self._parts.make_client()
        return self.client

    def check(self) -> None:
        """Wait for a broker and the topics, in slices so that a stop is heard; returns early then.

        Raises `BrokerUnreachable`, `TopicMissing`, `NotAuthorized`.
        """
        assert self.client is not None
        clock, connect_s = self._parts.clock, self._parts.timeouts.connect_s
        began = clock()
        tell_at = began + AWAITED_FIRST_S
        while not self._stop_asked.is_set():
            left_s = CHECK_SLICE_S if connect_s is None else began + connect_s - clock()
            try:
                self.client.check(self._parts.check_topics, max(0.1, min(CHECK_SLICE_S, left_s)))
            except BrokerUnreachable as error:
                if connect_s is not None and clock() - began >= connect_s:
                    raise BrokerUnreachable(error.bootstrap_servers, connect_s, error.detail) from None
                if clock() >= tell_at:
                    tell_at = clock() + AWAITED_AGAIN_S
                    waited_s = round(clock() - began, 1)
                    self._parts.tell(notices.BrokerAwaited(error.bootstrap_servers, waited_s, error.detail))
            else:
                return

    def join(self, listener: RebalanceListener) -> None:
        """Join the group."""
        assert self.client is not None
        self.client.subscribe(self._parts.topics, listener)

    def close(self, timeout_s: float) -> None:
        """Leave the group and free the client; does nothing without one."""
        client, self.client = self.client, None
        if client is None:
            return
        self.closing = client
        try:
            if not client.close(timeout_s):
                self._parts.tell(
                    notices.ClientFault("_TIMED_OUT", "the client did not close in time; left behind")
                )
        finally:
            self.closing = None
