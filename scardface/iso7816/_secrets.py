"""Which commands and responses carry secrets: one table, and the two rules derived from it. No I/O.

Rules:

- A secret is a PIN, a password, a key, or a value derived from a secret key that is worth as much (a session key, a plain text that
  the card deciphered, a one-time password, a cryptogram that authenticates). Names, numbers, certificates, signatures, public keys,
  challenges and the contents of files are not, though they may be personal.
- `SECRET` has the commands that by standard carry one, `PUBLIC` those that by standard do not. Each row has its clause. Of all
  others it is not known: proprietary commands, and writing to files and objects.
- There are two rules. `carries_secret` (for cassettes) is true of the rows of `SECRET`, since data hidden without need cannot be
  replayed. `may_carry_secret` (for repr, trace, texts, terminals) is true of everything but the rows of `PUBLIC`, and of `SECRET`.
- A row hides the data of the command and of its response. It matches by the header, in every class with its channel and chaining
  bits, and if that is not enough, by how the data begins; what cannot be decided, as in a later part of a chain, counts as secret.
- A class byte with secure messaging hides everything (ISO/IEC 7816-4:2020, 5.4.1; GlobalPlatform Card Specification 2.3.1, 11.1.4).
- Data fetched after a command, and later parts of a chain, are secret if the command was; and so is a file that holds keys, from
  its selection on. This depends on earlier commands, which `SecretTracker` follows for cassettes and the trace; a repr only knows
  its own command.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["PUBLIC", "Row", "SECRET", "SecretTracker", "carries_secret", "may_carry_secret"]


class Command(Protocol):
    """The fields of a command that the rules use."""

    @property
    def cla(self) -> int:
        """Class byte."""

    @property
    def ins(self) -> int:
        """Instruction byte."""

    @property
    def p1(self) -> int:
        """First parameter byte."""

    @property
    def p2(self) -> int:
        """Second parameter byte."""

    @property
    def data(self) -> bytes:
        """The data."""

    @property
    def le(self) -> int:
        """Ne."""


CommandT = TypeVar("CommandT", bound=Command)


class Row(NamedTuple):
    """Some commands.

    Attributes:
        what: their names, and what in them is a secret or is not.
        classes: the classes, as bytes.
        instructions: the instruction bytes.
        clause: of the standard.
        applies: a further condition; None: none.
    """

    what: str
    classes: Container[int]
    instructions: tuple[int, ...]
    clause: str
    applies: Callable[[Command], bool] | None = None


INTERINDUSTRY = frozenset((*range(0x20), *range(0x40, 0x80)))
PROPRIETARY = frozenset(range(0x80, 0xFF))
OF_CARDS = frozenset(range(0xFF))
READER = frozenset((0xFF,))
EVERY = frozenset(range(0x100))
SIM = frozenset((0xA0,))
UICC = frozenset((*range(0x80, 0x90), 0xA0, *range(0xC0, 0xF0)))
DESFIRE = frozenset((0x90,))

_PRIVATE_OBJECTS = frozenset((0x00D1, 0x00D2, 0x00D3, 0x00D5, 0x00F4, 0x00F9))
"""OpenPGP 3.4, 4.4.1: keys of secure messaging (D1, D2, F4), resetting code, AES key, KDF-DO with hashes of the initial PINs."""
_ES10 = frozenset(
    bytes((0xBF, tag))
    for tag in (0x20, 0x22, 0x28, 0x29, 0x2B, 0x2D, 0x2E, 0x30, 0x31, 0x32, 0x33, 0x34, 0x3C, 0x3E, 0x3F, 0x41, 0x43)
)
"""GSMA SGP.22, 5.7: functions that get or manage what is no secret. Not among them: PrepareDownload (BF21) with the hash of the
confirmation code, LoadBoundProfilePackage (BF36), AuthenticateServer (BF38) with the matching identifier."""
_PRINTED = bytes.fromhex("5C035FC109")


def _has_data(command: Command) -> bool:
    return bool(command.data)


def _names_a_key(command: Command) -> bool:
    return bool(command.p2 & 0x80)


def _is_no_signature(command: Command) -> bool:
    return command.p1 not in (0x00, 0x90, 0x9E)


def _is_object_with_key(command: Command) -> bool:
    if command.ins & 1 and command.data[:1] == b"\x4d":
        return True
    where = command.p1 << 8 | command.p2
    if where == 0x3FFF:
        return command.data[:1] != b"\x5c" or command.data.startswith(_PRINTED)
    return where in _PRIVATE_OBJECTS


def _is_printed_object(command: Command) -> bool:
    return command.data.startswith(_PRINTED)


def _may_be_key_group(command: Command) -> bool:
    return not (command.p1 & 0x7F == 0x11 and command.data[:2] in _ES10)


def _is_sector_trailer(command: Command) -> bool:
    return command.p2 & 3 == 3 and command.le >= 16


def _is_mifare_login(command: Command) -> bool:
    return command.data[:2] == b"\xd4\x40" and command.data[3:4] in (b"\x60", b"\x61")


def _is_no_registration(command: Command) -> bool:
    return len(command.data) not in (0, 64)


def _is_of_hsmauth(command: Command) -> bool:
    return command.data[:1] == b"\x7b"


def _is_calculation(command: Command) -> bool:
    return command.p1 == 0 and (command.ins == 0xA2 or len(command.data) > 2) and command.data[:1] in (b"\x71", b"\x74")


SECRET: tuple[Row, ...] = (
    Row("VERIFY: the PIN", EVERY, (0x20, 0x21), "ISO/IEC 7816-4:2020, 11; TS 51.011, 9.2.9; SP 800-73-4-2, 3.2.1"),
    Row("CHANGE REFERENCE DATA: both PINs or keys", EVERY, (0x24, 0x25), "ISO/IEC 7816-4:2020, 11; TS 51.011, 9.2.10"),
    Row("DISABLE, ENABLE VERIFICATION REQUIREMENT: the PIN", EVERY, (0x26, 0x28), "ISO/IEC 7816-4:2020, 11; TS 51.011, 9.2.11"),
    Row("RESET RETRY COUNTER, UNBLOCK CHV: resetting code, new PIN", EVERY, (0x2C, 0x2D),
        "ISO/IEC 7816-4:2020, 11; TS 51.011, 9.2.13"),
    Row("EXTERNAL, MUTUAL AUTHENTICATE: cryptograms, wrapped keys; of a reader LOAD KEYS: the key", EVERY, (0x82, 0x83),
        "ISO/IEC 7816-4:2020, 11; GlobalPlatform 2.3.1, annexes D and E; PC/SC part 3, 3.2.2.1.4"),
    Row("GENERAL AUTHENTICATE: cryptograms, what is deciphered, agreed secrets; a reader's 86 names a key by its number",
        OF_CARDS, (0x86,), "ISO/IEC 7816-4:2020, 11; SP 800-73-4-2, 3.2.4"),
    Row("GENERAL AUTHENTICATE with data objects", EVERY, (0x87,), "ISO/IEC 7816-4:2020, 11; SP 800-73-4-2, 3.2.4"),
    Row("RUN GSM ALGORITHM: answers with Kc", SIM, (0x88,), "TS 51.011, 9.2.16"),
    Row("AUTHENTICATE by a key of the application: answers with CK, IK, Kc, Ks", OF_CARDS, (0x88, 0x89),
        "TS 31.102, 7.1", _names_a_key),
    Row("GENERATE KEY/VPM: answers with the key", SIM, (0x8E,), "3GPP2 C.S0023"),
    Row("PERFORM SECURITY OPERATION but hash, signature and verification: what is enciphered, what was deciphered, checksums",
        OF_CARDS, (0x2A, 0x2B), "ISO/IEC 7816-8:2019, 11; OpenPGP 3.4, 7.2.11 and 7.2.12", _is_no_signature),
    Row("IMPORT CARD SECRET", OF_CARDS, (0x48, 0x49), "ISO/IEC 7816-8:2019"),
    Row("PUT DATA of keys: extended header list, OpenPGP's own objects, PIV's PRINTED with a management key",
        OF_CARDS, (0xDA, 0xDB), "ISO/IEC 7816-8:2019; OpenPGP 3.4, 4.4.1 and 7.2.8; Yubico, PIN-only mode", _is_object_with_key),
    Row("GET DATA of PIV's PRINTED, which may hold the management key", OF_CARDS, (0xCB,),
        "Yubico, PIN-only mode", _is_printed_object),
    Row("PUT KEY", PROPRIETARY, (0xD8, 0xD9), "GlobalPlatform 2.3.1, 11.8"),
    Row("STORE DATA: data groups may be keys; of eSIMs, download and authentication", PROPRIETARY, (0xE2, 0xE3),
        "GlobalPlatform 2.3.1, 11.11; EMV CPS 1.1, annex A; GSMA SGP.22, 5.7", _may_be_key_group),
    Row("ENVELOPE: a command that is not seen, or a secured packet; of a reader, pseudo-APDUs for PINs", EVERY, (0xC2, 0xC3),
        "ISO/IEC 7816-4:2020, 11; TS 102 223, 6.8; PC/SC part 10, 2.3.1"),
    Row("TERMINAL RESPONSE: what the user typed; PERFORM USER OPERATION: passwords", OF_CARDS, (0x14, 0x15),
        "TS 102 223, 6.8; ISO/IEC 7816-7:1999"),
    Row("MANAGE SECURE CHANNEL: key material; SUSPEND UICC: the resume token", UICC, (0x73, 0x76),
        "TS 102 221, 11.1.20 and 11.1.22"),
    Row("ChangeKey, ChangeKeyEV2, SetConfiguration: keys; Authenticate: cryptograms", DESFIRE,
        (0xC4, 0xC6, 0x5C, 0x0A, 0x1A, 0xAA, 0x71, 0x77), "NXP MF3DxH, ISO/IEC 7816-4 framing"),
    Row("UPDATE BINARY of a reader: a sector trailer holds both keys, and nothing tells it from data", READER, (0xD6, 0xD7),
        "PC/SC part 3, 3.2.2.1"),
    Row("READ BINARY of a reader: 16 bytes of a sector trailer hold key B", READER, (0xB0,),
        "PC/SC part 3, 3.2.2.1", _is_sector_trailer),
    Row("direct command to a PN53x: the key of a MIFARE login", READER, (0x00,), "NXP UM0701-02, 7.3.8", _is_mifare_login),
    Row("OATH PUT, OTP configuration, YubiHSM Auth PUT: keys; U2F's REGISTER has 64 bytes of data", INTERINDUSTRY, (0x01,),
        "Yubico, OATH and YubiHSM Auth", _is_no_registration),
    Row("YubiHSM Auth DELETE: management key", INTERINDUSTRY, (0x02,), "Yubico, YubiHSM Auth", _is_of_hsmauth),
    Row("OATH SET CODE, YubiHSM Auth CALCULATE: password or keys; PUT MANAGEMENT KEY; OATH VALIDATE; configuration with lock code",
        INTERINDUSTRY, (0x03, 0x08, 0xA3, 0x1C), "Yubico, OATH, YubiHSM Auth, Management", _has_data),
    Row("OATH CALCULATE, CALCULATE ALL: one-time passwords", INTERINDUSTRY, (0xA2, 0xA4), "Yubico, OATH", _is_calculation),
    Row("PIV IMPORT KEY, SET MANAGEMENT KEY", INTERINDUSTRY, (0xFE, 0xFF), "Yubico, PIV extensions", _has_data),
)  # fmt: skip
"""Commands that carry a secret: by standard, or by the manufacturer's published protocol."""

