"""The card that plays: what the exchange makes of a recorded command is undone, on both protocols and however long it is."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scardface import C_APDU, R_APDU, ExchangeOptions, Lengths, Protocol, SCardError
from scardface.iso7816._exchange import exchange
from scardface.replay import CassetteError, ReplayCard, UnrecordedCommandError
from scardface.replay._cassette import write
from scardface.replay._tape import Exchange, Sent
from scardface.sync import SCard
from scardface.testing import SimulatedPCSC, VirtualCard
from tests.support.long_cards import ASK, READ, STORE, LongCard, pattern

T0, T1 = Protocol.T0, Protocol.T1
WAYS = [*product([T1], [Lengths.EXTENDED, Lengths.CHAINING, Lengths.SHORT]), *product([T0], [Lengths.ENVELOPE, Lengths.CHAINING])]
OPTIONS = ExchangeOptions()


def converse(
    card: VirtualCard, command: C_APDU, protocol: Protocol, lengths: Lengths, options: ExchangeOptions = OPTIONS
) -> R_APDU:
    """One command of the caller's, as a session carries it out."""
    steps = exchange(command, protocol, lengths, options)
    try:
        answer = card.process(next(steps))
        while True:
            answer = card.process(steps.send(answer))
    except StopIteration as end:
        response: R_APDU = end.value
        return response


def replaying(folder: Path, protocol: Protocol, *exchanges: Exchange) -> ReplayCard:
    path = folder / "a.cassette"
    write(path, b"\x3b\x00", protocol, exchanges)
    return ReplayCard(path)


def written(folder: Path, protocol: str, *lines: str) -> ReplayCard:
    path = folder / "a.cassette"
    path.write_text("\n".join(["scardface cassette 1", "atr 3B00", f"protocol {protocol}", *lines]), encoding="utf-8")
    return ReplayCard(path)


ASKED = [(0, 0), (10, 10), (10, 7), (255, 400), (256, 256), (256, 900), (300, 300), (1000, 700), (65536, 3000)]
"""Ne, and how much there is."""
LONG = [
    (*way, nc, *asked)
    for way, nc, asked in product(WAYS, [0, 1, 255, 256, 510, 700], ASKED)
    if not (nc > 255 and way[1] is Lengths.SHORT) and (nc or asked[0])
]


@pytest.mark.parametrize(("protocol", "lengths", "nc", "ne", "there"), LONG)
def test_long_exchanges_are_played_as_they_were(
    tmp_path: Path, protocol: Protocol, lengths: Lengths, nc: int, ne: int, there: int
) -> None:
    command = C_APDU(0x00, ASK if ne else STORE, 0x3F, 0xFF, pattern(nc), ne) if nc else C_APDU(0x00, READ, 0, 0, b"", ne)
    live = LongCard(protocol, Lengths.SHORT if nc <= 255 and ne <= 256 else lengths, content=pattern(there))
    response = converse(live, command, protocol, lengths)
    card = replaying(tmp_path, protocol, Sent(command, response))
    assert converse(card, command, protocol, lengths) == response
    assert card.all_played


octet = st.integers(0, 255)
commands = st.builds(
    C_APDU,
    st.sampled_from([0x00, 0x03, 0x41, 0x80, 0xA0, 0xEF]),
    octet.filter(lambda ins: ins not in (0xC0, 0xC2)),
    octet,
    octet,
    st.one_of(st.just(b""), st.binary(max_size=20), st.integers(200, 800).map(pattern)),
    st.one_of(st.just(0), st.integers(1, 20), st.sampled_from([255, 256, 257, 300, 600, 65535, 65536])),
)


@st.composite
def exchanges(draw: st.DrawFn) -> Sent:
    command = draw(commands)
    most = command.le or 800
    data = pattern(
        draw(
            st.one_of(st.just(0), st.integers(0, min(20, most)), st.sampled_from([min(most, n) for n in (255, 256, 257, 512, 700)]))
        )
    )
    sw1, sw2 = draw(st.sampled_from([(0x90, 0x00), (0x62, 0x82), (0x63, 0xC2), (0x6A, 0x82), (0x91, 0xAF)]))
    return Sent(command, R_APDU(data, sw1, sw2))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.sampled_from([way for way in WAYS if way[1] is not Lengths.SHORT]),
    st.lists(exchanges(), min_size=1, max_size=4),
    st.booleans(),
)
def test_whatever_was_recorded_is_played(
    tmp_path: Path, way: tuple[Protocol, Lengths], recorded: list[Sent], rewound: bool
) -> None:
    card = replaying(tmp_path, way[0], *recorded)
    if rewound:
        converse(card, recorded[0].command, *way)
        card.reset()
    assert [converse(card, each.command, *way) for each in recorded] == [each.response for each in recorded]
    assert card.all_played


