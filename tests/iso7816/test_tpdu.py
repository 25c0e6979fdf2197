"""How commands go out: which class carries ENVELOPE. (The rest, with cards that answer, is in test_exchange.py.)"""

from __future__ import annotations

import pytest

from scardface._enums import Lengths, Protocol
from scardface.iso7816._apdu import C_APDU
from scardface.iso7816._tpdu import encode_t0, has_extended_fields, tpdus

T0, T1 = Protocol.T0, Protocol.T1
INTERINDUSTRY = {*range(0x20), *range(0x40, 0x80)}


@pytest.mark.parametrize("cla", range(256))
def test_envelope_goes_out_in_an_interindustry_class_only(cla: int) -> None:
    command = C_APDU(cla, 0xE2, 0x91, 0x00, bytes(300))
    if cla in INTERINDUSTRY:
        assert len(tpdus(command, T0, Lengths.AUTO)) == 2
    else:
        with pytest.raises(ValueError, match=rf"300 bytes of data in class {cla:02X}.*lengths=Lengths\.CHAINING"):
            tpdus(command, T0, Lengths.AUTO)
    for lengths in {Lengths.ENVELOPE, Lengths.AUTO if cla in INTERINDUSTRY else Lengths.ENVELOPE}:
        parts = tpdus(command, T0, lengths)
        assert all(part[0] in INTERINDUSTRY and part[1:4] == b"\xc2\0\0" for part in parts)
        assert b"".join(part[5:] for part in parts) == bytes(command)


@pytest.mark.parametrize(("cla", "envelope"), [(0x82, 0x02), (0xC3, 0x43), (0xA0, 0x00), (0x0D, 0x01), (0x4F, 0x4F), (0xFF, 0x00)])
def test_envelope_keeps_the_channel(cla: int, envelope: int) -> None:
    assert {part[0] for part in tpdus(C_APDU(cla, 0xE2, data=bytes(300)), T0, Lengths.ENVELOPE)} == {envelope}


def test_the_callers_class_for_envelope() -> None:
    plain, proprietary = C_APDU(0x00, 0xE2, data=bytes(300)), C_APDU(0x80, 0xE2, data=bytes(300))
    assert {part[0] for part in tpdus(proprietary, T0, Lengths.ENVELOPE, 0x80)} == {0x80}
    assert {part[0] for part in tpdus(plain, T0, Lengths.AUTO, 0x42)} == {0x42}
    for command, cla in ((plain, 0xA0), (plain, 0x20), (proprietary, 0x00)):
        with pytest.raises(ValueError, match="lengths="):
            tpdus(command, T0, Lengths.AUTO, cla)


def test_short_commands_go_in_any_class() -> None:
    for cla in range(256):
        command = C_APDU(cla, 0xE2, data=bytes(255))
        for lengths in (Lengths.AUTO, Lengths.ENVELOPE, Lengths.CHAINING, Lengths.SHORT):
            assert tpdus(command, T0, lengths) == [encode_t0(command)]


def test_extended_fields() -> None:
    assert has_extended_fields(bytes(C_APDU(le=257)))
    assert has_extended_fields(bytes(C_APDU(data=bytes(256))))
    for protocol in (T0, T1):
        for command in (C_APDU(), C_APDU(le=256), C_APDU(data=bytes(255)), C_APDU(data=b"\0", le=256)):
            assert not has_extended_fields(tpdus(command, protocol, Lengths.AUTO)[0])
