"""A reporter that sends StatsD lines over UDP.

Decides names and lines. Invariant: no line says a number that is not known, and no packet is larger than `PACKET_BYTES_MAX`,
so that none is broken up on its way.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from headrace.config import require_count
from headrace.errors import ConfigError
from headrace.observe.metrics import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.observe.metrics import Sample
    from headrace.observe.reporting import Report

PACKET_BYTES_MAX = 1432
"""What fits into one Ethernet frame; StatsD servers read one packet of several lines as well as several packets."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


class StatsD:
    """Sends each value as a StatsD gauge, `prefix.group.name.label...:value|g`, over UDP; unknown values are left out.

    Counters are sent as gauges, too: they are totals, and StatsD's own counters add up what they are sent. Characters
    that StatsD gives a meaning to, in a group, topic or handler, become `_`.
    host, port: of the server. prefix: of all names.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8125, *, prefix: str = "headrace") -> None:
        if not isinstance(host, str) or not host:
            raise ConfigError("StatsD.host", host, "a host name or address")
        require_count("StatsD.port", port, 1, 65_535)
        if not isinstance(prefix, str):
            raise ConfigError("StatsD.prefix", prefix, "a string")
        self._address = (host, port)
        self._prefix = prefix
        self._socket: socket.socket | None = None

    def report(self, report: Report) -> None:
        """Send it. Raises `OSError` where the host cannot be found; whether anybody hears, UDP does not tell."""
        if self._socket is None:
            # The address is looked up once: a slow name server should not cost every report its time.
            kind, _, _, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(kind, socket.SOCK_DGRAM)
            self._socket.connect(address)
        for packet in packets(self._lines(report)):
            try:
                self._socket.send(packet)
            except ConnectionRefusedError:
                continue  # the answer to an earlier packet: nobody listens there yet
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the socket."""
        found, self._socket = self._socket, None
        if found is not None:
            found.close()

    def _lines(self, report: Report) -> Iterator[bytes]:
        for sample in report.samples:
            if not isinstance(sample.value, Unknown):
                name = _name(self._prefix, report.group_id, sample)
                if sample.value < 0:
                    yield f"{name}:0|g".encode()  # a leading sign means "less by" to StatsD
                yield f"{name}:{sample.value}|g".encode()

    def __repr__(self) -> str:
        return f"StatsD({self._address[0]!r}, {self._address[1]})"


def packets(lines: Iterator[bytes]) -> Iterator[bytes]:
    """As many lines to a packet as fit."""
    packet = b""
    for line in lines:
        if packet and len(packet) + 1 + len(line) > PACKET_BYTES_MAX:
            yield packet
            packet = b""
        packet = packet + b"\n" + line if packet else line
    if packet:
        yield packet


def _name(prefix: str, group_id: str, sample: Sample) -> str:
    own = sample.metric.name.removeprefix("headrace_")
    words = (group_id, own, *sample.labels)
    parts = [_NOT_PLAIN.sub("_", word) for word in words]
    return ".".join([prefix, *parts] if prefix else parts)
