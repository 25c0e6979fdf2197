"""A signing service: whoever asks gets a signature by the next token that is free: `python signing.py 1234 < text`.

A pool keeps the tokens open and verified, and lends them. A token that is pulled in the middle costs nobody an answer, nor does a
restart of the PC/SC service: the same digest is signed by another token, or by the same one when it is there again.
"""

import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from scardface import C_APDU, CardRemovedError, CardResetError, SCard, ServiceUnavailableError, iso7816
from scardface.pool import CardPool

PIN, ATTEMPTS = 0x81, 3


@dataclass
class Signer:
    pool: CardPool

    async def sign(self, data: bytes) -> bytes:
        """From any number of tasks.

        Raises:
            CardTimeoutError: no token was free, or none was there, for half a minute.
            StatusError: the token refused.
            CardRemovedError, CardResetError, ServiceUnavailableError: that happened to each of ATTEMPTS tries.
        """
        command = C_APDU(0x00, 0x2A, 0x9E, 0x9A, hashlib.sha256(data).digest(), 256)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.pool.card(timeout=30) as card:
                    return (await card.send(command)).check().data
            except (CardRemovedError, CardResetError, ServiceUnavailableError):  # a signature may be made twice; a payment may not
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("not reached")


@asynccontextmanager
async def signer(pin: bytes) -> AsyncIterator[Signer]:
    """`async with signer(pin) as service:`, then `await service.sign(data)`."""

    async def prepare(card: SCard) -> None:
        (await iso7816.verify_pin(card, PIN, pin)).check()  # a token that refuses it is set aside, and not asked again

    async with CardPool(prepare=prepare, min_cards=0) as pool:
        yield Signer(pool)


async def main(pin: bytes, texts: list[bytes]) -> None:
    async with signer(pin) as service, anyio.create_task_group() as tasks:

        async def sign(text: bytes) -> None:
            print((await service.sign(text)).hex())

        for text in texts:
            tasks.start_soon(sign, text)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1].encode(), list(sys.stdin.buffer))
