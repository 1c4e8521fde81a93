"""A TCP proxy between members and brokers that cuts, delays and silences one client at a time.

Decides how bytes travel; refuses to know Kafka but for one thing: the first request on a connection names its client
(`client.id`), and faults are set by that name, for all connections of a member. Invariant: without a fault, bytes pass unchanged and in order.
No well-kept package does this: Toxiproxy is a Go program, and the proxies on PyPI know no faults.
"""

from __future__ import annotations

import asyncio
import re
import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.chaos.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_BYTES = 65_536
FIRST_REQUEST_BYTES_MAX = 100_000
CALL_WAIT_S = 10.0
FURTHER = re.compile(r"(.+\.\d+)-\d+")
"""The client.id of one more connection of a member: the member's, and a number."""


class Link(StrEnum):
    """How the connections of one client are. The value is its name in reports."""

    SOUND = "sound"
    CUT = "cut"  # open connections are reset, new ones too
    HALF_OPEN = "half-open"  # connections stay, bytes vanish both ways
    DEAF = "deaf"  # requests arrive, answers vanish
    DELAYED = "delayed"  # every chunk waits a while, both ways


@dataclass(frozen=True, slots=True)
class _Pair:
    """One connection of a client, and its other half to the broker. Compared by identity."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter

    def reset(self) -> None:
        self.near.transport.abort()
        self.far.transport.abort()


class Proxy:
    """Listens on one port a broker. `set` may be called from any thread; all else happens on the proxy's own."""

    def __init__(self, routes: Sequence[tuple[int, int]]) -> None:
        """`routes`: (port to listen on, port of the broker)."""
        self._routes = tuple(routes)
        self._links: dict[str, Link] = {}  # proxy's thread
        self._delays_s: dict[str, float] = {}  # proxy's thread
        self._pairs: dict[str, set[_Pair]] = {}  # proxy's thread
        self._serving: set[asyncio.Task[None]] = set()  # proxy's thread
        self._servers: list[asyncio.Server] = []  # proxy's thread
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)

    def start(self) -> None:
        """Listen; returns when every port is open."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(CALL_WAIT_S)

    def set(self, client: str, link: Link, delay_s: float = 0.0) -> None:
        """From now on the connections of this client are like that. Returns when it is so."""
        self._call(lambda: self._apply(client, link, delay_s))

    def connections(self, client: str) -> int:
        """How many connections this client has."""
        found: list[int] = []
        self._call(lambda: found.append(len(self._pairs.get(client, ()))))
        return found[0]

    def close(self) -> None:
        """Reset everything and end."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(CALL_WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_WAIT_S)
        self._loop.close()

    def _call(self, what: Callable[[], object]) -> None:
        async def inside() -> None:
            what()

        asyncio.run_coroutine_threadsafe(inside(), self._loop).result(CALL_WAIT_S)

    # The proxy's thread

    def _apply(self, client: str, link: Link, delay_s: float) -> None:
        before = self._links.get(client, Link.SOUND)
        self._links[client] = link
        self._delays_s[client] = delay_s
        # Bytes vanished: a stream cannot go on behind a hole, so the connection ends with the silence.
        if link is Link.CUT or (before in {Link.HALF_OPEN, Link.DEAF} and link is not before):
            for pair in tuple(self._pairs.get(client, ())):
                pair.reset()

    async def _listen(self) -> None:
        for port, broker in self._routes:
            server = await asyncio.start_server(self._acceptor(broker), HOST, port)
            self._servers.append(server)

    def _acceptor(self, broker: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._serve(reader, writer, broker))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

        return accept

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, broker: int) -> None:
        try:
            first = await _first_request(reader)
            client = client_of(first)
            if self._links.get(client) is Link.CUT:
                return
            far = await asyncio.open_connection(HOST, broker)
            try:
                await self._pass_both_ways(client, first, (reader, writer), far)
            finally:
                far[1].transport.abort()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return
        finally:
            writer.transport.abort()

    async def _pass_both_ways(
        self,
        client: str,
        first: bytes,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        pair = _Pair(near[1], far[1])
        pairs = self._pairs.setdefault(client, set())
        pairs.add(pair)
        try:
            if self._links.get(client) is not Link.HALF_OPEN:
                far[1].write(first)
            there = asyncio.create_task(self._pump(client, near[0], far[1], answers=False))
            back = asyncio.create_task(self._pump(client, far[0], near[1], answers=True))
            _, pending = await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        finally:
            pairs.discard(pair)

    async def _pump(
        self, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                link = self._links.get(client, Link.SOUND)
                if link is Link.DELAYED:
                    await asyncio.sleep(self._delays_s[client])
                elif link is Link.HALF_OPEN or (link is Link.DEAF and answers):
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


async def _first_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    (length,) = struct.unpack(">i", head)
    if not 0 <= length <= FIRST_REQUEST_BYTES_MAX:
        raise ValueError(f"not a request of Kafka's: {length} bytes")
    return head + await reader.readexactly(length)


def client_of(request: bytes) -> str:
    """The member that a request comes from, by its client.id: length, api key, api version, correlation id, then a string. Raises `ValueError`."""
    if len(request) < 14:
        raise ValueError(f"not a request of Kafka's: {len(request)} bytes")
    (length,) = struct.unpack_from(">h", request, 12)
    name = "" if length < 0 else request[14 : 14 + length].decode()
    further = FURTHER.fullmatch(name)
    return name if further is None else further[1]
