"""Hooks of the site (mkdocs.yml): outer links become code, and the options of GDPOConfig become a table.

Links to files of the repository that are no pages lead to the file on a code host, but the site holds `docs/` alone;
`tests/docs/test_links.py` checks them all. A dataclass's options have their help in `metadata`, which no docstring has.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "gdpo" / "trainer" / "gdpo_config.py"
OPTIONS = "<!-- options of GDPOConfig -->"
LINK = re.compile(r"(?<!!)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s:]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """`markdown` of a page with the links that leave docs/ replaced, and the options in the place of their mark."""
    if OPTIONS in markdown:
        markdown = markdown.replace(OPTIONS, options_table(CONFIG.read_text(encoding="utf-8")))
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


def options_table(source: str) -> str:
    """A row for each option `name: type = field(default=..., metadata={"help": ...})` of a module's text."""
    rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
            given = {word.arg: word.value for word in node.value.keywords}
            default, metadata = given.get("default"), given.get("metadata")
            if default is not None and isinstance(metadata, ast.Dict):
                described = dict(
                    zip((ast.literal_eval(key) for key in metadata.keys if key), metadata.values, strict=True)
                )
                cells = (ast.unparse(node.target), ast.unparse(node.annotation), ast.unparse(default))
                code = " | ".join(f"`{cell.replace(' | ', ' or ')}`" for cell in cells)
                rows.append(f"| {code} | {ast.literal_eval(described['help']).replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
