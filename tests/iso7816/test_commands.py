"""Command builders: the bytes, what is refused, and that PINs and keys are not shown."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from scardface import C_APDU, iso7816
from scardface.iso7816 import _commands

CODED: list[tuple[C_APDU, str]] = [
    (iso7816.select(bytes.fromhex("A000000308")), "00A4040005A00000030800"),
    (iso7816.select(bytes.fromhex("A000000308"), p2=0x0C), "00A4040C05A000000308"),
    (iso7816.select(b"\xa0", p2=0x02, cla=1), "01A4040201A000"),
    (iso7816.select(), "00A4040000"),
    (iso7816.select_file(0x3F00), "00A40000023F0000"),
    (iso7816.select_file(0x0001, p2=0x04, le=None), "00A40004020001"),
    (iso7816.select_path(bytes.fromhex("3F0050000001")), "00A40800045000000100"),
    (iso7816.select_path(bytes.fromhex("5000"), p2=0x0C), "00A4080C025000"),
    (iso7816.read_binary(), "00B0000000"),
    (iso7816.read_binary(0x7FFF, 1), "00B07FFF01"),
    (iso7816.read_binary(0x8000), "00B10000045402800000"),
    (iso7816.read_binary(0x10000, 20, cla=2), "02B1000005540301000014"),
    (iso7816.read_binary(0x10, 4, sfi=30), "00B09E1004"),
    (iso7816.read_binary(0x8000, sfi=2), "00B10002045402800000"),
    (iso7816.read_binary(0, 65536), "00B00000000000"),
    (iso7816.update_binary(0x102, b"ab"), "00D60102026162"),
    (iso7816.update_binary(0x8000, b"ab"), "00D70000085402800053026162"),
    (iso7816.update_binary(0, b"a", sfi=1), "00D681000161"),
    (iso7816.write_binary(1, b"a"), "00D000010161"),
    (iso7816.erase_binary(), "000E0000"),
    (iso7816.erase_binary(2, 0x100), "000E0002020100"),
    (iso7816.read_record(3), "00B2030400"),
    (iso7816.read_record(1, sfi=2, mode=5, le=10), "00B201150A"),
    (iso7816.write_record(2, b"ab"), "00D20204026162"),
    (iso7816.update_record(2, b"ab", sfi=1), "00DC020C026162"),
    (iso7816.update_record(0, b"ab", mode=3), "00DC0003026162"),
    (iso7816.append_record(b"ab", sfi=1), "00E20008026162"),
    (iso7816.erase_record(2), "000C0204"),
    (iso7816.get_data(0x5F50), "00CA5F5000"),
    (iso7816.get_data(0x66), "00CA006600"),
    (iso7816.get_data(0x5FC102), "00CB3FFF055C035FC10200"),
    (iso7816.put_data(0x5F50, b"ab"), "00DA5F50026162"),
    (iso7816.put_data(0x5FC102, b"ab"), "00DB3FFF065FC102026162"),
    (iso7816.verify(0x81), "00200081"),
    (iso7816.verify(0x81, b"1234"), "002000810431323334"),
    (iso7816.change_reference_data(0x81, b"1234", b"5678"), "00240081083132333435363738"),
    (iso7816.change_reference_data(0x81, b"", b"5678"), "002401810435363738"),
    (iso7816.disable_verification_requirement(1, b"12"), "00260001023132"),
    (iso7816.disable_verification_requirement(1), "00260101"),
    (iso7816.enable_verification_requirement(1, b"12"), "00280001023132"),
    (iso7816.enable_verification_requirement(1), "00280101"),
    (iso7816.reset_retry_counter(0x81, b"12", b"34"), "002C00810431323334"),
    (iso7816.reset_retry_counter(0x81, b"12"), "002C0181023132"),
    (iso7816.reset_retry_counter(0x81, b"", b"34"), "002C0281023334"),
    (iso7816.reset_retry_counter(0x81), "002C0381"),
    (iso7816.get_challenge(), "0084000008"),
    (iso7816.get_challenge(256), "0084000000"),
    (iso7816.internal_authenticate(b"ab"), "0088000002616200"),
    (iso7816.internal_authenticate(b"ab", algorithm=1, reference=0x82, le=8), "0088018202616208"),
    (iso7816.external_authenticate(b"ab", reference=2), "00820002026162"),
    (iso7816.external_authenticate(b"", reference=2), "00820002"),
    (iso7816.external_authenticate(b"ab", le=256), "0082000002616200"),
    (iso7816.general_authenticate(b"\x7c\x00"), "00860000027C0000"),
    (iso7816.general_authenticate(b"\x7c\x00", algorithm=7, reference=0x9A, ins=0x87), "0087079A027C0000"),
    (iso7816.manage_security_environment(0x41, 0xB6, b"\x84\x01\x01"), "002241B603840101"),
    (iso7816.manage_security_environment(0xF3, 0x01), "0022F301"),
]


@pytest.mark.parametrize(("command", "digits"), CODED, ids=[digits for _, digits in CODED])
def test_the_bytes(command: C_APDU, digits: str) -> None:
    assert bytes(command).hex().upper() == digits


def test_every_builder_is_public_and_tried() -> None:
    built = {name for name, each in vars(_commands).items() if inspect.isfunction(each) and each.__module__ == _commands.__name__}
    public = {name for name in built if not name.startswith("_")}
    assert public <= set(iso7816.__all__)
    source = inspect.getsource(inspect.getmodule(test_every_builder_is_public_and_tried))  # type: ignore[arg-type]
    assert not [name for name in public if f"iso7816.{name}(" not in source]
    for name in public:
        assert "11." in (inspect.getdoc(getattr(iso7816, name)) or ""), f"{name} names no clause"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: iso7816.select(bytes(17)), "data has at most 16 bytes, not 17"),
        (lambda: iso7816.select(bytes(256 * 256), p1=0x08), "data has at most"),
        (lambda: iso7816.select(b"", p1=256), "p1 is 0 to 255"),
        (lambda: iso7816.select_file(0x10000), "file_id is 0 to 65535"),
        (lambda: iso7816.select_path(b""), "file identifiers of two bytes"),
        (lambda: iso7816.select_path(b"\x3f\x00"), "file identifiers"),
        (lambda: iso7816.select_path(b"\x50\x00\x01"), "file identifiers"),
        (lambda: iso7816.read_binary(-1), "offset is 0"),
        (lambda: iso7816.read_binary(1 << 32), "offset is 0"),
        (lambda: iso7816.read_binary(0, 0), "length is 1"),
        (lambda: iso7816.read_binary(0, 65537), "length is 1"),
        (lambda: iso7816.read_binary(256, sfi=1), "offset is 0 to 255"),
        (lambda: iso7816.read_binary(sfi=31), "sfi is 1 to 30"),
        (lambda: iso7816.read_binary(sfi=0), "sfi is 1 to 30"),
        (lambda: iso7816.update_binary(0, b""), "there is no data"),
        (lambda: iso7816.erase_binary(0x8000), "offset is 0 to 32767"),
        (lambda: iso7816.erase_binary(5, 4), "end is 5"),
        (lambda: iso7816.read_record(255), "number is 0 to 254"),
        (lambda: iso7816.read_record(1, mode=8), "mode is 0 to 7"),
        (lambda: iso7816.update_record(1, b""), "there is no data"),
        (lambda: iso7816.get_data(0), "tag is 1"),
        (lambda: iso7816.get_data(0x1000000), "tag is 1"),
        (lambda: iso7816.get_data(0x40C102), "is no tag"),
        (lambda: iso7816.verify(256), "reference is 0 to 255"),
        (lambda: iso7816.change_reference_data(1, b"1", b""), "there is no new"),
        (lambda: iso7816.get_challenge(0), "length is 1"),
        (lambda: iso7816.internal_authenticate(b""), "there is no challenge"),
        (lambda: iso7816.general_authenticate(b"\x7c\x00", ins=0x88), "ins is 0x86 or 0x87"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: iso7816.select("A000000308"),  # type: ignore[arg-type]
        lambda: iso7816.select_file("3F00"),  # type: ignore[arg-type]
        lambda: iso7816.read_binary(1.5),  # type: ignore[arg-type]
        lambda: iso7816.verify(0x81, "1234"),  # type: ignore[arg-type]
        lambda: iso7816.verify(True),
        lambda: iso7816.change_reference_data(1, 1234, b"5678"),  # type: ignore[arg-type]
    ],
)
def test_another_type_is_refused(call: Any) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        iso7816.verify(0x81, b"197256"),
        iso7816.change_reference_data(0x81, b"197256", b"197256"),
        iso7816.reset_retry_counter(0x81, b"197256", b"197256"),
        iso7816.disable_verification_requirement(0x81, b"197256"),
        iso7816.enable_verification_requirement(0x81, b"197256"),
        iso7816.external_authenticate(b"197256"),
        iso7816.put_data(0x5F50, b"197256"),
        iso7816.update_binary(0, b"197256"),
    ],
)
def test_what_may_be_secret_is_not_shown(command: C_APDU) -> None:
    assert "313937323536" not in repr(command)
    assert "197256" not in repr(command)
