#!/usr/bin/env python3
"""Write the sync face from the async one: `python .ci/generate_sync.py`, or with `--check` only say whether it is up to date.

Rules:

- `async` and `await` go, NAMES are replaced, docstrings say what WORDS has for them; everything else stays as it was written.
- What is generated is checked in, and what ruff thinks of it is what it thinks of the source: lines are written so that they fit
  with and without `await`.
- Words that are found no more are an error: whoever edits a docstring sees then that the sync face has words of its own there.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import textwrap
import tokenize
from pathlib import Path

FACES = Path(__file__).resolve().parents[1] / "scardface" / "_faces"
FILES = {"cards.py": "sync_cards.py", "pool.py": "sync_pool.py", "queries.py": "sync_queries.py", "scard.py": "sync_scard.py"}
"""What is generated, by what it is generated from."""
HEAD = '"""Generated from `{}` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""'
WIDTH = 132

DROPPED = {"async", "await"}
NAMES = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncBase": "SyncBase",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "async_base": "sync_base",
    "async_pool_base": "sync_pool_base",
    "asynccontextmanager": "contextmanager",
    "in_own_thread": "in_this_thread",
    "scard": "sync_scard",
    "until_idle": "until_idle_blocking",
}
WORDS = """
waits for one that matches, opens it, talks to it.
=> the constructor waits for one that matches and opens it; Ctrl-C ends the wait.

`async with SCard(...) as card:` acquires and closes; `card = await SCard(...)` with `await card.aclose()` is the same without the
block. The constructor does no I/O.
=> `with SCard(...) as card:` or `close()` closes it. Several threads may share one card: exchanges never interleave. `cancel()`
works from the moment that `__init__` began: a subclass that stores `self` first can be cancelled from another thread while it
waits.

No other `send` on this card comes in between. Cancelled, it leaves at once: the command in flight ends in the card's thread, no
later one goes out, and the next `send` waits for that.
=> No other thread's exchange comes in between.

in this task, before the next goes out; what it returns is awaited if it can be. Its exception ends the batch. It cannot send on
this card.
=> in this thread, before the next goes out. Its exception ends the batch. It cannot send on this card, and cannot be a coroutine
function (TypeError).

the card is not open, belongs to another event loop, is called from inside its own callback, or would wait for a transaction that
nobody ends.
=> the card is closed, is called from inside its own callback, or would wait for a transaction of its own thread.

no other task or thread of this one.
=> no other thread of this one.

The task that holds it may send as ever, and begin another one inside. So may tasks that are started inside (`gather`, a TaskGroup),
in turn, until the block ends; threads that are started inside wait. It ends on every way out of the block, also in another task
than began it.
=> The thread that holds it may send as ever, and begin another one inside; threads that are started inside wait. It ends on every
way out of the block.

Cancelled while it waits, it leaves at once; PC/SC cannot be told
=> Ctrl-C ends its wait at once; PC/SC cannot be told

at once if it is already.
=> at once if it is already. Ctrl-C ends the wait.

When the card, its reader or the service goes, what the block awaits is cancelled, and the block raises. A block that has done
its work by then raises, too.
=> When the card, its reader or the service goes, the block raises. What the library waits for in it (another card, an event) ends
at once, and a `send` by itself; other code goes on, and the block raises at its end.

a coroutine function of the open card that makes it ready
=> a function of the open card that makes it ready, in a thread of its own

When the card goes, what the block awaits is cancelled, and the block raises.
=> When the card goes, what the library waits for in the block (another card, an event) ends, and the block raises.

the pool is not open, or belongs to another event loop.
=> the pool is not open.

in another event loop, or in a forked child.
=> inside a callback of one of its cards, or in a forked child.

lent to one task at a time:
=> lent to one thread at a time:

as long as the user does: cancelled, it leaves at once, and the card is busy until the entry has ended.
=> as long as the user does; Ctrl-C is heard when the entry has ended.
"""
"""What docstrings of the sync face say, behind the arrow, for what those of the async face say there."""

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns)\b.*:$")


