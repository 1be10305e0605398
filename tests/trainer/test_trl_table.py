"""docs/trl_tests.md: each test that it names exists, each subject has one of three fates, and the counts are right."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "trl_tests.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| (.+?) \| (works|refused|does not apply) \| (.+) \|$", re.M)


def tables() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The rows of TRL's own tests, and those of its source: subject, fate and what proves it."""
    first, second = PAGE.read_text(encoding="utf-8").split("## What TRL")
    return ROW.findall(first), ROW.findall(second)


def test_every_test_that_the_page_names_exists():
    functions: dict[str, set[str]] = {}
    named = NAMED.findall(PAGE.read_text(encoding="utf-8"))
    for path in {path for path, _ in named}:
        tree = ast.parse((PAGE.parents[1] / path).read_text(encoding="utf-8"))
        functions[path] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(named) > 60
    assert [f"{path}::{name}" for path, name in named if name not in functions[path]] == []


def test_what_works_or_is_refused_has_a_test():
    rows = [row for table in tables() for row in table]
    assert [subject for subject, fate, proof in rows if fate != "does not apply" and not NAMED.search(proof)] == []


def test_every_subject_of_trl_has_a_fate():
    """All 55 tests, each once; at most 15 in 100 do not apply, and the page counts them right."""
    rows, _ = tables()
    assert len({subject for subject, _, _ in rows}) == len(rows) == 55
    fates = Counter(fate for _, fate, _ in rows)
    counts = f"{fates['works']} work, {fates['refused']} are refused and {fates['does not apply']} does not apply"
    assert counts in PAGE.read_text(encoding="utf-8")
    assert fates["does not apply"] <= 0.15 * len(rows)
