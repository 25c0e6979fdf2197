"""Docstrings of the public names: what a machine can hold them to.

Rules:

- Public is what stands in `__all__` of the modules below, and what these classes offer under a name without an underscore in front,
  inherited or not, as long as the package wrote it: what comes from int, bytes, OSError and Enum is Python's.
- A docstring begins with a sentence. In it, or in those of its class and of what that derives from, stand all parameters, fields
  and attributes, and the exceptions that the function's own body raises; or it says "as `another`", whose words count then.
- What is returned is said by the first sentence ("Whether ...", "The names of ..."), or under "Returns:".
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pydoc
import re
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple, get_origin

import pytest

import scardface

WITHOUT = set() if find_spec("distributed") else {"scardface.distributed"}
"""What cannot be imported here: it needs an extra that has no wheels everywhere."""
MODULES = (
    "scardface",
    "scardface.backend",
    "scardface.contactless",
    *(() if WITHOUT else ("scardface.distributed",)),
    "scardface.errors",
    "scardface.iso7816",
    "scardface.pool",
    "scardface.replay",
    "scardface.scp03",
    "scardface.sync",
    "scardface.testing",
    "scardface.testing.conformance",
    "scardface.tracing",
)
SAYS_WHAT_COMES = re.compile(r"(A|An|Data|How|Reader name|SW1-SW2|Text|The|This|What|Whether|Which)\b")
REFERS = re.compile(r"\b([Aa]s|[Ll]ike) (the card's )?`[\w.]+`")


class Documented(NamedTuple):
    """A public name, what it is, the class whose member it is, and its docstring as `help` shows it."""

    name: str
    thing: Any
    owner: type | None
    doc: str

    @property
    def wider(self) -> str:
        """Its docstring, and those of its class and of the classes of ours above that."""
        classes = ours(self.owner) if self.owner is not None else ours(self.thing) if inspect.isclass(self.thing) else []
        return "\n".join([self.doc, *(inspect.cleandoc(vars(each).get("__doc__") or "") for each in classes)])


def ours(cls: type) -> list[type]:
    """The class and those above it, as far as the package wrote them."""
    return [each for each in inspect.getmro(cls) if each.__module__.partition(".")[0] == "scardface"]


def everything() -> Iterator[Documented]:
    """All public classes and functions, and what the classes offer; each once, under the first of its names."""
    seen: set[int] = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in seen or get_origin(thing) is not None:  # a type alias
                continue
            seen.add(id(thing))
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield Documented(f"{module_name}.{name}", thing, None, inspect.getdoc(thing) or "")
            if inspect.isclass(thing):
                yield from members(f"{module_name}.{name}", thing)


def members(name: str, cls: type) -> Iterator[Documented]:
    """The methods and properties of a class."""
    for member in dict.fromkeys(member for each in ours(cls) for member in vars(each)):
        if member.startswith("_") and member != "__init__":
            continue
        raw = inspect.getattr_static(cls, member)
        thing = inspect.unwrap(getattr(raw, "__func__", raw)) if not isinstance(raw, property) else raw
        if inspect.isfunction(thing) or isinstance(thing, property):
            yield Documented(f"{name}.{member}", thing, cls, inspect.getdoc(getattr(cls, member)) or "")


ALL = list(everything())
FUNCTIONS = [each for each in ALL if inspect.isfunction(each.thing)]
CLASSES = [each for each in ALL if inspect.isclass(each.thing)]


def named(word: str, text: str) -> bool:
    """Whether a word stands in a text."""
    return re.search(rf"\b{word}\b", text) is not None


def test_there_are_names() -> None:
    """Else what follows would hold of nothing."""
    names = {each.name for each in ALL}
    assert {"scardface.SCard", "scardface.SCard.send", "scardface.SCard.reset", "scardface.sync.SCard.send"} <= names
    assert {"scardface.SCard.reader", "scardface.R_APDU.check", "scardface.testing.SimulatedPCSC.inject"} <= names


def test_each_begins_with_a_sentence() -> None:
    for each in ALL:
        if each.name.endswith(".__init__"):
            continue
        first = each.doc.partition("\n\n")[0]
        assert re.match(r"[A-Z`]", first), f"{each.name} has no docstring that begins with a sentence"
        assert re.search(r"[.:](\s|$)", first), f"{each.name}: its first paragraph is no sentence"


def test_each_parameter_is_named() -> None:
    missing = []
    for each in FUNCTIONS:
        if getattr(each.owner, "_is_protocol", False) and each.name.endswith(".__init__"):
            continue  # typing.Protocol's own
        for parameter in inspect.signature(each.thing).parameters:
            if parameter not in ("self", "cls") and not named(parameter, each.wider) and not REFERS.search(each.doc):
                missing.append(f"{each.name}({parameter})")
    assert not missing, f"parameters that no docstring names: {', '.join(missing)}"


def test_each_field_is_named() -> None:
    missing = []
    for each in CLASSES:
        for cls in ours(each.thing):
            fields = [field for field in vars(cls).get("__annotations__", {}) if not field.startswith("_")]
            missing += [f"{each.name}.{field}" for field in fields if not named(field, each.wider)]
    assert not missing, f"fields that no docstring names: {', '.join(missing)}"


def test_each_member_of_an_enum_is_explained() -> None:
    """By the text below it, or by the docstring of its class."""
    missing = []
    for each in CLASSES:
        if not issubclass(each.thing, enum.Enum):
            continue
        definition = ast.parse(textwrap.dedent(inspect.getsource(each.thing))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for node, below in zip(definition.body, [*definition.body[1:], None], strict=True):
            if isinstance(node, ast.Assign) and not isinstance(below, ast.Expr):
                names = [ast.unparse(target) for target in node.targets]
                missing += [f"{each.name}.{name}" for name in names if not named(name, each.doc)]
    assert not missing, f"members that nothing explains: {', '.join(missing)}"


def test_each_exception_of_its_own_is_named() -> None:
    missing = []
    for each in FUNCTIONS:
        code = each.thing.__code__
        if code.co_filename.startswith("<") or "_is_protocol" in vars(each.owner or object):
            continue  # written by dataclass or Protocol
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each.thing)))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised = ast.unparse(node.exc.func)
                if raised[0].isupper() and not named(raised, each.wider):
                    missing.append(f"{each.name}: {raised}")
    assert not missing, f"exceptions that no docstring names: {', '.join(missing)}"


def test_each_result_is_described() -> None:
    missing = []
    for each in FUNCTIONS:
        result = inspect.signature(each.thing).return_annotation
        silent = result in ("None", None, inspect.Signature.empty) or each.name.endswith(".__init__")
        if not silent and "Returns:" not in each.doc and not SAYS_WHAT_COMES.match(each.doc) and not REFERS.search(each.doc):
            missing.append(f"{each.name} -> {result}")
    assert not missing, f'results that neither the first sentence nor "Returns:" describes: {", ".join(missing)}'


@pytest.mark.parametrize("module", MODULES)
def test_help_shows_every_name(module: str) -> None:
    """`python -m pydoc scardface`: the names are loaded when they are used, and help uses them."""
    text = pydoc.plain(pydoc.render_doc(module))
    for name in importlib.import_module(module).__all__:
        assert named(name, text), f"pydoc {module} does not show {name}"


def test_help_of_both_cards_tells_the_arguments() -> None:
    for card in (scardface.SCard, importlib.import_module("scardface.sync").SCard):
        text = pydoc.plain(pydoc.render_doc(card))
        described = re.findall(r"^ \|      (\w+): ", text, re.MULTILINE)
        assert set(inspect.signature(card).parameters) <= set(described)
