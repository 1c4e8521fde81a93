"""`headrace read --decode avro` on the embedded broker: by a schema from a file, and by a registry over HTTP."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import socket
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import UUID

import fastavro
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit, Failed, Unusable
from headrace.cli.export import registry as registries
from headrace.cli.export.avro import plain
from headrace.cli.export.decoding import Undecodable
from headrace.cli.export.registry import Registry
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[Exit, str, str]]

PLACE = {"type": "record", "name": "a.Place", "fields": [{"name": "town", "type": "string"}]}
ORDER = {
    "type": "record",
    "name": "a.Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
        {"name": "note", "type": ["null", "string"]},
    ],
}
YOUNGER = ORDER | {"fields": [{"name": "id", "type": "double"}, {"name": "new", "type": "int", "default": 7}]}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
KEY = {"type": "record", "name": "a.Key", "fields": [{"name": "n", "type": "int"}]}
MOVE = {
    "type": "record",
    "name": "a.Move",
    "fields": [{"name": "origin", "type": "a.Place"}, {"name": "target", "type": "a.Place"}],
}
MOVE_VALUE = {"origin": {"town": "Bern"}, "target": {"town": "Graz"}}


def order(number: int) -> dict[str, Any]:
    return {"id": number, "at": NOON, "price": Decimal("12.30"), "note": None}


def avro(schema: Any, value: Any) -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return file.getvalue()


def framed(number: int, schema: Any, value: Any) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + avro(schema, value)


MOVES = [PLACE, MOVE]
ANSWERS: dict[str, Any] = {
    "/api/schemas/ids/1": {"schema": json.dumps(ORDER)},
    "/api/schemas/ids/2": {"schema": json.dumps(KEY), "schemaType": "AVRO"},
    "/api/schemas/ids/3": {
        "schema": json.dumps(MOVE),
        "references": [{"name": "a.Place", "subject": "places/all", "version": 4}],
    },
    "/api/subjects/places%2Fall/versions/4": {"schema": json.dumps(PLACE)},
    "/api/schemas/ids/5": {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"},
    "/api/schemas/ids/6": {"schema": '{"type": "nothing"}'},
}


class FakeRegistry(ThreadingHTTPServer):
    """Answers as a schema registry does, to those who know the password; notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.asked: list[str] = []
        self.broken: list[int] = []
        """Codes of the next answers."""
        self.raw: list[bytes] = []
        """The next answers, byte by byte."""

    @property
    def url(self) -> str:
        return f"http://reader:p%40ss@127.0.0.1:{self.server_address[1]}/api/"


class _Answering(BaseHTTPRequestHandler):
    server: FakeRegistry  # pyright: ignore[reportIncompatibleVariableOverride] # made by no other

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.raw:
            self.wfile.write(self.server.raw.pop())
            return
        known = self.headers["Authorization"] == "Basic " + base64.b64encode(b"reader:p@ss").decode()
        found = ANSWERS.get(self.path)
        code = self.server.broken.pop() if self.server.broken else 401 if not known else 200 if found else 404
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(found if code == 200 else {"error_code": 40403}).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def broker() -> Iterator[MockBroker]:
    """`plain`: three orders and a null; `mixed`: an order, and what is none; `framed`: by a registry."""
    with MockBroker(topics={"plain": 1, "mixed": 1, "framed": 1, "strange": 1}) as broker:
        broker.produce("plain", [(f"k{n}", avro(ORDER, order(n))) for n in range(3)])
        broker.produce("plain", [(None, None)])
        whole = avro(ORDER, order(9))
        broker.produce("mixed", [("a", whole), ("b", whole[:-3]), ("c", whole + b"x")])
        broker.produce("mixed", [("d", framed(1, ORDER, order(1))), (b"\xff", b""), ("f", whole)])
        broker.produce("framed", [(framed(2, KEY, {"n": n}), framed(1, ORDER, order(n))) for n in range(50)])
        broker.produce("framed", [(None, b"\x00\x00\x00\x00\x03" + avro(MOVES, ("a.Move", MOVE_VALUE))[1:])])
        broker.produce("strange", [("k", b"plain"), ("k", b"\x00\x00\x00\x01\x00rest"), ("k", b"")])
        broker.produce("strange", [("k", b"\x00\x00\x00\x00" + bytes([n]) + b"rest") for n in (5, 6)])
        yield broker


