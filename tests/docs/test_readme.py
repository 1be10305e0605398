"""README.md: current with the kept results, short, and true where it shows code."""

from __future__ import annotations

import re

import pytest

from gdpo.config.loader import load_scale
from tests.docs.pages import ROOT, blocks, prose_lines
from tests.refusal import refused
from tools import readme

README = ROOT / "README.md"
CONTENT = {"findings": [{"question": "Q?", "parts": [{"claim": "c", "says": "It is {effect}"}]}]}
CLAIMS = """id,claimed,effect,low,high,unit,verdict
c,> 0,1.26,0.31,2.0,points,supported
d,< 1,0.1449,0.05,0.2,ratio,contradicted
"""


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "claims.csv").write_text(CLAIMS)
    return readme.Kept(tmp_path)


def test_readme_and_picture_are_what_make_readme_writes():
    page, picture = readme.made()
    assert README.read_text() == page, "run: make readme"
    assert readme.PICTURE.read_text() == picture, "run: make readme"


def test_readme_has_at_most_900_words():
    """A table's bars and rules are no words."""
    assert sum(any(map(str.isalnum, word)) for word in README.read_text().split()) <= 900


def test_lines_outside_code_have_at_most_100_characters():
    assert [line for line in prose_lines(README) if len(line) > 100] == []


def test_finding_quotes_the_effect_and_the_verdict(kept):
    text = readme.findings(CONTENT, kept)
    assert text.splitlines() == [
        "Of the paper's 2 claims, 1 are supported, 1 are contradicted.",
        "",
        "- **Q?** It is 1.3 [0.3, 2.0] (claimed: > 0): *supported*.",
    ]


def test_ratio_has_two_digits(kept):
    assert readme._said({"claim": "d", "says": "{effect}"}, kept) == "0.14 [0.05, 0.20] (claimed: < 1): *contradicted*"


def test_unknown_claim_is_refused(kept):
    with refused(path=readme.CONTENT, key="claim", found="x", expected="an id of claims.csv"):
        readme._said({"claim": "x", "says": ""}, kept)


def test_page_without_marks_is_refused():
    with refused(path=README, found="no marks"):
        readme.filled("text", {"findings": ""})


def test_scale_of_the_extension_example_is_valid(tmp_path):
    (block,) = (block.text for block in blocks(README) if block.language == "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(block)
    assert len(block.splitlines()) <= 10
    assert [row.row for row in load_scale(path).tables["mine"].rows] == ["Origin", "all pairs"]


def test_trainer_snippet_is_valid(tmp_path, monkeypatch):
    """It trains as it stands, with a random model in place of the Hub's."""
    pytest.importorskip("torch")
    from tests.evaluate.spelling import speller

    (code,) = (block.text for block in blocks(README) if block.language == "python")
    model = speller(tmp_path / "model")
    code = re.sub(r'"Qwen/[^"]*"', repr(str(model)), code)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["trainer"].state.global_step > 0
