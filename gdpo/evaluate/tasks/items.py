"""What the task files share: a benchmark's questions, and how their answers are graded.

The workflow writes a benchmark's items to a file and names it. In plain lm-eval a task reads its source from a mirror
or from the Hub. Everything after that is the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import datasets

from gdpo.core.errors import UserError
from gdpo.core.records import LETTERS, Question, Verdict, chat, read_records
from gdpo.grading.grade import grade_many
from gdpo.models import choice_likelihood


def load(
    items: str | None = None,
    source: str | None = None,
    mirror: str | None = None,
    instruction: str | None = None,
    **_: object,
) -> dict[str, datasets.Dataset]:
    """A task's questions as the split `test`, from what its metadata says.

    `items` is a JSON Lines file of questions; without one they are those of `source`, from the directory `mirror` or
    $GDPO_MIRROR, else from the Hub, with `instruction`, where it is given, in place of the source's own.
    Raises UserError where neither is given.
    """
    if items:
        questions = read_records(Path(items), Question)
    elif source:
        questions = _of_source(source, mirror or os.environ.get("GDPO_MIRROR"), instruction)
    else:
        raise UserError(
            key="metadata", found="neither 'items' nor 'source'", expected="a file of questions or a source's name"
        )
    return {"test": datasets.Dataset.from_list([question.model_dump() for question in questions])}


def _of_source(name: str, mirror: str | None, instruction: str | None) -> list[Question]:
    # Imported here: only plain lm-eval reads sources; the workflow has a file of items.
    from gdpo.metakl.sources import catalogue, read_source

    known = catalogue()
    if name not in known:
        raise UserError(key="metadata.source", found=f"'{name}'", expected=f"one of {', '.join(known)}")
    changes = {} if instruction is None else {"instruction": instruction}
    return read_source(name, known[name].model_copy(update=changes), Path(mirror) if mirror else None)


def ask(doc: dict) -> str:
    return chat(Question.model_validate(doc))[0]["content"]


def right_choice(doc: dict) -> int:
    return LETTERS.index(doc["answer"])


def most_likely(doc: dict, results: Sequence[tuple[float, bool]]) -> str:
    """The letter of the choice with the highest log-likelihood per character."""
    return LETTERS[choice_likelihood.most_likely([value for value, _ in results], doc["choices"])]


def verdict_of_letter(doc: dict, letter: str) -> Verdict:
    return "right" if letter == doc["answer"] else "wrong"


def judge_likelihoods(doc: dict, results: list[tuple[float, bool]]) -> dict[str, float]:
    return _metrics(verdict_of_letter(doc, most_likely(doc, results)))


def judge_text(doc: dict, results: list[str]) -> dict[str, float]:
    return _metrics(*grade_many([(Question.model_validate(doc), results[0])]))


def judge_samples(doc: dict, results: list[list[str]]) -> dict[str, list[float]]:
    """1 or 0 for each sample, in order; `pass_at_1` makes a score of them."""
    question = Question.model_validate(doc)
    scored = [_metrics(verdict) for verdict in grade_many([(question, text) for text in results[0]])]
    return {metric: [each[metric] for each in scored] for metric in ("right", "ungradable")}


def pass_at_1(items: Sequence[Sequence[float]]) -> float:
    """The mean over items of the share of each one's samples that count."""
    return sum(sum(samples) / len(samples) for samples in items) / len(items)


def _metrics(verdict: Verdict) -> dict[str, float]:
    return {"right": float(verdict == "right"), "ungradable": float(verdict == "ungradable")}
