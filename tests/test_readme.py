"""README.md and docs/ keep their word: Python blocks run, tables are complete, links lead somewhere, CI runs the commands.

Every Python block of it and of the pages in docs/ is run: `test_every_block_runs` saves it to a file and starts it in a Python
of its own, as its reader would, on a machine whose PC/SC is the private pcscd; the harness for it puts cards in and takes them
out, and ends what goes on for ever with Ctrl-C. A block that only defines functions is called as its reader would call it.
Where the daemon cannot do it, a keypad for one, that call is made on the simulated PC/SC. A block without a harness fails, and
says how to write one.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import scardface
import scardface.sync
from scardface.testing import DF, EF, FileCard
from tests.support.cards import LogCard
from tests.support.certificates import make_certificates

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
AT_THE_TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PUBLIC = {name: getattr(scardface, name) for name in scardface.__all__}
OTHERS = "opensc scdaemon python3-cryptography python3-uvloop"
TORNADO = (
    "Future exception was never retrieved\nfuture: <Future finished exception=TimeoutError('Timeout')>\nTimeoutError: Timeout\n"
)
"""What tornado, below Dask, says of a TLS connection that took longer than one of Dask's tries: the next one succeeds."""
BOUND = 30.0
"""Seconds after which something that must happen has not happened."""


class Block(NamedTuple):
    """A fenced block: its text, and the page and heading that it stands under with its number there."""

    place: str
    source: str


def blocks(language: str, text: str = README, page: str = "README.md") -> list[Block]:
    """The fenced blocks of a language in a page, in order."""
    heading, numbers, found = "", Counter[str](), []
    parts = r"^#+ (?P<heading>[^\n]*)$|^```(?P<language>\w*)\n(?P<source>.*?)^```$"
    for match in re.finditer(parts, text, re.DOTALL | re.MULTILINE):
        if match["heading"]:
            heading = match["heading"]
        elif match["language"] == language:
            numbers[heading] += 1
            found.append(Block(f"{page}: {heading}, {numbers[heading]}", match["source"]))
    return found


