"""SCP03, the secure channel of GlobalPlatform's cards by AES, as a layer (Card Specification 2.3, Amendment D, 1.2). Extra `scp`.

::

    from scardface import C_APDU, SCard, scp03

    async with SCard(timeout=30) as card:  # without async and await on the sync face
        secure = await scp03.open(card, scp03.Keys(enc=enc, mac=mac, dek=dek))
        response = await secure.send(C_APDU(0x80, 0xF2, 0x40, 0x02, b"\\x4f\\x00", 256))

Rules:

- `open` is INITIALIZE UPDATE and EXTERNAL AUTHENTICATE (7.1.1, 7.1.2), in one transaction if the card has transactions. A card
  whose cryptogram is wrong is sent no EXTERNAL AUTHENTICATE: cards count failed ones, and block their keys.
- Session keys and cryptograms are derived by the KDF in counter mode of NIST SP 800-108 with CMAC (4.1.5).
- A command's C-MAC covers the C-MAC of the command before it, the class with secure messaging and channel 0, INS, P1, P2, Lc as it
  is encoded, and the data (6.2.4), but not Le. Data are encrypted first, under a counter of commands (6.2.6).
- A response is covered if its status is 9000, 62xx or 63xx. Any other is a bare status, which anybody could have sent (6.2.5).
- Wrapping changes nothing until the card has answered: what was not sent was not wrapped. Once a response is not the card's (its
  MAC is wrong, it is too short, an error comes with data), the session is closed for good.
- Keys are in no repr, exception and pickle; cryptograms and MACs are compared in constant time.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, overload

from . import C_APDU, R_APDU, Layer, LayerClosedError, SCardError, StatusError
from .errors import pip_install
from .iso7816._apdu import Buffer, octets_of
from .iso7816._open_card import Steps, carry_out

if TYPE_CHECKING:
    from ._faces.routes import Layered

try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.cmac import CMAC
except ImportError as _missing:
    raise ImportError(f"SCP03 needs the package cryptography: {pip_install('scp')}", name="cryptography") from _missing

__all__ = [
    "AsyncCard",
    "InitializeUpdateResponse",
    "Keys",
    "Level",
    "Mode",
    "SecureChannelError",
    "SyncCard",
    "key_check_value",
    "open",
]

_BLOCK = 16
_KEY_SIZES = (16, 24, 32)
_PROTOCOL = 0x03
"""The number of this protocol in the key information (7.1.1)."""
# Table 4-1, data derivation constants.
CARD_CRYPTOGRAM, HOST_CRYPTOGRAM, CARD_CHALLENGE, S_ENC, S_MAC, S_RMAC = 0x00, 0x01, 0x02, 0x04, 0x06, 0x07


class SecureChannelError(SCardError):
    """The card does not prove that it has the keys, cannot do what was asked, or a response was not its own: open a new channel."""


class Mode(enum.IntEnum):
    """How long challenges, cryptograms and MACs are, in bytes (5.1); the card is configured for one of them."""

    S8 = 8
    """8 bytes: MACs and cryptograms are cut off. All cards before version 1.2."""
    S16 = 16
    """16 bytes."""


class Level(enum.IntFlag):
    """What is protected in a session (table 7-6); without C_MAC nothing is, and R_ENCRYPTION is for those who have all others."""

    C_MAC = 0x01
    """Commands are authentic and come in order."""
    C_DECRYPTION = 0x02
    """Their data are encrypted."""
    R_MAC = 0x10
    """Responses are authentic."""
    R_ENCRYPTION = 0x20
    """Their data are encrypted."""


_ALL = Level.C_MAC | Level.C_DECRYPTION | Level.R_MAC | Level.R_ENCRYPTION
_LEVELS = (0x01, 0x03, 0x11, 0x13, 0x33)


class Keys:
    """A set of static keys (6.1): AES keys of 16, 24 or 32 bytes, all of one length. Diversified ones are the caller's to compute.

    Args:
        enc: Key-ENC, from which the session's key for encryption comes.
        mac: Key-MAC, from which the session's keys for MACs come.
        dek: Key-DEK, for `encrypt_with_dek`; None: that is not wanted.

    Raises:
        ValueError: a key of another length; the text says how long it is, never which.
        TypeError: a key that is not bytes.

    They cannot be read, printed, copied or pickled.
    """

    __slots__ = ("_dek", "_enc", "_mac")

    def __init__(self, enc: Buffer, mac: Buffer, dek: Buffer | None = None) -> None:
        self._enc = octets_of("enc", enc)
        self._mac = octets_of("mac", mac)
        self._dek = None if dek is None else octets_of("dek", dek)
        sizes = {len(key) for key in (self._enc, self._mac, self._dek) if key is not None}
        if len(sizes) > 1 or not sizes <= set(_KEY_SIZES):
            said = " and ".join(map(str, sorted(sizes)))
            raise ValueError(f"the keys have 16, 24 or 32 bytes, all the same, not {said}")

    def encrypt_with_dek(self, data: Buffer) -> bytes:
        """Data encrypted by Key-DEK, for PUT KEY and other sensitive data: AES-CBC, chained from a block of zeros.

        Args:
            data: whole blocks of 16 bytes; a key of 24 bytes is filled up to 32 with anything.

        Raises:
            ValueError: not whole blocks, or none; or there is no Key-DEK in this set.
            TypeError: not bytes.
        """
        octets = octets_of("data", data)
        if self._dek is None:
            raise ValueError("this set of keys has no Key-DEK: Keys(enc=..., mac=..., dek=...)")
        if not octets or len(octets) % _BLOCK:
            raise ValueError(f"data has whole blocks of 16 bytes, not {len(octets)} bytes")
        return encrypt(self._dek, bytes(_BLOCK), octets)

    def __repr__(self) -> str:
        return f"Keys(<AES-{8 * len(self._enc)}>{'' if self._dek is None else ' with Key-DEK'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys cannot be copied or pickled")


@dataclass(frozen=True)
class InitializeUpdateResponse:
    """What a card answers to INITIALIZE UPDATE (7.1.1, table 7-3).

    Attributes:
        diversification_data: 10 bytes that diversified keys are computed with.
        key_version: the version number of the keys that the card took.
        i: its configuration of the protocol (table 5-1): 0x01 S16, 0x10 pseudo-random challenge, 0x20 R-MAC, 0x40 R-ENCRYPTION.
        challenge: the card's, 8 or 16 bytes.
        cryptogram: the card's, as long.
        sequence_counter: how many sessions these keys have had; None if the challenge is random.
    """

    diversification_data: bytes
    key_version: int
    i: int
    challenge: bytes = field(repr=False)
    cryptogram: bytes = field(repr=False)
    sequence_counter: int | None


KeySource: TypeAlias = "Keys | Callable[[InitializeUpdateResponse], Keys]"
SyncSecured: TypeAlias = "Layered[R_APDU, list[R_APDU]]"
AsyncSecured: TypeAlias = "Layered[Coroutine[Any, Any, R_APDU], Coroutine[Any, Any, list[R_APDU]]]"


class SyncCard(Protocol):
    """An open card of the sync face, its channel, or a Recorder that wraps it."""

    def send(self, apdu: C_APDU, /) -> R_APDU:
        """The response to a command, which is sent.

        Args:
            apdu: the command.
        """

    def layer(self, layer: Layer, /) -> SyncSecured:
        """This card through a layer.

        Args:
            layer: the layer.
        """


class AsyncCard(Protocol):
    """An open card of the async face, its channel, or a Recorder that wraps it."""

    def send(self, apdu: C_APDU, /) -> Coroutine[Any, Any, R_APDU]:
        """The response to a command, which is sent, once it is awaited.

        Args:
            apdu: the command.
        """

    def layer(self, layer: Layer, /) -> AsyncSecured:
        """This card through a layer.

        Args:
            layer: the layer.
        """


@overload
def open(
    card: SyncCard,
    keys: KeySource,
    *,
    level: Level = _ALL,
    mode: Mode = Mode.S8,
    key_version: int = 0,
    key_id: int = 0,
    aid: Buffer | None = None,
    host_challenge: Buffer | None = None,
) -> SyncSecured: ...
@overload
def open(
    card: AsyncCard,
    keys: KeySource,
    *,
    level: Level = _ALL,
    mode: Mode = Mode.S8,
    key_version: int = 0,
    key_id: int = 0,
    aid: Buffer | None = None,
    host_challenge: Buffer | None = None,
) -> Coroutine[Any, Any, AsyncSecured]: ...
def open(
    card: Any,
    keys: KeySource,
    *,
    level: Level = _ALL,
    mode: Mode = Mode.S8,
    key_version: int = 0,
    key_id: int = 0,
    aid: Buffer | None = None,
    host_challenge: Buffer | None = None,
) -> Any:
    """Open a secure channel with the selected security domain or application (5.2). On the async face it is awaited.

    Args:
        card: an open card, its channel, or a Recorder; of either face.
        keys: the static keys, or a function that computes them from what the card says of itself; it is called between the two
            commands.
        level: what is protected from then on. By default all there is.
        mode: what the card is configured for.
        key_version: which of the card's key sets, 1 to 255 (P1 of INITIALIZE UPDATE); 0: its first.
        key_id: which key in it (P2); 0 in the standard.
        aid: the AID of the selected application. If it is given and the card's challenge is a pseudo-random one, that is checked:
            it is then known to be for this application, and not an old one of another (6.2.2.1).
        host_challenge: 8 or 16 bytes in place of random ones. For tests only: the session's keys hang on it.

    Returns:
        What `card.layer` returns: its `send` and `send_all` go through the channel. It ends with the card's power, a reset, another
        `open`, or the first failure after which the two sides may be out of step (LayerClosedError from then on).

    Raises:
        SecureChannelError: the card's cryptogram or challenge is wrong, its answer is malformed, or it is not configured for SCP03,
            for this `mode` or `level`. EXTERNAL AUTHENTICATE was not sent.
        StatusError: the card refused one of the two commands.
        ValueError, TypeError: an argument is out of its range or kind; before anything is sent. And what the card's `send` raises.
    """
    if not callable(getattr(card, "layer", None)):
        raise TypeError(f"an open card is needed, which has send() and layer(), not {type(card).__name__}")
    if not isinstance(keys, Keys) and not callable(keys):
        raise TypeError(f"keys is Keys, or a function that returns some, not {type(keys).__name__}")
    if level not in _LEVELS:
        allowed = ", ".join(f"0x{each:02X}" for each in _LEVELS)
        raise ValueError(
            f"level is C_MAC, then C_DECRYPTION or R_MAC or both, then R_ENCRYPTION with both ({allowed}), not {level!r}"
        )
    size = int(Mode(mode))
    challenge = secrets.token_bytes(size) if host_challenge is None else octets_of("host_challenge", host_challenge)
    if len(challenge) != size:
        raise ValueError(f"host_challenge has {size} bytes in mode S{size}, not {len(challenge)}")
    initialize_update = C_APDU(0x80, 0x50, _byte("key_version", key_version), _byte("key_id", key_id), challenge, 256)
    return carry_out(card, _open(card, keys, int(level), initialize_update, None if aid is None else octets_of("aid", aid, _BLOCK)))


def _open(card: Any, keys: KeySource, level: int, initialize_update: C_APDU, aid: bytes | None) -> Steps[Any]:
    host_challenge = initialize_update.data
    reader: str = getattr(card, "reader", "")  # a channel does not say
    response = yield initialize_update
    if response.sw != 0x9000:
        raise StatusError(response)
    answer = parse_initialize_update(response.data, len(host_challenge), reader)
    needed = 0x60 if level & Level.R_ENCRYPTION else 0x20 if level & Level.R_MAC else 0x00
    if answer.i & needed != needed:
        lacking = "R_ENCRYPTION" if answer.i & 0x20 else "R_MAC"
        raise _refusal(reader, f"the card is configured without {lacking} (i = {answer.i:02X}): set another level")
    chosen = keys if isinstance(keys, Keys) else keys(answer)
    if not isinstance(chosen, Keys):
        raise TypeError(f"the function given as keys returned no Keys but {type(chosen).__name__}")
    session = SCP03(chosen, level, host_challenge, answer.challenge, reader)
    if not compare_digest(session.cryptogram(CARD_CRYPTOGRAM), answer.cryptogram):
        raise _refusal(
            reader,
            f"the card's cryptogram is wrong: it has other keys in version {answer.key_version}, or is another card. "
            "EXTERNAL AUTHENTICATE was not sent, so that no attempt is counted",
        )
    if aid is not None and answer.sequence_counter is not None:
        right = card_challenge(chosen, answer.sequence_counter, aid, len(host_challenge))
        if not compare_digest(right, answer.challenge):
            raise _refusal(reader, "the card's challenge is not the pseudo-random one of this application and sequence counter")
    response = yield session.external_authenticate()
    if response.sw != 0x9000:
        raise StatusError(response)
    return card.layer(session)


def _refusal(reader: str, what: str) -> SecureChannelError:
    return SecureChannelError(f"reader {reader!r}: {what}" if reader else what, reader=reader)


def parse_initialize_update(data: bytes, size: int, reader: str = "") -> InitializeUpdateResponse:
    """The data of a response to INITIALIZE UPDATE, taken apart (7.1.1, table 7-3); `size` is the mode's."""
    if len(data) < 13:
        raise _refusal(reader, f"INITIALIZE UPDATE: the card's answer has {len(data)} bytes, which is too short")
    key_version, protocol, i = data[10:13]
    if protocol != _PROTOCOL:
        raise _refusal(reader, f"the card speaks SCP{protocol:02X} with these keys, not SCP03: set another key_version")
    its_size = 16 if i & 0x01 else 8
    if its_size != size:
        raise _refusal(reader, f"the card is configured for S{its_size} (i = {i:02X}): set mode=Mode.S{its_size}")
    end = 13 + 2 * size
    right = end + 3 if i & 0x10 else end
    if len(data) != right:
        raise _refusal(reader, f"INITIALIZE UPDATE: the card's answer has {len(data)} bytes, with i = {i:02X} it has {right}")
    counter = int.from_bytes(data[end:], "big") if i & 0x10 else None
    return InitializeUpdateResponse(data[:10], key_version, i, data[13 : 13 + size], data[13 + size : end], counter)