@pytest.mark.parametrize(("protocol", "lengths"), [way for way in WAYS if way[1] is not Lengths.SHORT])
@pytest.mark.parametrize("size", [1, 4, 255, 256, 600])
def test_hidden_data_match_any(tmp_path: Path, protocol: Protocol, lengths: Lengths, size: int) -> None:
    card = written(
        tmp_path,
        "T0" if protocol is T0 else "T1",
        "raw 0CDA0000 -> 6700",
        "0CDA0000 <secret> Ne=256 -> <16 bytes> 9000",
        "0CDA0001 01 -> 9000",
    )
    response = converse(card, C_APDU(0x0C, 0xDA, 0x00, 0x00, pattern(size), 256), protocol, lengths)
    assert response == R_APDU(bytes(16), 0x90, 0x00)
    assert converse(card, C_APDU(0x0C, 0xDA, 0x00, 0x01, b"\x01"), protocol, lengths).is_successful()


@pytest.mark.parametrize(("protocol", "lengths"), WAYS)
def test_hidden_data_do_not_match_none(tmp_path: Path, protocol: Protocol, lengths: Lengths) -> None:
    card = written(tmp_path, "T0" if protocol is T0 else "T1", "00200001 <secret> -> 9000", "00200001 -> 63C3")
    assert converse(card, C_APDU(0x00, 0x20, 0x00, 0x01), protocol, lengths).sw == 0x63C3
    assert converse(card, C_APDU(0x00, 0x20, 0x00, 0x01, b"1234"), protocol, lengths).sw == 0x9000


def test_t0_is_strict(tmp_path: Path) -> None:
    card = written(
        tmp_path,
        "T0",
        "00A40400 A000000308 Ne=256 -> 6F026101 9000",
        "00B00000 Ne=256 -> 010203 6282",
        f"00B00100 Ne=256 -> {300 * 'AB'} 9000",
    )
    dialogue = [
        ("00A4040005A000000308", "6104"),
        ("00C0000002", "6F026102"),
        ("00C0000003", "6C02"),
        ("00C0000002", "61019000"),
        ("00C0000002", "6985"),
        ("00B0000000", "6C03"),
        ("00B0000003", "0102036282"),
        ("00B0010000", 256 * "AB" + "612C"),
        ("00C000002C", 44 * "AB" + "9000"),
    ]
    for sent, expected in dialogue:
        assert card.process(bytes.fromhex(sent)).hex().upper() == expected, sent
    assert card.all_played


def test_an_answer_that_nobody_fetches_is_lost(tmp_path: Path) -> None:
    card = written(tmp_path, "T0", "00A40400 3F00 -> 6F00 9000", "00A40400 -> 9000", "00B00000 Ne=4 -> 01020304 9000")
    assert card.process(bytes.fromhex("00A40400023F00")) == b"\x61\x02"
    assert card.process(bytes.fromhex("00A4040000")) == b"\x90\x00"  # the same header, yet another command
    assert card.process(bytes.fromhex("00C0000002")) == b"\x69\x85"


def test_an_answer_that_waits_is_lost_at_a_reset(tmp_path: Path) -> None:
    card = written(tmp_path, "T0", "00A40400 3F00 -> 6F00 9000")
    for _ in range(2):
        assert card.process(bytes.fromhex("00A40400023F00")) == b"\x61\x02"
        card.reset()
    assert card.process(bytes.fromhex("00C0000002")) == b"\x69\x85"


def test_data_with_the_same_header_are_another_command(tmp_path: Path) -> None:
    card = written(tmp_path, "T0", "00CB3FFF Ne=256 -> 010203 9000", "00CB3FFF AABB -> 6A80")
    assert card.process(bytes.fromhex("00CB3FFF00")) == b"\x6c\x03"
    assert card.process(bytes.fromhex("00CB3FFF02AABB")) == b"\x6a\x80"


def test_another_le_is_another_command(tmp_path: Path) -> None:
    for protocol in ("T0", "T1"):
        card = written(tmp_path, protocol, "00B00000 Ne=4 -> 01020304 9000", "00B00001 Ne=256 -> 01 9000")
        for other in ("00B0000005", "00B0000000", "00B0000101"):
            with pytest.raises(UnrecordedCommandError):
                card.process(bytes.fromhex(other))


def test_the_first_part_that_nothing_begins_with_is_an_error(tmp_path: Path) -> None:
    content = bytes(C_APDU(0x00, STORE, 0x3F, 0xFF, pattern(600)))
    card = written(tmp_path, "T0", f"00DB3FFF {pattern(600).hex()} -> 9000")
    assert card.process(b"\x00\xc2\0\0\xff" + content[:255]) == b"\x90\x00"
    with pytest.raises(UnrecordedCommandError):
        card.process(b"\x00\xc2\0\0\xff" + bytes(255))
    with pytest.raises(UnrecordedCommandError):
        card.process(b"\x10\xdb\x3f\xff\xff" + bytes(255))


