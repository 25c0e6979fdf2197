"""What comes of every code of PC/SC in every call that the library makes: the one table, which test_every_error.py reads.

How to read it:

- `PLACES` has a row for each place of a PC/SC call: what the program does just then, the thread and the call, which of several
  such calls, and the rule.
- A rule is what comes of a code in general, then the codes of which something else comes. The general `CLASS` is the class of
  error that `CLASSES` gives to the code; "recovered": the program gets what it asked for all the same; "ignored": nobody checks
  at the answer.
- `CODES` are all codes of pcsclite.h and winscard.h, and two that nobody has defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CANCELLED, UNKNOWN_READER, TIMEOUT, SHARING, NO_CARD = 0x80100002, 0x80100009, 0x8010000A, 0x8010000B, 0x8010000C
MISMATCH, NOT_READY, INVALID_VALUE, SYSTEM_CANCELLED = 0x8010000F, 0x80100010, 0x80100011, 0x80100012
COMM_ERROR, NOT_TRANSACTED, UNAVAILABLE, SHUTDOWN, NO_SERVICE = 0x80100013, 0x80100016, 0x80100017, 0x80100018, 0x8010001D
STOPPED, UNSUPPORTED, WINDOWS_UNSUPPORTED, NO_READERS = 0x8010001E, 0x8010001F, 0x80100022, 0x8010002E
DATA_LOST, BUSY, UNSUPPORTED_CARD, UNRESPONSIVE, UNPOWERED = 0x8010002F, 0x80100031, 0x80100065, 0x80100066, 0x80100067
RESET, REMOVED, SECURITY = 0x80100068, 0x80100069, 0x8010006A

UNDEFINED = (0x00000006, 0x8010FFFF)
CODES = (*range(0x80100001, 0x80100035), *range(0x80100065, 0x80100073), *UNDEFINED)

CLASSES: Mapping[str, frozenset[int]] = {
    "WaitCancelledError": frozenset({CANCELLED}),
    "NoReaderError": frozenset({UNKNOWN_READER, UNAVAILABLE, NO_READERS}),
    "CardTimeoutError": frozenset({TIMEOUT}),
    "SharingViolationError": frozenset({SHARING}),
    "NoCardError": frozenset({NO_CARD, UNPOWERED}),
    "ProtocolMismatchError": frozenset({MISMATCH}),
    "CardCommunicationError": frozenset({NOT_READY, NOT_TRANSACTED, DATA_LOST, UNSUPPORTED_CARD, UNRESPONSIVE}),
    "ServiceUnavailableError": frozenset({SYSTEM_CANCELLED, COMM_ERROR, SHUTDOWN, NO_SERVICE, STOPPED, BUSY, SECURITY}),
    "CardResetError": frozenset({RESET}),
    "CardRemovedError": frozenset({REMOVED}),
}
"""The class of each code; SCardError itself for all others."""

CLASS, RECOVERED, IGNORED, REMOVAL = "class", "recovered", "ignored", "CardRemovedError"


class Rule(NamedTuple):
    """What comes of the codes.

    Attributes:
        usual: of all that have no outcome of their own.
        others: outcome to codes.
    """

    usual: str
    others: Mapping[str, frozenset[int]] = {}

    def outcome(self, code: int) -> str:
        """What comes of `code`."""
        for outcome, codes in self.others.items():
            if code in codes:
                return outcome
        if self.usual == CLASS:
            return next((name for name, codes in CLASSES.items() if code in codes), "SCardError")
        return self.usual


RAISED = Rule(CLASS)
ALWAYS = Rule(RECOVERED)
NOTHING = Rule(IGNORED)
LISTED_AGAIN = frozenset({UNKNOWN_READER, UNSUPPORTED, WINDOWS_UNSUPPORTED})
"""The list of readers changed under a status call (facts 17 and 21)."""
ASKED_AGAIN = LISTED_AGAIN | {UNAVAILABLE, NO_READERS}
"""Codes that the list of readers belies, which alone says that a reader is gone."""
GONE = frozenset({UNAVAILABLE, UNKNOWN_READER, NO_CARD})
"""Under an open card the reader's end is the card's."""
NO_LIST = Rule(CLASS, {"no reader": frozenset({NO_READERS})})
"""No reader is an empty list, on every platform (fact 49)."""
LOOK = Rule(CLASS, {RECOVERED: ASKED_AGAIN | {TIMEOUT}})
"""A status call that returns at once; a time-out is an answer like any other."""
FIRST_LOOK = Rule(RECOVERED, {"ServiceUnavailableError": CLASSES["ServiceUnavailableError"]})
"""Any other error concerns this query alone: the wait with the others begins."""
NO_READER_OR_FIRST_LOOK = Rule(RECOVERED, {**FIRST_LOOK.others, "no reader": frozenset({NO_READERS})})
EXCHANGED = Rule(CLASS, {REMOVAL: GONE})
TRANSMITTED = Rule(CLASS, {REMOVAL: GONE, "CardResetError": frozenset({MISMATCH})})
"""The protocol is forgotten: a reset by another."""
CARELESS = Rule(CLASS, {REMOVAL: GONE, RECOVERED: frozenset({RESET})})
"""A reset by another in that moment is no matter: it is done again."""
CARELESS_OF_MISMATCH = Rule(CLASS, {REMOVAL: GONE, RECOVERED: frozenset({RESET, MISMATCH})})
ENDED = Rule(CLASS, {RECOVERED: CLASSES["ServiceUnavailableError"] | GONE | {REMOVED, NOT_TRANSACTED}})
"""A transaction that ended with its card or its service has ended; the next call tells why."""
TIMELY_AGAIN = Rule(CLASS, {REMOVAL: frozenset({NO_CARD}), RECOVERED: ASKED_AGAIN | {TIMEOUT, RESET}})
TIMELY_AGAIN_OF_MISMATCH = Rule(CLASS, {REMOVAL: frozenset({NO_CARD}), RECOVERED: ASKED_AGAIN | {TIMEOUT, RESET, MISMATCH}})
LOST = Rule(RECOVERED, {"ServiceUnavailableError": CLASSES["ServiceUnavailableError"], REMOVAL: GONE | {REMOVED}})
"""What tells that an open card is lost; everything else says nothing about it."""


class Place(NamedTuple):
    """A call of PC/SC: what the program does just then, in which thread, which call, how many like it come before, what follows."""

    action: str
    thread: str
    call: str
    skip: int
    rule: Rule


WATCH, CARD, ANY = "scardface-watch", "scardface-card", ""

PLACES = (
    # The first query of an acquisition, in the context that becomes the card's: a missing service is reported at once.
    Place("acquire", CARD, "SCardEstablishContext", 0, FIRST_LOOK),
    Place("acquire", CARD, "SCardListReaders", 0, NO_READER_OR_FIRST_LOOK),
    Place("acquire", CARD, "SCardGetStatusChange", 0, FIRST_LOOK),
    Place("acquire, no card yet", CARD, "SCardReleaseContext", 0, NOTHING),
    # The first query of one that comes while somebody waits already: the watcher's.
    Place("acquire beside a waiter", WATCH, "SCardListReaders", 0, NO_READER_OR_FIRST_LOOK),
    Place("acquire beside a waiter", WATCH, "SCardGetStatusChange", 0, FIRST_LOOK),
    # Opening the card: what fails there is this card's, and it is tried again.
    Place("acquire", CARD, "SCardConnect", 0, ALWAYS),
    Place("acquire a card that was there before the service", CARD, "SCardGetStatusChange", 1, ALWAYS),
    Place("acquire", CARD, "SCardStatus", 0, ALWAYS),
    Place("acquire a card that offers both protocols", CARD, "SCardConnect", 0, ALWAYS),
    # A wait that has begun outlives everything.
    Place("wait for a card", WATCH, "SCardGetStatusChange", 0, ALWAYS),
    Place("wait for a card", WATCH, "SCardListReaders", 0, ALWAYS),
    Place("wait for a card, the service restarts", WATCH, "SCardEstablishContext", 0, ALWAYS),
    Place("wait for a card, the service restarts", WATCH, "SCardReleaseContext", 0, NOTHING),
    Place("cancel", ANY, "SCardCancel", 0, NOTHING),
    # A monitor outlives everything, from its start on.
    Place("monitor", WATCH, "SCardEstablishContext", 0, ALWAYS),
    Place("monitor", WATCH, "SCardListReaders", 0, ALWAYS),
    Place("monitor", WATCH, "SCardGetStatusChange", 0, ALWAYS),
    Place("monitor", WATCH, "SCardGetStatusChange", 1, ALWAYS),
    Place("monitor that runs", WATCH, "SCardGetStatusChange", 0, ALWAYS),
    Place("monitor that runs", WATCH, "SCardListReaders", 0, ALWAYS),
    # An open card.
    Place("send", CARD, "SCardTransmit", 0, TRANSMITTED),
    Place("send, the second of a batch", CARD, "SCardTransmit", 1, TRANSMITTED),
    Place("transmit", CARD, "SCardTransmit", 0, TRANSMITTED),
    Place("send, where resets do not matter", CARD, "SCardTransmit", 0, CARELESS_OF_MISMATCH),
    Place("send, where resets do not matter", CARD, "SCardReconnect", 0, CARELESS_OF_MISMATCH),
    Place("transaction", CARD, "SCardBeginTransaction", 0, EXCHANGED),
    Place("transaction", CARD, "SCardTransmit", 0, TRANSMITTED),
    Place("transaction", CARD, "SCardEndTransaction", 0, ENDED),
    Place("reset", CARD, "SCardReconnect", 0, CARELESS),
    Place("reset", CARD, "SCardGetStatusChange", 0, TIMELY_AGAIN),
    Place("reset", CARD, "SCardStatus", 0, CARELESS),
    Place("reconnect", CARD, "SCardReconnect", 0, CARELESS_OF_MISMATCH),
    Place("reconnect", CARD, "SCardGetStatusChange", 0, TIMELY_AGAIN_OF_MISMATCH),
    Place("reconnect", CARD, "SCardStatus", 0, CARELESS_OF_MISMATCH),
    Place("control", CARD, "SCardControl", 0, EXCHANGED),
    Place("attribute", CARD, "SCardGetAttrib", 0, EXCHANGED),
    Place("set_attribute", CARD, "SCardSetAttrib", 0, EXCHANGED),
    Place("begin to wait for the removal", CARD, "SCardGetAttrib", 0, LOST),
    # The watcher's trouble is not the card's.
    Place("wait for the removal", WATCH, "SCardGetStatusChange", 0, ALWAYS),
    Place("wait for the removal", WATCH, "SCardGetStatusChange", 1, ALWAYS),
    Place("close", CARD, "SCardReleaseContext", 0, NOTHING),
    Place("close where a release does not disconnect", CARD, "SCardDisconnect", 0, NOTHING),
    # One query without a monitor.
    Place("readers", ANY, "SCardEstablishContext", 0, RAISED),
    Place("readers", ANY, "SCardListReaders", 0, NO_LIST),
    Place("readers", ANY, "SCardReleaseContext", 0, NOTHING),
    Place("groups", ANY, "SCardEstablishContext", 0, RAISED),
    Place("groups", ANY, "SCardListReaderGroups", 0, RAISED),
    Place("groups", ANY, "SCardReleaseContext", 0, NOTHING),
    Place("states", ANY, "SCardEstablishContext", 0, RAISED),
    Place("states", ANY, "SCardListReaders", 0, NO_LIST),
    Place("states", ANY, "SCardGetStatusChange", 0, LOOK),
    Place("states", ANY, "SCardReleaseContext", 0, NOTHING),
)