EXAMPLES = {path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
"""A page may quote one as it stands; tests/examples runs them."""
EVERY_PYTHON_BLOCK = [*blocks("python"), *(block for name, text in PAGES.items() for block in blocks("python", text, name))]
PYTHON = [block for block in EVERY_PYTHON_BLOCK if block.source not in EXAMPLES]


def test_the_first_screen_is_ten_lines_of_code() -> None:
    assert README.index("```python") < README.index("```sh") < 2500
    assert len([line for line in PYTHON[0].source.splitlines() if line.strip()]) <= 10
    assert len(README.splitlines()) <= 160, "it is one screen and the way to the rest: what teaches or lists belongs into docs/"


def test_every_link_leads_somewhere() -> None:
    """To a file that is there, and to a heading of it, as mkdocs and hosts of repositories name headings."""
    broken = []
    pages = {name: ROOT / "docs" / name for name in PAGES} | {name: ROOT / name for name in AT_THE_TOP}
    for name, page in pages.items():
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            if not other.is_file() or (anchor and anchor not in anchors(other.read_text(encoding="utf-8"))):
                broken.append(f"{name}: {target}")
    assert not broken


def anchors(text: str) -> set[str]:
    """The names of a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def test_the_commands_differ_in_what_they_run_only() -> None:
    demo, tests, *others = (block.source for block in blocks("sh"))
    assert not others
    # The tests want other programs besides, to share cards with, and two packages that have no wheels for i386.
    assert demo.split("&& .venv/bin/pip")[0] == tests.split("&& .venv/bin/pip")[0].replace(f" {OTHERS}", "")
    assert demo.rstrip().endswith(".venv/bin/scardface demo")
    assert "SCARDFACE_REQUIRE_PCSCD=auto .venv/bin/python -m pytest" in tests


def test_ci_runs_the_second_command_as_it_stands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert "pytest --cov" not in script, ".ci/run must take the command from README.md, not repeat it"


def test_the_table_names_every_argument() -> None:
    table = re.findall(r"^\| `(\w+)` \|", PAGES["waiting.md"], re.MULTILINE)
    assert table == list(inspect.signature(scardface.SCard).parameters)


def test_the_signature_is_as_written() -> None:
    text = re.search(r"`SCard\((.*?)\)`", PAGES["waiting.md"], re.DOTALL)
    assert text
    written = ast.parse(f"def f({text[1]}): ...").body[0]
    assert isinstance(written, ast.FunctionDef)
    real = inspect.signature(scardface.SCard).parameters.values()
    arguments = written.args
    positional = [argument.arg for argument in arguments.args]
    assert positional == [each.name for each in real if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert [argument.arg for argument in arguments.kwonlyargs] == [each.name for each in real if each.kind is each.KEYWORD_ONLY]
    defaults = [eval(ast.unparse(node), PUBLIC) for node in [*arguments.defaults, *arguments.kw_defaults] if node]
    assert defaults == [each.default for each in real]


def test_the_table_of_errors_is_complete() -> None:
    table = re.findall(r"^\| `(\w+)` \|", PAGES["errors.md"], re.MULTILINE)
    classes = [each for each in PUBLIC.values() if inspect.isclass(each) and issubclass(each, scardface.SCardError)]
    assert set(table) == {each.__name__ for each in classes} - {"SCardError"}


# The Python blocks: each is run as its reader would run it, while the test stands at the reader.


class Example:
    """A block in a Python of its own, in an empty folder, with every warning an error.

    Attributes:
        out: what it has printed so far.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.out = ""
        self._news = threading.Condition()
        self._errors = folder / "stderr.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self.out += line.decode()
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def shows(self, words: str) -> None:
        """Return once it has printed these words."""
        end = time.monotonic() + BOUND
        with self._news:
            while words not in self.out:
                left = end - time.monotonic()
                going_on = left > 0 and self._listener.is_alive()
                assert going_on, f"{words!r} was not printed, but:\n{self.out}{self._errors.read_text(encoding='utf-8')}"
                self._news.wait(min(left, 0.1))

    def ends(self, overlooked: str = "") -> str:
        """Return once it has ended by itself, and without a word of complaint but for `overlooked`; what it printed."""
        status, complaint = self._end()
        assert status == 0, f"{self.out}{complaint}"
        assert not complaint.replace(overlooked, "")
        return self.out

    def interrupt(self) -> None:
        """Ctrl-C, for those that would go on for ever; nothing else may go wrong."""
        self._process.send_signal(signal.SIGINT)
        status, complaint = self._end()
        assert status in (-signal.SIGINT, 128 + signal.SIGINT), f"exit status {status}\n{self.out}{complaint}"
        assert complaint.rstrip().endswith("KeyboardInterrupt"), complaint
        assert "Warning" not in complaint

    def is_told(self, number: int) -> None:
        """A signal, for those that end cleanly."""
        self._process.send_signal(number)

    def _end(self) -> tuple[int, str]:
        status = self._process.wait(BOUND)
        self._listener.join(BOUND)
        return status, self._errors.read_text(encoding="utf-8")

    def close(self) -> None:
        """Let go of it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(BOUND)
        self._listener.join(BOUND)


class Stage:
    """Where a block is run: a machine whose PC/SC is the private pcscd, and the folder that the block is saved to.

    Attributes:
        source: the block.
        pcscd: the daemon; the test puts cards into its readers and takes them out.
        folder: the folder, which is empty at first.
    """

    def __init__(self, source: str, pcscd: PrivatePcscd, folder: Path) -> None:
        self.source = source
        self.pcscd = pcscd
        self.folder = folder
        self._running: list[Example] = []

    def run(self, after: str = "", *, name: str = "example.py", command: Sequence[str] = (), own_daemon: bool = False) -> Example:
        """Save the block, and start it.

        Args:
            after: what its reader would write below it: a call of the functions that it defines.
            name: the file that it is saved as.
            command: Python's arguments in place of this file's name.
            own_daemon: whether it starts a PC/SC service of its own, so that there is to be none.
        """
        (self.folder / name).write_text(f"{self.source}\n\n{after}", encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        for variable in ["COVERAGE_PROCESS_START", "PYTEST_ADDOPTS", *(["PCSCLITE_CSOCK_NAME"] if own_daemon else [])]:
            environment.pop(variable, None)
        # SWIG's code in pyscard, from Python 3.12 on: see pyproject.toml.
        python = [sys.executable, "-W", "error", "-W", "ignore:builtin type swig:DeprecationWarning"]
        example = Example([*python, *(command or [name])], self.folder, environment)
        self._running.append(example)
        return example

    def close(self) -> None:
        """End what still runs."""
        for example in self._running:
            example.close()


HARNESSES: dict[str, Callable[[Stage], None]] = {}
"""What runs a block, by words that this block alone has in it."""


def example(words: str) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """The function below runs the block with these words in it."""

    def keep(harness: Callable[[Stage], None]) -> Callable[[Stage], None]:
        HARNESSES[words] = harness
        return harness

    return keep


HOW = """
no harness in tests/test_readme.py runs this block. Add one:

    @example("words that this block alone has in it")
    def _(stage: Stage) -> None:
        stage.pcscd.insert(0, FileCard())        # what the block needs
        running = stage.run()                    # or run("anyio.run(function)"), if it only defines a function
        running.shows("words")                   # what it prints
        stage.pcscd.remove(0)                    # what its reader would do then
        running.ends()                           # or interrupt(), if it goes on for ever
"""


@pytest.mark.parametrize("place", [block.place for block in PYTHON])
def test_every_block_runs(place: str, pcscd: PrivatePcscd, tmp_path: Path) -> None:
    source = next(block.source for block in PYTHON if block.place == place)
    found = [harness for words, harness in HARNESSES.items() if words in source]
    assert found, f"{place}: {HOW}"
    assert len(found) == 1, f"{place}: more than one harness has words that are in it"
    stage = Stage(source, pcscd, tmp_path)
    try:
        found[0](stage)
    finally:
        stage.close()


def test_pages_quote_examples_as_they_stand() -> None:
    """A page that says "This is `examples/NAME.py`:" goes on with that file."""
    quoted = [name for text in PAGES.values() for name in re.findall(r"^.*`(examples/\w+\.py)`:$", text, re.MULTILINE)]
    assert len(quoted) >= 5
    sources = {block.source for block in EVERY_PYTHON_BLOCK}
    changed = [name for name in quoted if name != "examples/kiosk.py" and (ROOT / name).read_text(encoding="utf-8") not in sources]
    assert not changed, "these were changed, and a page still has the text from before"


def test_every_harness_has_its_block() -> None:
    orphans = [words for words in HARNESSES if sum(words in block.source for block in PYTHON) != 1]
    assert not orphans, f"these words of harnesses are not in exactly one Python block of README.md and docs/: {orphans}"


class SignatureCard(LogCard):
    """VERIFY of its PIN, then PSO: COMPUTE DIGITAL SIGNATURE, until the next reset (ISO/IEC 7816-8:2021, 5.4)."""

    verified = False

    def power_on(self) -> None:
        super().power_on()
        self.verified = False

    def reset(self) -> None:
        super().reset()
        self.verified = False

    def process(self, command: bytes) -> bytes:
        super().process(command)
        if command[:4] == b"\x00\x20\x00\x81":
            self.verified = command[5:9] == b"1234"
            return b"\x90\x00" if self.verified else b"\x63\xc2"
        if command[:4] == b"\x00\x2a\x9e\x9a" and self.verified:
            return command[5:-1][::-1] + b"\x90\x00"
        return b"\x69\x82"


class Stranger(LogCard):
    """Has not what is asked for."""

    def process(self, command: bytes) -> bytes:
        super().process(command)
        return b"\x6a\x82"


@example("async def kiosk(")
def _(stage: Stage) -> None:
    first, second = stage.pcscd.readers[:2]
    stage.pcscd.insert(first, FileCard())
    running = stage.run()
    running.shows(f"{first} welcome")
    stage.pcscd.insert(second, FileCard())
    running.shows(f"{second} welcome")
    stage.pcscd.remove(first)
    stage.pcscd.wait_for_removal(first)
    stage.pcscd.insert(first, Stranger())
    running.shows(f"{first} the card answered 6A82: file or application not found")
    running.is_told(signal.SIGINT)
    assert running.ends().count("welcome") == 2


@example("from kiosk import kiosk")
def _(stage: Stage) -> None:
    (program,) = (block.source for block in PYTHON if "async def kiosk(" in block.source)
    (stage.folder / "kiosk.py").write_text(program, encoding="utf-8")
    stage.pcscd.insert(0, FileCard())
    for number in (signal.SIGTERM, signal.SIGINT):
        running = stage.run()
        running.shows(f"{stage.pcscd.readers[0]} welcome")
        running.is_told(number)
        assert running.ends().endswith("\nclosed\n")


@example("but meant for the whole loop")
def _(stage: Stage) -> None:
    """While a card is in, and while one is waited for."""
    stage.pcscd.insert(0, FileCard())
    running = stage.run()
    running.shows("welcome")
    running.is_told(signal.SIGTERM)
    assert running.ends() == f"{stage.pcscd.readers[0]} welcome\nclosed\n"
    running = stage.run()
    running.shows("welcome")
    stage.pcscd.remove(0)
    running.shows("goodbye")
    running.is_told(signal.SIGTERM)
    assert running.ends().endswith("goodbye\nclosed\n")


@example("scp03.open(card, KEYS)")
def _(stage: Stage) -> None:
    assert stage.run().ends() == "Hello from a virtual card.\n"


@example("class Counted:")
def _(stage: Stage) -> None:
    card = LogCard()
    stage.pcscd.insert(0, card)
    assert stage.run().ends() == 'R_APDU(b"", 0x90, 0x00)\n'
    assert card.commands == [bytes((0x80, 0x10, 0, number)) for number in (1, 2)]


@example('print(card.reader, card.atr.hex(" "), response.data.hex(" "))')
def _(stage: Stage) -> None:
    running = stage.run()
    card = FileCard()
    stage.pcscd.insert(2, card)
    running.shows(f"{stage.pcscd.readers[2]} {card.atr.hex(' ')} 6f")
    stage.pcscd.remove(2)
    running.ends()


@example("print(readers())\nwith SCard")
def _(stage: Stage) -> None:
    running = stage.run()
    running.shows(repr(stage.pcscd.readers))
    stage.pcscd.insert(1, FileCard())
    assert running.ends().endswith('R_APDU(b"", 0x90, 0x00)\n')


@example("async def sign(")
def _(stage: Stage) -> None:
    card = SignatureCard()
    stage.pcscd.insert(0, card)
    shown = stage.run('import anyio\nprint(anyio.run(sign, b"1234", bytes(range(32))).hex())').ends()
    assert shown.startswith("signed in ")
    assert shown.endswith(f"{bytes(reversed(range(32))).hex()}\n")
    assert card.resets >= 1
    assert not card.verified


AT_A_KEYPAD = """
import anyio
from scardface.testing import PinPad, SimulatedPCSC, VirtualCard


class Card(VirtualCard):
    def process(self, command):
        assert command[:5] == b"\\x00\\x20\\x00\\x01\\x08"
        return b"\\x90\\x00" if command[5:] == bytes.fromhex("26123456FFFFFFFF") else b"\\x63\\xc2"


with SimulatedPCSC() as pcsc:
    pad = PinPad()
    pcsc.add_reader("Pad", controls=pad)
    pcsc.insert("Pad", Card())
    pad.type("123456", "654321")
    pad.press_cancel()
    for _ in range(3):
        print(anyio.run(unlock))
"""


@example("async def unlock()")
def _(stage: Stage) -> None:
    shown = stage.run(AT_A_KEYPAD).ends().splitlines()
    said = ["success", "True", "wrong PIN, 2 tries left", "False", "the entry was cancelled on the reader's keypad", "False"]
    assert shown == said
    assert all(f'"{words}"' in stage.source for words in said[::2])


class DesfireCard(LogCard):
    """GET VERSION in three frames, as in NXP's MF3D(H)x3, 11.3.2."""

    frames = (b"\4\1\1\1\0\x1a\5\x91\xaf", b"\4\1\1\1\4\x1a\5\x91\xaf", bytes(range(14)) + b"\x91\0")

    def process(self, command: bytes) -> bytes:
        super().process(command)
        return self.frames[len(self.commands) - 1]


@example("GET_VERSION, MORE")
def _(stage: Stage) -> None:
    card = DesfireCard()
    stage.pcscd.insert(0, card)
    shown = stage.run("import anyio\nprint(anyio.run(version).hex())").ends()
    assert shown == b"".join(frame[:-2] for frame in card.frames).hex() + "\n"
    assert [command[1] for command in card.commands] == [0x60, 0xAF, 0xAF]


@example("async def show(pin: bytes)")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run('import anyio\nanyio.run(show, b"1234")').ends().splitlines() == [
        "82 file descriptor 38",
        "83 file identifier 5000",
        "84 DF name f0534341524446414345",
        "Hello from a virtual card.",
        "only after VERIFY",
    ]


@example("print(bytes(iso7816.read_binary(0x12345, 20)).hex())")
def _(stage: Stage) -> None:
    assert stage.run().ends().splitlines() == [
        "00a4040005a00000030800",
        "00b1000005540301234514",
        "C_APDU(0x00, 0x20, 0x00, 0x81, <4 bytes>, 0)",
    ]


@example("async for card in scardface.cards():")
def _(stage: Stage) -> None:
    first, second = stage.pcscd.readers[:2]
    stage.pcscd.insert(first, FileCard())
    running = stage.run("import anyio\nanyio.run(desk)")
    running.shows(f"{first} welcome")
    stage.pcscd.insert(second, Stranger())
    stage.pcscd.remove(first)
    stage.pcscd.wait_for_removal(first)
    stage.pcscd.remove(second)
    stage.pcscd.wait_for_removal(second)
    stage.pcscd.insert(second, FileCard())
    running.shows(f"{second} welcome")
    running.interrupt()
    assert running.out.count("welcome") == 2


@example("async def is_ours(")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, Stranger())
    stage.pcscd.wait_for_card(0)
    stage.pcscd.insert(1, FileCard())
    assert stage.run("import anyio\nprint(anyio.run(wait_for_ours))").ends() == f"{stage.pcscd.readers[1]}\n"


