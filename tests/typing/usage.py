"""Code as users write it, with the types that checkers must find in it; never run.

Checked by `mypy --strict` and by pyright in the checkers' part of `.ci/run` (extra `dev`, `nox -s checkers`), and not by pytest:
the README's command for the tests installs the extra `test` only, which has no type checker in it.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import assert_never, assert_type

import scardface
from scardface import (
    ATR,
    C_APDU,
    R_APDU,
    Attribute,
    CardInserted,
    CardRemoved,
    CardRemovedError,
    Disposition,
    Event,
    EventsLost,
    Lengths,
    PadResult,
    PinEntry,
    Protocol,
    ReaderAdded,
    ReaderMonitor,
    ReaderProperties,
    ReaderRemoved,
    ReaderState,
    SCard,
    SCardError,
    ServiceDown,
    ServiceUp,
    ShareMode,
    StatusError,
    contactless,
    iso7816,
    scp03,
    serial,
    sync,
)
from scardface.pool import CardPool, PoolStats
from scardface.replay import Recorder, ReplayCard
from scardface.testing import FileCard, PinPad, PrivatePcscd, Scp03Card, SimulatedPCSC, VirtualCard

SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256)


class Counted:
    """A layer by its two methods, without a base class."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: R_APDU) -> R_APDU:
        return response


async def all_arguments() -> None:
    backend = SimulatedPCSC()
    SCard("Reader", "Group", 30, rb"^\x3b", False, share=ShareMode.SHARED, protocols=Protocol.T0, lengths=Lengths.SHORT)
    SCard(
        ["Reader"], ("Group",), None, re.compile(rb"^\x3b"), True, settle=0.05, new_only=True, on_reset="reconnect", backend=backend
    )
    SCard(re.compile("ACS"), timeout=float("inf"))
    SCard(serial("5C01"), options=scardface.ExchangeOptions(max_steps=10))


async def commands_and_responses() -> None:
    assert_type(bytes(SELECT), bytes)
    assert_type(C_APDU.fromhex("00 A4 04 00"), C_APDU)
    assert_type(C_APDU.from_bytes(bytearray(5)), C_APDU)
    assert_type((SELECT.cla, SELECT.data, SELECT.le), tuple[int, bytes, int])
    response = R_APDU(b"", 0x90, 0x00)
    assert_type(response.check(), R_APDU)
    assert_type((response.data, response.sw, response.sw12, response.meaning), tuple[bytes, int, bytes, str])
    assert_type(response.is_successful(), bool)
    assert_type(response.is_successful_with(["9000", "91xx"]), bool)
    assert_type(response.is_successful_with(lambda response: response.sw1 == 0x91), bool)


async def an_async_card() -> None:
    async with SCard(timeout=30) as card:
        assert_type(card, SCard)
        assert_type((card.reader, card.atr, card.protocol, card.share, card.closed), tuple[str, ATR, Protocol, ShareMode, bool])
        assert_type(await card.send(SELECT, b"\x00\xb0\x81\x00\x00", bytearray(4), memoryview(b"")), R_APDU)
        pending: Coroutine[Any, Any, R_APDU] = card.send(SELECT)
        assert_type(await pending, R_APDU)
        assert_type(await card.transmit(b"\x00\x84\x00\x00\x08"), bytes)
        await card.wait()
        card.cancel()
    card = await SCard()
    assert_type(card, SCard)
    await card.aclose(Disposition.UNPOWER)


async def success_words() -> None:
    async with SCard(success=["9000", "91xx"]) as card:
        assert_type(await card.send(SELECT, success=("9100",)), R_APDU)
        assert_type(await card.send(SELECT, success=lambda response: response.sw1 == 0x91), R_APDU)
        assert_type(await card.send(SELECT, timeout=1.5), R_APDU)
        async with card.while_present() as nothing:
            assert_type(nothing, None)
        assert_type(await card.send_all(SELECT, b"\x00\xb0\x81\x00\x00", stop=False), list[R_APDU])
        async with card.channel() as channel:
            assert_type(await channel.send_all(SELECT, success=["91xx"]), list[R_APDU])
            assert_type(await channel.layer(Counted()).send_all(SELECT), list[R_APDU])
        with Recorder(card, "session.cassette") as recorder:
            assert_type(await recorder.send_all(SELECT), list[R_APDU])
    with sync.SCard(success=lambda response: response.sw1 == 0x91) as plain:
        assert_type(plain.send_all(SELECT, success=["91xx"], timeout=2), list[R_APDU])
        with plain.while_present():
            pass
        with plain.channel() as channel_:
            assert_type(channel_.send_all(SELECT), list[R_APDU])
        with Recorder(plain, "session.cassette") as plain_recorder:
            assert_type(plain_recorder.send_all(SELECT), list[R_APDU])


