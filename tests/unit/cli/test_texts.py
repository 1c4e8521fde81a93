"""Records and tables on a terminal."""

from __future__ import annotations

from headrace._client.reading import Stored
from headrace.cli.dead_letters import REPLAYED_FROM, Origin, headers_for, origin_of
from headrace.cli.texts import as_json, columns, moment, printable

RECORD = Stored("t", 1, 2, 1000, b"\xff", None, (("h", b"x"),))


def test_control_characters_never_reach_the_terminal() -> None:
    assert printable(b"a\x1b[31m\nb\x00\xc2\x9b") == "a\\x1b[31m\\nb\\x00\\x9b"


def test_null_and_empty_differ() -> None:
    assert (printable(None), printable(b"")) == ("null", "")


def test_long_text_is_cut_visibly() -> None:
    assert printable(b"abcdef", 4) == "abc…"


def test_json_keeps_what_is_not_text() -> None:
    shown = as_json(RECORD)
    assert shown["key"] == {"base64": "/w=="}
    assert shown["value"] is None
    assert shown["headers"] == [["h", "x"]]


def test_moments_are_utc() -> None:
    assert (moment(1000), moment(None)) == ("1970-01-01T00:00:01.000+00:00", "-")


def test_columns_put_numbers_to_the_right() -> None:
    assert columns(("name", "n"), [("a", "1"), ("bb", "1,000")]) == "name      n\na         1\nbb    1,000"


def test_a_replayed_record_keeps_its_own_headers_only() -> None:
    letter = Stored("dead", 0, 7, None, b"k", b"v", (("own", b"1"), ("headrace-group", b"g"), ("own", None)))
    assert headers_for(letter) == [("own", b"1"), ("own", None), (REPLAYED_FROM, b"dead[0]@7")]


def test_an_origin_is_whole_or_absent() -> None:
    headers = (
        ("headrace-original-topic", b"t"),
        ("headrace-original-partition", b"3"),
        ("headrace-original-offset", b"9"),
    )
    assert origin_of(Stored("dead", 0, 0, None, None, None, headers)) == Origin("t", 3, 9)
    assert origin_of(Stored("dead", 0, 0, None, None, None, headers[:2])) is None
    assert origin_of(RECORD) is None
