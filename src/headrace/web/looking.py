"""A look into records of an app's topics: the newest dead letters of a topic, or one record whole. Off unless it is wanted.

Decides which records may be asked for, and what an error is to whoever asks. Invariants: only with the token, and only
topics of the app; records are read by a client of their own, on a thread of their own, never by the app's consumer; what
is read, and how long, has a bound.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace import errors
from headrace._runtime import dead_letters as names
from headrace.ranges import Last, OffsetRange, read
from headrace.web.asked import Refused, asked_of, count_of, place_of, topic_of
from headrace.web.showing import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from headrace.app import App
    from headrace.ranges import StoredRecord

log = logging.getLogger("headrace.web")

READ_S = 8.0
"""Longest wait for offsets, and again for records."""
ANSWER_S = 20.0
LOOKS_MAX = 2
"""Looks at once: each has a client of its own. One that is over its time counts until it has ended."""
LETTERS_MAX = 20
MEMORY_BYTES_MAX = 16 * 1024 * 1024
VALUE_BYTES_MAX = 65_536
KEY_BYTES_MAX = 1024
HEADERS_MAX = 100
NOT_OF_READS = frozenset(
    {"isolation.level", "statistics.interval.ms", "stats_cb", "error_cb", "on_commit", "client.id"}
)
"""Settings of the app's consumer that a read chooses by itself, or that tell of the app's consumer alone."""
STATUSES: tuple[tuple[type[errors.HeadraceError], int], ...] = (
    (errors.OffsetsMissing, 404),
    (errors.TopicMissing, 404),
    (errors.RecordsLost, 410),
    (errors.TopicRemade, 410),
    (errors.NotAuthorized, 403),
    (errors.BrokerUnreachable, 504),
    (errors.ReadStalled, 504),
    (errors.ConfigError, 400),
    (errors.HeadraceError, 502),
)
"""The first row that fits. Each error says what to do."""


class Looking:
    """Answers with records. Methods run on the server's thread, reads on one each."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token
        # The server's thread alone.
        self._looks: set[Future[Any]] = set()

    def routes(self) -> list[BaseRoute]:
        """What may be asked."""
        return [
            Route("/records/dead-letters", self.dead_letters, methods=["POST"]),
            Route("/records/one", self.one, methods=["POST"]),
        ]

    async def dead_letters(self, request: Request) -> Response:
        """The newest dead letters of a topic, without their values."""

        def wanted(asked: Mapping[str, Any]) -> Callable[[], Any]:
            topic = topic_of(asked)
            if topic not in dead_letter_topics(self._app):
                raise Refused(403, "only dead-letter topics of this app")
            return lambda: {"topic": topic, "letters": self._letters(topic)}

        return await self._answer(request, "the newest dead letters", wanted)

    async def one(self, request: Request) -> Response:
        """One record, whole as far as it is not very long."""

        def wanted(asked: Mapping[str, Any]) -> Callable[[], Any]:
            (topic, partition), offset = place_of(asked), count_of(asked, "offset")
            if offset is None:
                raise Refused(400, "name an offset (a number)")
            if topic not in topics_of(self._app):
                raise Refused(403, "only topics of this app, and its dead letters")
            return lambda: self._record(topic, partition, offset)

        return await self._answer(request, "a record", wanted)

    async def _answer(
        self, request: Request, what: str, wanted: Callable[[Mapping[str, Any]], Callable[[], Any]]
    ) -> Response:
        try:
            asked = await asked_of(request, self._token)
            look = self._begun(wanted(asked))
            who = request.client.host if request.client else "somebody"
            log.warning("%s asked for %s over HTTP: %s", who, what, asked)
            answered = asyncio.wrap_future(look)
            # Nobody may be left to hear of a late error.
            answered.add_done_callback(lambda done: done.cancelled() or done.exception())
            async with asyncio.timeout(ANSWER_S):
                return JSONResponse(await asyncio.shield(answered))
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        except TimeoutError:
            return JSONResponse({"error": f"not read within {ANSWER_S:g} s; try again"}, 504)
        except errors.HeadraceError as error:
            status = next(status for kind, status in STATUSES if isinstance(error, kind))
            return JSONResponse({"error": str(error)}, status)

    def _begun(self, look: Callable[[], Any]) -> Future[Any]:
        self._looks = {one for one in self._looks if not one.done()}
        if len(self._looks) >= LOOKS_MAX:
            raise Refused(503, f"{LOOKS_MAX} are looking already; try again")
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(look())
            except BaseException as error:  # noqa: BLE001 - it is the answer of whoever asked
                future.set_exception(error)

        # Daemon: a broker that does not answer must not keep the process alive.
        threading.Thread(target=run, name="headrace-look", daemon=True).start()
        self._looks.add(future)
        return future

    # On a thread of its own

    def _letters(self, topic: str) -> list[dict[str, Any]]:
        with self._read(topic, start=Last(LETTERS_MAX)) as records:
            newest = heapq.nlargest(LETTERS_MAX, map(_without_value, records), key=_moment)
        return [_letter(record) for record in newest]

    def _record(self, topic: str, partition: int, offset: int) -> dict[str, Any]:
        with self._read([OffsetRange(topic, partition, offset, offset + 1)]) as records:
            found = next(iter(records), None)
        if found is None:
            raise Refused(404, "no record has this offset: it was compacted, aborted, or marks a transaction")
        return record_facts(found)

    def _read(self, topics: Any, **bounds: Any) -> Any:
        settings = self._app.settings
        of_user = settings.librdkafka
        isolation = str(of_user.get("isolation.level", "read_committed"))
        return read(
            topics,
            bootstrap_servers=settings.bootstrap_servers,
            as_="records",
            parallelism=1,
            isolation=cast("Literal['read_committed', 'read_uncommitted']", isolation),
            timeout_s=READ_S,
            memory_bytes_max=MEMORY_BYTES_MAX,
            librdkafka={name: value for name, value in of_user.items() if name not in NOT_OF_READS},
            **bounds,
        )