PUBLIC: tuple[Row, ...] = (
    Row("DEACTIVATE, ACTIVATE FILE, DELETE FILE, TERMINATE DF, TERMINATE EF: names", INTERINDUSTRY, (0x04, 0x44, 0xE4, 0xE6, 0xE8),
        "ISO/IEC 7816-9:2017"),
    Row("MANAGE SECURITY ENVIRONMENT: references to keys; MANAGE CHANNEL", INTERINDUSTRY, (0x22, 0x70), "ISO/IEC 7816-4:2020, 11"),
    Row("GET CHALLENGE, SELECT", INTERINDUSTRY, (0x84, 0xA4), "ISO/IEC 7816-4:2020, 11"),
    Row("SELECT DATA; without data A5 is something else", INTERINDUSTRY, (0xA5,),
        "ISO/IEC 7816-4:2020, 11; OpenPGP 3.4, 7.2.5", _has_data),
    Row("READ BINARY, READ RECORD", INTERINDUSTRY, (0xB0, 0xB1, 0xB2, 0xB3), "ISO/IEC 7816-4:2020, 11"),
    Row("GET DATA, GET NEXT DATA", INTERINDUSTRY, (0xCA, 0xCB, 0xCC, 0xCD), "ISO/IEC 7816-4:2020, 11; SP 800-73-4-2, 3.1.2"),
    Row("GET DATA, GET STATUS", frozenset(range(0x80, 0x84)), (0xCA, 0xCB, 0xF2), "GlobalPlatform 2.3.1, 11.3 and 11.4"),
    Row("SELECT, READ BINARY, READ RECORD, STATUS", SIM, (0xA4, 0xB0, 0xB2, 0xF2), "TS 51.011, 9.2"),
    Row("READ BINARY, GET DATA (UID), GENERAL AUTHENTICATE by a key's number", READER, (0x86, 0xB0, 0xCA), "PC/SC part 3, 3.2.2.1"),
)  # fmt: skip
"""Commands that by standard name, find or read something, unless a row of `SECRET` matches. Only their data is shown."""

