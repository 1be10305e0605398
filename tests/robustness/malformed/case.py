"""A case of `tests/robustness/test_malformed.py`: what lies there, what is called, and what its one sentence says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOOP = Path("..")  # what stands for a link to itself
Files = Mapping[str, str | bytes | Path | None]  # None: a folder
QUESTION = {"id": "a", "domain": "math", "source": "s", "question": "q", "answer": "1", "grader": "exact"}
RUN = "--student tiny-s --trainset metakl --method sft --seeds 0"


def lines(*entries: Mapping) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


@dataclass(frozen=True)
class Case:
    """The files that lie there, `gdpo ARGUMENTS`, and what its one sentence says."""

    name: str
    arguments: str
    says: str  # a regular expression
    files: Files = field(default_factory=dict)
