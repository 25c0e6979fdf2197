"""Examples as modules: examples/ is no package, each file is what a person copies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name: str, said: list[str] | None = None) -> ModuleType:
    """The example as a module, whose printed words go to `said`, one text a line."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if said is not None:
        module.__dict__["print"] = lambda *words, **_: said.append(" ".join(map(str, words)))
    sys.modules[spec.name] = module  # dataclasses and FastAPI look up annotations there
    spec.loader.exec_module(module)
    return module
