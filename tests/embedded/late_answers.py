"""A process that asks about its group while no coordinator is there, gives up, and lives on until there is one.

Run as `python -m tests.embedded.late_answers CASE`; one case a process, since librdkafka ends it where a case is not held.
Says "alive" at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import AdminClient

from headrace import App, AppState, Connections
from headrace._client import inspection, lookout
from headrace._client.lookout import KafkaLookout
from headrace._client.settings import ConnectionSettings
from headrace.testing import MockBroker
from tests.cycles import handle_nothing
from tests.embedded.runtime.support import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

GROUP = "billing"
QUICK = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "log_level": 0}
ENDS_BY_S = 30.0
AFTERMATH_S = 2.0
"""The end comes as soon as the coordinator is found: it is looked for every second."""


def by_librdkafka(broker: MockBroker) -> None:
    """What is to be avoided: the request's own time ends, and the client stays."""
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUICK})
    client.list_topics(timeout=10)
    broker.broker_down()
    asked = client.describe_consumer_groups([GROUP], request_timeout=1.0)[GROUP]
    until(asked.done)
    broker.broker_up()
    threading.Event().wait(ENDS_BY_S)


def by_impatience(broker: MockBroker) -> None:
    """The lookout's patience ends; what it asks next is answered."""
    lookout.PATIENCE_S = 0.5
    asking = KafkaLookout(ConnectionSettings(broker.bootstrap_servers, GROUP, librdkafka=dict(QUICK)))
    asking.group(5.0)
    broker.broker_down()

    def is_out() -> bool:
        asking.group(0.1)
        return asking._asked is not None

    # A question that goes with its connection is answered at once, by an error.
    until(is_out)
    until(lambda: asking.group(0.1) is None and asking._asked is None)
    asking.group(0.1)
    broker.broker_up()
    until(lambda: asking.group(0.1) is None and asking._asked is None)
    time.sleep(AFTERMATH_S)
    asking.close()


def by_a_stop(broker: MockBroker) -> None:
    """The app stops while a question is out. The app is kept, as an embedding program would; its request's time ends."""
    inspection.REQUEST_S = 5.0
    asked: list[Future[Any]] = []
    ask = inspection.Inspector.ask_group

    def noted(asking: inspection.Inspector, group: str) -> Future[Any]:
        asked.append(ask(asking, group))
        return asked[-1]

    setattr(inspection.Inspector, "ask_group", noted)  # noqa: B010 - an assignment is refused by the type checkers
    connections = Connections(max=2, cooldown_s=1.0, grow_when="partitions")
    app = App(broker.bootstrap_servers, GROUP, librdkafka=dict(QUICK), connections=connections)
    app.subscribe("orders")(handle_nothing)
    app.start()
    until(lambda: asked and asked[-1].done())
    broker.broker_down()
    until(lambda: not asked[-1].done())
    out_since = time.monotonic()
    app.stop(timeout_s=1.0)
    time.sleep(max(0.0, out_since + inspection.REQUEST_S + 0.3 - time.monotonic()))
    broker.broker_up()
    time.sleep(AFTERMATH_S)
    assert app.state is AppState.STOPPED
    assert not asked[-1].done()


def looked(app: App) -> int:
    """How often it was decided about connections."""
    scaling = app.snapshot().scaling
    return 0 if scaling is None else sum(count for _, count in scaling.decisions)


CASES: dict[str, Callable[[MockBroker], None]] = {
    case.__name__: case for case in (by_librdkafka, by_impatience, by_a_stop)
}


if __name__ == "__main__":
    with MockBroker(topics={"orders": 2}) as there:
        CASES[sys.argv[1]](there)
    sys.stdout.write("alive\n")
