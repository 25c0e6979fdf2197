"""The tree of errors: every code finds its class and its words, and every error survives pickle."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scardface import errors
from scardface.errors import (
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    LayerClosedError,
    NoCardError,
    NoReaderError,
    ProtocolMismatchError,
    SCardError,
    ServiceUnavailableError,
    SharingViolationError,
    WaitCancelledError,
    converted,
    error_for,
    fresh_copy,
)
from scardface.iso7816._apdu import R_APDU, StatusError
from scardface.sync import SCard

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

CLASSES: list[type[SCardError]] = [
    SCardError,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    LayerClosedError,
    NoCardError,
    NoReaderError,
    ProtocolMismatchError,
    ServiceUnavailableError,
    SharingViolationError,
    WaitCancelledError,
]

MEANT: list[tuple[str, type[SCardError], str]] = [
    ("SCARD_E_CANCELLED", WaitCancelledError, "cancelled"),
    ("SCARD_E_INVALID_HANDLE", SCardError, "open a new one"),
    ("SCARD_E_INVALID_PARAMETER", SCardError, "parameter"),
    ("SCARD_E_NO_MEMORY", SCardError, "close cards"),
    ("SCARD_E_INSUFFICIENT_BUFFER", SCardError, "longer than"),
    ("SCARD_E_UNKNOWN_READER", NoReaderError, r"readers\(\)"),
    ("SCARD_E_TIMEOUT", CardTimeoutError, "ran out"),
    ("SCARD_E_SHARING_VIOLATION", SharingViolationError, "share=ShareMode.SHARED"),
    ("SCARD_E_NO_SMARTCARD", NoCardError, "insert one"),
    ("SCARD_E_PROTO_MISMATCH", ProtocolMismatchError, "protocols asked for"),
    ("SCARD_E_NOT_READY", CardCommunicationError, "try again"),
    ("SCARD_E_INVALID_VALUE", SCardError, "value"),
    ("SCARD_E_SYSTEM_CANCELLED", ServiceUnavailableError, "systemctl start pcscd.socket"),
    ("SCARD_F_COMM_ERROR", ServiceUnavailableError, "systemctl start pcscd.socket"),
    ("SCARD_F_UNKNOWN_ERROR", SCardError, "failed"),
    ("SCARD_F_INTERNAL_ERROR", SCardError, "see its log"),
    ("SCARD_E_NOT_TRANSACTED", CardCommunicationError, "badly seated"),
    ("SCARD_E_READER_UNAVAILABLE", NoReaderError, "plug it in again"),
    ("SCARD_P_SHUTDOWN", ServiceUnavailableError, "systemctl start pcscd.socket"),
    ("SCARD_E_NO_SERVICE", ServiceUnavailableError, "systemctl start pcscd.socket"),
    ("SCARD_E_SERVICE_STOPPED", ServiceUnavailableError, "systemctl start pcscd.socket"),
    ("SCARD_E_NO_READERS_AVAILABLE", NoReaderError, "plug one in"),
    ("SCARD_E_COMM_DATA_LOST", CardCommunicationError, "try again"),
    ("SCARD_E_SERVER_TOO_BUSY", ServiceUnavailableError, "try again"),
    ("SCARD_W_UNSUPPORTED_CARD", CardCommunicationError, "does not support this card"),
    ("SCARD_W_UNRESPONSIVE_CARD", CardCommunicationError, "right way round"),
    ("SCARD_W_UNPOWERED_CARD", NoCardError, "insert it again"),
    ("SCARD_W_RESET_CARD", CardResetError, "PINs are lost"),
    ("SCARD_W_REMOVED_CARD", CardRemovedError, "a new SCard waits"),
    ("SCARD_W_SECURITY_VIOLATION", ServiceUnavailableError, "polkit"),
    ("SCARD_E_UNSUPPORTED_FEATURE", SCardError, "does not support"),
]
"""PC/SC's name for a code, the class that it means, and words that tell what to do or what happened."""


def code_named(name: str) -> int:
    """The code of a name, unsigned; `test_the_codes_are_pcscs` holds it to PC/SC's own header."""
    return next(code for code, (_, known, _) in errors.meanings(sys.platform).items() if known == name)