def card_challenge(keys: Keys, sequence_counter: int, aid: bytes, size: int) -> bytes:
    """The pseudo-random challenge of a card (6.2.2.1)."""
    return derive(keys._enc, CARD_CHALLENGE, size, sequence_counter.to_bytes(3, "big") + aid)


class SCP03:
    """One end of an open channel, as a layer: the terminal's. See the module's docstring for its rules.

    It has the two methods of a layer that may be left out. What `wrap` has made is taken back by `withdraw`, counted once the card
    has answered: `unwrap`, or `rewrap`.
    """

    def __init__(self, keys: Keys, level: int, host_challenge: bytes, card_challenge: bytes, reader: str = "") -> None:
        context = host_challenge + card_challenge
        length = len(keys._enc)
        self._enc = derive(keys._enc, S_ENC, length, context)  # 6.2.1
        self._mac = derive(keys._mac, S_MAC, length, context)
        self._rmac = derive(keys._mac, S_RMAC, length, context)
        self._context = context
        self._level = level
        self._reader = reader
        self._size = len(host_challenge)
        self._chaining = bytes(_BLOCK)
        self._next_chaining: bytes | None = None
        self._counter = 0
        self._expected: int | None = None
        self._closed = False

    def cryptogram(self, constant: int) -> bytes:
        """The card's cryptogram or the host's (6.2.2.2, 6.2.2.3)."""
        return derive(self._mac, constant, self._size, self._context)

    def external_authenticate(self) -> C_APDU:
        """EXTERNAL AUTHENTICATE with its C-MAC, the first of the chain (6.2.3, 7.1.2)."""
        cryptogram = self.cryptogram(HOST_CRYPTOGRAM)
        header = bytes((0x84, 0x82, self._level, 0x00, 2 * self._size))
        self._chaining = cmac(self._mac, self._chaining, header, cryptogram)
        return C_APDU(0x84, 0x82, self._level, 0x00, cryptogram + self._chaining[: self._size])

    def wrap(self, command: C_APDU) -> C_APDU:
        """The command with its data encrypted (6.2.6) and its C-MAC (6.2.4).

        Raises:
            ValueError: its class has no place for secure messaging, or it is too long.
            LayerClosedError: the session is closed.
        """
        ne = command.le
        if self._level & Level.R_MAC:
            protected = ne
            if self._level & Level.R_ENCRYPTION:
                protected += _BLOCK - ne % _BLOCK
            ne = min(protected + self._size, 0x100 if ne <= 0x100 else 0x10000) if ne else 0x100
        return self._wrap(command, ne)

    def rewrap(self, command: C_APDU, ne: int) -> C_APDU:
        """The command wrapped anew after 6Cxx: the card has counted the one that it refused for its Le (6.2.4, 6.2.6)."""
        self._count()
        return self._wrap(command, ne)

    def withdraw(self) -> None:
        """Take back the last `wrap`: what it made was not sent."""
        self._next_chaining = None

    def _wrap(self, command: C_APDU, ne: int) -> C_APDU:
        if self._closed or self._next_chaining is not None:
            raise LayerClosedError("the secure channel is closed: open a new one, with scardface.scp03.open()")
        cla, authenticated_class = _secured(command.cla)
        data = command.data
        if data and self._level & Level.C_DECRYPTION:
            data = encrypt(self._enc, self._icv(self._counter + 1), pad(data))
        if len(data) + self._size > 0xFFFF:
            raise ValueError(f"a command of {len(command.data)} bytes is too long for a secure channel, which adds to them")
        unsigned = C_APDU(cla, command.ins, command.p1, command.p2, data + bytes(self._size), ne)
        encoded = bytes(unsigned)
        covered = encoded[1 : len(encoded) - self._size - _le_size(unsigned)]
        chaining = cmac(self._mac, self._chaining, bytes((authenticated_class,)), covered)
        self._next_chaining = chaining
        self._expected = command.le if command.le not in (0, 0x100, 0x10000) else None
        return C_APDU(cla, command.ins, command.p1, command.p2, data + chaining[: self._size], ne)

    def unwrap(self, response: R_APDU) -> R_APDU:
        """The response with its R-MAC checked (6.2.5) and its data decrypted (6.2.7).

        Raises:
            SecureChannelError: it is not what the card sent; the session is closed.
        """
        self._count()
        data = response.data
        if not self._level & Level.R_MAC:
            return R_APDU(data[: self._expected], response.sw1, response.sw2, secret=response.secret)
        if response.sw != 0x9000 and response.sw1 not in (0x62, 0x63):
            if data:
                raise self._close(f"an error status, {response.sw:04X}, came with data, which nothing protects")
            return response
        if len(data) < self._size:
            raise self._close(f"a response with {response.sw:04X} came without its R-MAC")
        data, its_mac = data[: -self._size], data[-self._size :]
        if not compare_digest(cmac(self._rmac, self._chaining, data, response.sw12)[: self._size], its_mac):
            raise self._close("the R-MAC of a response is wrong")
        if data and self._level & Level.R_ENCRYPTION:
            if len(data) % _BLOCK:
                raise self._close("an encrypted response has no whole blocks")
            padded = decrypt(self._enc, self._icv(self._counter | 0x80 << 120), data)
            data, mark, zeros = padded.rpartition(b"\x80")
            if not mark or zeros.strip(b"\0"):  # of zeros there may be a block too many: cards do that
                raise self._close("an encrypted response is not padded as it should")
        return R_APDU(data[: self._expected], response.sw1, response.sw2, secret=response.secret)

    def _count(self) -> None:
        """The card has answered the last command."""
        if self._next_chaining is None:
            raise RuntimeError("a response without a command")
        self._chaining, self._next_chaining = self._next_chaining, None
        self._counter += 1

    def _icv(self, counter: int) -> bytes:
        """The first block of AES-CBC: the counter, encrypted (6.2.6, 6.2.7)."""
        return encrypt(self._enc, bytes(_BLOCK), counter.to_bytes(_BLOCK, "big"))

    def _close(self, what: str) -> SecureChannelError:
        self._closed = True
        return _refusal(self._reader, f"{what}: the secure channel is closed, open a new one")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secure channel cannot be copied or pickled")