KEY_FILES: dict[tuple[int, int], int] = {
    (0x7F20, 0x6F20): 0,  # EF.Kc; TS 51.011, 10.3.3
    (0x7F20, 0x6F52): 0,  # EF.KcGPRS; TS 51.011, 10.3.33
    (0x7FFF, 0x6F08): 0x08,  # EF.Keys: CK and IK; TS 31.102, 4.2.3
    (0x7FFF, 0x6F09): 0x09,  # EF.KeysPS; TS 31.102, 4.2.4
    (0x7FFF, 0x6FE4): 0x18,  # EF.EPSNSC: K ASME; TS 31.102, 4.2.92
    (0x5F3B, 0x4F20): 0x01,  # EF.Kc; TS 31.102, 4.4.3.1
    (0x5F3B, 0x4F52): 0x02,  # EF.KcGPRS; TS 31.102, 4.4.3.2
    (0x5FC0, 0x4F03): 0x03,  # EF.5GS3GPPNSC: K AMF; TS 31.102, 4.4.11.4
    (0x5FC0, 0x4F04): 0x04,  # EF.5GSN3GPPNSC; TS 31.102, 4.4.11.5
    (0x5FC0, 0x4F05): 0x05,  # EF.5GAUTHKEYS: K AUSF, K SEAF; TS 31.102, 4.4.11.6
}
"""Files that hold keys: directory and file, to the short identifier. 7FFF is the application (a USIM's)."""
_BY_SHORT = {(directory, short): file for (directory, file), short in KEY_FILES.items() if short}
_OF_BINARIES, _OF_RECORDS = frozenset((0xB0, 0xD6)), frozenset((0xB2, 0xDC))
_USIM = bytes.fromhex("A000000087")


