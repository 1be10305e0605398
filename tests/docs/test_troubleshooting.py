"""Each entry of docs/troubleshooting.md is about a sentence that the code says, and has a cause and a command."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
ENTRIES = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
# Said by others: the system, and vLLM.
NOT_OURS = {"'No space left on device'", "Device string must not be empty"}
SHORTEST = 8  # characters of a piece that is looked for


@cache
def sources() -> str:
    """The code whose sentences a user sees, string literals that are split over lines joined."""
    paths = chain((ROOT / "gdpo").rglob("*.py"), [ROOT / "Makefile", ROOT / "Snakefile"])
    return re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text(encoding="utf-8") for path in paths))


def pieces(sentence: str) -> list[str]:
    """What a sentence says in the code's own words, without names and the words that join an error's fields."""
    parts = re.split(r"[A-Z]{4,}|'[^']*'|; |(?:, )?expected |found |: | \d+ |\d+ ", sentence)
    return [part.strip(" ,'`") for part in parts if len(part.strip(" ,'`")) >= SHORTEST]


def sentences() -> list[str]:
    heads = [entry.partition("\n")[0] for entry in ENTRIES]
    return [head.strip("`") for head in heads if head.startswith("`")]


@pytest.mark.parametrize("sentence", [sentence for sentence in sentences() if sentence not in NOT_OURS])
def test_sentence_is_in_the_code(sentence):
    looked_for = pieces(sentence)
    assert looked_for
    assert [piece for piece in looked_for if piece not in sources()] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.partition("\n")[0])
def test_entry_has_cause_and_command(entry):
    assert "*Cause.*" in entry and "*Command.*" in entry


def test_piece_that_nobody_says_is_not_found():
    assert pieces("TARGET: not made at scale NAME; did you mean 'X'?") == ["not made at scale", "did you mean"]
    assert "not made on scale" not in sources()