async def card_after_card() -> None:
    async def is_mine(card: SCard) -> bool:
        return (await card.send(SELECT)).is_successful()

    def is_mine_too(card: sync.SCard) -> bool:
        return card.send(SELECT).is_successful()

    async with SCard(match=is_mine) as chosen:
        assert_type(chosen, SCard)
    async for card in scardface.cards("Reader", atr=b"^\x3b", match=is_mine, timeout=None):
        assert_type(card, SCard)
    async with scardface.cards(success=["9000"]) as cards:
        async for each in cards:
            assert_type(each, SCard)
        await cards.aclose()
    with sync.SCard(match=is_mine_too) as plain:
        assert_type(plain, sync.SCard)
    with sync.cards(match=is_mine_too) as plain_cards:
        for one in plain_cards:
            assert_type(one, sync.SCard)
        plain_cards.close()


async def pools_of_cards() -> None:
    async def prepare(card: SCard) -> None:
        (await card.send(SELECT)).check()

    def prepare_too(card: sync.SCard) -> None:
        card.send(SELECT).check()

    async with CardPool("Reader", atr=rb"^\x3b", prepare=prepare, min_cards=1, max_idle=60, max_cards=None) as pool:
        assert_type(pool, CardPool)
        async with pool.card(timeout=2) as card:
            assert_type(card, SCard)
        assert_type(pool.stats(), PoolStats)
        assert_type(pool.stats().lent, int)
        assert_type(pool.set_aside, Mapping[str, Exception])
    with sync.CardPool(prepare=prepare_too, reset_on_return=True) as plain_pool:
        assert_type(plain_pool, sync.CardPool)
        with plain_pool.card() as plain:
            assert_type(plain, sync.SCard)
        plain_pool.close()


async def iso_7816() -> None:
    assert_type(iso7816.select(b"\xa0"), C_APDU)
    assert_type(iso7816.verify(0x81, bytearray(4)), C_APDU)
    objects = iso7816.parse_tlv(b"\x6f\x00")
    assert_type(objects, tuple[iso7816.DataObject, ...])
    assert_type(iso7816.find_tlv(objects, 0x6F), iso7816.DataObject | None)
    assert_type(iso7816.build_tlv(0x6F, [objects[0], b"\x50\x00"]), bytes)
    assert_type(iso7816.parse_simple_tlv(b""), tuple[iso7816.SimpleObject, ...])
    assert_type(iso7816.FileControl.from_bytes(b"").structure, iso7816.Structure | None)
    async with SCard() as card:
        contents = await iso7816.read_file(card, 0x0001)
        assert_type(contents, iso7816.FileContents)
        assert_type((contents.records, contents.complete, contents.stopped), tuple[tuple[bytes, ...], bool, str])
        assert_type(await iso7816.write_file(card, b"\x3f\x00\x00\x01", [b"one", b"two"]), iso7816.FileWrite)
        assert_type(await iso7816.verify_pin(card, 0x81, b"1234", keep=0), R_APDU)
        async with card.channel() as channel:
            assert_type(await iso7816.read_file(channel), iso7816.FileContents)
            assert_type(await iso7816.read_file(channel.layer(Counted())), iso7816.FileContents)
        with Recorder(card, "session.cassette") as recorder:
            assert_type(await iso7816.read_file(recorder), iso7816.FileContents)
    with sync.SCard() as plain:
        assert_type(iso7816.read_file(plain, 0x0001).check(), iso7816.FileContents)
        assert_type(iso7816.write_file(plain, None, b"data"), iso7816.FileWrite)
        assert_type(iso7816.verify_pin(plain, 0x81, b"1234"), R_APDU)
        with plain.channel() as channel_:
            assert_type(iso7816.read_file(channel_), iso7816.FileContents)
        with Recorder(plain, "session.cassette") as plain_recorder:
            assert_type(iso7816.read_file(plain_recorder), iso7816.FileContents)


