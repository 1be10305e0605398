"""A source of one's own: an answer that is none, or may mean two things, is refused by row; a boxed one is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdpo.config.data import Source
from gdpo.config.models import Import
from gdpo.core.hashing import fingerprint
from gdpo.metakl.readers import last_boxed
from gdpo.metakl.sources import load_source
from gdpo.teach.imports import BadRow, completions
from tests.mirror import mirror_of
from tests.refusal import refused

NAN = float("nan")
PLAIN = {"question": "question", "answer": "answer"}
LETTERED = PLAIN | {"choices": "choices"}


def source(fields: dict, grader: str = "math", **changes: object) -> Source:
    return Source(domain="math", fields=fields, grader=grader, licence="MIT", mirror="rows.jsonl", **changes)


def answers(tmp_path: Path, made: Source, *rows: dict) -> list[str]:
    return [
        q.answer
        for q in load_source("own", made, mirror_of(tmp_path, *({"question": "How many?"} | r for r in rows))).questions
    ]


@pytest.mark.parametrize("answer", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("reader", ["fields", "problem"])
def test_nan_is_no_answer(tmp_path, answer, reader):
    made = source(PLAIN)
    if reader == "problem":
        made = Source(domain="math", reader=reader, grader="math", licence="MIT", mirror="rows.jsonl")
    with refused(
        path="rows.jsonl", line=2, key="answer", found=re.compile("^-?(nan|inf)$"), expected="text or a finite"
    ):
        answers(tmp_path, made, {"answer": 7}, {"answer": answer})


@pytest.mark.parametrize("field", ["question", "choices"])
def test_nan_is_no_text(tmp_path, field):
    row = {"answer": "B", "choices": [1.5, 2.5]} | {field: NAN if field == "question" else [1.5, NAN]}
    with refused(line=1, key=f"{field} ", found="nan", expected="text"):
        answers(tmp_path, source(LETTERED, "letter"), row)


@pytest.mark.parametrize("answer", ["proof", "Proof", "NaN", "None", "null", " N/A ", "notfound", "unknown", "?", "-"])
@pytest.mark.parametrize("reader", ["fields", "problem"])
def test_undeclared_no_answer_is_refused(tmp_path, answer, reader):
    fields = PLAIN if reader == "fields" else {}
    rows = ({"answer": "7"}, {"answer": answer})
    with refused(line=2, key="answer", found="'", expected="an answer; 'no_answer: ["):
        answers(tmp_path, source(fields, reader=reader), *rows)
    assert answers(tmp_path, source(fields, reader=reader, no_answer=[answer.upper()]), *rows) == ["7"]
    assert answers(tmp_path, source(fields, reader=reader, no_answer=[]), *rows) == ["7", answer.strip()]


def test_declared_no_answer_rows_are_unusable(tmp_path):
    declared = source(LETTERED, "letter", no_answer=["n/a", None, "nan"])
    choices = {"question": "Which?", "choices": ["red", "green"]}
    rows = [choices | {"answer": answer} for answer in ("N/A", None, NAN, "B", "red", 1)]
    found = load_source("own", declared, mirror_of(tmp_path, *rows))
    assert ([q.answer for q in found.questions], found.unusable) == (["B", "A", "B"], 3)


@pytest.mark.parametrize("answer", ["No solution", "0", "naive", "\\emptyset", "\\text{none of these}", "n", "x - y"])
def test_other_answers_are_kept(tmp_path, answer):
    assert answers(tmp_path, source(PLAIN), {"answer": answer}) == [answer]


@pytest.mark.parametrize(
    ("choices", "answer", "named"),
    [
        (["B", "A"], "B", "A or B"),
        (["C", "B", "A"], "A", "A or C"),
        (["red", "A"], "A", "A or B"),
        (["red", "green", "red"], "red", "A or C"),
        (["1", "1"], "1", "A or B"),
    ],
)
def test_ambiguous_letter_is_refused(tmp_path, choices, answer, named):
    with refused(line=1, key="answer (answer)", found=f"'{answer}'", expected=f"may mean {named}"):
        answers(tmp_path, source(LETTERED, "letter"), {"choices": choices, "answer": answer})


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["A", "B"], "B", "B"),
        (["B", "A"], 0, "A"),
        (["C", "B", "A"], "B", "B"),
        (["red", "red", "green"], "B", "B"),
        (["red", "green"], "green", "B"),
        (["A", "B", "red"], "red", "C"),
    ],
)
def test_unambiguous_letter_or_text_is_read(tmp_path, choices, answer, letter):
    assert answers(tmp_path, source(LETTERED, "letter"), {"choices": choices, "answer": answer}) == [letter]


BOXES = {
    r"\boxed 7": "7",
    r"so it is $\boxed 42$.": "42",
    r"\fbox{7}": "7",
    r"\fbox {7}": "7",
    r"the answer is \boxed 7.": "7",
    r"\boxed 7 and then $x$": "7",
    "\\boxed 7\nThus $x$ is found": "7",
    r"$$\boxed\frac12$$": r"\frac12",
    r"\(\boxed x^2 \)": "x^2",
    r"\boxed  -3.5, as said": "-3.5",
    r"\boxed{5} or rather \fbox{6}": "6",
    r"\boxed{\frac{a}{b_{2}}}": r"\frac{a}{b_{2}}",
    r"\boxed{1": None,
    r"\boxed{ }": None,
    r"\boxed": None,
    r"\boxedness 7": None,
    "in a box: 7": None,
}


@pytest.mark.parametrize("text", BOXES)
def test_the_last_box_with_or_without_braces(text):
    assert last_boxed(text) == BOXES[text]


@pytest.mark.parametrize("box", [r"\boxed 7", r"\fbox{7}", r"\boxed{7}"])
def test_a_solution_that_ends_in_a_box_has_an_answer(tmp_path, box):
    made = Source(domain="math", reader="problem", grader="math", licence="MIT", mirror="rows.jsonl")
    assert answers(tmp_path, made, {"solution": f"Three and four are ${box}$."}) == ["7"]


def test_an_imported_answer_is_no_nan():
    with pytest.raises(BadRow, match="gt: found nan, expected text or a finite number"):
        completions({"completions": ["a", "b"], "gt": NAN}, Import(answer="gt"))


def test_source_without_no_answer_keeps_its_hash():
    assert "no_answer" not in source(PLAIN).model_dump()
    assert fingerprint(source(PLAIN, no_answer=[])) != fingerprint(source(PLAIN))
