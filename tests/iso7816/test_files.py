"""Whole files, read and written: every structure, beyond 32 KiB, both faces, the real pcscd; and cards that are hostile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scardface
from scardface import R_APDU, Protocol, ShareMode, StatusError, iso7816
from scardface.iso7816 import FileContents, FileError, Structure
from scardface.iso7816._files import _read, _selections, _write
from scardface.replay import Recorder
from scardface.testing import FileCard, PrivatePcscd, SimulatedPCSC
from tests.support.faces import both_faces, off_loop
from tests.support.iso_card import CYCLIC, FIXED, VARIABLE, File, IsoCard, Refused

pytestmark = pytest.mark.anyio

LONG_FILE = b"".join(number.to_bytes(4, "big") for number in range(0x4000))
"""64 KiB, each four bytes of which say where they are."""


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        yield pcsc


def a_card() -> IsoCard:
    return IsoCard(
        {
            0x0001: File(content=bytearray(LONG_FILE)),
            0x0002: File(content=bytearray(b"short")),
            0x0003: File(FIXED, records=[b"one..", b"two..", b"three"]),
            0x0004: File(VARIABLE, records=[b"1", b"", b"three", bytes(255)]),
            0x0005: File(CYCLIC, records=[b"newest", b"before", b"oldest"]),
            0x0006: File(content=bytearray()),
            0x0007: File(content=bytearray(LONG_FILE[:0x9001]), tell=False),
            0x0008: File(FIXED, records=[b"a", b"b"], tell=False),
        }
    )


async def call(face: Any, function: Any, card: Any, *args: Any, **kwargs: Any) -> Any:
    """One of the helpers, on either face."""
    if face.name == "async":
        return await function(card, *args, **kwargs)
    return await off_loop(function, getattr(card, "card", card), *args, **kwargs)


@both_faces
async def test_64_kib_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    card = a_card()
    pcscd.insert(0, card)
    async with face.open(timeout=30) as open_card:
        contents = await call(face, iso7816.read_file, open_card, 0x0001)
        assert (contents, contents.complete, contents.stopped) == (LONG_FILE, True, "")
        assert contents.check() is contents
        assert {command[1] for command in card.commands} == {0xA4, 0xB0, 0xB1}
        patch = bytes(range(256)) * 8
        done = await call(face, iso7816.write_file, open_card, 0x0001, patch, offset=0x7F80)
        assert (done.written, done.complete) == (len(patch), True)
        assert bytes(card.files[1].content) == LONG_FILE[:0x7F80] + patch + LONG_FILE[0x7F80 + len(patch) :]


@both_faces
@pytest.mark.parametrize("share", [ShareMode.EXCLUSIVE, ShareMode.SHARED])
async def test_every_structure(pcsc: SimulatedPCSC, face: Any, share: ShareMode) -> None:
    card = a_card()
    pcsc.insert(0, card)
    async with face.open(timeout=5, share=share) as open_card:
        short = await call(face, iso7816.read_file, open_card, b"\x00\x02")
        assert (short, short.records) == (b"short", ())
        assert short.control.structure is Structure.TRANSPARENT
        assert await call(face, iso7816.read_file, open_card, bytes.fromhex("3F0050000002")) == b"short"
        assert await call(face, iso7816.read_file, open_card) == b"short"  # the current EF
        for number in (0x0003, 0x0004, 0x0005):
            found = await call(face, iso7816.read_file, open_card, number)
            assert list(found.records) == card.files[number].records
            assert found == b"".join(card.files[number].records)
            assert found.complete
        assert found.control.structure is Structure.CYCLIC
        empty = await call(face, iso7816.read_file, open_card, 0x0006)
        assert (empty, empty.complete) == (b"", True)


@both_faces
async def test_a_card_that_says_nothing_of_its_files(pcsc: SimulatedPCSC, face: Any) -> None:
    card = a_card()
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        found = await call(face, iso7816.read_file, open_card, 0x0007)
        assert (found, found.complete, found.control) == (LONG_FILE[:0x9001], True, None)
        found = await call(face, iso7816.read_file, open_card, 0x0008)
        assert (found.records, found.complete) == ((b"a", b"b"), True)
        card.fcp_only = True
        assert await call(face, iso7816.read_file, open_card, 0x0002) == b"short"


@both_faces
async def test_t0_and_long_parts(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert(0, FileCard(protocol=Protocol.T0))
    async with face.open(timeout=5) as open_card:
        await open_card.send(iso7816.select(b"\xf0SCARDFACE"))
        found = await call(face, iso7816.read_file, open_card, 0x0002)
        assert (found, found.complete) == (bytes(range(256)) * 4, True)
    pcsc.remove(0)
    card = a_card()
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        found = await call(face, iso7816.read_file, open_card, 0x0001, part=0x4000)
        assert (found, found.complete) == (LONG_FILE, True)
        assert len(card.commands) == 6  # SELECT, two READ BINARY by offsets in P1-P2, three by offset objects
        done = await call(face, iso7816.write_file, open_card, 0x0001, bytes(0x10000), part=0x4000)
        assert done.complete
        assert card.files[1].content == bytes(0x10000)


@both_faces
async def test_what_is_written(pcsc: SimulatedPCSC, face: Any) -> None:
    card = a_card()
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        done = await call(face, iso7816.write_file, open_card, 0x0003, [b"ONE", b"TWO"])
        assert (done.written, card.files[3].records) == (2, [b"ONE", b"TWO", b"three"])
        await call(face, iso7816.write_file, open_card, 0x0005, [b"first.", b"second"])
        assert card.files[5].records == [b"second", b"first.", b"newest"]
        await call(face, iso7816.write_file, open_card, 0x0002, b"SH")
        assert card.files[2].content == b"SHort"
        await call(face, iso7816.write_file, open_card, None, b"RT", offset=3)
        assert card.files[2].content == b"SHoRT"


@both_faces
async def test_what_does_not_fit_is_refused_before_anything_is_written(pcsc: SimulatedPCSC, face: Any) -> None:
    card = a_card()
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        for file, data, words in [
            (0x0002, b"longer", "do not fit into a file of 5"),
            (0x0002, [b"record"], "the file is transparent"),
            (0x0003, b"bytes", "the file has records"),
            (0x0003, [b"a"] * 4, "4 records do not fit into a file of 3"),
            (0x0003, [b"a", b"longer"], "record 2 has 6 bytes"),
            (0x5000, b"data", "the file is a DF"),
        ]:
            with pytest.raises(ValueError, match=words):
                await call(face, iso7816.write_file, open_card, file, data)
        with pytest.raises(ValueError, match="the file is a DF"):
            await call(face, iso7816.read_file, open_card, 0x5000)
        assert {command[1] for command in card.commands} == {0xA4}
        with pytest.raises(StatusError, match="6A82"):
            await call(face, iso7816.read_file, open_card, 0x0009)


@both_faces
async def test_where_it_stops_and_why(pcsc: SimulatedPCSC, face: Any) -> None:
    class Guarded(IsoCard):
        def read(self, apdu: Any) -> bytes:
            if apdu.p1 == 1:
                raise Refused(0x6982)
            return super().read(apdu)

        def read_record(self, apdu: Any) -> bytes:
            if apdu.p1 == 3:
                raise Refused(0x6982)
            return super().read_record(apdu)

        def update(self, apdu: Any) -> bytes:
            if apdu.p1 == 1:
                raise Refused(0x6581)
            return super().update(apdu)

        def update_record(self, apdu: Any) -> bytes:
            if apdu.p1 == 2:
                raise Refused(0x6581)
            return super().update_record(apdu)

    card = Guarded(a_card().files)
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        found = await call(face, iso7816.read_file, open_card, 0x0001)
        assert (found, found.complete, found.response.sw) == (LONG_FILE[:256], False, 0x6982)
        assert found.stopped == "at offset 256: the card answered 6982, security status not satisfied"
        with pytest.raises(FileError, match="at offset 256") as caught:
            found.check()
        assert caught.value.response.sw == 0x6982
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        found = await call(face, iso7816.read_file, open_card, 0x0003)
        assert (found.records, found.stopped[:11]) == ((b"one..", b"two.."), "at record 3")
        done = await call(face, iso7816.write_file, open_card, 0x0001, bytes(1000), part=100)
        assert (done.written, done.complete, done.response.sw) == (300, False, 0x6581)
        assert "300" in repr(done)
        with pytest.raises(FileError, match="at offset 300: the card answered 6581"):
            done.check()
        done = await call(face, iso7816.write_file, open_card, 0x0003, [b"1", b"2"])
        assert (done.written, done.stopped[:11]) == (1, "at record 2")


@both_faces
async def test_the_bound_on_bytes(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert(0, a_card())
    async with face.open(timeout=5) as open_card:
        found = await call(face, iso7816.read_file, open_card, 0x0001, max_bytes=1000)
        assert (found, found.stopped) == (LONG_FILE[:1000], "at offset 1000: that is the bound of max_bytes")
        found = await call(face, iso7816.read_file, open_card, 0x0003, max_bytes=10)
        assert (found.records, found.stopped) == ((b"one..", b"two.."), "at record 3: that is the bound of max_bytes")


@both_faces
async def test_channels_layers_and_recorders_will_do(pcsc: SimulatedPCSC, face: Any, tmp_path: Path) -> None:
    class Channels(IsoCard):
        def process(self, command: bytes) -> bytes:
            if command[1] == 0x70:
                return b"\x01\x90\x00" if command[2] == 0 else b"\x90\x00"
            return super().process(command)

    class Plain:
        def wrap(self, command: scardface.C_APDU) -> scardface.C_APDU:
            return command

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    card = Channels(a_card().files)
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        async with open_card.channel() as channel:
            route = channel if face.name == "async" else channel._route
            assert await call(face, iso7816.read_file, route, 0x0002) == b"short"
            assert card.commands[-1][0] == 1
        route = open_card.layer(Plain()) if face.name == "async" else open_card.layer(Plain())._route
        assert await call(face, iso7816.read_file, route, 0x0002) == b"short"
        with Recorder(getattr(open_card, "card", open_card), tmp_path / "session.cassette") as recorder:
            assert await call(face, iso7816.read_file, recorder, 0x0002) == b"short"


@both_faces
async def test_the_cards_own_success_words_do_not_matter(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert(0, a_card())
    async with face.open(timeout=5, success=["91xx"]) as open_card:
        assert (await call(face, iso7816.read_file, open_card, 0x0001)).check() == LONG_FILE


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((0x10000,), {}, ValueError),
        ((b"\x3f",), {}, ValueError),
        ((b"",), {}, ValueError),
        (("3F00",), {}, TypeError),
        ((True,), {}, TypeError),
        ((1,), {"part": 7}, ValueError),
        ((1,), {"part": 65537}, ValueError),
        ((1,), {"max_bytes": 0}, ValueError),
    ],
)
def test_a_mistake_sends_nothing(args: Any, kwargs: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        iso7816.read_file(Never(), *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((1, b""), {}, ValueError),
        ((1, []), {}, ValueError),
        ((1, [b"a", b""]), {}, ValueError),
        ((1, [b"a"] * 255), {}, ValueError),
        ((1, [5]), {}, TypeError),
        ((1, "text"), {}, TypeError),
        ((1, 5), {}, TypeError),
        ((1, b"a"), {"part": 15}, ValueError),
        ((1, b"a"), {"offset": -1}, ValueError),
        ((1, [b"a"]), {"offset": 1}, ValueError),
    ],
)
def test_a_mistake_writes_nothing(args: Any, kwargs: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        iso7816.write_file(Never(), *args, **kwargs)


class Never:
    """A card that nothing is to be sent to."""

    def send(self, apdu: scardface.C_APDU) -> R_APDU:
        raise AssertionError(apdu)


def test_what_is_no_card_is_refused() -> None:
    with pytest.raises(TypeError, match="an open card is needed"):
        iso7816.read_file(5)  # type: ignore[call-overload]


# Cards that are hostile: any answers, and sizes beyond reason.

ANSWERS = st.lists(
    st.tuples(
        st.binary(max_size=40) | st.binary(max_size=300).map(lambda value: b"\x53" + bytes([len(value) & 0x7F]) + value),
        st.sampled_from([0x9000, 0x6282, 0x6281, 0x6B00, 0x6A83, 0x6981, 0x6F00]),
    ),
    min_size=1,
    max_size=6,
)
CONTROL = st.sampled_from(
    [b"", bytes.fromhex("6F098004FFFFFFFF820101"), bytes.fromhex("6F0882064221FFFFFFFF"), b"\x6f\xff", b"\0" * 9]
)


@given(CONTROL, ANSWERS, st.integers(1, 3000))
def test_whatever_a_card_answers_reading_ends(control: bytes, answers: list[tuple[bytes, int]], bound: int) -> None:
    steps = _read(_selections(0x0001), 256, bound)
    next(steps)
    response, sent = R_APDU(control, 0x90, 0x00), 0
    while True:
        try:
            steps.send(response)
        except StopIteration as end:
            contents = end.value
            break
        data, sw = answers[sent % len(answers)]
        response, sent = R_APDU(data, sw >> 8, sw & 0xFF), sent + 1
        assert sent <= max(bound, 254) + 1
    assert isinstance(contents, FileContents)
    assert len(contents) <= bound
    assert isinstance(contents.stopped, str)


@given(st.binary(min_size=1, max_size=3000), st.integers(16, 400), st.integers(0, 0x9000))
def test_every_command_of_a_write_fits(data: bytes, part: int, offset: int) -> None:
    steps = _write([], data, part, offset)
    command, written = next(steps), bytearray()
    while True:
        assert len(command.data) <= part
        if command.ins & 1:
            end = 2 + command.data[1]
            at = int.from_bytes(command.data[2:end], "big")
            [found] = iso7816.parse_tlv(command.data[end:])
            chunk = found.value
        else:
            at, chunk = command.p1 << 8 | command.p2, command.data
        assert at == offset + len(written)
        written += chunk
        try:
            command = steps.send(R_APDU(b"", 0x90, 0x00))
        except StopIteration as end:
            done = end.value
            break
    assert written == data
    assert done.written == len(data)
