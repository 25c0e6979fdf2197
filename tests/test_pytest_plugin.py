"""The pytest plugin, in test runs of its own; the examples of docs/testing.md among them.

The inner runs load the plugin by its name, `-p scardface.pytest_plugin`, and no plugin by itself: so they are the same whether the
package is installed or not. They run in this process, which has one PC/SC daemon at a time: who needs it takes it from `pcscd`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface import pytest_plugin, testing
from scardface.sync import readers
from scardface.testing import FileCard, PcscdUnavailable, SimulatedPCSC
from tests.support.versions import remembers_readers

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ("pcsc", "virtual_reader", "virtual_card", "pcscd", "card_cassette")
BOUND = 240.0
"""Seconds that a test run of its own may take: with coverage it is 4 s of computing, and others may run beside it."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language in a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test run with the plugin and anyio's, and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)
    return pytester


PLUGINS = ("-p", "scardface.pytest_plugin", "-p", "anyio", "-p", "no:cacheprovider")


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return inner.runpytest_inprocess(*PLUGINS, *arguments)


@pytest.fixture
def live() -> Iterator[SimulatedPCSC]:
    """What stands for the machine's own PC/SC, with a card in its reader."""
    with SimulatedPCSC() as live:
        live.add_reader("A real reader")
        live.insert(0, FileCard())
        yield live


# pytest's start.

COSTS = """
import sys

def test_nothing_is_loaded():
    ours = {name for name in sys.modules if name.partition(".")[0] == "scardface"}
    assert ours == {"scardface", "scardface._lazy_names", "scardface.pytest_plugin"}
    assert not {"anyio", "smartcard"} & sys.modules.keys()

def test_until_a_fixture_is_asked_for(pcsc):
    assert "scardface.testing" in sys.modules
    assert "smartcard.scard" not in sys.modules
"""


def test_it_costs_nothing_until_a_fixture_is_asked_for(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.makepyfile(COSTS)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "pytest", "-p", "scardface.pytest_plugin", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=inner.path, capture_output=True, text=True, timeout=BOUND, check=False)
    assert "2 passed" in done.stdout, done.stdout


def test_the_entry_point_is_the_declaring_module() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nscardface = "scardface.pytest_plugin"\n' in text
    assert not list(ROOT.glob("*scardface*.py")), "the plugin is inside the package"


def test_every_fixture_is_documented(inner: pytest.Pytester) -> None:
    told = run(inner, "--fixtures").stdout.str()
    for name in FIXTURES:
        assert re.search(rf"^{name} -- .*pytest_plugin\.py", told, re.MULTILINE), name
    assert "no docstring available" not in told[told.index("fixtures defined from scardface.pytest_plugin") :]
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert table == list(FIXTURES)