def _secured(cla: int) -> tuple[int, int]:
    """The class with secure messaging, and as the C-MAC covers it: in channel 0 (6.2.4; Card Specification 2.3.1, 11.1.4)."""
    if cla & 0x6C == 0x00:  # channels 0 to 3, interindustry and GlobalPlatform's, with bit 5 for chaining
        return cla | 0x04, cla & ~0x03 | 0x04
    if cla & 0xF0 == 0xC0:  # GlobalPlatform's, channels 4 to 19
        return cla | 0x20, 0x84
    raise ValueError(f"class {cla:02X} has no place for the secure messaging of GlobalPlatform, or says already that it has some")


def _le_size(command: C_APDU) -> int:
    """How many bytes Le has in the encoding of a command with data."""
    return 0 if not command.le else 2 if len(command.data) > 0xFF or command.le > 0x100 else 1


def key_check_value(key: Buffer) -> bytes:
    """The three bytes by which PUT KEY makes sure of a key: the first of a block of 01, encrypted by it.

    Args:
        key: an AES key of 16, 24 or 32 bytes.

    Raises:
        ValueError: a key of another length.
        TypeError: not bytes.
    """
    octets = octets_of("key", key)
    if len(octets) not in _KEY_SIZES:
        raise ValueError(f"key has 16, 24 or 32 bytes, not {len(octets)}")
    return encrypt(octets, bytes(_BLOCK), b"\x01" * _BLOCK)[:3]