def test_an_answer_longer_than_asked_for_goes_out_in_one(tmp_path: Path) -> None:
    """Virtual cards, and readers that do it themselves, may answer so; what the caller got then is what it gets."""
    for protocol in ("T0", "T1"):
        card = written(tmp_path, protocol, "00B00000 Ne=2 -> 01020304 9000")
        assert card.process(bytes.fromhex("00B0000002")).hex() == "010203049000"


def test_t1_in_parts_where_a_short_le_cannot_say_more(tmp_path: Path) -> None:
    card = written(tmp_path, "T1", f"00B00000 Ne=65536 -> {600 * 'AB'} 6282", f"00B00000 Ne=65536 -> {600 * 'CD'} 6282")
    assert card.process(bytes.fromhex("00B00000000000")).hex().upper() == 600 * "AB" + "6282"
    assert card.process(bytes.fromhex("00B0000000")).hex().upper() == 256 * "CD" + "6100"
    assert card.process(bytes.fromhex("00C0000010")).hex().upper() == 16 * "CD" + "6100"
    assert card.process(bytes.fromhex("00C00000000000")).hex().upper() == 328 * "CD" + "6282"


def test_raw_exchanges_are_verbatim(tmp_path: Path) -> None:
    card = written(
        tmp_path,
        "T0",
        "raw 00A40400023F0000 -> 6F00 9000",
        "raw 00A40400023F00 -> 6110",
        "raw 00C0000010 -> 0102 9000",
        "raw 00B0000000 -> 6C02",
        "raw 00200001 <secret> -> 9000",
        "raw 00B00000050102 -> 6700",
    )
    dialogue = [
        ("00A40400023F0000", "6F009000"),
        ("00A40400023F00", "6110"),
        ("00C0000010", "01029000"),
        ("00B0000000", "6C02"),
        ("002000010431323334", "9000"),
        ("00B00000050102", "6700"),
    ]
    for sent, expected in dialogue:
        assert card.process(bytes.fromhex(sent)).hex().upper() == expected, sent


def test_a_dump_of_another_library_is_played(tmp_path: Path) -> None:
    """Java's asks for what 61xx announces itself, and writes down what its caller gave and got."""
    path = tmp_path / "card.dump"
    rows = ["# ATR: 3B00", "# PROTOCOL: T=0", "00A40400023F0000", "6F02AABB9000", "00B0000002", "CAFE9000"]
    path.write_text("\n".join(rows), encoding="utf-8")
    card = ReplayCard(path)
    assert card.atr == b"\x3b\x00"
    assert converse(card, C_APDU.fromhex("00A40400023F0000"), T0, Lengths.ENVELOPE).ashex() == "6F02AABB9000"
    assert converse(card, C_APDU.fromhex("00B0000002"), T0, Lengths.ENVELOPE).ashex() == "CAFE9000"


@pytest.mark.parametrize("fetch", [0x90, 0x62, 0x63])
def test_fetching_what_is_not_there_is_no_mistake(tmp_path: Path, fetch: int) -> None:
    card = written(tmp_path, "T1", f"00CB0000 01 Ne=256 -> {fetch:02X}00")
    options = ExchangeOptions(fetch_after=frozenset({fetch}))
    assert converse(card, C_APDU(0x00, 0xCB, 0, 0, b"\x01", 256), T1, Lengths.SHORT, options).sw == fetch << 8


LONGEST = C_APDU(0x00, ASK, 0x3F, 0xFF, pattern(600), 256)
CHANGED = [
    C_APDU(0x00, ASK, 0x3F, 0xFF, pattern(600), 257),
    C_APDU(0x00, ASK, 0x3F, 0xFE, pattern(600), 256),
    C_APDU(0x00, ASK, 0x3F, 0xFF, b"x" + pattern(599), 256),
    C_APDU(0x00, ASK, 0x3F, 0xFF, pattern(599) + b"x", 256),
    C_APDU(0x00, ASK, 0x3F, 0xFF, pattern(601), 256),
    C_APDU(0x00, ASK, 0x3F, 0xFF, pattern(255), 256),
    C_APDU(0x00, 0xDA, 0x00, 0x00, b"\x01"),
    C_APDU(0x90, 0x5A, 0x00, 0x00, b"\x01\x02\x03", 256),
    C_APDU(0x10, ASK, 0x3F, 0xFF, b"no part of it"),
]