def test_its_code_is_measured_and_coverage_warns_of_nothing(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest loads the plugin before pytest-cov starts: only the module-level lines of two files are not seen."""
    inner.makepyfile("def test_one(virtual_card):\n    assert virtual_card.atr\n")
    settings = re.search(
        r"^\[tool\.coverage\.run\]\n.*?\n\n", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert settings
    inner.makepyprojecttoml(settings[0])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    arguments = ("-p", "scardface.pytest_plugin", "-p", "pytest_cov", "--cov", "--cov-report=term-missing", "-W", "error")
    command = [sys.executable, "-m", "pytest", *arguments, "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=inner.path, capture_output=True, text=True, timeout=BOUND, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    percents = {name: int(value) for name, value in re.findall(r"^\S*scardface/(\S+\.py) .* (\d+)%", done.stdout, re.MULTILINE)}
    assert percents["testing/__init__.py"] == 100
    assert percents["pytest_plugin.py"] > 0, "the bodies of its fixtures"


def test_the_class_of_card_cassette_is_public() -> None:
    assert pytest_plugin.CardCassette.__name__ == "CardCassette"
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        pytest_plugin.nothing_of_the_kind  # noqa: B018


def test_the_option_is_documented(inner: pytest.Pytester) -> None:
    told = run(inner, "--help").stdout.str()
    assert "scardface:" in told
    assert "--card-record={once,none,new,all}" in told
    assert run(inner, "--card-record=twice").ret == pytest.ExitCode.USAGE_ERROR


# The examples of docs/.


def test_the_example_of_the_page_passes(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    """Twice: first with a live card on the desk, then without any."""
    _, service, tests, _ = blocks("testing.md", "python")
    inner.makepyfile(greeter=service, test_greeter=tests)
    for cards in (1, 0):
        assert len(live.cards) == cards
        result = run(inner, "-W", "error", "-W", "ignore:Module already imported")
        result.assert_outcomes(passed=6)
        if cards:
            live.remove(0)
    assert not live.open_contexts
    assert [path.name for path in inner.path.rglob("*.cassette")] == ["test_the_card_on_my_desk.cassette"]
    assert len([line for line in service.splitlines() if line.strip()]) <= 20


def test_the_example_of_a_cassette_is_what_comes_out(
    tmp_path: Path, live: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = blocks("replay.md", "python")
    (text,) = blocks("replay.md", "text")
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "replay.md", "exec"), {})
    assert (tmp_path / "session.cassette").read_text(encoding="utf-8") == text
    assert capsys.readouterr().out == "b'only after VERIFY'\n"


# pcsc, virtual_reader, virtual_card.

SIMULATED = """
import pytest
from scardface import sync
from scardface.sync import SCard, readers
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard

class Broken(VirtualCard):
    def process(self, command):
        raise ZeroDivisionError("a mistake in a card")

def test_pcsc(pcsc):
    assert isinstance(pcsc, SimulatedPCSC)
    assert readers() == pcsc.readers == ("Virtual Reader",)
    assert not pcsc.cards

def test_virtual_reader(pcsc, virtual_reader):
    assert pcsc.readers == (virtual_reader,)
    assert not pcsc.cards

def test_virtual_card(virtual_card):
    assert type(virtual_card) is FileCard
    with SCard(timeout=30) as card:
        assert card.reader == "Virtual Reader"
        assert card.atr == virtual_card.atr

def test_all_of_them(pcsc, virtual_reader, virtual_card):
    assert pcsc.cards == {virtual_reader: virtual_card}
    pcsc.remove_reader(0)

def test_the_next_one_is_fresh(pcsc, virtual_reader):
    assert pcsc.readers == (virtual_reader,)
    assert not pcsc.cards

def test_a_mistake_in_a_card_fails_the_test(pcsc):
    pcsc.insert(0, Broken())
    with SCard(timeout=30) as card:
        assert card.send(bytes(5)).sw == 0x6F00

class TestAnotherCard:
    @pytest.fixture
    def virtual_card(self, pcsc, virtual_reader):
        card = FileCard(pin=b"0000")
        pcsc.insert(virtual_reader, card)
        return card

    def test_is_used(self, virtual_card, pcsc):
        assert list(pcsc.cards.values()) == [virtual_card]
"""


def test_the_simulation(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(SIMULATED)
    result = run(inner)
    result.assert_outcomes(passed=7, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_a_mistake_in_a_card_*", "*ZeroDivisionError: a mistake in a card"])
    assert readers() == live.readers  # what was there before is back


# pcscd.

REAL = """
import pytest
from scardface.sync import SCard, readers, states
from scardface.testing import FileCard

pids = set()

@pytest.mark.parametrize("stays", [True, False, True])
def test_empty_at_first(pcscd, stays):
    pids.add(pcscd.pid)
    assert readers() == pcscd.readers
    assert len(pcscd.readers) == 2
    assert not pcscd.cards
    assert not [state for state in states().values() if state.present]
    pcscd.insert(1, FileCard())
    with SCard(timeout=30) as card:
        assert card.reader == pcscd.readers[1]
    if not stays:
        pcscd.remove(1)

def test_one_daemon(pcscd):
    assert pids == {pcscd.pid}
    pcscd.stop()
    if {may_shrink}:  # with other readers, which the fixture takes back
        pcscd.start(4)

def test_readers_are_back(pcscd):
    assert len(readers()) == 2
    pcscd.kill()

def test_it_runs_again(pcscd):
    assert len(readers()) == 2
"""


def test_the_real_daemon(inner: pytest.Pytester, pcscd: PrivatePcscd) -> None:
    """In a process of its own: there is one daemon in a process, and libpcsclite 2.5 takes no fewer readers than it had."""
    inner.makepyfile(REAL.replace("{may_shrink}", str(not remembers_readers())))
    inner.runpytest_subprocess(*PLUGINS).assert_outcomes(passed=6)


def test_where_the_daemon_cannot_run_the_test_is_skipped(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unavailable:
        def __init__(self, readers: int) -> None:
            raise PcscdUnavailable("the program pcscd is missing: install the package pcscd")

    monkeypatch.setattr(testing, "PrivatePcscd", Unavailable)
    inner.makepyfile("def test_one(pcscd): pass\ndef test_two(pcscd): pass\ndef test_three(): pass\n")
    result = run(inner, "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*no private pcscd here: the program pcscd is missing: install the package pcscd"])


# card_cassette.

CASSETTE = """
import pytest
from scardface import C_APDU
from scardface.sync import SCard

SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\\xf0SCARDFACE")
READ = C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 256)

def service():
    with SCard(timeout=0) as card:
        return card.reader, card.send(SELECT, READ).data

def test_text(card_cassette):
    with SCard(timeout=0) as card:
        recorder = card_cassette(card)
        assert recorder.send(SELECT, READ).data == b"Hello from a virtual card."
        assert recorder.path == card_cassette.path
        print(f"reader={card.reader} replays={card_cassette.replays}")