async def callbacks() -> None:
    def plain(command: C_APDU, response: R_APDU) -> None: ...

    async def awaited(command: C_APDU, response: R_APDU) -> None: ...

    async with SCard() as card:
        await card.send(SELECT, callback=plain)
        await card.send(SELECT, callback=awaited)
        await card.send(SELECT, callback=lambda command, response: print(command.ins, response.sw))


async def channels_and_layers() -> None:
    async with SCard() as card:
        async with card.channel() as channel:
            assert_type(channel.number, int)
            assert_type(await channel.send(SELECT), R_APDU)
            assert_type(await channel.layer(Counted()).send(SELECT), R_APDU)
        pending: Coroutine[Any, Any, R_APDU] = card.layer(Counted()).send(SELECT)
        assert_type(await pending, R_APDU)
    with sync.SCard() as plain:
        with plain.channel() as channel_:
            assert_type(channel_.send(SELECT), R_APDU)
            assert_type(channel_.layer(Counted()).send(SELECT), R_APDU)
        assert_type(plain.layer(Counted()).send(SELECT), R_APDU)


async def secure_channels() -> None:
    keys = scp03.Keys(enc=bytes(16), mac=bytearray(16), dek=memoryview(bytes(16)))
    assert_type(keys.encrypt_with_dek(bytes(16)), bytes)
    assert_type(scp03.key_check_value(bytes(16)), bytes)

    def diversified(answer: scp03.InitializeUpdateResponse) -> scp03.Keys:
        assert_type((answer.diversification_data, answer.key_version, answer.i), tuple[bytes, int, int])
        assert_type(answer.sequence_counter, int | None)
        return keys

    async with SCard() as card:
        secure = await scp03.open(card, keys, level=scp03.Level.C_MAC | scp03.Level.R_MAC, mode=scp03.Mode.S16)
        assert_type(await secure.send(SELECT, SELECT, success=["9000"]), R_APDU)
        assert_type(await secure.send_all(SELECT), list[R_APDU])
        assert_type(await iso7816.read_file(secure, 0x0001), iso7816.FileContents)
        async with card.channel() as channel:
            assert_type(await (await scp03.open(channel, diversified, key_version=0x30, aid=b"\xa0")).send(SELECT), R_APDU)
        with Recorder(card, "session.cassette") as recorder:
            assert_type(await (await scp03.open(recorder, keys)).send(SELECT), R_APDU)
    with sync.SCard() as plain:
        assert_type(scp03.open(plain, keys).send(SELECT), R_APDU)
        assert_type(scp03.open(plain, diversified).send_all(SELECT), list[R_APDU])
        with plain.channel() as channel_:
            assert_type(scp03.open(channel_, keys, host_challenge=bytes(8)).send(SELECT), R_APDU)
        with Recorder(plain, "session.cassette") as plain_recorder:
            assert_type(scp03.open(plain_recorder, keys).send(SELECT), R_APDU)
    virtual = Scp03Card(FileCard(), keys, key_version=1, i=0x71, aid=b"", diversification_data=bytes(10))
    assert_type((virtual.level, virtual.sequence_counter, virtual.card), tuple[int, int, VirtualCard])


async def what_the_reader_says() -> None:
    async with SCard() as card:
        async with card.transaction(Disposition.RESET):
            await card.reset(cold=True)
            await card.reconnect(share=ShareMode.SHARED)
        assert_type(await card.attribute(Attribute.VENDOR_NAME), str)
        assert_type(await card.attribute(Attribute.CURRENT_CLK), int)
        assert_type(await card.attribute(0x7A007), str | int | bytes)
        assert_type(await card.control(scardface.control_code(3400)), bytes)
        assert_type(await card.features(), Mapping[int, int])
        assert_type(await card.properties(), ReaderProperties)
        assert_type(await card.verify_pin_on_pad(C_APDU(0x00, 0x20, 0x00, 0x81), PinEntry()), PadResult)
        assert_type(await card.uid(), bytes)


