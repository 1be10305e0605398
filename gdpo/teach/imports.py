"""Groups from responses that somebody else sampled and judged, in place of a teacher of our own.

The file format shown is OpenAI's `example_model_solutions.jsonl`: a GSM8K problem with one solution by each of
several models. They answer GSM8K's *test* problems: who trains on them cannot be scored on that benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdpo.errors import UserError
from gdpo.files import read_jsonl
from gdpo.records import Group
from gdpo.schema import Reward, TrainSet
from gdpo.teach.reward import reward

# A row's question and its (completion, whether it is right) pairs.
Judged = tuple[str, list[tuple[str, bool]]]


def gsm8k_model_solutions(row: Mapping[str, Any]) -> Judged:
    """Every field that holds {solution, is_correct} is one completion; the final line `A: 42` is boxed."""
    judged = []
    for entry in row.values():
        if isinstance(entry, Mapping) and {"solution", "is_correct"} <= set(entry):
            text = re.sub(r"<<[^>]*>>", "", entry["solution"]).strip()
            reasoning, _, answer = text.rpartition("\nA:")
            completion = f"<think>\n{reasoning}\n</think>\n\n\\boxed{{{answer.strip()}}}" if reasoning else text
            judged.append((completion, bool(entry["is_correct"])))
    return row["question"], judged


def read_groups_file(
    path: Path, trainset: TrainSet, count: Callable[[str], int], settings: Reward, instruction: str = ""
) -> list[Group]:
    """The groups of a JSON Lines file in the training set's format; ids are FILE-LINE.

    `groups` rows hold `prompt` (text or messages), `completions` and `rewards`, which are kept as they are.
    `gsm8k-model-solutions` rows hold judged solutions, whose verdicts are rewarded as our own are; `count` gives a
    completion's length in the student's tokens. Raises UserError naming file and line of a row that does not fit.
    """
    groups = []
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        try:
            if trainset.format == "groups":
                found = {key: row[key] for key in ("prompt", "completions", "rewards")}
            else:
                found = _rewarded(*gsm8k_model_solutions(row), count, settings, instruction)
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: found no field {error}, expected the format '{trainset.format}'") from None
        if isinstance(found["prompt"], str):
            found["prompt"] = [{"role": "user", "content": found["prompt"]}]
        try:
            group = Group(id=f"{path.stem}-{number}", domain=trainset.domain, **found)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "group"
            raise UserError(f"{where}, {field}: {first['msg'].removeprefix('Value error, ')}") from None
        if len(group.completions) < 2:
            raise UserError(f"{where}: found {len(group.completions)} completions, expected at least two")
        groups.append(group)
    return groups


def _rewarded(
    question: str, judged: list[tuple[str, bool]], count: Callable[[str], int], settings: Reward, instruction: str
) -> dict[str, Any]:
    parts = [reward("right" if right else "wrong", text, count(text), settings) for text, right in judged]
    return {
        "prompt": f"{question}\n\n{instruction}" if instruction else question,
        "completions": [text for text, _ in judged],
        "rewards": [part.total for part in parts],
        "parts": parts,
    }