@pytest.fixture
def command(broker: MockBroker, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `headrace read --decode avro`: its code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[Exit, str, str]:
        options = ("--decode", "avro", "-b", broker.bootstrap_servers, "--timeout", "5", "-q")
        code = execute(["read", *arguments, *options])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def schema(tmp_path: Path) -> str:
    path = tmp_path / "order.avsc"
    path.write_text(json.dumps(ORDER))
    return str(path)


SHOWN = {"id": 0, "at": "2026-11-01T12:00:00+00:00", "price": "12.30", "note": None}


def test_values_by_a_schema_from_a_file(command: Command, schema: str, tmp_path: Path) -> None:
    """JSON in lines; a text of JSON elsewhere; a null stays one."""
    code, out, err = command("plain", "--schema", schema)
    assert (code, err) == (Exit.OK, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["key"], row["value"]) for row in rows] == [
        *((f"k{n}", SHOWN | {"id": n}) for n in range(3)),
        (None, None),
    ]
    for name in ("out.csv", "out.parquet"):
        assert command("plain", "--schema", schema, "--to", str(tmp_path / name))[0] is Exit.OK
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["value"] and json.loads(row["value"]) for row in csv.DictReader(file)] == [
            *(SHOWN | {"id": n} for n in range(3)),
            "",
        ]
    texts = pq.read_table(tmp_path / "out.parquet")["value"].to_pylist()
    assert [text and json.loads(text) for text in texts] == [*(SHOWN | {"id": n} for n in range(3)), None]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_what_is_no_such_value_ends_the_read_or_is_left_out(
    command: Command, schema: str, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    asked = ("mixed", "--schema", schema, "--to", str(target))
    code, _, err = command(*asked)
    assert (code, target.exists()) == (Exit.FAILED, False)
    assert "mixed[0]@1: the value is not Avro by that schema" in err
    code, _, err = command(*asked, "--on-undecodable", "report")
    assert code is Exit.OK
    lines = err.splitlines()
    assert [line.partition(" is not ")[0] for line in lines] == [
        "left out: mixed[0]@1: the value",
        "left out: mixed[0]@2: the value",
        "left out: mixed[0]@3: the value",
        "left out: mixed[0]@4: the key",
    ]
    assert "1 bytes are left over" in lines[1]
    assert "say --registry" in lines[2]
    if name.endswith("parquet"):
        assert pq.read_table(target)["offset"].to_pylist() == [0, 5]
    else:
        assert len(target.read_text().splitlines()) == 2 + name.endswith("csv")


def test_folders_leave_out_the_same_and_go_on_by_the_same_schema_only(
    command: Command, schema: str, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    asked = ("mixed", "--to", str(target), "--by", "partition", "--part-records", "2", "--resume")
    assert command(*asked, "--schema", schema)[0] is Exit.FAILED
    code, _, err = command(*asked, "--schema", schema, "--on-undecodable", "report")
    assert code is Exit.USAGE
    assert "--on-undecodable" in err
    other = tmp_path / "other.avsc"
    other.write_text(json.dumps(YOUNGER))
    assert command(*asked, "--schema", str(other))[0] is Exit.USAGE
    target = tmp_path / "again"
    asked = ("mixed", "--to", str(target), "--by", "partition", "--part-records", "2", "--resume")
    assert command(*asked, "--schema", schema, "--on-undecodable", "report")[0] is Exit.OK
    assert ds.dataset(target, format="parquet").to_table()["offset"].to_pylist() == [0, 5]


def test_values_and_keys_by_a_registry(command: Command, registry: FakeRegistry) -> None:
    """One question for each schema, and for each that it refers to."""
    code, out, err = command("framed", "--registry", registry.url, "--avro-keys")
    assert (code, err) == (Exit.OK, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["key"], row["value"]) for row in rows] == [
        *(({"n": n}, SHOWN | {"id": n}) for n in range(50)),
        (None, MOVE_VALUE),
    ]
    assert sorted(registry.asked) == sorted(path for path in ANSWERS if path[-1] in "1234")


def test_a_schema_of_ours_beside_a_registry_is_how_values_are_read(
    command: Command, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Avro's rules: names that we do not have are left out, those that they do not have get our default."""
    ours = tmp_path / "ours.avsc"
    ours.write_text(json.dumps(YOUNGER))
    monkeypatch.setenv("HEADRACE_SCHEMA_REGISTRY", registry.url)
    code, out, _ = command("framed", "--schema", str(ours), "--avro-keys", "--on-undecodable", "report")
    assert code is Exit.OK
    rows = [json.loads(line)["value"] for line in out.splitlines()]
    assert rows == [{"id": float(n), "new": 7} for n in range(50)]


def test_a_registry_in_the_environment_is_for_calls_that_name_no_file(
    command: Command, registry: FakeRegistry, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_SCHEMA_REGISTRY", registry.url)
    code, out, _ = command("plain", "--schema", schema)
    assert code is Exit.OK
    assert [json.loads(line)["value"] for line in out.splitlines()][:1] == [SHOWN]
    assert registry.asked == []
    code, out, _ = command("framed", "--last", "50")
    assert code is Exit.OK
    assert json.loads(out.splitlines()[0])["value"] == SHOWN | {"id": 1}
    code, out, _ = command("plain", "--last", "1", "--decode", "json")  # which has no use for one
    assert code is Exit.OK


def test_what_no_registry_can_decode_is_named(command: Command, registry: FakeRegistry) -> None:
    code, _, err = command("strange", "--registry", registry.url, "--on-undecodable", "report")
    assert code is Exit.OK
    for words in (
        "@0: the value does not begin with the number of a schema",
        "@1: the value has schema 256, which the registry at 127.0.0.1:",
        "@2: the value does not begin",
        "@3: the value has schema 5, which is of PROTOBUF",
        "@4: the value has schema 6, which cannot be used (UnknownType",
    ):
        assert words in err
    assert "p@ss" not in err.replace("%40", "@")


def test_a_registry_that_does_not_answer_is_no_record_that_does_not_decode(
    command: Command, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "RETRY_S", 0.0)
    asked = ("framed", "--on-undecodable", "report", "--registry")
    code, _, err = command(*asked, registry.url.replace("p%40ss", "guess"))
    assert code is Exit.FAILED
    assert "does not give schema 1: 401" in err
    assert "guess" not in err
    assert len(registry.asked) == 1
    registry.broken += [503] * 2
    assert command(*asked, registry.url)[0] is Exit.OK
    registry.broken += [503] * 3
    code, _, err = command(*asked, registry.url)
    assert (code, "503" in err) == (Exit.FAILED, True)
    code, _, err = command(*asked, "http://127.0.0.1:1")
    assert (code, "127.0.0.1:1 does not give schema 1" in err) == (Exit.FAILED, True)


CUT = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{"schema": '
NO_SUCH_PAGE = b'HTTP/1.1 404 Not Found\r\n\r\n{"error_code": 404, "message": "HTTP 404 Not Found"}'
NO_JSON = b"HTTP/1.1 404 Not Found\r\n\r\n<html>404</html>"


@pytest.mark.parametrize("fault", [CUT, b"no HTTP\r\n\r\n", NO_SUCH_PAGE, NO_JSON])
def test_a_fault_of_a_registry_is_neither_taken_for_a_missing_schema_nor_remembered(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, fault: bytes
) -> None:
    monkeypatch.setattr(registries, "RETRY_S", 0.0)
    schemas = Registry(registry.url, 5.0)
    registry.raw += [fault] * registries.TRIES_MAX
    with pytest.raises(Failed, match="does not give schema 1: "):
        schemas.schema(1)
    registry.raw.clear()
    assert schemas.schema(1)["name"] == "a.Order"


@pytest.mark.parametrize("number", [40401, 40402, 40403])
def test_a_registry_that_says_so_has_no_such_schema(registry: FakeRegistry, number: int) -> None:
    registry.raw.append(b'HTTP/1.1 404 Not Found\r\n\r\n{"error_code": %d}' % number)
    schemas = Registry(registry.url, 5.0)
    for _ in range(2):
        with pytest.raises(Undecodable, match=r"has schema 1, which the registry at .* does not know"):
            schemas.schema(1)
    assert len(registry.asked) == 1


def test_a_registry_that_sends_elsewhere_is_not_followed(registry: FakeRegistry) -> None:
    """The password is for the one who was named."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        registry.raw.append(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/schemas/ids/1\r\n\r\n" % port
        )
        with pytest.raises(Failed, match="302 Found"):
            Registry(registry.url, 1.0).schema(1)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--schema", "there-is-none"], "there-is-none: No such file"),
        (["--schema", "bad.avsc"], "bad.avsc: is no Avro schema"),
        (["--registry", "localhost:8081"], "--registry takes an address"),
        (["--registry", "http://[::1"], "--registry takes an address"),
        ([], "needs --schema FILE, or --registry URL"),
        (["--schema", "good.avsc", "--avro-keys"], "--avro-keys needs --registry"),
        (["--schema", "good.avsc", "--decode", "json"], "go with --decode avro"),
        (["--registry", "http://localhost:8081", "--decode", "json"], "go with --decode avro"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    broker: MockBroker,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.avsc").write_text('{"type": "nothing"}')
    (tmp_path / "good.avsc").write_text(json.dumps(ORDER))
    asked = ["read", "plain", "--decode", "avro", *arguments, "-b", broker.bootstrap_servers]
    assert execute(asked) is Exit.USAGE
    assert words in capfd.readouterr().err


def test_values_of_avro_as_json_has_them() -> None:
    found = plain(
        {
            "day": date(2026, 11, 1),
            "id": UUID(int=1),
            "odd": [math.nan, math.inf, -math.inf, 0.5, True],
            "raw": b"\xff",
        }
    )
    assert found == {
        "day": "2026-11-01",
        "id": "00000000-0000-0000-0000-000000000001",
        "odd": ["NaN", "Infinity", "-Infinity", 0.5, True],
        "raw": {"base64": "/w=="},
    }
    json.dumps(found, allow_nan=False)


def test_an_answer_that_is_none(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "RETRY_S", 0.0)
    monkeypatch.setitem(ANSWERS, "/api/schemas/ids/1", ["no object"])
    with pytest.raises(Failed, match="holds no schema"):
        Registry(registry.url, 5.0).schema(1)
    monkeypatch.setitem(ANSWERS, "/api/schemas/ids/3", {"schema": "{}", "references": ["no object"]})
    with pytest.raises(Undecodable, match="cannot be used"):
        Registry(registry.url, 5.0).schema(3)
    with pytest.raises(Unusable):
        Registry("ftp://localhost", 5.0)
