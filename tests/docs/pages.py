"""The project's Markdown pages as tests read them: fenced blocks, lines of prose, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
        *(ROOT / name for name in ("benchmarks/README.md", "results/reference/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^( *)(```|~~~)(\S*)")
LINK = re.compile(r"(?<!\\)!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the number of its first line."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Each fenced block of a page."""
    inside: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if inside is None and fence:
            inside, lines = (number + 1, fence[3], fence[1]), []
        elif inside is not None and fence and not fence[3]:
            yield Block(page, inside[0], inside[1], "".join(f"{text}\n" for text in lines))
            inside = None
        elif inside is not None:
            lines.append(line.removeprefix(inside[2]))


def prose_lines(page: Path, tables: bool = True) -> Iterator[str]:
    """The lines outside of fenced blocks; without `tables`, no lines of tables."""
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside and (tables or not line.lstrip().startswith("|")):
            yield line


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, outside of code."""
    for line in prose_lines(page):
        yield from LINK.findall(re.sub(r"`[^`]*`", "`code`", line))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    heads = [line.lstrip("#").strip() for line in prose_lines(page) if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
