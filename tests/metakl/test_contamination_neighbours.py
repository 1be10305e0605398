"""Pairs of a pool question and a benchmark item of which it is known whether the first asks the second.

`data/contamination_neighbours.jsonl` was written before the rule by someone who had not seen it: 22 kinds of questions
that are asked in other words or another spelling, each beside ones that share as many words and ask something else.
How frequent their words and phrases are among smol's questions and benchmark items is in
`data/contamination_frequencies.json`, so that no mirror is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from gdpo.config.loader import load_scale
from gdpo.core.records import Question
from gdpo.metakl.contamination import ItemIndex
from gdpo.metakl.word_frequencies import Frequencies

DATA = Path(__file__).parents[1] / "data"


def question(row: dict, name: str) -> Question:
    choices = row.get("choices") or []
    return Question(
        id=name, domain="general", source="s", question=row["question"], choices=choices, answer="A", grader="exact"
    )


def test_verdicts_of_neighbours() -> None:
    """The counts of both directions, as measured: a change of the rule that moves them is seen here."""
    scale = load_scale("smol")
    frequencies = Frequencies.read(DATA / "contamination_frequencies.json")
    rows = [json.loads(line) for line in (DATA / "contamination_neighbours.jsonl").read_text("utf-8").splitlines()]
    wrong, total = Counter(), Counter()
    for row in rows:
        index = ItemIndex.from_scale(scale, {"b": [question(row["benchmark"], "i")]}, frequencies=frequencies)
        found = bool(index.matches(question(row["pool"], "p")))
        total[row["expected"]] += 1
        wrong[row["expected"]] += found != (row["expected"] == "asked")
    assert total == {"asked": 78, "not": 80}
    assert wrong == {"asked": 39, "not": 3}