def dead_letter_topics(app: App) -> list[str]:
    """Where the app's dead letters go."""
    return sorted({one.dead_letter for one in app.subscriptions if one.dead_letter is not None})


def topics_of(app: App) -> set[str]:
    """Those that the app reads, as far as it knows them, and those of its dead letters."""
    held = {part.topic for part in app.snapshot().engine.partitions}
    return held.union(dead_letter_topics(app), *(one.topics for one in app.subscriptions))


def record_facts(record: StoredRecord) -> dict[str, Any]:
    """A record for the page. Bytes are text, with what is none escaped, and how many there are."""
    return {
        **_known(record),
        "value": _content(record.value, VALUE_BYTES_MAX),
        "headers": [
            [as_text(name.encode(), KEY_BYTES_MAX), _content(value, KEY_BYTES_MAX)]
            for name, value in record.headers[:HEADERS_MAX]
        ],
        "headers_more": max(0, len(record.headers) - HEADERS_MAX),
    }


def _known(record: StoredRecord) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _content(record.key, KEY_BYTES_MAX),
    }


def _content(raw: bytes | None, bytes_max: int) -> dict[str, Any] | None:
    if raw is None:
        return None
    part = raw[:bytes_max]
    return {
        "text": as_text(part, 4 * bytes_max, keep="\n\t"),
        "bytes": len(raw),
        "cut": len(raw) > bytes_max,
    }


def _letter(record: StoredRecord) -> dict[str, Any]:
    told = {name: as_text(value or b"", KEY_BYTES_MAX) for name, value in record.headers}
    place = told.get(names.TOPIC, ""), told.get(names.PARTITION, ""), told.get(names.OFFSET, "")
    return {
        **_known(record),
        "from": "{}[{}]@{}".format(*place) if all(place) else "",
        "attempts": told.get(names.ATTEMPTS, ""),
        "error": f"{told.get(names.ERROR_TYPE, '')}: {told.get(names.ERROR_MESSAGE, '')}".strip(": "),
    }


def _without_value(record: StoredRecord) -> StoredRecord:
    return record._replace(value=None)


def _moment(record: StoredRecord) -> tuple[int, int]:
    return record.timestamp_ms or 0, record.offset
