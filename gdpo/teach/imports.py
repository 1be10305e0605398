"""Groups from responses that somebody else sampled and judged, in place of a teacher of our own.

The file format shown is OpenAI's `example_model_solutions.jsonl`: a GSM8K problem with one solution by each of
several models. They answer GSM8K's *test* problems: who trains on them cannot be scored on that benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gdpo.config import Reward
from gdpo.errors import UserError
from gdpo.files import read_jsonl
from gdpo.records import Domain, Group
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
    path: Path,
    read: Callable[[Mapping[str, Any]], Judged],
    domain: Domain,
    count: Callable[[str], int],
    settings: Reward,
    instruction: str = "",
) -> list[Group]:
    """The groups of a JSON Lines file, its judgements turned into rewards as if they were our own verdicts.

    `read` is `gsm8k_model_solutions` or a user's own; `count` gives a completion's length in the student's tokens;
    ids are FILE-LINE. Raises UserError naming file and line where a row has fewer than two completions.
    """
    groups = []
    for number, row in read_jsonl(path):
        try:
            question, judged = read(row)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: found no field {error}, expected judged solutions") from None
        if len(judged) < 2:
            raise UserError(f"{path}, line {number}: found {len(judged)} completions, expected at least two")
        parts = [reward("right" if right else "wrong", text, count(text), settings) for text, right in judged]
        asked = f"{question}\n\n{instruction}" if instruction else question
        groups.append(
            Group(
                id=f"{path.stem}-{number}",
                domain=domain,
                prompt=[{"role": "user", "content": asked}],
                completions=[text for text, _ in judged],
                rewards=[part.total for part in parts],
                parts=parts,
            )
        )
    return groups


def questions_of(groups: list[Group]) -> list[str]:
    """What the groups ask, to compare with the benchmarks' items."""
    return [group.prompt[-1]["content"] for group in groups]
