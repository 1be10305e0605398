"""Hooks of the site (mkdocs.yml): links to files of the repository that are no pages become their path as code.

On a code host these links lead to the file; the site holds `docs/` alone. `tests/docs/test_links.py` checks them all.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s:]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """`markdown` of a page with the links that leave docs/ replaced."""
    return without_outer_links(markdown, Path(page.file.abs_src_path).parent)


def without_outer_links(markdown: str, directory: Path) -> str:
    """Replace each link from a page in `directory` to a file outside of docs/."""

    def replaced(match: re.Match[str]) -> str:
        text, path = match[1], match[2].partition("#")[0]
        target = (directory / path).resolve()
        if not path or target.is_relative_to(ROOT / "docs") or not target.is_relative_to(ROOT):
            return match[0]
        shown = str(target.relative_to(ROOT))
        return f"`{shown}`" if text.strip("`") == shown else f"{text} (`{shown}`)"

    return LINK.sub(replaced, markdown)
