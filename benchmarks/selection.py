"""`python -m benchmarks.selection`: MetaKL's selection at the paper's size against Algorithm 1 as printed.

On synthetic questions: 38,838 of them, 8,325 units, 5,000 chosen. The whole selection, bisection included, is timed
against the printed algorithm at one slope, the one found, stopped when it has enough. Both choose the same questions in
the same order, or this fails.

results/bench/selection.csv                      the table
results/bench/selection.csv.provenance.json      code, versions, hardware, sizes, seed
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from gdpo.config.data import Selection
from gdpo.core.files import write_csv
from gdpo.core.provenance import recorded
from gdpo.core.records import Question
from gdpo.metakl.select import metakl
from tests.metakl import literal_selection as literal

SEED = 0
MODELS = 5  # paper
QUESTIONS, UNITS, SIZE = 38_838, 8_325, 5_000  # paper
SELECTION = Selection(keep_units=6, replay_per_unit=20)  # paper: more than 5 units, about 20 reminders
ANSWERED = 0.5  # ours
SHARES = {1: 0.06, 2: 0.16, 3: 0.26, 4: 0.34, 5: 0.13, 6: 0.03, 7: 0.02}  # paper, Fig. A3: 1 to >= 5, most have 4


@dataclass(frozen=True)
class Synthetic:
    """What `metakl` is given."""

    questions: list[Question]
    average: dict[str, float]
    unit_average: dict[str, float]


def synthetic(questions: int = QUESTIONS, units: int = UNITS, seed: int = SEED) -> Synthetic:
    """Questions whose units are drawn with probability 1 / rank, each unit at least once; sizes are the paper's.

    A unit is mastered to a degree that is drawn evenly; each model answers a question right with the mean of its
    units' probabilities.
    """
    draw = random.Random(seed)
    sizes = draw.choices(list(SHARES), list(SHARES.values()), k=questions)
    needs: list[set[int]] = [set() for _ in sizes]
    room = [q for q, size in enumerate(sizes) for _ in range(size)]
    for unit, q in enumerate(draw.sample(room, units)):
        needs[q].add(unit)
    popularity = list(accumulate(1 / rank for rank in range(1, units + 1)))
    for needed, size in zip(needs, sizes, strict=True):
        while len(needed) < size:
            needed.add(draw.choices(range(units), cum_weights=popularity)[0])
    mastery = [draw.random() for _ in range(units)]
    right = []
    for needed in needs:
        chance = sum(mastery[unit] for unit in needed) / len(needed)
        right.append(sum(draw.random() < chance for _ in range(MODELS)) / MODELS)
    asked: list[list[float]] = [[] for _ in range(units)]
    for needed, share in zip(needs, right, strict=True):
        for unit in needed:
            asked[unit].append(share)
    made = [
        Question(
            id=f"q{number}", domain="math", source="synthetic", question=f"question {number}", answer="0",
            grader="exact", units=[f"unit_{unit}" for unit in sorted(needed)],
        )
        for number, needed in enumerate(needs)
    ]  # fmt: skip
    average = {question.id: share for question, share in zip(made, right, strict=True)}
    return Synthetic(made, average, {f"unit_{unit}": sum(s) / len(s) for unit, s in enumerate(asked)})


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = _options(arguments)
    given, size = synthetic(QUESTIONS // options.part, UNITS // options.part), SIZE // options.part
    entries = (given.questions, given.average, given.unit_average, SELECTION, size, ANSWERED)
    settings = {"part": options.part, "repeats": options.repeats, "selection": SELECTION, "shares": SHARES}
    table = options.out / "selection.csv"
    with recorded(table, "bench", settings, {"data": SEED}):
        timed = [_timed(lambda: metakl(*entries)) for _ in range(options.repeats)]
        chosen, seconds = timed[0][0], [entry[1] for entry in timed]
        printed, printed_seconds = _timed(lambda: literal.metakl(*entries, slope=chosen.slope))
        if chosen.indices != printed:
            raise SystemExit("the selection differs from the printed algorithm's")
        row = {
            "questions": len(given.questions), "units": len(given.unit_average), "chosen": len(printed),
            "slope": chosen.slope, "trials": chosen.trials, "seconds": statistics.median(seconds),
            "seconds_min": min(seconds), "seconds_max": max(seconds), "printed_seconds": printed_seconds,
            "speed": printed_seconds / statistics.median(seconds), "repeats": options.repeats,
        }  # fmt: skip
        write_csv(table, list(row), [row])
    print(
        f"{row['chosen']:,} of {row['questions']:,} questions with {row['units']:,} units, the same in the same order"
    )
    print(f"whole selection: {row['seconds']:.2f} s ({min(seconds):.2f}..{max(seconds):.2f}), {row['trials']} trials")
    print(f"printed, one slope: {printed_seconds:.1f} s, {row['speed']:.0f} times as long")
    return row


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="of the whole selection; the printed one runs once")
    parser.add_argument("--part", type=int, default=1, help="all sizes divided by this")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
