"""BER-TLV: what is read, and that nothing but a TLVError ever leaves."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.iso7816._tlv import MAX_DEPTH, DataObject, TLVError, build_tlv, find_tlv, parse_tlv

FCI = bytes.fromhex("6F13820138830250008 40AF0534341524446414345".replace(" ", ""))


def encoded(tag: bytes, value: bytes) -> bytes:
    """An object with a length as short as can be."""
    size = len(value)
    if size < 0x80:
        return tag + bytes((size,)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return tag + bytes((0x80 | len(length),)) + length + value


def test_a_template_has_its_objects() -> None:
    (fci,) = parse_tlv(FCI)
    assert (fci.tag, fci.is_constructed, fci.damage) == (b"\x6f", True, "")
    assert [(each.tag.hex(), each.value.hex()) for each in fci.children] == [
        ("82", "38"),
        ("83", "5000"),
        ("84", "f0534341524446414345"),
    ]


@pytest.mark.parametrize(
    ("text", "tag", "value"),
    [
        ("5F2D02656E", "5F2D", "656E"),
        ("BF0C00", "BF0C", ""),
        ("DF818001 01AA", "DF8180", None),
        ("DF81010 1AA", "DF8101", "AA"),
        ("04 81 01 AA", "04", "AA"),
        ("04 82 0001 AA", "04", "AA"),
        ("04 83 000001 AA", "04", "AA"),
        ("04 84 00000001 AA", "04", "AA"),
    ],
)
def test_tags_and_lengths_of_all_sizes(text: str, tag: str, value: str | None) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    if value is None:
        with pytest.raises(TLVError, match="more than 3 bytes"):
            parse_tlv(data)
        return
    assert parse_tlv(data) == (DataObject(bytes.fromhex(tag), bytes.fromhex(value)),)


AID = "61084F06A00000000001"


@pytest.mark.parametrize("fill", ["00", "FF", "FFFF", "00FF", "FF00", "FFFFFFFFFFFFFFFF"])
def test_padding_anywhere_does_not_count(fill: str) -> None:
    """Files of cards are padded with either, before, between, behind and within objects."""
    template = bytes.fromhex(AID)
    known = (b"\x61", b"\x4f")
    padding = bytes.fromhex(fill)
    alone = parse_tlv(template)
    assert parse_tlv(padding + template, known=known.__contains__) == alone
    assert parse_tlv(template + padding, known=known.__contains__) == alone
    assert parse_tlv(template + padding + template + padding, known=known.__contains__) == alone * 2
    (outer,) = parse_tlv(encoded(b"\x61", template[2:] + padding), known=known.__contains__)
    assert (outer.children, outer.damage) == (alone[0].children, "")


def test_a_tag_may_begin_with_ff() -> None:
    """GlobalPlatform's access rules: FF40; behind a value that ends with FF, and behind padding of zeros."""
    assert [each.tag.hex() for each in parse_tlv(bytes.fromhex("FF4003E20141"))] == ["ff40"]
    assert [each.tag.hex() for each in parse_tlv(bytes.fromhex("8001FF FF40020000 00 FF5F01 AA".replace(" ", "")))] == [
        "80",
        "ff40",
        "ff5f",
    ]
    known = (b"\x61", b"\xff\x61")
    assert [each.tag.hex() for each in parse_tlv(bytes.fromhex("FF6100"), known=known.__contains__)] == ["ff61"]


def test_behind_an_ff_that_is_padding_another_one_is() -> None:
    assert [each.tag.hex() for each in parse_tlv(bytes.fromhex("FFFF4101AAFFFFFF4101BB"))] == ["41", "41"]


@pytest.mark.parametrize("text", ["FF", "FF1F", "FF9F", "04 01 AA FF 1F", "FF 84"])
def test_an_ff_that_begins_no_object_is_padding_and_what_follows_is_read(text: str) -> None:
    with contextlib.suppress(TLVError):
        assert b"\xff" not in b"".join(each.tag for each in parse_tlv(bytes.fromhex(text.replace(" ", ""))))


def test_zeros_between_objects_do_not_count() -> None:
    assert [each.value for each in parse_tlv(bytes.fromhex("00000401AA000402BBCC0000"))] == [b"\xaa", b"\xbb\xcc"]
    assert parse_tlv(b"") == parse_tlv(b"\0\0") == ()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("5F", "a tag lacks its last byte"),
        ("04", "a tag without a length"),
        ("0402AA", "a length of 2, and 1 bytes follow it"),
        ("0480AA", "a length cannot begin with 80"),
        ("0485", "a length cannot begin with 85"),
        ("048200", "a length lacks its last byte"),
    ],
)
def test_what_is_none_says_why(data: str, words: str) -> None:
    with pytest.raises(TLVError, match=words):
        parse_tlv(bytes.fromhex(data))


def test_damaged_contents_stay_where_they_are() -> None:
    good, bad = parse_tlv(bytes.fromhex("0401AA 6F020401".replace(" ", "")))
    assert (good.value, bad.value, bad.children) == (b"\xaa", b"\x04\x01", ())
    assert bad.damage == "a length of 1, and 0 bytes follow it"