@example("async with card.while_present():")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    running = stage.run("anyio.run(session)")
    running.shows("hello")
    stage.pcscd.remove(0)
    assert running.ends() == "hello\ngoodbye\n"


class SlowCard(LogCard):
    """Takes its time with INS 10, until somebody asks whether it was heard."""

    def process(self, command: bytes) -> bytes:
        super().process(command)
        if command[1] == 0x10:
            self.reached.set()
            assert self.gate.wait(BOUND)
        return b"\x90\x00"


@example("C_APDU(0x80, 0x10), timeout=0.5")
def _(stage: Stage) -> None:
    card = SlowCard()
    stage.pcscd.insert(0, card)
    running = stage.run()
    running.shows("the card did not answer within 0.5 s")
    card.gate.set()
    assert running.ends().endswith("\nsuccess\n")
    assert [command[1] for command in card.commands] == [0x10, 0x11]


@example("async with pool.card(timeout=10) as card:")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    lines = stage.run().ends().splitlines()
    assert sorted(lines[:3]) == [f"{number} only after VERIFY" for number in range(3)]
    assert lines[3:] == ["3 loans, prepared 1"]


@example("ThreadPoolExecutor(4) as threads:")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run().ends() == " ".join(["b'Hello from a virtual card.'"] * 3) + "\n"


