"""Keys and values in Avro: plain, by a schema from a file; or behind the number of a schema that a registry has.

Decides how Avro's values are written in JSON; refuses to guess the schema of bytes that do not name it. fastavro is imported
when it is first needed: it is the extra `headrace[avro]`. Invariant: what is left over after a value is an error.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import math
from datetime import date, datetime, time
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

from headrace.cli.exits import Unusable
from headrace.cli.export.decoding import Undecodable
from headrace.errors import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADER_BYTES: Final = 5
"""A zero byte, and the number of a schema in four."""


class Schemas(Protocol):
    """Who knows the schema of a number."""

    def schema(self, number: int) -> Any:
        """It, parsed. Raises `Undecodable` if there is none, and `Failed` if nobody answers."""
        ...


def fastavro() -> Any:
    """The module. Raises `ExtraMissing`."""
    try:
        return importlib.import_module("fastavro")
    except ImportError as error:
        if error.name != "fastavro":
            raise
        raise ExtraMissing("--decode avro", "avro") from error


def schema_of(path: Path) -> tuple[Any, str]:
    """The schema that a file holds, and what tells it from others. Raises `Unusable`."""
    library = fastavro()
    try:
        raw = path.read_bytes()
        schema = library.parse_schema(json.loads(raw))
    except OSError as error:
        raise Unusable(f"--schema {path}: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - of a schema that is none, fastavro raises what comes
        raise Unusable(f"--schema {path}: is no Avro schema ({type(error).__name__}: {error})") from None
    return schema, hashlib.sha256(raw).hexdigest()[:16]


@final
class PlainAvro:
    """One value after another schema's rules: the bytes are all of it."""

    def __init__(self, schema: Any) -> None:
        self._read = fastavro().schemaless_reader
        self._schema = schema

    def parsed(self, raw: bytes) -> Any:
        """The value."""
        try:
            return _whole(self._read, raw, self._schema, None)
        except Undecodable as error:
            if raw[:1] == b"\x00" and len(raw) > HEADER_BYTES:
                raise Undecodable(f"{error}; if a registry has its schema, say --registry") from None
            raise

    def text(self, raw: bytes) -> str:
        """The value as JSON."""
        return json.dumps(self.parsed(raw), ensure_ascii=False)


@final
class RegistryAvro:
    """A value behind a header that names its schema. With a schema of ours, it is read as that."""

    def __init__(self, schemas: Schemas, ours: Any = None) -> None:
        self._read = fastavro().schemaless_reader
        self._schemas = schemas
        self._ours = ours

    def parsed(self, raw: bytes) -> Any:
        """The value."""
        if len(raw) < HEADER_BYTES or raw[0]:
            raise Undecodable("does not begin with the number of a schema, as values of a registry do")
        schema = self._schemas.schema(int.from_bytes(raw[1:HEADER_BYTES], "big"))
        return _whole(self._read, raw[HEADER_BYTES:], schema, self._ours)

    def text(self, raw: bytes) -> str:
        """The value as JSON."""
        return json.dumps(self.parsed(raw), ensure_ascii=False)


def _whole(read: Any, raw: bytes, theirs: Any, ours: Any) -> Any:
    file = BytesIO(raw)
    try:
        value = read(file, theirs, ours)
    except Exception as error:  # noqa: BLE001 - of bytes that are no such value, fastavro raises what comes
        raise Undecodable(f"is not Avro by that schema ({type(error).__name__}: {error})") from None
    left = len(raw) - file.tell()
    if left:
        raise Undecodable(f"is not Avro by that schema ({left} bytes are left over)")
    return plain(value)


def plain(value: Any) -> Any:
    """A value of Avro's as JSON has it: moments in ISO 8601, decimals as texts, bytes as {"base64": ...}."""
    match value:
        case None | bool() | int() | str():
            return value
        case dict():
            return {name: plain(one) for name, one in cast("dict[str, Any]", value).items()}
        case list():
            return [plain(one) for one in cast("Sequence[Any]", value)]
        case float():
            # JSON has no such numbers; these are the names that Avro's own JSON gives them.
            return value if math.isfinite(value) else _ODD[str(value)]
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)


_ODD: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