def generated(source: str, name: str) -> str:
    """The sync twin of a module of that name."""
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, int, str]] = []  # from row and column, to row and column, what stands there instead
    first = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (row, column), (last, end) = token.start, token.end
        if token.type == tokenize.STRING and token.string.startswith('"""'):
            new = HEAD.format(name) if first else docstring(token.string, column)
            first = False
        elif token.string in DROPPED:
            new, end = "", end + 1  # the space behind it, too
        else:
            new = NAMES.get(token.string, token.string) if token.type == tokenize.NAME else token.string
        if new != token.string:
            edits.append((row, column, last, end, new))
    for row, column, last, end, new in reversed(edits):
        lines[row - 1 : last] = [lines[row - 1][:column] + new + lines[last - 1][end:]]
    return sort_imports("".join(lines))


def docstring(text: str, indent: int) -> str:
    """A docstring in the words of the sync face; paragraphs and entries that have changed are filled anew."""
    blocks: list[list[str]] = []
    section = False
    for line in text.split("\n"):
        starts = not blocks or not line.strip() or not blocks[-1][0].strip() or line.strip() == '"""'
        entry = section and len(line) - len(line.lstrip()) == indent + 4
        if _SECTION.match(line.strip()):
            section = starts = True
        if starts or entry or _SECTION.match(blocks[-1][0].strip()):
            blocks.append([])
        blocks[-1].append(line)
    return "\n".join(filled(block) for block in blocks)


def filled(block: list[str]) -> str:
    """One paragraph or entry."""
    before = " ".join(line.strip() for line in block)
    after = re.sub(r"\basync (with|for)\b", r"\1", re.sub(r"\bawait ", "", in_sync_words(before)))
    if before == after:
        return "\n".join(block)
    indents = [re.match(" *", line)[0] for line in block]  # type: ignore[index]  # it matches anything
    return textwrap.fill(
        after,
        WIDTH,
        initial_indent=indents[0],
        subsequent_indent=indents[1] if len(indents) > 1 else indents[0],
        break_long_words=False,
        break_on_hyphens=False,
    )


_words = [tuple(" ".join(each.split()) for each in pair.split("=>")) for pair in WORDS.split("\n\n")]
_used: set[str] = set()


def in_sync_words(text: str) -> str:
    """A text in which WORDS are replaced; those that are found are noted."""
    for words, instead in _words:
        if words in text:
            _used.add(words)
            text = text.replace(words, instead)
    return text


def sort_imports(source: str) -> str:
    """Imports in the order that ruff wants: relative ones further up first, then by name; what `collections.abc` has, by name."""
    lines = source.splitlines(keepends=True)
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.level]
    texts = {id(node): "".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes}
    ordered = sorted(nodes, key=lambda node: (-node.level, node.module or ""))
    lines[nodes[0].lineno - 1 : nodes[-1].end_lineno] = [texts[id(node)] for node in ordered]
    return re.sub(r"(?<=^from collections\.abc import )(.*)", lambda found: _sorted(found[1]), "".join(lines), flags=re.MULTILINE)


def _sorted(names: str) -> str:
    return ", ".join(sorted(names.split(", ")))


def everything() -> dict[Path, str]:
    """What should stand where."""
    _used.clear()
    files = {FACES / new: generated((FACES / old).read_text(encoding="utf-8"), old) for old, new in FILES.items()}
    missing = [words for words, _ in _words if words not in _used]
    if missing:
        raise SystemExit(f"{Path(__file__).name}: no docstring says this any more; correct WORDS: {missing}")
    return files


def main() -> None:
    files = everything()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in stale:
            path.write_text(files[path], encoding="utf-8")
    elif stale:
        raise SystemExit(f"{', '.join(path.name for path in stale)}: run `python .ci/generate_sync.py`")


if __name__ == "__main__":
    main()
