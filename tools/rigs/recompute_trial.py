"""The five answers of docs/protocol.md, from a directory of packed worlds alone, by a second piece of code.

Nothing of `gdpo` is imported, so that a fault of the report is not repeated here. Example:

    python tools/rigs/recompute_trial.py results/reference/trial --sft 5e-4 --gdpo 1e-4 --against answers.csv

A line a question: effect, low, high, p, p by Holm, verdict. `--against` names each value that differs in a file's rows
of whole questions, then exits with 1. `--front SET METHOD` prints gains and the least forgetting of the mean world.
"""

import argparse
import csv
import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

NARROW = ("hard-only", "safety-only", "union")
SFT, GDPO, GRPO, META = "sft", "gdpo-literal", "grpo", "metakl"
# Question 4's other rows, beside the untrained student.
OTHERS = (*(f"{trainset}/{method}" for trainset in NARROW for method in (SFT, GDPO)), f"metakl/{SFT}")
UNTRAINED, BOTH = ("none", "origin", None), ("taught", "untaught")
MARGIN, LEAST_COMMON, LEVEL = 1.0, 1.0, 0.05  # points, points, of the adjusted p
STEPS = 100  # between the gains of an area
NOISE = 1e-9  # sums of the same numbers in another order differ by less
DIGITS = {"effect": 2, "low": 2, "high": 2, "p": 4, "adjusted_p": 4}  # printed in answers.csv

Run = tuple[str, str, float | None]  # training set, method, rate
Pair = tuple[np.ndarray, np.ndarray]  # two methods' points, (worlds, rates, 2)


@dataclass
class World:
    """A packed world: each run's percent right by column, and its validation scores by skill."""

    name: str
    columns: dict[str, dict]
    shares: dict[str, dict[str, float]]
    percent: dict[Run, dict[str, float]]
    validation: dict[Run, dict[str, float]]

    def counting(self, *roles: str) -> list[str]:
        """The columns of these roles in which the untrained student has room on both sides."""

        def counts(name: str) -> bool:
            items, chance = self.columns[name]["items"], self.columns[name]["chance"]
            least = chance + 2 * math.sqrt(chance * (1 - chance) / items)
            return bool(least < self.percent[UNTRAINED][name] / 100 <= 0.97)

        return [name for name, column in self.columns.items() if column["role"] in roles and counts(name)]

    def weighted(self, trainset: str, values: dict[str, float]) -> float:
        """The mean of values over the skills of a set, each by its share."""
        weights = self.shares[trainset]
        if not any(weights.values()):
            raise SystemExit(f"{self.name}: no skill of {trainset} counts")
        return sum(weight * values[name] for name, weight in weights.items() if weight) / sum(weights.values())

    def change(self, run: Run) -> dict[str, float]:
        if run not in self.percent:
            raise SystemExit(f"{self.name}: no run of {run}")
        before = self.percent[UNTRAINED]
        return {name: self.percent[run][name] - before[name] for name in self.columns}

    def average(self, run: Run, *roles: str) -> float:
        """The mean change of the counting columns of these roles."""
        change, names = self.change(run), self.counting(*roles)
        return sum(change[name] for name in names) / len(names)

    def gain(self, run: Run) -> float:
        return self.weighted(run[0], self.change(run))

    def forgetting(self, run: Run) -> float:
        return -self.average(run, "untaught")

    def rates(self, trainset: str, method: str) -> list[float]:
        return sorted(rate for s, m, rate in self.percent if (s, m) == (trainset, method) and rate is not None)

    def preferred(self, trainset: str, method: str, rates: Sequence[float]) -> float:
        """The rate, the lowest of equals, whose run the set's own validation items prefer."""
        scores = [self.weighted(trainset, self.validation[trainset, method, rate]) for rate in sorted(rates)]
        return sorted(rates)[next(i for i, score in enumerate(scores) if score > max(scores) - NOISE)]