@example("async def refused() -> None:")
def _(stage: Stage) -> None:
    """Its warning would be on standard error, where the harness wants no word."""
    stage.pcscd.insert(0, FileCard())
    quiet = "import logging\nlogging.getLogger('scardface.pool').disabled = True\n"
    no_card, set_aside, number = stage.run(f"{quiet}anyio.run(refused)").ends().splitlines()
    assert no_card.startswith("no card of the pool within 2 s; seen: a card that was set aside (the card answered 63C2")
    assert set_aside.startswith(f"{stage.pcscd.readers[0]} is set aside: the card answered 63C2")
    assert number == "1"


class MifareCard(LogCard):
    """A contactless card, together with its reader, which knows one key."""

    def __init__(self) -> None:
        super().__init__(bytes.fromhex("3B8F8001804F0CA000000306030001000000006A"))

    def process(self, command: bytes) -> bytes:
        super().process(command)
        return (bytes(range(16)) if command[1] == 0xB0 else b"") + b"\x90\x00"


@example("def read_block(")
def _(stage: Stage) -> None:
    card = MifareCard()
    stage.pcscd.insert(0, card)
    card_in_words, data = stage.run("print(read_block(bytes(6), 4).hex())").ends().splitlines()
    (promise,) = re.findall(r"# (Tag\(.*), \.\.\.\)$", stage.source, re.MULTILINE)
    assert card_in_words.startswith(promise)
    assert data == bytes(range(16)).hex()
    assert [command[1] for command in card.commands] == [0x82, 0x86, 0xB0]


