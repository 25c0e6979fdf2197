"""BER-TLV: what is read, and that nothing but a TLVError ever leaves."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.iso7816._tlv import MAX_DEPTH, DataObject, TLVError, parse

FCI = bytes.fromhex("6F13820138830250008 40AF0534341524446414345".replace(" ", ""))


def encoded(tag: bytes, value: bytes) -> bytes:
    """An object with a length as short as can be."""
    size = len(value)
    if size < 0x80:
        return tag + bytes((size,)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return tag + bytes((0x80 | len(length),)) + length + value


def test_a_template_has_its_objects() -> None:
    (fci,) = parse(FCI)
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
            parse(data)
        return
    assert parse(data) == (DataObject(bytes.fromhex(tag), bytes.fromhex(value)),)


AID = "61084F06A00000000001"


@pytest.mark.parametrize("fill", ["00", "FF", "FFFF", "00FF", "FF00", "FFFFFFFFFFFFFFFF"])
def test_padding_anywhere_does_not_count(fill: str) -> None:
    """Files of cards are padded with either, before, between, behind and within objects."""
    template = bytes.fromhex(AID)
    known = (b"\x61", b"\x4f")
    padding = bytes.fromhex(fill)
    alone = parse(template)
    assert parse(padding + template, known=known.__contains__) == alone
    assert parse(template + padding, known=known.__contains__) == alone
    assert parse(template + padding + template + padding, known=known.__contains__) == alone * 2
    (outer,) = parse(encoded(b"\x61", template[2:] + padding), known=known.__contains__)
    assert (outer.children, outer.damage) == (alone[0].children, "")


def test_a_tag_may_begin_with_ff() -> None:
    """GlobalPlatform's access rules: FF40; behind a value that ends with FF, and behind padding of zeros."""
    assert [each.tag.hex() for each in parse(bytes.fromhex("FF4003E20141"))] == ["ff40"]
    assert [each.tag.hex() for each in parse(bytes.fromhex("8001FF FF40020000 00 FF5F01 AA".replace(" ", "")))] == [
        "80",
        "ff40",
        "ff5f",
    ]
    known = (b"\x61", b"\xff\x61")
    assert [each.tag.hex() for each in parse(bytes.fromhex("FF6100"), known=known.__contains__)] == ["ff61"]


def test_behind_an_ff_that_is_padding_another_one_is() -> None:
    assert [each.tag.hex() for each in parse(bytes.fromhex("FFFF4101AAFFFFFF4101BB"))] == ["41", "41"]


@pytest.mark.parametrize("text", ["FF", "FF1F", "FF9F", "04 01 AA FF 1F", "FF 84"])
def test_an_ff_that_begins_no_object_is_padding_and_what_follows_is_read(text: str) -> None:
    with contextlib.suppress(TLVError):
        assert b"\xff" not in b"".join(each.tag for each in parse(bytes.fromhex(text.replace(" ", ""))))


def test_zeros_between_objects_do_not_count() -> None:
    assert [each.value for each in parse(bytes.fromhex("00000401AA000402BBCC0000"))] == [b"\xaa", b"\xbb\xcc"]
    assert parse(b"") == parse(b"\0\0") == ()


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
        parse(bytes.fromhex(data))


def test_damaged_contents_stay_where_they_are() -> None:
    good, bad = parse(bytes.fromhex("0401AA 6F020401".replace(" ", "")))
    assert (good.value, bad.value, bad.children) == (b"\xaa", b"\x04\x01", ())
    assert bad.damage == "a length of 1, and 0 bytes follow it"


def test_depth_has_an_end() -> None:
    data = b"\x04\x01\xaa"
    for _ in range(MAX_DEPTH + 3):
        data = encoded(b"\x6f", data)
    (each,), depth = parse(data), 0
    while each.children:
        (each,) = each.children
        depth += 1
    assert depth == MAX_DEPTH
    assert each.damage.startswith("more than 16 objects")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(TLVError):
        objects = parse(data)
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
    (each,) = parse(written(tree))
    assert again(each) == tree
