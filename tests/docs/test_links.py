"""Every link of the pages leads somewhere, pages have titles, and lines are short enough to read in a terminal."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, prose_lines

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LONGEST = 100
WIDE = {ROOT / "docs" / "objective" / "derivations.md", ROOT / "CHANGELOG.md"}  # formulas; lines of many hands
# Generated text between marks is as wide as its generator writes it.
GENERATED = re.compile(r"<!-- (\w[\w-]*(?::\w+)?)[^>]*-->\n.*?<!-- (?:/|end)[^>]*-->", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_local_links_lead_to_files_and_headings(page):
    missing = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WIDE], ids=str)
def test_lines_of_prose_have_at_most_100_characters(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(GENERATED.sub("", page.read_text(encoding="utf-8")))
    assert [line for line in prose_lines(copy, tables=False) if len(line) > LONGEST] == []


def test_each_page_is_linked_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert [name for page, name in zip(PAGES, NAMES, strict=True) if name.startswith("docs/") and page != index
            and page not in linked] == []  # fmt: skip


def test_pages_name_files_that_exist():
    """A path of the repository in backticks, such as `gdpo/core/errors.py`, is a file or directory."""
    code = re.compile(r"`((?:gdpo|docs|tests|tools|workflow|paper|envs|benchmarks|examples)/[\w./-]+)`")
    made = ("paper/report.pdf", "paper/figures", "paper/tables", "paper/data", "gdpo/_config", "gdpo/.ca")
    lost = {
        f"{name}: {path}"
        for page, name in zip(PAGES, NAMES, strict=True)
        for path in code.findall("\n".join(prose_lines(page)))
        if not path.startswith(made) and not (ROOT / path).exists() and not re.search(r"[A-Z]{3,}", path)
    }
    assert lost == set()
