"""The child process behind `MockBrokerProcess`: runs the cluster and obeys commands until its parent is gone.

Started as `python -m headrace.testing._broker_host FD SETTINGS`; not for users. One JSON array per message:
a command and its arguments in, `["ok", result]` or `["error", call, problem]` out. Invariant: it never outlives the
parent, be it closed, dead or killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from headrace.testing._cluster import ClusterSettings, MockBrokerError
from headrace.testing._mock_api import MockCluster

if TYPE_CHECKING:
    from headrace.testing._cluster import ClusterControl

# The end of the pipe tells of the parent's death, unless a child that it forked holds the other end open too.
_PARENT_CHECK_S: Final = 0.5


def serve(connection: Connection[bytes, bytes], cluster: ClusterControl) -> None:
    """Obey until the pipe ends or the parent is another process."""
    parent = os.getppid()
    _answer(connection, "ok", cluster.bootstrap_servers)
    while True:
        while not connection.poll(_PARENT_CHECK_S):
            if os.getppid() != parent:
                return
        command, *arguments = json.loads(connection.recv_bytes())
        try:
            result: Any = getattr(cluster, command)(*arguments)
        except MockBrokerError as error:
            _answer(connection, "error", error.call, error.problem)
        else:
            _answer(connection, "ok", result)


def _answer(connection: Connection[bytes, bytes], *parts: object) -> None:
    connection.send_bytes(json.dumps(parts).encode())


def main(descriptor: str, settings: str) -> None:
    """Start the cluster, say where it is, serve."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent decides when to end
    connection: Connection[bytes, bytes] = Connection(int(descriptor))
    try:
        cluster = MockCluster(ClusterSettings(**json.loads(settings)))
    except MockBrokerError as error:
        _answer(connection, "error", error.call, error.problem)
        return
    try:
        serve(connection, cluster)
    except (EOFError, ConnectionError):
        pass  # the parent closed its end, or died
    finally:
        cluster.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