def _by_instruction(table: Iterable[Row]) -> dict[int, tuple[Row, ...]]:
    found: dict[int, tuple[Row, ...]] = {}
    for row in table:
        for ins in row.instructions:
            found[ins] = (*found.get(ins, ()), row)
    return found


_SECRET, _PUBLIC = _by_instruction(SECRET), _by_instruction(PUBLIC)


def _is_in(table: dict[int, tuple[Row, ...]], command: Command) -> bool:
    for row in table.get(command.ins, ()):  # noqa: SIM110  # asked for each command; a generator costs twice as much
        if command.cla in row.classes and (row.applies is None or row.applies(command)):
            return True
    return False


def _is_secured(cla: int) -> bool:
    if cla & 0xE0 == 0x00 or cla & 0xF0 == 0x80:  # channels 0 to 3
        return bool(cla & 0x0C)
    if cla & 0xC0 == 0x40 or (cla & 0xD0 == 0xC0):  # channels 4 to 19
        return bool(cla & 0x20)
    return False


_SECURED = frozenset(cla for cla in range(0x100) if _is_secured(cla))


def carries_secret(command: Command) -> bool:
    """Whether by standard a command, or its response, carries a secret."""
    return command.cla in _SECURED or _is_in(_SECRET, command)


def may_carry_secret(command: Command) -> bool:
    """Whether a command, or its response, may carry a secret: by standard it does, or nothing says that it does not."""
    return command.cla in _SECURED or not _is_in(_PUBLIC, command) or _is_in(_SECRET, command)