@pytest.mark.parametrize(
    ("protocol", "lengths", "changed"),
    [
        (*way, changed)
        for way, changed in product(WAYS, CHANGED)
        if not (len(changed.data) > 255 and way[1] is Lengths.SHORT)
        and not (changed.le == 257 and way[1] is not Lengths.EXTENDED)  # a short Le does not show it
    ],
)
def test_a_changed_command_is_an_error(tmp_path: Path, protocol: Protocol, lengths: Lengths, changed: C_APDU) -> None:
    card = replaying(tmp_path, protocol, Sent(LONGEST, R_APDU(b"", 0x90, 0x00)))
    with pytest.raises(UnrecordedCommandError) as raised:
        converse(card, changed, protocol, lengths)
    text = str(raised.value)
    assert "a.cassette" in text
    assert "line 5: 00CB3FFF" in text
    way = Lengths.EXTENDED if protocol is T1 else Lengths.CHAINING
    assert converse(card, LONGEST, protocol, way).is_successful()  # it goes on as if nothing had been


def test_a_part_of_a_chain_does_not_stay(tmp_path: Path) -> None:
    lines = [f"00CB3FFF {pattern(600).hex()} -> 9000", "00B00000 Ne=1 -> 01 9000"]
    card = written(tmp_path, "T1", *lines)
    assert card.process(b"\x10\xcb\x3f\xff\xff" + pattern(255)) == b"\x90\x00"
    assert card.process(bytes.fromhex("00B0000001")) == b"\x01\x90\x00"
    assert converse(card, C_APDU(0x00, 0xCB, 0x3F, 0xFF, pattern(600)), T1, Lengths.CHAINING).is_successful()


def test_a_chain_that_the_caller_made_is_its_own_commands(tmp_path: Path) -> None:
    card = written(tmp_path, "T1", "10CB3FFF 0102 -> 9000", "00CB3FFF 03 -> AA 9000")
    assert converse(card, C_APDU(0x10, 0xCB, 0x3F, 0xFF, b"\x01\x02"), T1, Lengths.SHORT).is_successful()
    assert converse(card, C_APDU(0x00, 0xCB, 0x3F, 0xFF, b"\x03"), T1, Lengths.SHORT).data == b"\xaa"


def test_in_a_reader(tmp_path: Path) -> None:
    """Through PC/SC a command that is not recorded is 6F00; the error comes when the card is taken out."""
    card = written(tmp_path, "T0", "00B00000 Ne=4 -> 01020304 9000")
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        pcsc.insert(0, card)
        for _ in range(2):  # a session after the other
            with SCard(timeout=30) as scard:
                assert scard.atr == b"\x3b\x00"
                assert scard.protocol is Protocol.T0
                assert scard.send(C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 4)).ashex() == "010203049000"
            assert card.all_played
        with SCard(timeout=30) as scard:
            assert scard.send(C_APDU(0x00, 0xB0, 0x00, 0x01, b"", 4)).sw == 0x6F00
        with pytest.raises(UnrecordedCommandError, match=r"line 4: 00B00000 Ne=4 \(P2 is 00, not 01\)"):
            pcsc.remove(0)


def test_a_mute_card(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    path.write_text("scardface cassette 1\natr\nprotocol T1\n", encoding="utf-8")
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        pcsc.insert(0, ReplayCard(path))
        with pytest.raises(SCardError, match="a card that does not answer"):
            SCard(timeout=0)


def test_no_cassette(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ReplayCard(tmp_path / "none.cassette")
    (tmp_path / "bad.cassette").write_text("scardface cassette 1\n", encoding="utf-8")
    with pytest.raises(CassetteError, match=r"bad\.cassette, line 1: there is no line 'atr'"):
        ReplayCard(tmp_path / "bad.cassette")


@pytest.mark.parametrize("protocol", [T0, T1])
def test_a_card_that_was_recorded_with_another_instruction_for_fetching(tmp_path: Path, protocol: Protocol) -> None:
    options = ExchangeOptions(response_instruction=0xA5)
    listing, whole = C_APDU(0x00, 0xA1, 0, 0, b"", 256), bytes(range(256)) * 3
    data = C_APDU(0x00, 0xA4, 0, 1, b"\x74\x00", 256)
    card = replaying(tmp_path, protocol, Sent(listing, R_APDU(whole, 0x90, 0)), Sent(data, R_APDU(whole[:300], 0x90, 0)))
    assert converse(card, listing, protocol, Lengths.AUTO, options) == R_APDU(whole, 0x90, 0)
    assert converse(card, data, protocol, Lengths.AUTO, options) == R_APDU(whole[:300], 0x90, 0)
    assert card.all_played


def test_a_command_that_is_recorded_fetches_nothing(tmp_path: Path) -> None:
    card = written(tmp_path, "T1", "00A10000 Ne=256 -> " + "AB" * 300 + " 9000", "00A50000 Ne=256 -> CD 9000")
    assert card.process(bytes.fromhex("00A1000000"))[-2:] == b"\x61\x2c"
    assert card.process(bytes.fromhex("00A5000000")) == b"\xcd\x90\x00"
