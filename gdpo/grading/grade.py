"""Is an answer right, is a reply a refusal: verdicts right, wrong or ungradable (paper: evaluation, rewards).

Only what follows the last `</think>` is graded: choices by `letters`, refusals by `refusals`, math by `math_worker`,
whose worker processes compare answers, and other answers by their text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gdpo.core.progress import report
from gdpo.core.records import Question, Verdict
from gdpo.grading.letter_words import fold_spaces
from gdpo.grading.letters import chosen_letter
from gdpo.grading.math_worker import math_verdict
from gdpo.grading.refusals import refuses

ITEMS_PER_WORKER = 64  # ours: starting a worker costs as much as grading a few dozen items


def final_answer(text: str) -> str:
    """What follows the last `</think>`, stripped; empty where a `<think>` is left unclosed.

    A chat template that itself opens the think block leaves no `<think>` in the completion: the sampling code restores
    the tag.
    """
    answer = text.rpartition("</think>")[2]
    return "" if "<think>" in answer else answer.strip()


def grade(question: Question, text: str) -> Verdict:
    """The verdict on one raw completion; see `grade_many`."""
    return grade_many([(question, text)])[0]


def grade_many(pairs: Sequence[tuple[Question, str]], show_progress: bool = False) -> list[Verdict]:
    """Verdicts on (question, raw completion) pairs, in order.

    A completion without a final answer is ungradable under every grader. So is one from which the grader can
    read no answer, one on which math-verify hangs, and a reply in a language whose refusals it does not know.
    `show_progress` reports how many math answers are graded.
    """
    verdicts: list[Verdict] = []
    # The same math answer, which a group often gives several times, is compared once.
    indices_of: dict[tuple[str, str], list[int]] = {}
    for index, (question, text) in enumerate(pairs):
        answer = final_answer(text)
        if answer and question.grader == "math":
            indices_of.setdefault((question.answer, answer), []).append(index)
        verdicts.append(_plain_verdict(question, answer) if answer else "ungradable")
    workers = min(os.cpu_count() or 1, 1 + len(indices_of) // ITEMS_PER_WORKER)
    with ThreadPoolExecutor(workers) as threads:
        graded = zip(indices_of.values(), threads.map(math_verdict, indices_of), strict=True)
        for number, (indices, verdict) in enumerate(graded, start=1):
            for index in indices:
                verdicts[index] = verdict
            if show_progress:
                report(number, len(indices_of), "answers graded")
    return verdicts


def _plain_verdict(question: Question, answer: str) -> Verdict:
    if question.grader == "letter":
        letter = chosen_letter(answer, question.choices)
        if letter is None:
            return "ungradable"
        return "right" if letter == question.answer else "wrong"
    if question.grader == "refusal":
        refused = refuses(answer)
        return "ungradable" if refused is None else "right" if refused else "wrong"
    return "right" if fold_spaces(answer) == fold_spaces(question.answer) else "wrong"
