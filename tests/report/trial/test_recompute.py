"""The answers are those of a second piece of code, `tools/rigs/recompute_trial.py`, which imports nothing of gdpo."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest

from gdpo.core.files import read_csv, write_csv
from gdpo.report.trial.answers import primary
from gdpo.report.trial.effects import StudentWorld
from gdpo.report.trial.packing import CUT, UNPARSEABLE, WRONG, PackedWorld, write_world
from gdpo.report.trial.summary import ANSWER_COLUMNS, answer_rows
from tests.report.trial.made_worlds import world
from tools.rigs import recompute_trial

RATES = ("2e-05", "0.0001", "0.0003", "0.001", "0.002")
GRPO_RATES = ("0.0001", "0.0003", "0.001")
SHARES = {
    "hard-only": {"add": 1.0},
    "safety-only": {"add": 0.2, "take": 0.8},
    "union": {"add": 0.5, "take": 0.5},
    "metakl": {"add": 0.3, "take": 0.7},
    "random": {"add": 0.55, "take": 0.45},
    "stratified": {"add": 0.25, "take": 0.75},
}
BEFORE = ((4, 5), (4, 5, 10), (6, 7, 8), (6, 7, 8, 9), (0, 7, 8), (5,))  # with and without room
AFTER = ((3, 9), (2, 10), (2, 8), (3, 8), (4, 9), (0, 10))
CHANCE = {"add": 0.05, "two": 0.5, "form": 0.1}
# Of question 4, beside the untrained student: what the report compares MetaGDPO with.
REPORTED_ROWS = ["hard-only/sft", "safety-only/sft", "union/sft", "metakl/sft"]
REPORTED_ROWS += ["hard-only/gdpo-literal", "safety-only/gdpo-literal", "union/gdpo-literal"]


def random_world(draw: random.Random, seed: int, gained: int = 0) -> StudentWorld:
    """A world of random counts, validation scores and kinds of wrong answers; `gained`: more right of taught skills."""
    cells = {
        (trainset, method, rate): [
            min(10, draw.randint(low, high) + gained * (place < 2)) for place, (low, high) in enumerate(AFTER)
        ]
        for trainset in SHARES
        for method, rates in (("sft", RATES), ("gdpo-literal", RATES), ("grpo", GRPO_RATES))
        for rate in rates
    }
    made = world(cells, seed, before=[draw.choice(counts) for counts in BEFORE], shares=SHARES).world
    columns = {name: entry | {"chance": CHANCE.get(name, 0.0)} for name, entry in made.columns.items()}
    runs = [run | {f"validation_{name}": str(draw.randint(0, 9) / 9) for name in columns} for run in made.runs]
    wrong = np.random.default_rng(seed).choice([WRONG, UNPARSEABLE, CUT], made.codes.shape)
    codes = np.where(made.codes == WRONG, wrong, made.codes).astype(np.uint8)
    return StudentWorld(PackedWorld(dict(made.about) | {"columns": columns}, runs, codes), "s")


def kept(directory, worlds):
    """The path of the report's answers to worlds, which are packed beside it."""
    for made in worlds:
        write_world(directory / f"world-{made.world.seed}", made.world)
    answers = primary(worlds, {"sft": 0.001, "gdpo-literal": 0.0001}, [float(rate) for rate in GRPO_RATES])
    write_csv(directory / "answers.csv", ANSWER_COLUMNS, answer_rows(answers, {}))
    return directory / "answers.csv"


def recompute(answers) -> int:
    given = [str(answers.parent), "--sft", "0.001", "--gdpo", "0.0001", "--rows", *REPORTED_ROWS]
    return recompute_trial.main([*given, "--against", str(answers)])


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_recomputed(tmp_path, capsys, seed):
    draw = random.Random(seed)
    status = recompute(kept(tmp_path, [random_world(draw, number, gained=seed % 3) for number in range(1, 5)]))
    assert (status, capsys.readouterr().out.splitlines()[5:]) == (0, ["0 mismatches of 30"])


def test_planted_errors_are_named(tmp_path, capsys):
    draw = random.Random(7)
    answers = kept(tmp_path, [random_world(draw, number) for number in range(1, 5)])
    rows = read_csv(answers)
    first, second = (next(row for row in rows if row["question"][0] == n and not row["part"]) for n in "12")
    first["effect"] = f"{float(first['effect']) + 0.01:.2f}"
    second["verdict"] = "supported"
    write_csv(answers, ANSWER_COLUMNS, rows)
    assert recompute(answers) == 1
    lines = capsys.readouterr().out.splitlines()[5:]
    assert [line.split(":")[0] for line in lines] == ["question 1, effect", "question 2, verdict", "2 mismatches of 30"]


def test_front_is_the_lowest_point_at_or_beyond_each_gain(tmp_path, capsys):
    """From 0 the path goes to a gain of 40 at 20 points of forgetting, back to 20 at 0, and on to 50 at 30."""
    counts = {"0.0001": (9, 5, 6, 6, 6, 5), "0.001": (7, 5, 8, 8, 8, 5), "0.01": (10, 5, 5, 5, 5, 5)}
    cells = {("hard-only", "sft", rate): right for rate, right in counts.items()}
    for number in (1, 2):
        write_world(tmp_path / f"world-{number}", world(cells, number).world)
    assert recompute_trial.main([str(tmp_path), "--front", "hard-only", "sft"]) == 0
    front = dict(map(float, line.split()) for line in capsys.readouterr().out.splitlines())
    assert [round(front[gain], 3) for gain in (0, 10, 20, 30, 40, 45, 50)] == [0, 0, 0, 10, 20, 25, 30]


def test_nothing_of_the_package_is_imported():
    text = Path(recompute_trial.__file__).read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|import) (gdpo|tools|tests)", text, re.MULTILINE)
