"""What mkdocs is told beyond mkdocs.yml: files of the repository that are pages or pictures of the documentation, too.

Rules:

- CHANGELOG.md, CONTRIBUTING.md and SECURITY.md stand at the top, where hosts of repositories look for them; the pages for them in
  docs/ are one line, in whose place the file is put. Links are those of the top there: `docs/x.md` becomes `x.md`.
- Pictures of benchmarks/ are taken from where the benchmarks write them.
- A page that is not in the navigation fails the build, as a link to a page that is not there does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
AT_THE_TOP = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security-policy.md": "SECURITY.md"}
PICTURES = "benchmarks/pictures"


def on_files(files: Files, config: Any) -> Files:
    """Add the pictures of the benchmarks."""
    for path in sorted((ROOT / PICTURES).glob("*.svg")):
        files.append(File.generated(config, f"{PICTURES}/{path.name}", abs_src_path=str(path)))
    return files


def on_nav(nav: Any, config: Any, files: Files) -> Any:
    """Refuse a page that nobody finds."""
    found = {page.file.src_uri for page in nav.pages}
    lost = {file.src_uri for file in files.documentation_pages()} - found
    if lost:
        raise PluginError(f"not in the navigation of mkdocs.yml: {', '.join(sorted(lost))}")
    return nav


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put the file of the top in its place, and lead links to where things are on the site."""
    name = AT_THE_TOP.get(page.file.src_uri)
    if name is not None:
        markdown = (ROOT / name).read_text(encoding="utf-8")
        for of_docs, at_the_top in AT_THE_TOP.items():
            markdown = markdown.replace(f"]({at_the_top})", f"]({of_docs})")
        markdown = markdown.replace("](docs/", "](")
    return re.sub(rf"\]\(\.\./{PICTURES}/", f"]({PICTURES}/", markdown)