def read_world(directory: Path) -> World:
    about = json.loads((directory / "world.json").read_text(encoding="utf-8"))
    with open(directory / "runs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = about["columns"]
    items = sum(column["items"] for column in columns.values())
    width = (items + 3) // 4
    data = (directory / "verdicts.bin").read_bytes()
    runs = [(row["trainset"], row["method"], float(row["rate"]) if row["rate"] else None) for row in rows]
    if len(data) != width * len(rows) or len(set(runs)) != len(runs):
        raise SystemExit(f"{directory}: {len(data)} bytes for {len(rows)} runs of {items} items, or a run twice")
    percent: dict[Run, dict[str, float]] = {run: {} for run in runs}
    validation: dict[Run, dict[str, float]] = {}
    for number, (row, run) in enumerate(zip(rows, runs, strict=True)):
        bits = "".join(f"{byte:08b}" for byte in data[number * width : (number + 1) * width])
        right = [bits[2 * item : 2 * item + 2] == "01" for item in range(items)]
        for name, column in columns.items():
            percent[run][name] = 100 * sum(right[: column["items"]]) / column["items"]
            del right[: column["items"]]
        validation[run] = {name: float(row[f"validation_{name}"] or "nan") for name in columns}
    return World(directory.name, columns, about["shares"], percent, validation)


def points(worlds: Sequence[World], trainset: str, method: str) -> np.ndarray:
    """Gain and forgetting at each rate, (worlds, rates, 2)."""
    rates = sorted(set.intersection(*(set(world.rates(trainset, method)) for world in worlds)))
    if not rates:
        raise SystemExit(f"{method} on {trainset}: no rate that every world has")
    runs: list[Run] = [(trainset, method, rate) for rate in rates]
    return np.array([[(world.gain(run), world.forgetting(run)) for run in runs] for world in worlds])


def mean_path(of_worlds: np.ndarray) -> np.ndarray:
    return np.vstack([np.zeros((1, 2)), of_worlds.mean(axis=0)])


def least_forgetting(path: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The lowest point of a path at or beyond each gain, by its corners and by where its lines cross that gain."""
    x, y = path[:, 0, None], path[:, 1, None]
    corners = np.where(x >= gains - NOISE, y, np.inf)
    width = np.diff(x, axis=0)  # 0 where both ends are corners at one gain
    along = (gains - x[:-1]) / np.where(width == 0, np.nan, width)
    crossings = np.where((along >= 0) & (along <= 1), y[:-1] + along * np.diff(y, axis=0), np.inf)
    least: np.ndarray = np.minimum(corners.min(axis=0), crossings.min(axis=0))
    return least


def common_gain(*paths: np.ndarray) -> float:
    return min(float(path[:, 0].max()) for path in paths)


def area(one: np.ndarray, other: np.ndarray) -> float:
    """What the first path forgets more than the second, on the mean of the gains that both reach."""
    gains = common_gain(one, other) * np.linspace(0, 1, STEPS + 1)
    differences = least_forgetting(one, gains) - least_forgetting(other, gains)
    return float((differences[:-1] + differences[1:]).sum() / (2 * STEPS))


@dataclass
class Answer:
    """An effect over worlds. Where nothing can be compared it is nan, and its p-values are 1."""

    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = 1.0
    inner: tuple[float, float] = (math.nan, math.nan)  # the 90% interval
    adjusted_p: float = 1.0
    verdict: str = "inconclusive"


def answered(values: np.ndarray, p: float) -> Answer:
    """The mean of one value a world with Student's t intervals."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half, inner = (error * float(stats.t.ppf((1 + level) / 2, len(values) - 1)) for level in (0.95, 0.90))
    return Answer(mean, mean - half, mean + half, p, (mean - inner, mean + inner))


def plain(worlds: Sequence[World], value: Callable[[World], float]) -> Answer:
    """The mean of one number a world, with the p-value of all sign flips."""
    values = np.array([value(world) for world in worlds])
    signs = itertools.product((1, -1), repeat=len(values))
    extreme = [abs(np.dot(flip, values)) >= abs(values.sum()) - NOISE for flip in signs]
    return answered(values, sum(extreme) / len(extreme))


def compared(pairs: Sequence[Pair]) -> Answer:
    """The mean area between the pairs of fronts that can be compared, as jackknife values over worlds."""
    number = len(pairs[0][0])
    without = [[w for w in range(number) if w != out] for out in range(number)]

    def common(a: np.ndarray, b: np.ndarray) -> float:
        return min(common_gain(mean_path(a[some]), mean_path(b[some])) for some in [list(range(number)), *without])

    def mean_area(chosen: Sequence[Pair]) -> float:
        return float(np.mean([area(mean_path(a), mean_path(b)) for a, b in chosen]))

    kept = [pair for pair in pairs if common(*pair) >= LEAST_COMMON - NOISE]
    if not kept:
        return Answer()
    whole = mean_area(kept)
    rest = np.array([mean_area([(a[w], b[w]) for a, b in kept]) for w in without])
    extreme = []
    for swaps in itertools.product((False, True), repeat=number - 1):
        swap = np.array([False, *swaps])[:, None, None]
        swapped = mean_area([(np.where(swap, b, a), np.where(swap, a, b)) for a, b in kept])
        extreme.append(abs(swapped) >= abs(whole) - NOISE)
    return answered(number * whole - (number - 1) * rest, sum(extreme) / len(extreme))


def together(parts: Sequence[Answer]) -> Answer:
    """The part of the smallest effect, which stands for a claim of all of them."""
    if any(math.isnan(part.effect) for part in parts):
        return Answer()
    least = min(parts, key=lambda part: part.effect)
    p = max(part.p for part in parts) if least.effect > 0 else min(1.0, least.p * len(parts))
    return Answer(least.effect, least.low, least.high, p, least.inner)


def judge(answers: Sequence[Answer]) -> None:
    """Fill in Holm's p-values and the verdicts."""
    highest = 0.0
    for rank, answer in enumerate(sorted(answers, key=lambda answer: answer.p)):
        answer.adjusted_p = highest = max(highest, min(1.0, answer.p * (len(answers) - rank)))
    for number, answer in enumerate(answers, start=1):
        if answer.inner[0] > -MARGIN and answer.inner[1] < MARGIN:
            answer.verdict = "equivalent"
        elif number == 5 and answer.low > -MARGIN:
            answer.verdict = "supported"
        elif number == 5 and answer.high < -MARGIN:
            answer.verdict = "contradicted"
        elif number < 5 and answer.adjusted_p < LEVEL:
            answer.verdict = "supported" if answer.effect > 0 else "contradicted"


def five(worlds: Sequence[World], sft: float, gdpo: float, named: Sequence[str] = OTHERS) -> list[Answer]:
    """The answers by SFT's and GDPO's fixed rates; `named`: question 4's rows, beside the untrained student."""
    front = {(s, m): points(worlds, s, m) for s in (*NARROW, META) for m in (SFT, GDPO)}
    front["random", GDPO] = points(worlds, "random", GDPO)
    grpo_rates = worlds[0].rates(META, GRPO)
    rows: list[Run] = [UNTRAINED, *((s, m, {SFT: sft, GDPO: gdpo}[m]) for s, m in (name.split("/") for name in named))]

    def at_preferred(world: World, method: str) -> float:
        return world.average((META, method, world.preferred(META, method, grpo_rates)), *BOTH)

    def above(row: Run) -> Callable[[World], float]:
        return lambda world: world.average((META, GDPO, gdpo), *BOTH) - world.average(row, *BOTH)

    answers = [
        plain(worlds, lambda world: sum(world.forgetting((name, SFT, sft)) for name in NARROW) / len(NARROW)),
        compared([(front[name, SFT], front[name, GDPO]) for name in (*NARROW, META)]),
        together([
            compared([(front[name, GDPO], front[META, GDPO]) for name in NARROW]),
            compared([(front["random", GDPO], front[META, GDPO])]),
        ]),
        together([plain(worlds, above(row)) for row in rows]),
        plain(worlds, lambda world: at_preferred(world, GDPO) - at_preferred(world, GRPO)),
    ]  # fmt: skip
    judge(answers)
    return answers


def mismatches(answers: Sequence[Answer], path: Path) -> tuple[list[str], int]:
    """What differs from a file of answers by more than its rounding, and how many values were compared."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = {int(row["question"][0]): row for row in csv.DictReader(file) if not row["part"]}
    found = []
    for number, answer in enumerate(answers, start=1):
        for name in (*DIGITS, "verdict"):
            ours, text = getattr(answer, name), rows[number][name] if number in rows else "no row"
            if name == "verdict" or text == "no row":
                same = ours == text
            else:
                off = abs(ours - float(text or "nan"))
                same = off <= 0.5 * 10.0 ** -DIGITS[name] + NOISE or (math.isnan(ours) and text in ("", "nan"))
            if not same:
                found.append(f"question {number}, {name}: {ours} here, {text} in {path}")
    return found, len(answers) * (len(DIGITS) + 1)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("worlds", type=Path, help="a directory of world-N/")
    parser.add_argument("--sft", type=float, help="SFT's fixed rate")
    parser.add_argument("--gdpo", type=float, help="the fixed rate of GDPO as printed")
    parser.add_argument("--against", type=Path, help="a file of answers to compare with")
    parser.add_argument("--rows", nargs="+", default=OTHERS, metavar="SET/METHOD", help="question 4's other rows")
    parser.add_argument("--front", nargs=2, metavar=("SET", "METHOD"), help="print this front alone")
    options = parser.parse_args(given)
    worlds = [read_world(path.parent) for path in sorted(options.worlds.glob("world-*/world.json"))]
    if len(worlds) < 2:
        raise SystemExit(f"{options.worlds}: {len(worlds)} packed worlds, where two or more are needed")
    if options.front:
        path = mean_path(points(worlds, *options.front))
        gains = common_gain(path) * np.linspace(0, 1, STEPS + 1)
        for gain, forgotten in zip(gains, least_forgetting(path, gains), strict=True):
            print(f"{gain:.4f} {forgotten:.4f}")
        return 0
    answers = five(worlds, options.sft, options.gdpo, options.rows)
    for number, answer in enumerate(answers, start=1):
        print(number, *(f"{getattr(answer, name):.4f}" for name in DIGITS), answer.verdict)
    found, values = mismatches(answers, options.against) if options.against else ([], 0)
    if options.against:
        print(*found, f"{len(found)} mismatches of {values}", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