@pytest.mark.parametrize("name", [name for name, _, _ in MEANT])
def test_the_codes_are_pcscs(scard: Any, name: str) -> None:
    assert code_named(name) == getattr(scard, name) & 0xFFFFFFFF


@pytest.mark.parametrize(("name", "kind", "words"), MEANT, ids=[name for name, _, _ in MEANT])
def test_every_code_has_its_class_and_its_words(name: str, kind: type[SCardError], words: str) -> None:
    code = code_named(name)
    error = error_for(code, "SCardConnect", "Reader A 00 00", "linux")
    assert type(error) is kind
    assert (error.code, error.call, error.reader) == (code, "SCardConnect", "Reader A 00 00")
    with pytest.raises(kind, match=words) as raised:
        raise error
    text = str(raised.value)
    assert text.startswith("SCardConnect on reader 'Reader A 00 00': ")
    assert text.endswith(f" ({name} 0x{code:08X})")


def test_the_table_above_is_complete() -> None:
    told = {code_named(name) for name, _, _ in MEANT} | {0x80100022}
    assert told <= set(errors.meanings(sys.platform))
    assert {kind for _, kind, _ in MEANT} == set(CLASSES) - {LayerClosedError}  # which no code of PC/SC means


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_code_of_the_header_has_words_on_every_platform(scard: Any, platform: str) -> None:
    table = errors.meanings(platform)
    header = {f"SCARD_{kind}_" for kind in "EFWP"}
    named = {name: value & 0xFFFFFFFF for name, value in vars(scard).items() if name[:8] in header}
    assert len(named) >= 60
    for name, code in named.items():
        if name in ("SCARD_E_UNEXPECTED", "SCARD_E_UNSUPPORTED_FEATURE"):  # told apart below
            continue
        _, known, words = table[code]
        assert known == name
        assert words
    texts = [words for _, _, words in table.values()]
    linux = ("pcscd", "systemctl", "polkit", "apt", "sudo")
    assert platform == "linux" or not [text for text in texts if any(word in text for word in linux)]


def test_windows_and_pcsc_lite_number_the_unsupported_feature_differently() -> None:
    """Fact 21."""
    assert "SCARD_E_UNSUPPORTED_FEATURE" in str(error_for(0x8010001F, "SCardConnect", platform="linux"))
    assert "SCARD_E_UNSUPPORTED_FEATURE" in str(error_for(0x80100022, "SCardConnect", platform="win32"))
    unexpected = error_for(0x8010001F, "SCardConnect", platform="win32")
    assert type(unexpected) is CardCommunicationError
    assert "SCARD_E_UNEXPECTED" in str(unexpected)


PULLED = [6, 22, 31, 55, 121, 433, 995, 1117, 1167]


@pytest.mark.parametrize("code", PULLED)
@pytest.mark.parametrize("call", ["SCardTransmit", "SCardBeginTransaction", "SCardStatus", "SCardReconnect", "SCardConnect"])
def test_what_windows_says_of_a_pulled_card(code: int, call: str) -> None:
    error = error_for(code, call, "Reader A", "win32")
    assert type(error) is CardRemovedError
    assert (error.code, error.call, error.reader) == (code, call, "Reader A")
    assert type(error_for(code, call, "Reader A", "linux")) is SCardError, "no code of PC/SC's"


def test_windows_own_codes_elsewhere() -> None:
    """Where no card is concerned, or the driver was asked, the same numbers mean something else."""
    assert type(error_for(6, "SCardListReaders", platform="win32")) is ServiceUnavailableError
    for code in PULLED[1:]:
        assert type(error_for(code, "SCardGetStatusChange", platform="win32")) is SCardError
    for code in (1, 22, 31, 50, 87, 1168):
        refused = error_for(code, "SCardControl", "Reader A", "win32")
        assert type(refused) is SCardError
        assert "refused the control command" in str(refused)
    assert type(error_for(1167, "SCardControl", "Reader A", "win32")) is CardRemovedError
    for code in (1702, 1722, 1726, 5):
        assert type(error_for(code, "SCardEstablishContext", platform="win32")) is ServiceUnavailableError