@example("            match event:\n")
def _(stage: Stage) -> None:
    running = stage.run("import anyio\nanyio.run(watch)")
    running.shows(f"ReaderAdded(reader='{stage.pcscd.readers[3]}', initial=True)")
    card = FileCard()
    stage.pcscd.insert(0, card)
    running.shows(f"in {stage.pcscd.readers[0]} {card.atr.hex(' ')}\n")
    stage.pcscd.remove(0)
    running.shows(f"out {stage.pcscd.readers[0]}\n")
    running.interrupt()


@example("class Echo(VirtualCard):")
def _(stage: Stage) -> None:
    assert "80 01 02 03" in stage.run(own_daemon=True).ends()


@example("async def greet_next(")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run("import anyio\nprint(anyio.run(greet_next))").ends() == "Hello from a virtual card.\n"


@example("from greeter import greet_next, greeting")
def _(stage: Stage) -> None:
    """With a card on the desk; tests/test_pytest_plugin.py goes on from there, without one."""
    (greeter,) = (block.source for block in PYTHON if "async def greet_next(" in block.source)
    (stage.folder / "greeter.py").write_text(greeter, encoding="utf-8")
    stage.pcscd.insert(0, FileCard())
    plugins = ["-p", "scardface.pytest_plugin", "-p", "anyio", "-p", "no:cacheprovider"]  # so it need not be installed
    shown = stage.run(name="test_greeter.py", command=["-m", "pytest", "-q", *plugins]).ends()
    assert "6 passed" in shown
    assert [path.name for path in stage.folder.rglob("*.cassette")] == ["test_the_card_on_my_desk.cassette"]


