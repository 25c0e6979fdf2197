"""README.md keeps its word: its Python runs, its commands are those that CI runs, its table of arguments is SCard's."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scardface
import scardface.sync

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


PYTHON = blocks("python")


def section(title: str) -> str:
    """The text under a heading."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no section {title!r}"
    return found[1]


@pytest.mark.parametrize("source", PYTHON, ids=range(len(PYTHON)))
def test_python_compiles_and_its_names_exist(source: str) -> None:
    tree = ast.parse(source)
    compile(source, "README.md", "exec")
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scardface")]
    assert imports, "an example that imports nothing of scardface cannot be copied"
    for node in imports:
        exec(compile(ast.Module([node], []), "README.md", "exec"), {})


def test_the_first_screen_is_ten_lines_of_code() -> None:
    assert README.index("```python") < README.index("```sh") < 2500
    assert len([line for line in PYTHON[0].splitlines() if line.strip()]) <= 10


def test_the_commands_differ_in_what_they_run_only() -> None:
    demo, tests, *others = blocks("sh")
    assert not others
    assert demo.split("&& .venv/bin/pip")[0] == tests.split("&& .venv/bin/pip")[0]
    assert demo.rstrip().endswith(".venv/bin/scardface demo")
    assert "SCARDFACE_REQUIRE_PCSCD=1 .venv/bin/python -m pytest" in tests


def test_ci_runs_the_second_command_as_it_stands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert "pytest --cov" not in script, ".ci/run must take the command from README.md, not repeat it"


def test_the_table_names_every_argument() -> None:
    table = re.findall(r"^\| `(\w+)` \|", section("What an SCard waits for"), re.MULTILINE)
    assert table == list(inspect.signature(scardface.SCard).parameters)


def test_the_signature_is_as_written() -> None:
    text = re.search(r"`SCard\((.*?)\)`", section("What an SCard waits for"), re.DOTALL)
    assert text
    written = ast.parse(f"def f({text[1]}): ...").body[0]
    assert isinstance(written, ast.FunctionDef)
    real = inspect.signature(scardface.SCard).parameters.values()
    arguments = written.args
    positional = [argument.arg for argument in arguments.args]
    assert positional == [each.name for each in real if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert [argument.arg for argument in arguments.kwonlyargs] == [each.name for each in real if each.kind is each.KEYWORD_ONLY]
    defaults = [eval(ast.unparse(node), vars(scardface)) for node in [*arguments.defaults, *arguments.kw_defaults] if node]
    assert defaults == [each.default for each in real]


def test_the_table_of_errors_is_complete() -> None:
    table = re.findall(r"^\| `(\w+)` \|", section("Errors"), re.MULTILINE)
    classes = [each for each in vars(scardface).values() if inspect.isclass(each) and issubclass(each, scardface.SCardError)]
    assert set(table) == {each.__name__ for each in classes} - {"SCardError"}


def test_the_script_runs(pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]) -> None:
    from scardface.testing import FileCard

    pcscd.insert(1, FileCard())
    source = next(each for each in PYTHON if "from scardface.sync" in each and "testing" not in each)
    exec(compile(source, "README.md", "exec"), {})
    assert pcscd.readers[1] in capsys.readouterr().out


@pytest.mark.anyio
async def test_the_ten_lines_run(pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]) -> None:
    import anyio

    from scardface.testing import FileCard

    names: dict[str, Any] = {}
    source = PYTHON[0].replace("anyio.run(main)", "")
    assert source != PYTHON[0]
    exec(compile(source, "README.md", "exec"), names)
    pcscd.insert(2, FileCard())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(names["main"])
            while pcscd.readers[2] not in capsys.readouterr().out:
                await anyio.sleep(0.01)
            pcscd.remove(2)


@pytest.mark.anyio
async def test_the_events_run(pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]) -> None:
    import anyio

    from scardface.testing import FileCard

    names: dict[str, Any] = {}
    source = next(each for each in PYTHON if "ReaderMonitor" in each)
    exec(compile(source, "README.md", "exec"), names)
    pcscd.insert(0, FileCard())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(names["watch"])
            while f"in {pcscd.readers[0]}" not in capsys.readouterr().out:
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()


def test_the_example_for_tests_runs(pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]) -> None:
    pcscd.stop()  # the example starts one of its own, and a process has room for one
    source = next(each for each in PYTHON if "PrivatePcscd" in each)
    exec(compile(source, "README.md", "exec"), {})
    assert "80 01 02 03" in capsys.readouterr().out.lower()
