"""Bytes as Kafka's own Java classes write them (kafka-clients 4.3.1), and bytes that nobody should write."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.assign import Claim, Sticky, wire
from headrace.assign.model import Member
from headrace.assign.wire import Subscription
from headrace.errors import UserDataForeign

OWNED = {"mail": [7], "orders": [0, 4]}
OWNED_BYTES = "0000000200046d61696c000000010000000700066f72646572730000000200000000000000040000002a"
TOPICS_BYTES = "0000000200046d61696c00066f7264657273" + "00000003010203"
FULL = Subscription(("mail", "orders"), b"\1\2\3", OWNED, 42, "rack-a")


def test_user_data_of_the_sticky_assignor() -> None:
    """StickyAssignor.subscriptionUserData after onAssignment in generation 42; version 0 lacks the last four bytes."""
    data = bytes.fromhex(OWNED_BYTES)
    assert wire.decode_sticky(data) == Claim(OWNED, 42)
    assert wire.encode_sticky(Claim(OWNED, 42)) == data
    assert wire.decode_sticky(data[:-4]) == Claim(OWNED, -1)
    assert wire.decode_sticky(data[:-4] + b"\0\0") == Claim(
        OWNED, -1
    )  # as Kafka: what is left over is no generation
    assert wire.encode_sticky(Claim({"t06": [0, 4]}, -1)).hex() == (
        "00000001" "0003" "743036" "00000002" "00000000" "00000004" "ffffffff"
    )  # fmt: skip


def test_user_data_of_kafka_python_itself() -> None:
    """StickyAssignorUserData.encode of kafka-python 3.0.12: the version stands before it."""
    said = bytes.fromhex("0001000000010003743036000000020000000000000004ffffffff")
    assert wire.decode_sticky(said) == Claim({"t06": [0, 4]}, -1)


def test_user_data_of_the_cooperative_assignor() -> None:
    """CooperativeStickyAssignor.subscriptionUserData, fresh and after generation 42; and librdkafka's other form."""
    assert wire.encode_generation(-1) == bytes.fromhex("ffffffff")
    assert wire.encode_generation(42) == bytes.fromhex("0000002a")
    assert wire.decode_generation(bytes.fromhex("0000002a")) == 42
    assert wire.decode_generation(bytes.fromhex(OWNED_BYTES)) == 42
    assert [wire.decode_generation(data) for data in (b"", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"{}")] == [
        -1
    ] * 4


@pytest.mark.parametrize(
    ("version", "data", "expected"),
    [
        (0, TOPICS_BYTES, Subscription(FULL.topics, FULL.user_data)),
        (1, TOPICS_BYTES + OWNED_BYTES[:-8], Subscription(FULL.topics, FULL.user_data, OWNED)),
        (2, TOPICS_BYTES + OWNED_BYTES, Subscription(FULL.topics, FULL.user_data, OWNED, 42)),
        (3, TOPICS_BYTES + OWNED_BYTES + "0006" + b"rack-a".hex(), FULL),
    ],
)
def test_subscriptions(version: int, data: str, expected: Subscription) -> None:
    """ConsumerProtocol.serializeSubscription, all versions; a newer one is read as far as it is known."""
    said = bytes.fromhex(f"{version:04x}" + data)
    assert wire.decode_subscription(said) == expected
    assert wire.encode_subscription(FULL, version) == said
    if version == 3:
        assert wire.decode_subscription(b"\0\4" + said[2:] + b"more") == expected


def test_a_subscription_without_anything() -> None:
    """User data, generation and rack are null, minus one and null."""
    said = bytes.fromhex("00030000000100046d61696cffffffff00000000ffffffffffff")
    assert wire.decode_subscription(said) == Subscription(("mail",), b"", {}, -1, None)


@pytest.mark.parametrize("version", range(4))
def test_assignments(version: int) -> None:
    """ConsumerProtocol.serializeAssignment: the versions differ in their number only."""
    told = bytes.fromhex(
        f"{version:04x}0000000200066f726465727300000002000000000000000400046d61696c00000001000000070000000109"
    )
    owned = {"orders": [0, 4], "mail": [7]}
    assert wire.decode_assignment(told) == (owned, b"\t")
    assert wire.encode_assignment(owned, b"\t", version) == told


# ---- K01, K47 to K50, K52, K55 to K58, S17: whose word counts


def test_eager_members_claim_by_user_data_alone() -> None:
    """They gave up what they owned before they joined; a newer generation beside an empty list says nothing."""
    data = wire.encode_sticky(Claim({"t": [0, 1]}, 0))
    for owned, generation in ((None, -1), ({}, 1), ({"t": [2]}, 1)):
        assert wire.claim_of_sticky(Subscription(("t",), data, owned, generation)) == Claim({"t": [0, 1]}, 0)
    assert wire.claim_of_sticky(Subscription(("t",), b"", {"t": [2]}, 1)) is None


