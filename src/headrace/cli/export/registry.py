"""Schemas by their numbers, from a schema registry.

Decides what is asked and how often; refuses to know what is decoded with it. Invariant: that a registry does not answer is
never taken for a record that does not decode; no message and no other host gets the password of its address.
"""

from __future__ import annotations

import base64
import functools
import json
import time
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final, cast, final
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, build_opener

from headrace.cli.exits import Failed, Unusable
from headrace.cli.export.avro import fastavro
from headrace.cli.export.decoding import Undecodable
from headrace.web.remote import NoRedirect

SCHEMAS_MAX: Final = 1000
"""So many are remembered; topics have a few."""

TRIES_MAX: Final = 3
RETRY_S: Final = 0.5
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
NO_SUCH_SCHEMA: Final = frozenset({40401, 40402, 40403})
"""Subject, version, schema: what a registry says has none. Any other 404 is of a server that is no registry, or not there."""


@final
class Registry:
    """One registry. Used by one thread."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """url: with `user:password@` if it wants them. Raises `Unusable`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unusable("--registry takes an address, such as http://localhost:8081")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._host = host if port is None else f"{host}:{port}"
        self._root = urlunsplit((parts.scheme, self._host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        self._timeout_s = timeout_s
        # Redirected, urllib would send the password to whoever is named there.
        self._opener = build_opener(NoRedirect())
        self._known = functools.lru_cache(SCHEMAS_MAX)(self._asked)

    def schema(self, number: int) -> Any:
        """The schema of a number, parsed. Raises `Undecodable` if there is none, `Failed` if the registry does not say."""
        found = self._known(number)
        if isinstance(found, str):
            raise Undecodable(found)
        return found[0]

    def _asked(self, number: int) -> str | tuple[Any]:
        """The schema; or why there is none, which is remembered, too."""
        try:
            return (
                self._parsed(self._get(f"schemas/ids/{number}", f"schema {number}"), f"schema {number}", {}),
            )
        except Undecodable as error:
            return str(error)
        except Failed:
            raise
        except Exception as error:  # noqa: BLE001 - of a schema that is none, fastavro raises what comes
            return f"has schema {number}, which cannot be used ({type(error).__name__}: {error})"

    def _parsed(self, found: dict[str, Any], what: str, named: dict[str, Any]) -> Any:
        kind = found.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise Undecodable(f"has {what}, which is of {kind} and not of Avro")
        for reference in found.get("references") or ():
            if reference["name"] not in named:
                subject, version = reference["subject"], reference["version"]
                path = f"subjects/{quote(subject, safe='')}/versions/{version}"
                self._parsed(self._get(path, f"{subject} version {version}"), subject, named)
        return fastavro().parse_schema(json.loads(found["schema"]), named_schemas=named, expand=True)

    def _get(self, path: str, what: str) -> dict[str, Any]:
        problem = ""
        for attempt in range(TRIES_MAX):
            if attempt:
                time.sleep(RETRY_S)
            try:
                code, reason, text = self._answer(path)
            except (OSError, HTTPException) as error:
                problem = str(getattr(error, "reason", error))
                continue
            said = _object(text)
            if code == HTTPStatus.OK and isinstance(said.get("schema"), str):
                return said
            if code == HTTPStatus.NOT_FOUND and said.get("error_code") in NO_SUCH_SCHEMA:
                raise Undecodable(f"has {what}, which the registry at {self._host} does not know")
            problem = "its answer holds no schema"
            if code != HTTPStatus.OK:
                problem = f"{code} {reason}{_advice(code)}"
            if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.INTERNAL_SERVER_ERROR:
                break
        raise Failed(f"the schema registry at {self._host} does not give {what}: {problem}")

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        """Code, reason and body. Raises `OSError`, `HTTPException`."""
        request = Request(f"{self._root}/{path}", headers=self._headers)  # noqa: S310 - http or https, by __init__
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return HTTPStatus.OK, "", answer.read(ANSWER_BYTES_MAX)
        except HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.reason, refusal.read(ANSWER_BYTES_MAX)


def _object(text: bytes) -> dict[str, Any]:
    """What an answer says; nothing if it is no object of JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _advice(code: int) -> str:
    if code == HTTPStatus.NOT_FOUND:
        return "; is the path in its address right?"
    if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        return "; name the address that answers itself: the password is for no other"
    return ""
