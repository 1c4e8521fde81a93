"""What a request asks for that needs the token: checked here before anything is done.

Decides which requests are refused, and with what status. Invariant: without the token, sent in a header that no other
site's page can make a browser send, nothing is carried out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from headrace.web.guarding import holds_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

BODY_BYTES_MAX = 4096


class Refused(Exception):
    """A request that is not carried out: a status and what to change."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        super().__init__(problem)


async def asked_of(request: Request, token: str) -> Mapping[str, Any]:
    """The request's JSON object. Raises `Refused`."""
    origin, host = request.headers.get("origin"), request.headers["host"]
    if origin is not None and origin.partition("://")[2] != host:
        raise Refused(403, "asked by a page of another site")
    if not holds_token(request.headers.get("authorization"), token):
        raise Refused(401, "the token is wrong; send it as `Authorization: Bearer TOKEN`")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused(415, "send JSON as application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Refused(413, f"at most {BODY_BYTES_MAX} bytes")
    try:
        asked: object = json.loads(body)
    except ValueError:
        raise Refused(400, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise Refused(400, "the body is no JSON object")
    return cast("dict[str, Any]", asked)


def topic_of(asked: Mapping[str, Any]) -> str:
    """The topic that is named. Raises `Refused`."""
    topic = asked.get("topic")
    if not isinstance(topic, str) or not topic:
        raise Refused(400, "name a topic (a string)")
    return topic


def place_of(asked: Mapping[str, Any]) -> tuple[str, int]:
    """The partition that is named. Raises `Refused`."""
    topic, partition = asked.get("topic"), count_of(asked, "partition")
    if not isinstance(topic, str) or partition is None:
        raise Refused(400, "name a topic (a string) and a partition (a number)")
    return topic, partition


def count_of(asked: Mapping[str, Any], name: str) -> int | None:
    """A number that is not negative; None where there is no such."""
    found = asked.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
