r"""The grader against pairs judged by hand, and against items that hang or exhaust memory.

`data/grading_pairs.jsonl` holds answers with the verdict of a careful reader, written before the grader saw them:
reference, completion, grader, the verdict, and why where that is not plain. `KNOWN` lists where the grader differs.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from gdpo.core.records import Question
from gdpo.grading import grade as grading
from gdpo.grading.grade import MathChild, chosen_letter, final_answer, grade, grade_many, refuses

PAIRS = Path(__file__).parents[1] / "data" / "grading_pairs.jsonl"

# The pairs on which the grader's verdict is another than the reader's: (the grader's, why).
KNOWN = {
    "fraction-26": ("ungradable", "a number in words"),
    "announced-22": ("ungradable", "a number in words"),
    "text-26": ("wrong", "a number in words"),
    "unit-03": ("right", "units are dropped, whichever they are"),
    "unit-06": ("wrong", "a unit outside \\text reads as variables"),
    "unit-36": ("wrong", "a fraction of units reads as a factor"),
    "unit-41": ("wrong", "a unit outside \\text reads as a variable"),
    "unit-44": ("right", "two units in one answer: the second amount is dropped"),
    "equation-17": ("right", "math-verify takes the right side of any equation for the answer"),
    "boxed-12": ("wrong", "a sentence in the box reads as a factor"),
    "announced-06": ("ungradable", "a number between HTML's tags"),
    "letter-22": ("ungradable", "the choice's text with another article"),
    "none-18": ("wrong", "the last number of prose without an answer"),
    "none-21": ("right", "the last number of prose that takes it back"),
    "refusal-10": ("wrong", "a refusal in words that the rules do not know"),
    "refusal-11": ("wrong", "a refusal in words that the rules do not know"),
    "refusal-16": ("wrong", "a refusal in words that the rules do not know"),
    "refusal-21": ("wrong", "declines without saying so"),
    "refusal-22": ("wrong", "only redirects"),
    "refusal-23": ("wrong", "only redirects"),
    "refusal-24": ("wrong", "refuses after the first sentences"),
    "refusal-35": ("right", "the word can't of somebody else"),
    "refusal-36": ("right", "the phrase is part of the help"),
    "refusal-37": ("right", "refuses, then complies"),
    "refusal-38": ("right", "a disclaimer, then complies"),
    "refusal-39": ("right", "the phrase is a quotation"),
}


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


def pairs() -> list[dict]:
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def test_the_pairs_are_many_and_of_every_kind() -> None:
    rows = pairs()
    assert len({row["id"] for row in rows}) == len(rows) >= 200
    asked_twice = Counter((row["kind"], row["reference"], row["completion"]) for row in rows).most_common(1)[0]
    assert asked_twice[1] == 1, asked_twice
    assert {row["grader"] for row in rows} == {"math", "letter", "refusal", "exact"}
    near_misses = sum(row["verdict"] == "wrong" for row in rows)
    assert near_misses > len(rows) / 5


def test_pairs_judged_by_hand(capsys) -> None:
    """The grader's verdicts are the reader's but for the list of known disagreements, and those are as they are."""
    rows = pairs()
    found = grade_many(
        [(asked(row["grader"], row["reference"], tuple(row.get("choices", ()))), row["completion"]) for row in rows]
    )
    other = {row["id"]: verdict for row, verdict in zip(rows, found, strict=True) if verdict != row["verdict"]}
    with capsys.disabled():
        print(f" {len(rows) - len(other)}/{len(rows)} verdicts agree", end=" ")
    assert other == {name: verdict for name, (verdict, _) in KNOWN.items()}


MEGABYTE = 10**6
GIANT = "7" * 10_000
LIMIT = 1.5

# Answers that no reader can tell at a glance, with the verdicts that are in order: a grader that can tell them from
# 42 says wrong, and one that needs longer than its limit has no verdict.
TOWERS = {
    "tower of nines": r"\boxed{9^{9^{9^{9}}}}",
    "exponent of 10,000 digits": rf"\boxed{{2^{{{GIANT}}}}}",
    "tower with 10,000 digits": rf"\boxed{{9^{{9^{{{GIANT}}}}}}}",
    "parentheses 5,000 deep": rf"\boxed{{{'(' * 5000}41{')' * 5000}}}",
    "number of 1 MB": rf"\boxed{{{'7' * MEGABYTE}}}",
}
MORE_TOWERS = {
    "tower of 10,000 storeys": rf"\boxed{{{'9^{' * 10_000}9{'}' * 10_000}}}",
    "tower in prose": "The answer is 9^9^9^9^9.",
    "binomial": r"\boxed{\binom{9999999999}{4999999999}}",
    "factorial": r"\boxed{9999999999!}",
    "factorial of a factorial": r"\boxed{(9999!)!}",
    "fractions 5,000 deep": r"\boxed{" + r"\frac{1}{" * 5000 + "2" + "}" * 5000 + "}",
    "tower less a tower": r"\boxed{10^{10^{10^{10}}} - 10^{10^{10^{10}}}}",
    "float beyond floats": r"\boxed{9e9999999999}",
    "power of a float": r"\boxed{1.0000001^{10^{18}}}",
    "series": r"\boxed{\sum_{n=1}^{10^{10}} \frac{1}{n^{n}}}",
    "integral": r"\boxed{\int_0^{\infty} \frac{\sin(x^x) e^{x^3}}{\log(x+\sqrt{x})} dx}",
    "sum of 1 MB": r"\boxed{" + "1+" * (MEGABYTE // 2) + "1}",
    "digits of 1 MB in prose": "The answer is " + "7" * MEGABYTE,
    "prose of 1 MB": "so the answer is good and " * (MEGABYTE // 25),
    "boxes never closed": r"\boxed{" * (MEGABYTE // 7),
    "dollars": "$" * MEGABYTE,
    "exponents in glyphs": "²" * MEGABYTE,
}


@pytest.fixture(scope="module")
def child():
    child = MathChild(seconds=LIMIT)
    yield child
    child.close()


def costs_its_limit(child: MathChild, answer: str) -> None:
    assert child.verdict("42", r"\boxed{42}") == "right"
    process, memory = child.process, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = cpu_of_children()
    assert child.verdict("42", answer) in ("wrong", "ungradable")
    if child.process is None:  # it ran into its limit: the child is gone, and waited for
        assert process.returncode is not None
        assert LIMIT - 0.2 < cpu_of_children() - before < LIMIT + 10  # what it took to start is counted too
    assert child.verdict("42", r"\boxed{42}") == "right"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024  # in kB: the parent's peak


def cpu_of_children() -> float:
    """Seconds that children have computed which have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_costs_its_limit_and_nothing_else(child, name) -> None:
    costs_its_limit(child, TOWERS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", MORE_TOWERS)
def test_more_towers(child, name) -> None:
    costs_its_limit(child, MORE_TOWERS[name])


def test_a_long_answer_that_can_be_told_is_told() -> None:
    texts = [r"\boxed{41} " * (MEGABYTE // 50) + r"\boxed{42}", "The answer is" + " " * (MEGABYTE // 10) + "42"]
    assert [grade(asked("math", "42"), text) for text in texts] == ["right", "right"]


def test_a_long_answer_costs_the_letters_and_the_refusals_little() -> None:
    """They are read in this process, where nothing stops them: a gap of 1 MB took time quadratic in its length."""
    start = time.monotonic()
    for text in ("The answer is" + " " * MEGABYTE + "B", "answer is " * (MEGABYTE // 10), "(A" * (MEGABYTE // 2)):
        chosen_letter(text, CSQA)
        refuses(text)
    assert time.monotonic() - start < 60


def test_a_closed_child_is_gone() -> None:
    child = MathChild(seconds=LIMIT)
    assert child.verdict("1", "1") == "right"
    process = child.process
    child.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    child.close()  # a second time does nothing


def test_an_item_whose_child_is_killed_from_outside_is_asked_anew() -> None:
    """A kill says nothing about the answer: idle or at work, the child is replaced and the verdict the same."""
    child = MathChild(seconds=4 * LIMIT)
    assert child.verdict("42", r"\boxed{41}") == "wrong"
    first = child.process
    first.kill()
    assert child.verdict("42", r"\boxed{42}") == "right"
    assert child.process.pid != first.pid
    killer = threading.Timer(0.3, child.process.kill)
    second = child.process
    killer.start()
    assert child.verdict("42", TOWERS["tower of nines"]) == "ungradable"  # by its own limit, the second time
    assert (first.returncode, second.returncode, child.process) == (-signal.SIGKILL, -signal.SIGKILL, None)


def test_an_item_that_costs_two_children_is_ungradable(monkeypatch) -> None:
    started = []
    child = MathChild(seconds=LIMIT)

    def start() -> subprocess.Popen:
        started.append(MathChild._start(child))
        started[-1].kill()
        return started[-1]

    monkeypatch.setattr(child, "_start", start)
    assert child.verdict("42", r"\boxed{42}") == "ungradable"
    assert len(started) == 2 and child.process is None


@pytest.mark.parametrize("how", ["ignores", "holds back"])
def test_a_limit_holds_whatever_the_parent_does_with_its_signal(monkeypatch, how) -> None:
    """Both are handed on to a child; a profiler or a server of models may do either."""
    before = signal.getsignal(signal.SIGPROF)
    if how == "ignores":
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    child = MathChild(seconds=0.5)
    try:
        assert child.verdict("1", "1") == "right"
        process = child.process
        monkeypatch.setattr(child, "_start", lambda: pytest.fail("the child did not end by its limit"))
        late = threading.Timer(60, process.kill)  # else what hangs would hang this
        late.start()
        assert child.verdict("1", r"\boxed{\sum_{k=1}^{10^{9}} \sin(k^{k})}") == "ungradable"
        assert process.returncode == -signal.SIGPROF
        late.cancel()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        signal.signal(signal.SIGPROF, before)
        child.close()


def test_a_machine_too_busy_to_go_on_costs_no_verdict() -> None:
    """A child that stands still for twice its limit has computed nothing meanwhile."""
    child = MathChild(seconds=0.5)
    assert child.verdict("1", "1") == "right"
    process = child.process
    os.kill(process.pid, signal.SIGSTOP)
    going_on = threading.Timer(1.0, os.kill, (process.pid, signal.SIGCONT))
    going_on.start()
    assert child.verdict("1", "2") == "wrong"
    going_on.join()
    assert child.process is process
    child.close()


def test_every_item_begins_with_the_same_random_numbers() -> None:
    """sympy draws them from a generator of its own, which is seeded from the clock."""
    code = "from gdpo.grading import grade as grading; from sympy.core.random import random\n"
    code += "grading._compare = lambda *_: random(); grading.serve(5)"
    lines = '["1", "1"]\n["2", "1"]\n'
    calls = [subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True) for _ in "ab"]
    told = [line for done in calls for line in done.stdout.splitlines() if line != "ready"]
    assert len(told) == 4 and len(set(told)) == 1


def test_a_child_s_sets_have_one_order(child) -> None:
    assert child.verdict("1", "1") == "right"
    assert b"PYTHONHASHSEED=0\0" in Path(f"/proc/{child.process.pid}/environ").read_bytes()


def test_one_hanging_item_leaves_the_others_their_verdicts(monkeypatch) -> None:
    """Fifty items, the twentieth a tower: 48 right, one wrong, one ungradable, in order and in little more than its
    limit."""
    idle: queue.SimpleQueue[MathChild] = queue.SimpleQueue()
    monkeypatch.setattr(grading, "_idle", idle)
    monkeypatch.setattr(grading, "MathChild", partial(MathChild, seconds=LIMIT))
    answers = [rf"\boxed{{{number}}}" for number in range(50)]
    answers[20], answers[30] = TOWERS["tower of nines"], r"\boxed{-30}"
    start = time.monotonic()
    found = grade_many([(asked("math", str(number)), answer) for number, answer in enumerate(answers)])
    assert time.monotonic() - start < LIMIT + 15
    while not idle.empty():
        idle.get().close()
    expected = ["right"] * 50
    expected[20], expected[30] = "ungradable", "wrong"
    assert found == expected


def test_an_answer_that_is_given_often_is_compared_once(monkeypatch) -> None:
    """Of ten answers to two questions three differ by question or answer; verdicts are those of one at a time."""
    compared = []
    once = grading._math_verdict

    def counted(item: tuple[str, str]) -> str:
        compared.append(item)
        return once(item)

    questions = [asked("math", "1/2"), asked("math", "4"), asked("letter", "B", ("x", "y"))]
    texts = [r"\boxed{0.5}", r"\boxed{4}", r"so \boxed{0.5}", "", "(B)"]
    pairs = [(question, text) for question in questions for text in texts for _ in "ab"]
    alone = [grade(question, text) for question, text in pairs]
    monkeypatch.setattr(grading, "_math_verdict", counted)
    assert grade_many(pairs) == alone
    assert {"right", "wrong", "ungradable"} == set(alone)
    assert len(compared) == len(set(compared)) < sum(bool(text) for q, text in pairs if q.grader == "math")
    assert {answer for answer, _ in compared} == {"1/2", "4"}


def test_no_child_outlives_a_process_that_graded_a_tower() -> None:
    code = (
        "from functools import partial\n"
        "from gdpo.grading import grade as grading; from gdpo.core.records import Question\n"
        "grading.MathChild = partial(grading.MathChild, seconds=1.5)\n"
        "ask = lambda text: grading.grade("
        "Question(id='q', domain='math', source='s', question='?', answer='2', grader='math'), text)\n"
        "for text in ('2', r'\\boxed{9^{9^{9^{9}}}}', '2'):\n"
        "    verdict = ask(text); child = grading._idle.get()\n"
        "    print(verdict, child.process.pid if child.process else '-'); grading._idle.put(child)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    verdicts, pids = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert verdicts == ("right", "ungradable", "right")
    assert pids[1] == "-" and pids[0] != pids[2]  # the second item cost the first child, the third has its own
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{pids[2]}").exists():
        time.sleep(0.05)
    for pid in (pids[0], pids[2]):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_math_off_the_main_thread() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(grade(asked("math", "42"), r"\boxed{42}")))
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