def a_sync_card() -> None:
    with sync.SCard(timeout=30) as card:
        assert_type(card, sync.SCard)
        assert_type(card.send(SELECT), R_APDU)
        assert_type(card.transmit(b"\x00\x84\x00\x00\x08"), bytes)
        with card.transaction():
            card.reset()
        assert_type(card.attribute(Attribute.VENDOR_NAME), str)
        assert_type(card.attribute(Attribute.CURRENT_CLK), int)
        assert_type(card.verify_pin_on_pad(C_APDU(0x00, 0x20, 0x00, 0x81)), PadResult)
        assert_type(card.features(), Mapping[int, int])
        card.wait()
    card.close()
    assert_type(sync.readers(timeout=None), tuple[str, ...])
    assert_type(sync.groups(), tuple[str, ...])
    assert_type(sync.states(), Mapping[str, ReaderState])


async def looks() -> None:
    assert_type(await scardface.readers(timeout=2.5), tuple[str, ...])
    assert_type(await scardface.groups(), tuple[str, ...])
    assert_type(await scardface.states(), Mapping[str, ReaderState])
    scardface.cancel_all()


def told(event: Event) -> str:
    """Every kind of event is here: a checker that knows of another one refuses `assert_never`."""
    match event:
        case CardInserted(reader=reader, atr=atr):
            assert_type(atr, ATR)
            return reader
        case CardRemoved(reader=reader):
            return reader
        case ReaderAdded(reader=reader, initial=initial):
            assert_type(initial, bool)
            return reader
        case ReaderRemoved(reader=reader):
            return reader
        case ServiceDown() | ServiceUp():
            return "service"
        case EventsLost(count=count):
            assert_type(count, int)
            return "lost"
        case _:
            assert_never(event)


async def monitors() -> None:
    async with ReaderMonitor(re.compile("ACS")) as monitor:
        assert_type(monitor, ReaderMonitor)
        assert_type(monitor.state, Mapping[str, ReaderState])
        async for event in monitor:
            assert_type(event, Event)
            told(event)
    with sync.ReaderMonitor("Reader") as plain:
        for event in plain:
            assert_type(event, Event)


async def errors() -> None:
    try:
        async with SCard() as card:
            (await card.send(SELECT)).check()
    except StatusError as error:
        assert_type(error.response, R_APDU)
    except CardRemovedError as error:
        assert_type(error.answered, int | None)
    except SCardError as error:
        assert_type((error.code, error.call, error.reader), tuple[int, str, str])


async def records() -> None:
    async with SCard() as card:
        with Recorder(card, Path("session.cassette"), "new") as recorder:
            assert_type(recorder, Recorder[SCard])
            assert_type(await recorder.send(SELECT), R_APDU)
            async with recorder.transaction(), recorder.channel() as recorded:
                assert_type(await recorded.send(SELECT), R_APDU)
    with sync.SCard() as plain, Recorder(plain, "session.cassette") as plain_recorder:
        assert_type(plain_recorder.send(SELECT), R_APDU)
        with plain_recorder.transaction(), plain_recorder.channel() as plain_recorded:
            assert_type(plain_recorded.send(SELECT), R_APDU)
        assert_type(plain_recorder.transmit(b"\x00\x84\x00\x00\x08"), bytes)


class Echo(VirtualCard):
    """A card as a test writes it."""

    def process(self, command: bytes) -> bytes:
        return command + b"\x90\x00"


def simulations() -> None:
    with SimulatedPCSC("windows", latency={"SCardTransmit": 0.05}) as pcsc:
        assert_type(pcsc, SimulatedPCSC)
        pcsc.add_reader("Pad", controls=PinPad())
        pcsc.insert("Pad", Echo())
        assert_type(pcsc.remove(0), VirtualCard)
        assert_type(pcsc.cards, Mapping[str, VirtualCard])
    with PrivatePcscd(readers=4) as pcscd:
        pcscd.insert(0, FileCard(protocol=Protocol.T0))
        pcscd.insert(1, ReplayCard("session.cassette"))
        assert_type(pcscd.readers, tuple[str, ...])


def storage_cards(card: sync.SCard) -> None:
    found = contactless.tag(card.atr)
    assert_type(found, contactless.Tag | None)
    assert_type(contactless.read_binary(4, 16), C_APDU)
    assert_type(contactless.meaning(SELECT, card.send(SELECT)), str)
