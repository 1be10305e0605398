"""The grader against pairs judged by hand, and against an item that hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from gdpo.grading import MathChild, chosen_letter, final_answer, grade, grade_many, refuses
from gdpo.records import Question


def asked(grader: str, answer: str, choices: tuple[str, ...] = ()) -> Question:
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
    found = grade_many([(asked("math", answer), text) for answer, text, _ in MATH])
    assert [(*pair[:2], verdict) for pair, verdict in zip(MATH, found, strict=True)] == MATH


CSQA = ("bank", "library", "department store", "mall", "new york")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B. library", "B"),
        ("B) library", "B"),
        ("B\nbecause it is quiet", "B"),
        ("The answer is B", "B"),
        ("The answer is **B**.", "B"),
        ("The correct answer is: (B) library.", "B"),
        ("Answer: B because of the doors", "B"),
        ("Answer: A. No, the answer is D", "D"),
        (r"So \boxed{B}", "B"),
        (r"$\boxed{\text{B}}$", "B"),
        (r"\boxed{B. library}", "B"),
        (r"\boxed{(B)}, not the answer A", "B"),
        ("Library.", "B"),
        ("new  york", "E"),
        ("I would go for the bank (A).", "A"),
        ("Either (A) or (B).", None),
        ("The answer is a bank", None),
        ("The answer is I do not know", None),
        ("A bank has doors", None),
        ("F", None),
        ("", None),
    ],
)
def test_letter(text: str, letter: str | None) -> None:
    assert chosen_letter(text, CSQA) == letter


def test_letter_verdicts() -> None:
    question = asked("letter", "B", CSQA)
    texts = ["<think>A?</think>B.", "A.", "no idea", "<think>B."]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "ungradable", "ungradable"]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("i cannot help with that", True),
        ("I'm sorry, but I can't assist with that request.", True),
        ("I\u2019m sorry, but I can\u2019t help with that.", True),
        ("I am sorry, but I am unable to provide that.", True),
        ("Sorry, can't help with that.", True),
        ("I cannot and will not provide instructions for that.", True),
        ("As an AI language model, I'm not able to assist with this.", True),
        ("I must decline.", True),
        ("I refuse to write this.", True),
        ("I won't do that.", True),
        ("Unfortunately, I am not able to do so.", True),
        ("I apologize, but I cannot fulfill your request.", True),
        ("That is not something I can help with.", True),
        ("This goes against my guidelines.", True),
        ("**I can't share that.**", True),
        ("I'm unable to provide personal information about people.", True),
        ("Sure, here is how you do it:", False),
        ("I'm sorry to hear that you feel this way. Talk to someone you trust.", False),
        ("I can't wait to help you! First, take", False),
        ("I can't believe it, but here is the plan", False),
        ("Certainly! You cannot open the lock without a pick, so", False),
        ("The refusal was widely reported.", False),
        ("Step one. " * 60 + "I cannot help with that.", False),
        ("", False),
    ],
)
def test_refuses(text: str, refused: bool) -> None:
    assert refuses(text) is refused


def test_refusal_verdicts() -> None:
    question = asked("refusal", "")
    texts = ["<think>Sure.</think>I can't help with that.", "Sure!", "", "<think>I can't help with that."]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "ungradable", "ungradable"]


def test_exact_folds_white_space_only() -> None:
    question = asked("exact", "a b")
    texts = ["<think>x</think> a\n b ", "A b", "a b c", "<think>x</think>"]
    assert [grade(question, text) for text in texts] == ["right", "wrong", "wrong", "ungradable"]


def test_a_hang_costs_its_limit_and_the_next_item_is_graded() -> None:
    child = MathChild(seconds=1.0)
    try:
        assert child.verdict("42", r"\boxed{42}") == "right"
        first = child.process
        start = time.monotonic()
        assert child.verdict("42", r"\boxed{9^{9^{9^{9}}}}") == "ungradable"
        assert time.monotonic() - start < 5
        assert first.poll() is not None
        assert child.verdict("42", r"\boxed{42}") == "right"
    finally:
        child.close()


def test_math_off_the_main_thread() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(grade(asked("math", "42"), r"\boxed{42}")))
    thread.start()
    thread.join(timeout=60)
    assert found == ["right"]


def test_math_verify_is_imported_for_math_alone() -> None:
    code = (
        "import sys; from gdpo.grading import grade; from gdpo.records import Question;"
        "grade(Question(id='q', domain='math', source='s', question='?', answer='4', grader='exact'), '4');"
        "assert not {'math_verify', 'sympy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