@example("tracing.PcapWriter")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    out = stage.run().ends()
    assert [line.split('" ')[1].split()[0] for line in out.splitlines()[1:]] == ["connect", "command", "command", "disconnect"]
    assert "00200001 <4 bytes> -> " in out
    assert (stage.folder / "card.pcap").stat().st_size > 200


@example('Recorder(card, "session.cassette") as recorder')
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run().ends() == "b'only after VERIFY'\n"
    (text,) = (block.source for block in blocks("text", PAGES["replay.md"]) if block.source.startswith("scardface cassette"))
    assert (stage.folder / "session.cassette").read_text(encoding="utf-8") == text


# The tutorial.


@example("ExitStack().enter_context(SimulatedPCSC())")
def _(stage: Stage) -> None:
    """As `virtual.py`, before one of the tutorial's programs, on a machine without any card."""
    (program,) = (block.source for block in PYTHON if "has a card" in block.source)
    (stage.folder / "later.py").write_text(program, encoding="utf-8")
    assert stage.run("import runpy\nrunpy.run_path('later.py')", name="virtual.py").ends() == "Virtual Reader has a card\n"


@example('"has a card" if')
def _(stage: Stage) -> None:
    stage.pcscd.insert(1, FileCard())
    stage.pcscd.wait_for_card(1)
    assert f"{stage.pcscd.readers[1]} has a card\n" in stage.run().ends()


@example('print(card.reader, card.atr.hex(" "), card.protocol.name)')
def _(stage: Stage) -> None:
    running = stage.run()
    stage.pcscd.insert(0, FileCard())
    assert running.ends() == f"{stage.pcscd.readers[0]} {FileCard().atr.hex(' ')} T1\n"


@example('print(card.send(iso7816.select(b"\\xf0NOBODY")).meaning)')
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    said = ["9000 success", "Hello from a virtual card.", "file or application not found"]
    assert stage.run().ends().splitlines() == said


@example('iso7816.verify_pin(card, 0x01, getpass("PIN: ").encode()).check()')
def _(stage: Stage) -> None:
    """With a `getpass` that types for its user."""
    typed = 'import getpass, runpy\ngetpass.getpass = lambda prompt: {!r}\nrunpy.run_path("reading.py")\n'
    (stage.folder / "reading.py").write_text(stage.source, encoding="utf-8")
    stage.pcscd.insert(0, FileCard())
    for pin, said in (("0000", "wrong: 2 tries left\n"), ("1234", "only after VERIFY\n")):
        (stage.folder / "typed.py").write_text(typed.format(pin), encoding="utf-8")
        assert stage.run(command=["typed.py"]).ends() == said


@example("for card in cards():\n    with suppress")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    running = stage.run()
    running.shows(f"{stage.pcscd.readers[0]} Hello from a virtual card.")
    stage.pcscd.insert(1, FileCard())
    running.shows(f"{stage.pcscd.readers[1]} Hello")
    running.interrupt()


@example("print((await iso7816.read_file(card, 0x0001)).check().decode())")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run().ends() == "Hello from a virtual card.\n"


@example("background = asyncio.create_task(watch())")
def _(stage: Stage) -> None:
    running = stage.run()
    stage.pcscd.insert(0, FileCard())
    running.shows(f"in: {stage.pcscd.readers[0]}")
    stage.pcscd.remove(0)
    running.shows(f"out: {stage.pcscd.readers[0]}")
    running.interrupt()


@example("def first_words(")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run("print(first_words())").ends() == "Hello from a virtual card.\n"