def test_cooperative_members_claim_by_what_they_own() -> None:
    """The generation: from version 2 on that of the subscription; before, that of the user data."""
    five = wire.encode_generation(5)
    claim = wire.claim_of_cooperative
    assert claim(Subscription(("t",), five)) is None
    assert claim(Subscription(("t",), five, {"t": [1]})) == Claim({"t": [1]}, 5)
    assert claim(Subscription(("t",), five, {"t": [1]}, 7)) == Claim({"t": [1]}, 7)
    assert claim(Subscription(("t",), b"garbage", {"t": [1]})) == Claim({"t": [1]}, -1)
    assert claim(Subscription(("t",), wire.encode_sticky(Claim({"t": [0]}, 9)), {}, 9)) == Claim({}, 9)


def test_k47_members_of_old_and_new_versions() -> None:
    first = wire.claim_of_sticky(Subscription(("t",), wire.encode_sticky(Claim({"t": [0, 2]}, 1))))
    second = wire.claim_of_sticky(Subscription(("t",), wire.encode_sticky(Claim({"t": [1]}))[:-4]))
    members = [Member("C1", ["t"], first), Member("C2", ["t"], second), Member("C3", ["t"])]
    assert Sticky().assign(members, {"t": 3}).assignments() == {
        "C1": {"t": [0]},
        "C2": {"t": [1]},
        "C3": {"t": [2]},
    }


@pytest.mark.parametrize(("eager", "versions"), [(True, (0, 1, 2)), (False, (1, 2, 3))], ids=["K50", "K58"])
def test_members_of_every_version(eager: bool, versions: tuple[int, ...]) -> None:
    """One member of each in a group; the cooperative ones exist from version 1 on."""
    members: list[Member] = []
    for version, owned in zip(versions, ([0], [1], []), strict=True):
        claim = Claim({"t": owned}, 1)
        data = wire.encode_sticky(claim) if eager else wire.encode_generation(1)
        said = Subscription(("t",), data, {} if eager else {"t": owned}, 1)
        read = wire.decode_subscription(wire.encode_subscription(said, version))
        claimed = wire.claim_of_sticky(read) if eager else wire.claim_of_cooperative(read)
        members.append(Member(f"C{version}", read.topics, claimed))
    plan = Sticky().assign(members, {"t": 3})
    assert list(plan.assignments().values()) == [{"t": [0]}, {"t": [1]}, {"t": [2]}]
    assert list(plan.previous) == [0, 1, -1]


# ---- Bytes of others


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """And never anything else: no other error, no claim below generation -1."""
    for read in (wire.decode_sticky, wire.decode_subscription, wire.decode_assignment):
        try:
            read(data)
        except UserDataForeign:
            continue
    assert wire.decode_generation(data) >= -1


@pytest.mark.parametrize("cut", range(len(OWNED_BYTES) // 2 - 4))
def test_what_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(UserDataForeign):
        wire.decode_sticky(bytes.fromhex(OWNED_BYTES)[:cut])


@pytest.mark.parametrize(
    "data", [struct.pack(">i", 2**31 - 1), struct.pack(">i", -1), b"\0\0\0\1\0\1\xff\0\0\0\0"]
)
def test_counts_and_texts_that_cannot_be(data: bytes) -> None:
    """Refused before anything of that size is made."""
    with pytest.raises(UserDataForeign) as refused:
        wire.decode_sticky(data)
    assert refused.value.expected == "user data of a sticky assignor"


@given(
    st.dictionaries(st.text(max_size=20), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=4),
    st.integers(-1, 2**31 - 1),
    st.none() | st.text(max_size=9),
    st.binary(max_size=9),
    st.integers(0, 3),
)
def test_what_is_written_can_be_read(
    owned: dict[str, list[int]], generation: int, rack: str | None, data: bytes, version: int
) -> None:
    said = Subscription(tuple(owned), data, owned, generation, rack)
    read = wire.decode_subscription(wire.encode_subscription(said, version))
    assert (read.topics, read.user_data) == (said.topics, data)
    assert read.owned == (owned if version >= 1 else None)
    assert (read.generation, read.rack) == (
        generation if version >= 2 else -1,
        rack if version >= 3 else None,
    )
    assert wire.decode_sticky(wire.encode_sticky(Claim(owned, generation))) == Claim(owned, generation)
    assert wire.decode_assignment(wire.encode_assignment(owned, data, version)) == (owned, data)
