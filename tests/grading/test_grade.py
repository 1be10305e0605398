r"""The grader against pairs judged by hand, and against long answers.

`data/grading_pairs.jsonl` holds answers with the verdict of a careful reader, written before the grader saw them:
reference, completion, grader, the verdict, and why where that is not plain. `KNOWN` lists where the grader differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from gdpo.core.records import Question
from gdpo.grading import grade as grading
from gdpo.grading.grade import final_answer, grade, grade_many
from gdpo.grading.letters import chosen_letter
from gdpo.grading.math_worker import math_verdict
from gdpo.grading.refusals import refuses

MEGABYTE = 10**6
PAIRS = Path(__file__).parents[1] / "data" / "grading_pairs.jsonl"

# The pairs on which the grader's verdict is another than the reader's: (the grader's, why).
KNOWN = {
    "none-18": ("wrong", "the last number of prose without an answer"),
    "refusal-21": ("wrong", "declines without saying so"),
    "refusal-22": ("wrong", "only redirects"),
    "refusal-23": ("wrong", "only redirects"),
    "refusal-24": ("wrong", "refuses after the first sentences"),
}


def question_for(grader: str, answer: str, choices: tuple[str, ...] = ()) -> Question:
    domain = {"math": "math", "refusal": "safety"}.get(grader, "general")
    return Question(
        id="q", domain=domain, source="s", question="?", answer=answer, grader=grader, choices=list(choices)
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4", "4"),
        ("<think>2+2</think> 4 ", "4"),
        ("2+2</think>\n4", "4"),
        ("<think>a</think>b<think>c</think>\nd", "d"),
        ("<think>2+2 is", ""),
        ("<think>a</think>4 <think>wait", ""),
        ("<think>a</think>", ""),
        ("", ""),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


MATH = [
    ("42", r"\boxed{42}", "right"),
    ("42", r"<think>\boxed{41}? no.</think>So the answer is $\boxed{42}$.", "right"),
    ("42", r"<think>\boxed{42}</think>The answer is 41.", "wrong"),
    ("42", "First 41, then the answer is 42", "right"),
    ("42", "The answer is 43", "wrong"),
    ("42", "I do not know", "ungradable"),
    ("42", "", "ungradable"),
    ("42", r"<think>it must be \boxed{42}", "ungradable"),
    ("1000", "The answer is 1,000 dollars.", "right"),
    ("70000", r"\boxed{\$70,000}", "right"),
    ("27.0", r"\boxed{27}", "right"),
    ("-3", r"\boxed{3}", "wrong"),
    (r"\frac{1}{2}", "0.5", "right"),
    (r"\frac{1}{2}", r"\boxed{\frac{2}{4}}", "right"),
    (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}", "wrong"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"$(3, \pi/2)$", "right"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi)}", "wrong"),
    (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}", "right"),
    (r"\text{Evelyn}", r"\boxed{\text{Angela}}", "wrong"),
    ("1,-2", r"\boxed{-2, 1}", "right"),
    ("6 - 5i", r"\boxed{6-5i}", "right"),
    (r"x \in [-2,7]", r"\boxed{[-2,7]}", "right"),
    (r"x \in [-2,7]", r"\boxed{(-2,7)}", "wrong"),
    ("2x+3", r"\boxed{3 + 2x}", "right"),
    ("4.5e33", r"\boxed{4.5 \times 10^{33}}", "right"),
    (r"\sqrt{12}", r"\boxed{2\sqrt{3}}", "right"),
]


def test_math_by_hand() -> None:
    found = grade_many([(question_for("math", answer), text) for answer, text, _ in MATH])
    assert [(*pair[:2], verdict) for pair, verdict in zip(MATH, found, strict=True)] == MATH


CSQA = ("bank", "library", "department store", "mall", "new york")


def test_letter_verdicts() -> None:
    question = question_for("letter", "B", CSQA)
    texts = ["<think>A?</think>B.", "A.", "no idea", "<think>B."]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "ungradable", "ungradable"]


def test_refusal_verdicts() -> None:
    question = question_for("refusal", "")
    texts = ["<think>Sure.</think>I can't help with that.", "Sure!", "", "<think>I can't help with that."]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "ungradable", "ungradable"]


def test_exact_folds_white_space_only() -> None:
    question = question_for("exact", "a b")
    texts = ["<think>x</think> a\n b ", "A b", "a b c", "<think>x</think>"]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "wrong", "ungradable"]


def pairs() -> list[dict]:
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def test_pairs_cover_every_grader() -> None:
    rows = pairs()
    assert len({row["id"] for row in rows}) == len(rows) >= 200
    repeated = Counter((row["kind"], row["reference"], row["completion"]) for row in rows).most_common(1)[0]
    assert repeated[1] == 1, repeated
    assert {row["grader"] for row in rows} == {"math", "letter", "refusal", "exact"}
    near_misses = sum(row["verdict"] == "wrong" for row in rows)
    assert near_misses > len(rows) / 5


def test_pairs_judged_by_hand(capsys) -> None:
    """The grader's verdicts are the reader's but for the list of known disagreements, and those are as they are."""
    rows = pairs()
    questions = [question_for(row["grader"], row["reference"], tuple(row.get("choices", ()))) for row in rows]
    verdicts = grade_many([(question, row["completion"]) for question, row in zip(questions, rows, strict=True)])
    other = {row["id"]: verdict for row, verdict in zip(rows, verdicts, strict=True) if verdict != row["verdict"]}
    with capsys.disabled():
        print(f" {len(rows) - len(other)}/{len(rows)} verdicts agree", end=" ")
    assert other == {name: verdict for name, (verdict, _) in KNOWN.items()}


def test_long_answers_are_graded() -> None:
    texts = [r"\boxed{41} " * (MEGABYTE // 50) + r"\boxed{42}", "The answer is" + " " * (MEGABYTE // 10) + "42"]
    assert [grade(question_for("math", "42"), text) for text in texts] == ["right", "right"]


def test_letters_and_refusals_take_little_time_on_long_answers() -> None:
    """They are read in this process, where nothing stops them: a gap of 1 MB took time quadratic in its length."""
    start = time.monotonic()
    for text in ("The answer is" + " " * MEGABYTE + "B", "answer is " * (MEGABYTE // 10), "(A" * (MEGABYTE // 2)):
        chosen_letter(text, CSQA)
        refuses(text)
    assert time.monotonic() - start < 60


def test_equal_math_answers_are_compared_once(monkeypatch) -> None:
    """Of ten answers to two questions three differ by question or answer; verdicts are those of one at a time."""
    compared = []
    original = math_verdict

    def counted(item: tuple[str, str]) -> str:
        compared.append(item)
        return original(item)

    questions = [question_for("math", "1/2"), question_for("math", "4"), question_for("letter", "B", ("x", "y"))]
    texts = [r"\boxed{0.5}", r"\boxed{4}", r"so \boxed{0.5}", "", "(B)"]
    pairs = [(question, text) for question in questions for text in texts for _ in "ab"]
    alone = [grade(question, text) for question, text in pairs]
    monkeypatch.setattr(grading, "math_verdict", counted)
    assert grade_many(pairs) == alone
    assert {"right", "wrong", "ungradable"} == set(alone)
    assert len(compared) == len(set(compared)) < sum(bool(text) for q, text in pairs if q.grader == "math")
    assert {answer for answer, _ in compared} == {"1/2", "4"}


def test_math_is_graded_off_the_main_thread() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(grade(question_for("math", "42"), r"\boxed{42}")))
    thread.start()
    thread.join(timeout=60)
    assert found == ["right"]


def test_math_verify_is_imported_for_math_alone() -> None:
    code = (
        "import sys; from gdpo.grading.grade import grade; from gdpo.core.records import Question;"
        "grade(Question(id='q', domain='math', source='s', question='?', answer='4', grader='exact'), '4');"
        "assert not {'math_verify', 'sympy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