def test_something_unexpected_on_windows_is_no_refusal_of_the_drivers() -> None:
    error = error_for(0x8010001F, "SCardControl", platform="win32")
    assert "SCARD_E_UNEXPECTED" in str(error)
    assert "unexpected happened" in str(error)


def test_the_platform_is_asked_when_the_error_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, cure in (("linux", "install pcscd"), ("win32", "net start SCardSvr"), ("darwin", "plug a reader in")):
        monkeypatch.setattr(sys, "platform", platform)
        assert cure in str(error_for(errors.NO_SERVICE, "SCardEstablishContext"))
        assert isinstance(error_for(31, "SCardTransmit"), CardRemovedError) == (platform == "win32")


@pytest.mark.parametrize("code", [errors.NOT_TRANSACTED, 0x8010001F])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_what_a_driver_refuses_is_no_matter_of_the_card(platform: str, code: int) -> None:
    code = 0x80100022 if (platform, code) == ("win32", 0x8010001F) else code
    for call, words in (
        ("SCardControl", "driver refused the control command"),
        ("SCardGetAttrib", "does not have this attribute"),
        ("SCardSetAttrib", "does not have this attribute"),
    ):
        error = error_for(code, call, "Reader A", platform)
        assert not isinstance(error, CardRemovedError)
        assert words in str(error)
        assert "seated" not in str(error)


def test_named_codes_are_pcscs_own(scard: Any) -> None:
    names = [name for name in vars(errors) if name.isupper() and isinstance(getattr(errors, name), int)]
    assert len(names) >= 25
    for name in names:
        theirs = [prefix + name for prefix in ("SCARD_S_", "SCARD_E_", "SCARD_W_", "SCARD_F_", "SCARD_P_")]
        numbers = {getattr(scard, their) & 0xFFFFFFFF for their in theirs if hasattr(scard, their)}
        ours = errors.UNSUPPORTED_FEATURE_CODES if name == "UNSUPPORTED_FEATURE" else {getattr(errors, name)}
        assert numbers, name
        assert numbers <= ours, name