def _is_login(command: Command, answer: bytes) -> bool:
    """Whether FETCH brought OPEN CHANNEL, which may have a user's password in it (TS 102 223, 6.6.27.1)."""
    if command.ins != 0x12 or command.cla not in UICC:
        return False
    details = answer[3:] if answer[1:2] == b"\x81" else answer[2:]  # behind the tag D0 and its length: 81 03, number, type
    return answer[:1] == b"\xd0" and details[3:4] == b"\x40"


class SecretTracker(Generic[CommandT]):
    """Decides for each command to one card, in order, whether it carries a secret, where that depends on earlier commands.

    Args:
        rule: whether a command, or its response, carries a secret by itself.
    """

    def __init__(self, rule: Callable[[CommandT], bool]) -> None:
        self._rule = rule
        self._hidden = self._more_to_fetch = False  # of the last command: was it hidden? is there more to fetch?
        self._chain: tuple[int, int, int, int] | None = None  # the header of the next part of its chain
        self._selected: dict[int, tuple[int, int]] = {}  # selected directory and file by channel (at most 20)

    def hides(self, command: CommandT, sw: int, answer: bytes = b"") -> bool:
        """Whether this command, or its response, carries a secret. To be called once for each answered command, in order.

        Args:
            sw: the status word of its answer.
            answer: the data of its answer.
        """
        cla, ins = command.cla, command.ins
        header = (cla & ~0x10, ins, command.p1, command.p2)
        fetches = ins == 0xC0 or (self._more_to_fetch and (not command.data or ins == 0xAF))
        follows = fetches or header == self._chain
        of_itself = self._rule(command) or self._is_of_keys(command) or _is_login(command, answer)
        self._hidden = of_itself or (follows and self._hidden)
        self._more_to_fetch = sw >> 8 in (0x61, 0x9F) or sw == 0x91AF
        self._chain = header if cla & 0x10 else None
        if ins == 0xA4 and (sw == 0x9000 or sw >> 8 in (0x61, 0x91, 0x9F)):
            self._select(command)
        return self._hidden

    def _select(self, command: Command) -> None:
        directory, file = self._selected.get(_channel(command.cla), (0, 0))
        if command.p1 & 0x04:
            directory, file = (0x7FFF if command.data.startswith(_USIM) else 0), 0
        else:
            if command.p1 == 0x08:
                directory = file = 0
            for place in range(0, len(command.data) - 1, 2):
                name = command.data[place] << 8 | command.data[place + 1]
                directory, file = (name, 0) if name >> 8 in (0x3F, 0x5F, 0x7F) else (directory, name)
        self._selected[_channel(command.cla)] = directory, file

    def _is_of_keys(self, command: Command) -> bool:
        if command.ins in _OF_BINARIES:
            short = command.p1 & 0x1F if command.p1 & 0x80 else 0
        elif command.ins in _OF_RECORDS:
            short = command.p2 >> 3
        else:
            return False
        directory, file = self._selected.get(_channel(command.cla), (0, 0))
        if short:
            file = _BY_SHORT.get((directory, short), 0)
            self._selected[_channel(command.cla)] = directory, file
        return (directory, file) in KEY_FILES


def _channel(cla: int) -> int:
    return 4 + (cla & 0x0F) if cla & 0x40 else cla & 0x03