def test_depth_has_an_end() -> None:
    data = b"\x04\x01\xaa"
    for _ in range(MAX_DEPTH + 3):
        data = encoded(b"\x6f", data)
    (each,), depth = parse_tlv(data), 0
    while each.children:
        (each,) = each.children
        depth += 1
    assert depth == MAX_DEPTH
    assert each.damage.startswith("more than 16 objects")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(TLVError):
        objects = parse_tlv(data)
        assert sum(len(each.tag) + 1 + len(each.value) for each in objects) <= len(data)


TREES = st.recursive(
    st.tuples(st.sampled_from([b"\x04", b"\x5f\x2d", b"\x9f\x81\x01"]), st.binary(max_size=200)),
    lambda inner: st.tuples(st.sampled_from([b"\x6f", b"\xbf\x0c"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=8,
)


def written(tree: tuple[bytes, object]) -> bytes:
    tag, content = tree
    return encoded(tag, content if isinstance(content, bytes) else b"".join(map(written, content)))  # type: ignore[arg-type]  # a tree


def again(each: DataObject) -> tuple[bytes, object]:
    return each.tag, [again(child) for child in each.children] if each.children else each.value


@given(TREES)
def test_what_was_written_is_read(tree: tuple[bytes, object]) -> None:
    (each,) = parse_tlv(written(tree))
    assert again(each) == tree


# Building.

PRIMITIVE = st.sampled_from([0x04, 0x53, 0x80, 0x9E, 0x5F20, 0x9F7F, 0x5FC102, 0xDF8101])
CONSTRUCTED = st.sampled_from([0x61, 0x6F, 0xA5, 0xBF0C, 0x7F49, 0xFF40])
TREES = st.recursive(
    st.tuples(PRIMITIVE, st.binary(max_size=300)),
    lambda inner: st.tuples(CONSTRUCTED, st.lists(inner, max_size=4)),
    max_leaves=12,
)


def built(tree: tuple[int, Any]) -> bytes:
    tag, value = tree
    return build_tlv(tag, value if isinstance(value, bytes) else map(built, value))


def shape(objects: tuple[DataObject, ...]) -> list[tuple[int, Any]]:
    return [(each.number, shape(each.children) if each.is_constructed else each.value) for each in objects]


@given(st.lists(TREES, max_size=4), st.sampled_from([b"", b"\0", b"\0\0\0"]))
def test_what_is_built_is_read_again(trees: list[tuple[int, Any]], padding: bytes) -> None:
    data = padding + b"".join(built(tree) + padding for tree in trees)
    objects = parse_tlv(data)
    assert shape(objects) == trees
    assert b"".join(map(bytes, objects)) == b"".join(map(built, trees))


@given(st.lists(TREES, min_size=1, max_size=4))
def test_padding_with_ff_behind_what_is_built_does_not_count(trees: list[tuple[int, Any]]) -> None:
    data = b"".join(map(built, trees))
    assert parse_tlv(data + b"\xff\xff\xff") == parse_tlv(data)


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "0400"), (127, "047F"), (128, "048180"), (255, "0481FF"), (256, "04820100"), (65536, "0483010000")],
)
def test_lengths_are_the_shortest(size: int, head: str) -> None:
    assert build_tlv(0x04, bytes(size)) == bytes.fromhex(head) + bytes(size)


def test_objects_go_into_constructed_ones() -> None:
    aid = DataObject(b"\x4f", b"\xa0")
    assert build_tlv(0x61, aid) == build_tlv(b"\x61", [aid]) == build_tlv(0x61, (b"\x4f\x01\xa0",)) == bytes.fromhex("61034F01A0")
    assert build_tlv(0x61, b"\x4f\x01\xa0") == bytes.fromhex("61034F01A0")
    assert build_tlv(0x61, ()) == bytes.fromhex("6100")


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (0, b"", "not 00"),
        (0x1000000, b"", "one to three bytes"),
        (b"", b"", "nothing is no tag"),
        (b"\x00\x01", b"", "padding"),
        (0xFFFF01, b"", "padding"),
        (0x1F, b"", "lacks its last byte"),
        (0x5F, b"", "lacks its last byte"),
        (0x0401, b"", "it ends after 1 bytes"),
        (b"\x5f\x81\x82\x01", b"", "more than 3 bytes"),
        (0x04, [b""], "primitive"),
    ],
)
def test_what_is_no_object_is_refused(tag: Any, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_tlv(tag, value)


@pytest.mark.parametrize(("tag", "value"), [("04", b""), (True, b""), (0x04, "ab"), (0x61, 5), (0x61, "ab"), (0x61, [5])])
def test_another_type_is_refused(tag: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        build_tlv(tag, value)


def test_a_path_of_tags_finds_the_first() -> None:
    objects = parse_tlv(bytes.fromhex("6F05A50350014100" + "6F06A5045002424300"))
    assert find_tlv(objects, 0x6F) is objects[0]
    found = find_tlv(objects, 0x6F, 0xA5, 0x50)
    assert found is not None
    assert found.value == b"A"
    assert find_tlv(objects, 0x6F, 0x84) is None
    assert find_tlv((), 0x6F) is None
    with pytest.raises(ValueError, match="at least one tag"):
        find_tlv(objects)


def test_a_path_goes_through_all_with_its_tags() -> None:
    objects = parse_tlv(bytes.fromhex("6F00" + "6F03840141"))
    found = find_tlv(objects, 0x6F, 0x84)
    assert found is not None
    assert found.value == b"A"