def outcome(stage: Stage, name: str, words: str) -> str:
    """What pytest says of a block of tests, beside the program of the same page that has these words."""
    (program,) = {block.source for block in EVERY_PYTHON_BLOCK if words in block.source}
    (stage.folder / f"{name}.py").write_text(program, encoding="utf-8")
    plugins = ["-p", "scardface.pytest_plugin", "-p", "anyio", "-p", "no:cacheprovider"]  # so it need not be installed
    return stage.run(name=f"test_{name}.py", command=["-m", "pytest", "-q", *plugins]).ends()


@example("from reading import first_words")
def _(stage: Stage) -> None:
    assert "3 passed" in outcome(stage, "reading", "def first_words(")


# Recipes and other pages.


WITH_A_TAG = """
import anyio


async def main():
    async with SCard(timeout=5) as card:
        print(await {call})


anyio.run(main)
"""


@example("from signing import signer")
def _(stage: Stage) -> None:
    assert "3 passed" in outcome(stage, "signing", "class Signer:")


@example("async def write_message(")
def _(stage: Stage) -> None:
    (stage.folder / "read_ndef.py").write_text((ROOT / "examples" / "read_ndef.py").read_text(encoding="utf-8"), encoding="utf-8")
    content = EF(0xE104, bytes(300), update_needs_pin=False)
    files: list[EF | DF] = [EF(0xE103, bytes.fromhex("000F20003B00340406E104012C0000")), content]
    stage.pcscd.insert(0, FileCard(DF(0x3F00, files=[DF(0x1000, bytes.fromhex("D2760000850101"), files)])))
    message = b"x" * 200
    assert stage.run(WITH_A_TAG.format(call=f"write_message(card, {message!r})")).ends() == "None\n"
    assert content.content[:203] == b"\x00\xc8" + message + b"\x00"


class Ultralight(LogCard):
    """Pages, as a reader reads them; the message is long enough for a length of three bytes."""

    def __init__(self, message: bytes) -> None:
        super().__init__(bytes.fromhex("3B8F8001804F0CA0000003060300030000000068"))
        content = bytes.fromhex("0103A00C34") + bytes(2) + b"\x03\xff" + len(message).to_bytes(2, "big") + message + b"\xfe"
        self.memory = bytes(12) + bytes.fromhex("E1103E00") + content.ljust(0x3E * 8 + 16, b"\0")

    def process(self, command: bytes) -> bytes:
        super().process(command)
        assert command[:3] == b"\xff\xb0\x00"
        return self.memory[4 * command[3] :][: command[4]] + b"\x90\x00"


@example("async def read_type_2(")
def _(stage: Stage) -> None:
    card = Ultralight(b"y" * 300)
    stage.pcscd.insert(0, card)
    assert stage.run(WITH_A_TAG.format(call="read_type_2(card)")).ends() == f"{b'y' * 300!r}\n"
    assert len(card.commands) == 1 + 0x3E * 8 // 16


@example("from read_ndef import read_message")
def _(stage: Stage) -> None:
    for name, words in (("write_ndef", "async def write_message("), ("read_type_2", "async def read_type_2(")):
        (program,) = (block.source for block in PYTHON if words in block.source)
        (stage.folder / f"{name}.py").write_text(program, encoding="utf-8")
    assert "5 passed" in outcome(stage, "read_ndef", "async def read_message(")


@example('@app.post("/visits")')
def _(stage: Stage) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: the web service of docs/ is not tried")
    stage.pcscd.insert(0, FileCard())
    assert stage.run("import anyio\nprint(anyio.run(visit))").ends() == "{'name': 'Hello from a virtual card.'}\n"


@example("from visits import app")
def _(stage: Stage) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: the web service of docs/ is not tried")
    assert "10 passed" in outcome(stage, "visits", '@app.post("/visits")')


@example("from web_readers import app")
def _(stage: Stage) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: the stream of docs/ is not tried")
    pytest.importorskip("fastapi", reason="fastapi is not installed: the stream of docs/ is not tried")
    assert "1 passed" in outcome(stage, "web_readers", "class Board:")


AT_A_WINDOW = """
import queue

told = queue.SimpleQueue()
readers = Readers(told.put)
readers.start()
print(type(told.get()).__name__)
print(WithNextCard(lambda card: card.atr.hex(), told.put).name)
while not isinstance(found := told.get(), str):
    pass
print(found)
while type(told.get()).__name__ != "CardRemoved":
    pass
readers.stop()
waiting = WithNextCard(lambda card: 1 / 0, told.put)
waiting.cancel()
while told.get() is not None:
    pass
"""


