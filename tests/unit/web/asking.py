"""Asking a server as a probe, a scrape or a hostile page would: one request on a connection of its own."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.web import Server


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.text)

    def reasons(self) -> set[str]:
        """Names of the reasons in an answer about health."""
        return {reason["name"] for reason in self.json["reasons"]}


def ask(
    server: Server,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """One request."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read().decode())
    finally:
        connection.close()