def derive(key: bytes, constant: int, size: int, context: bytes) -> bytes:
    """`size` bytes derived from a key (4.1.5): the label is 11 bytes of zeros and the constant; then 00, the length in bits, the
    counter, the context."""
    label = bytes(11) + bytes((constant,))
    return kdf(key, label + b"\0" + (8 * size).to_bytes(2, "big"), context, size)


def kdf(key: bytes, before: bytes, after: bytes, size: int) -> bytes:
    """`size` bytes by the KDF in counter mode (NIST SP 800-108, 5.1) with CMAC; the counter, a byte, comes after `before`."""
    blocks = -(-size // _BLOCK)
    return b"".join(cmac(key, before, bytes((number,)), after) for number in range(1, blocks + 1))[:size]


def cmac(key: bytes, *parts: bytes) -> bytes:
    """CMAC by AES over all the parts (NIST SP 800-38B; 4.1.3)."""
    mac = CMAC(algorithms.AES(key))
    for part in parts:
        mac.update(part)
    return mac.finalize()


def pad(data: bytes) -> bytes:
    """80, then zeros up to a whole block (4.1.4)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % _BLOCK)


def encrypt(key: bytes, icv: bytes, data: bytes) -> bytes:
    """AES-CBC over whole blocks (4.1.2)."""
    encryptor = Cipher(algorithms.AES(key), modes.CBC(icv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def decrypt(key: bytes, icv: bytes, data: bytes) -> bytes:
    """AES-CBC over whole blocks (4.1.2)."""
    decryptor = Cipher(algorithms.AES(key), modes.CBC(icv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _byte(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not 0 <= value <= 0xFF:
        raise ValueError(f"{name} is 0 to 255, not {value}")
    return value
