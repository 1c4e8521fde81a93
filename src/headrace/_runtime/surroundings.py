"""What an app takes from outside: a client, a producer, an inbox, a clock. Kafka's and the machine's by default.

Decides nothing; it is the one seam at which a trial without any broker replaces them. Invariant: making the real ones
imports the client library, which takes half a second; naming them does not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace._runtime.inbox import ThreadInbox
from headrace._runtime.parts import POLL_IDLE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._client.settings import ConnectionSettings
    from headrace._runtime.inbox import Inbox
    from headrace._runtime.lookout import Lookout
    from headrace.ports import Client, Producer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """make_client: of the connection with this number, on its owner thread, again for each rebuilding. make_producer, make_inbox: once, at the start.

    clock: of the owner, the engine and the executors; monotonic. poll_idle_s: how long a poll may wait with nothing to do.
    """

    make_client: Callable[[int], Client]
    make_producer: Callable[[], Producer]
    make_inbox: Callable[[], Inbox] = ThreadInbox
    clock: Callable[[], float] = time.monotonic
    poll_idle_s: float = POLL_IDLE_S
    make_lookout: Callable[[], Lookout] | None = None


def kafka(connection: ConnectionSettings) -> Surroundings:
    """A real Kafka."""

    def make_client(number: int) -> Client:
        from headrace._client.consumer import KafkaClient

        return KafkaClient(connection, connection=number)

    def make_lookout() -> Lookout:
        from headrace._client.lookout import KafkaLookout

        return KafkaLookout(connection)

    def make_producer() -> Producer:
        from headrace._client.producer import KafkaProducer

        return KafkaProducer(connection)

    return Surroundings(make_client, make_producer, make_lookout=make_lookout)
