"""Generated from `cards.py` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import NoReturn, SupportsIndex

from .._enums import Lengths, Protocol, ShareMode
from .._pcsc.backend import Backend
from .._pcsc.binding_choice import backend_or_default
from .._pcsc.no_copy import refuse_copy
from .._session.card_request import ANY_PROTOCOL, DEFAULT_OPTIONS, CardRequest, Groups, OnReset, Readers
from .._threads import generation
from .._waiting.driver import until_idle_blocking
from .._waiting.messages import RefusedCards
from .._waiting.served_cards import ServedCards
from ..iso7816._apdu import Success
from ..iso7816._exchange import ExchangeOptions
from .card import check_match, ignore_outcome
from .sync_base import Verdict, new_owner
from .sync_scard import SCard


def cards(
    readers: Readers = None,
    groups: Groups = None,
    timeout: float | None = None,
    atr: bytes | re.Pattern[bytes] | None = None,
    *,
    share: ShareMode = ShareMode.EXCLUSIVE,
    protocols: Protocol = ANY_PROTOCOL,
    lengths: Lengths = Lengths.AUTO,
    options: ExchangeOptions = DEFAULT_OPTIONS,
    settle: float = 0.0,
    new_only: bool = False,
    on_reset: OnReset = "raise",
    success: Success | None = None,
    match: Callable[[SCard], Verdict] | None = None,
    backend: Backend | None = None,
) -> Cards:
    """Card after card: `for card in cards():` yields each one that matches, open, as it comes.

    A card is closed at the end of its turn, when the loop goes on to the next one or is left, and comes again only after it has
    been taken out, or the service was restarted. Readers that are plugged in later are waited for, and so is a service that is not
    there; cards that do not match, cannot be opened or are held by others end nothing. What the body raises ends the loop, as in
    any loop: `with suppress(SCardError, StatusError):` around it goes on with the next card, whatever became of this one.

    Args:
        readers: as for `SCard`, and as all others: which readers.
        groups: which reader groups.
        timeout: seconds to wait for each next card; None, -1, inf: for ever.
        atr: a regular expression that is searched in the ATR.
        share: who else may use the card; not DIRECT.
        protocols: which protocols may be used.
        lengths: how long commands and answers reach the card.
        options: how far an exchange may go.
        settle: seconds that a card must have been in.
        new_only: ignore the cards that are in at the start.
        on_reset: what becomes of a card that another program has reset.
        success: which status words are no failure.
        match: chooses a card by what is on it; each is asked once while it is in.
        backend: the PC/SC to use; None: the default one at the start.

    Returns:
        What to iterate over, once; `with` closes it at the end of the block, and its last card.

    Raises (while iterating):
        CardTimeoutError: no card came in time.
        WaitCancelledError: `cancel_all()`.
        ServiceUnavailableError: the service refuses this program, or cannot be reached any more without its restart.
        TypeError, ValueError: at once, for an argument of a wrong type or range.
    """
    request = CardRequest.from_arguments(
        readers=readers,
        groups=groups,
        timeout=timeout,
        atr=atr,
        pnp=False,
        share=share,
        protocols=protocols,
        lengths=lengths,
        options=options,
        settle=settle,
        new_only=new_only,
        on_reset=on_reset,
        wait_for_reader=True,
        success=success,
    )
    if request.share is ShareMode.DIRECT:
        raise ValueError("share: cards are waited for, and a DIRECT connection needs none")
    return Cards(request, None if match is None else check_match(match, request), backend)


class Cards:
    """Card after card; from `cards`."""

    def __init__(self, request: CardRequest, match: Callable[[SCard], Verdict] | None, backend: Backend | None) -> None:
        self._request = request
        self._match = match
        self._backend = backend
        self._served: ServedCards | None = None
        self._card: SCard | None = None  # which is waited for, or has its turn
        self._closed = False

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __iter__(self) -> Cards:
        """Itself."""
        return self

    def __next__(self) -> SCard:
        """The next card, open, after the one before is closed."""
        self._end_turn()
        if self._closed:
            raise StopIteration
        if self._served is None:
            self._served = ServedCards(backend_or_default(self._backend))
        served = self._served
        served.listen(new_owner())
        before = served.cards()
        card = self._card = SCard.__new__(SCard)
        if self._closed:  # by another thread, which has not seen this card
            card.cancel()
        try:
            card._open(self._request, self._match, self._backend, before)
        except BaseException:
            self._card = None
            if self._closed:
                raise StopIteration from None
            raise
        finally:
            served.add_new(card._refused, before.readings)
        session, acquisition = card._require_session(), card._acquisition
        assert acquisition is not None
        if self._request.new_only:  # what was in at the start; what comes from now on is new
            served.add_new(RefusedCards(acquisition.readings_before, acquisition.life))
            self._request = replace(self._request, new_only=False)
        served.add_new(RefusedCards({session.reader: session.reading}, acquisition.life))
        return card

    def _end_turn(self) -> None:
        card = self._card
        if card is None:
            return
        session = card._session
        card.close()
        self._card = None  # not before: a Ctrl-C that comes before the close begins leaves the card to `__del__`
        if session is not None and self._served is not None:
            self._served.update(session.reader, session.reading)

    def close(self) -> None:
        """End the iteration, and close its card; who waits for the next one gets none."""
        self._closed = True
        card = self._card
        if card is not None and card._session is None:
            card.cancel()
        else:
            self._end_turn()
        served = self._served
        if served is not None:
            served.leave()
            if served.driver is not None:
                until_idle_blocking(served.driver)

    def __enter__(self) -> Cards:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """The loop was left: its card is closed in its own thread, and nothing is waited for."""
        card, served = self._card, self._served
        if card is not None and card._session is not None and not card._closed and card._generation == generation():
            card._hand_over_close(None, ignore_outcome)
        if served is not None:
            served.leave()