@example("class WithNextCard(threading.Thread):")
def _(stage: Stage) -> None:
    running = stage.run(AT_A_WINDOW)
    running.shows("card")
    stage.pcscd.insert(0, FileCard())
    running.shows(FileCard().atr.hex())
    stage.pcscd.remove(0)
    running.ends()


@example("first, second = card.send_all(")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    said = ["9000 success b'Hello from a virtual card.'", "b'Hello' b'from a virtual card.'", "False", "48656c6c6f9000"]
    assert stage.run().ends().splitlines() == said


@example("KINDS = ")
def _(stage: Stage) -> None:
    stage.pcscd.insert(1, FileCard())
    assert stage.run().ends() == f"{stage.pcscd.readers[1]}\n"


@example("class Counter(VirtualCard):")
def _(stage: Stage) -> None:
    assert stage.run(own_daemon=True).ends() == "0001\n0002\n"


@example("from smartcard.System import readers")
def _(stage: Stage) -> None:
    pytest.importorskip("smartcard", reason="pyscard is not installed: its program in docs/from-pyscard.md is not tried")
    stage.pcscd.insert(0, FileCard())
    stage.pcscd.wait_for_card(0)  # it does not wait itself
    assert stage.run().ends() == "Hello from a virtual card.\n"


@example("print(card.send(iso7816.read_binary(sfi=1)).check().data.decode())")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run().ends() == "Hello from a virtual card.\n"


@example("class Connection:")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    assert stage.run().ends().endswith(" 9000\n")


@example('logging.getLogger("scardface.apdu").setLevel(logging.DEBUG)')
def _(stage: Stage) -> None:
    """Its lines are on standard error, where the harness wants no word: so to standard output."""
    stage.source = stage.source.replace("basicConfig(", 'basicConfig(stream=__import__("sys").stdout, ')
    stage.pcscd.insert(0, FileCard())
    shown = stage.run().ends().splitlines()
    assert [line.split()[0] for line in shown] == ["scardface.apdu"] * 2
    assert "<4 bytes>" in shown[1]


@contextmanager
def fleet(stage: Stage, *options: str, tls: bool = False) -> Iterator[None]:
    """A scheduler in place of the page's; with options, `scardface serve` beside it. What it has to say is not the block's."""
    pytest.importorskip("distributed", reason="distributed is not installed: docs/fleet.md is not tried")
    from benchmarks._fleet import Process, Scheduler

    errors, protocol = stage.folder / "errors.txt", "tls" if tls else "tcp"
    with Scheduler(certificates=stage.folder if tls else None, errors=errors) as scheduler:
        stage.source = stage.source.replace(f"{protocol}://127.0.0.1:8786", scheduler.address)
        if not options:
            yield
            return
        command = ["-m", "scardface", "serve", scheduler.address, *options]
        serving = Process(command, environment={"PYTHONPATH": str(ROOT)}, errors=errors, folder=stage.folder)
        try:
            yield
        finally:
            serving.end(signal.SIGTERM)


@example("async def random_number() -> bytes:")
def _(stage: Stage) -> None:
    stage.pcscd.insert(0, FileCard())
    with fleet(stage, "--label", "visa=3B6E"):
        assert stage.run().ends() == "10 numbers\n"


@example('host="bench-1"')
def _(stage: Stage) -> None:
    with fleet(stage):
        running = stage.run()
        running.shows("bench-1 serves")
        running.interrupt()


@example("async def personalise(pin_file: str) -> str:")
def _(stage: Stage) -> None:
    make_certificates(stage.folder)
    (stage.folder / "pin.txt").write_text("1234")
    stage.pcscd.insert(0, FileCard())
    files = ("--tls-ca-file", "ca.pem", "--tls-cert", "host.pem", "--tls-key", "host.key")
    with fleet(stage, "--label", "blank=3B87", *files, tls=True):
        assert stage.run().ends(TORNADO) == f"done in {stage.pcscd.readers[0]}\n"


@example("FileCard(protocol=Protocol.T0)")
def _(stage: Stage) -> None:
    shown = stage.run(own_daemon=True).ends()
    page = next(block.source for block in blocks("text", PAGES["t0.md"]))
    lines = [line.split('"Reader" ')[1] for line in shown.splitlines()[2:-1]]
    assert lines == page.splitlines()
