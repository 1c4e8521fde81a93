"""Free ports of this machine, below the range that systems hand out to outgoing connections.

Refuses to know who takes them. Invariant: no port is named twice in one answer.
"""

from __future__ import annotations

import random
import socket

LOWEST, BEYOND = 20_000, 32_000
HOST = "127.0.0.1"


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on. Drawn by chance, so that two runs at once seldom meet."""
    found: list[int] = []
    candidates = random.SystemRandom().sample(range(LOWEST, BEYOND), 50 * count)
    for port in candidates:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"found no {count} free ports among {len(candidates)}")