def test_what_is_pasted_into_a_terminal_is_for_that_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmd.exe takes single quotes for a part of the name."""
    for platform, command in (("linux", "pip install 'scardface[cli]'"), ("win32", 'pip install "scardface[cli]"')):
        monkeypatch.setattr(sys, "platform", platform)
        assert errors.pip_install("cli") == command


def test_a_code_that_nobody_knows_is_still_told() -> None:
    error = error_for(0x80101234, "SCardTransmit")
    assert type(error) is SCardError
    assert str(error) == "SCardTransmit: PC/SC failed (0x80101234)"
    assert (error.code, error.call, error.reader) == (0x80101234, "SCardTransmit", "")


@pytest.mark.parametrize(
    ("code", "causes"),
    [
        pytest.param(errors.SECURITY_VIOLATION, ["pcscd", "polkit", "limit of 200 contexts"], id="SECURITY_VIOLATION"),
        pytest.param(errors.NO_SERVICE, ["pcscd", "limit of 200 contexts"], id="NO_SERVICE"),
    ],
)
def test_the_service_texts_name_what_may_be_wrong(code: int, causes: list[str]) -> None:
    """Facts 8 and 50: which of the two codes comes does not say which cause it was."""
    text = str(error_for(code, "SCardEstablishContext", platform="linux"))
    assert [cause for cause in causes if cause not in text] == []


SERVICE_CODES = [code for code, (kind, _, _) in errors.meanings("linux").items() if kind is ServiceUnavailableError]


@pytest.mark.parametrize("code", [code for code in SERVICE_CODES if code != errors.SERVER_TOO_BUSY], ids=hex)
@pytest.mark.parametrize(
    ("platform", "start", "admit"),
    [
        ("linux", "install pcscd, or start it ('systemctl start pcscd.socket')", "have polkit's rules"),
        (
            "win32",
            "plug a reader in, with which Windows starts it, or run 'net start SCardSvr'",
            "run it as the user who is logged on",
        ),
        (
            "darwin",
            "plug a reader in, since macOS runs the service while there is one",
            "the entitlement com.apple.security.smartcard",
        ),
    ],
)
def test_the_first_sentence_of_a_service_text_is_the_likeliest_cure(code: int, platform: str, start: str, admit: str) -> None:
    text = str(error_for(code, "SCardEstablishContext", platform=platform))
    assert len(text) <= 300
    first = text.partition(". ")[0]
    assert len(first) <= 170
    assert (admit if code == errors.SECURITY_VIOLATION else start) in first


def test_every_class_is_an_oserror_of_its_own() -> None:
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in CLASSES)
    for kind in CLASSES:
        assert issubclass(kind, SCardError)
        assert issubclass(kind, OSError)
        assert not [other for other in CLASSES if other not in (kind, SCardError) and issubclass(kind, other)]
        assert (kind.__doc__ or "").strip()


def test_a_time_out_is_a_timeouterror() -> None:
    assert issubclass(CardTimeoutError, TimeoutError)
    assert [kind for kind in CLASSES if issubclass(kind, TimeoutError)] == [CardTimeoutError]
    with pytest.raises(TimeoutError):
        raise error_for(errors.TIMEOUT, "SCardGetStatusChange")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_travel_whole(kind: type[SCardError]) -> None:
    original = kind("what happened", 0x8010FFFF, "SCardStatus", "Reader B")
    travelled = [pickle.loads(pickle.dumps(original, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for error in [*travelled, copy.copy(original), copy.deepcopy(original), fresh_copy(original)]:
        assert error is not original
        assert type(error) is kind
        assert str(error) == "what happened"
        assert error.args == ("what happened",)
        assert (error.code, error.call, error.reader) == (0x8010FFFF, "SCardStatus", "Reader B")


def test_a_removal_tells_how_much_of_a_batch_was_done() -> None:
    error = error_for(errors.REMOVED_CARD, "SCardTransmit", "Reader A")
    assert isinstance(error, CardRemovedError)
    plain = str(error)
    error.answered = 0
    assert str(error) == plain, "a single command was not sent together with others"
    error.answered = 2
    assert str(error) == f"{plain}; before that 2 of the commands sent together had been answered"


def test_a_status_error_travels_whole() -> None:
    original = StatusError(R_APDU(b"\x6f\x00", 0x6A, 0x82))
    error = pickle.loads(pickle.dumps(original))
    assert type(error) is StatusError
    assert error.response == original.response
    assert str(error) == str(original)
    assert not isinstance(error, OSError)


def test_pcsc_codes_are_no_errno() -> None:
    """OSError's own constructor would take the second argument for the text and the first for errno."""
    error = SCardError("2", errno.ENOENT, "SCardConnect", "Reader")
    assert type(error) is SCardError
    assert error.errno is None
    assert error.filename is None
    assert str(error) == "2"


def test_what_is_not_said_is_empty() -> None:
    error = SCardError("what happened")
    assert (error.code, error.call, error.reader) == (errors.UNKNOWN_ERROR, "", "")


def test_an_error_told_as_another_kind_keeps_the_first_text() -> None:
    first = error_for(errors.NOT_TRANSACTED, "SCardTransmit", "Reader C")
    second = converted(CardRemovedError, first, "the card was taken out")
    assert type(second) is CardRemovedError
    assert str(second) == f"the card was taken out [{first}]"
    assert (second.code, second.call, second.reader) == (first.code, first.call, first.reader)


def test_again_has_no_history() -> None:
    try:
        raise error_for(errors.NO_SERVICE, "SCardEstablishContext")
    except SCardError as first:
        second = fresh_copy(first)
    assert second.__traceback__ is None
    assert second.__context__ is None


class _Cancelled(SCard):
    """Cancelled before its constructor waits."""

    def __init__(self) -> None:
        self.cancel()
        super().__init__()


def test_our_own_decisions_name_no_call(pcscd: PrivatePcscd) -> None:
    found: dict[type[SCardError], tuple[int, str, str]] = {}
    for attempt in (lambda: SCard(timeout=0), lambda: SCard("no such reader"), _Cancelled):
        with pytest.raises(SCardError) as raised:
            attempt()
        error = raised.value
        found[type(error)] = error.code, error.call, error.reader
    assert found == {
        CardTimeoutError: (errors.TIMEOUT, "", ""),
        NoReaderError: (errors.NO_READERS_AVAILABLE, "", ""),
        WaitCancelledError: (errors.CANCELLED, "", ""),
    }