"""


def exchanges(inner: pytest.Pytester, name: str = "test_text") -> list[str]:
    """What stands in a cassette of the inner run."""
    (path,) = inner.path.rglob(f"{name}.cassette")
    assert path.parent.relative_to(inner.path).parts == ("cassettes", path.parent.name)
    return path.read_text(encoding="utf-8").split("\n\n")[1].splitlines()


def readers_seen(result: pytest.RunResult) -> list[str]:
    return re.findall(r"reader=(.*) replays=(?:True|False)", result.stdout.str())


def test_once(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(CASSETTE)
    first = run(inner, "-s")
    first.assert_outcomes(passed=1)
    assert readers_seen(first) == ["A real reader"]
    assert len(exchanges(inner)) == 2
    live.remove(0)
    calls = dict(live.calls)
    second = run(inner, "-s")
    second.assert_outcomes(passed=1)
    assert readers_seen(second) == ["Virtual Reader"]
    assert dict(live.calls) == calls


def test_a_service_that_opens_its_card_itself_is_played_to(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(CASSETTE)
    run(inner).assert_outcomes(passed=1)
    inner.makepyfile(
        CASSETTE.partition("def test_text")[0] + "def test_text(card_cassette):\n    assert service()[0] == 'Virtual Reader'\n"
    )
    run(inner).assert_outcomes(passed=1)
    inner.makepyfile(
        CASSETTE.partition("def test_text")[0].replace("0x81", "0x82") + "def test_text(card_cassette):\n    service()\n"
    )
    result = run(inner)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*00B08200 Ne=256 is not recorded in *test_text.cassette, or was played already*"])


def test_a_changed_command_fails_readably(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(CASSETTE)
    run(inner).assert_outcomes(passed=1)
    inner.makepyfile(CASSETTE.replace("0x81", "0x82"))
    for arguments in ([], ["--card-record=none"]):
        result = run(inner, *arguments)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "*00B08200 Ne=256 is not recorded in *test_text.cassette, or was played already. The nearest that are:",
                "*line 6: 00B08100 Ne=256 (P1 is 81, not 82)",
                "*line 5: 00A40400 F0534341524446414345 (INS is A4, not B0, *",
            ]
        )
    assert len(exchanges(inner)) == 2


def test_new_and_all(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(CASSETTE)
    run(inner).assert_outcomes(passed=1)
    inner.makepyfile(CASSETTE.replace("SELECT, READ).data ==", "SELECT, C_APDU(0x00, 0x84, 0, 0, b'', 1), READ).data =="))
    result = run(inner, "-s", "--card-record=new")
    # The live card has not heard of the selection, which was played; a challenge it gives all the same.
    result.assert_outcomes(passed=1)
    assert readers_seen(result) == ["A real reader"]
    assert [line[:8] for line in exchanges(inner)] == ["00A40400", "00B08100", "00840000"]
    result = run(inner, "-s", "--card-record=all")
    result.assert_outcomes(passed=1)
    assert [line[:8] for line in exchanges(inner)] == ["00A40400", "00840000", "00B08100"]


def test_none_without_a_cassette(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(CASSETTE)
    result = run(inner, "--card-record=none")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["there is no cassette *test_text.cassette; record it with --card-record=once"])
    assert not live.calls.get("SCardTransmit")


NAMES = """
import pytest
from scardface.sync import SCard

class TestClass:
    @pytest.mark.parametrize("value", ["a b", "../c"])
    def test_method(self, card_cassette, value):
        with SCard(timeout=0) as card:
            card_cassette(card, redact=lambda command: True).send(b"\\x00\\xa4\\x00\\x00\\x02\\x3f\\x00")

def test_without_a_call(card_cassette):
    assert not card_cassette.replays

def test_two_calls(card_cassette):
    with SCard(timeout=0) as card:
        card_cassette(card)
        with pytest.raises(RuntimeError, match="can be called once"):
            card_cassette(card)
"""


def test_names_of_cassettes(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(test_names=NAMES)
    run(inner).assert_outcomes(passed=4)
    found = sorted(str(path.relative_to(inner.path)) for path in inner.path.rglob("*.cassette"))
    assert found == [f"cassettes/test_names/TestClass.test_method_{name}_.cassette" for name in (".._c", "a_b")]
    assert exchanges(inner, "TestClass.test_method_a_b_") == ["00A40000 <secret> -> 9000"]


ASYNC = """
import pytest
from scardface import C_APDU, SCard

pytestmark = pytest.mark.anyio

async def test_async(card_cassette):
    async with SCard(timeout=30) as card:
        recorder = card_cassette(card)
        assert (await recorder.send(C_APDU(0x00, 0xA4, 0x04, 0x00, b"\\xf0SCARDFACE"))).is_successful()
        assert await recorder.transmit(bytes.fromhex("00B0810005")) == b"Hello\\x90\\x00"
"""


def test_on_both_backends(inner: pytest.Pytester, live: SimulatedPCSC) -> None:
    inner.makepyfile(ASYNC)
    for _ in range(2):
        run(inner).assert_outcomes(passed=2)
        live.stop_service()
    assert sorted(path.stem for path in inner.path.rglob("*.cassette")) == ["test_async_asyncio_", "test_async_trio_"]
