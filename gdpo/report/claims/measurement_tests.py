"""Tests of claims about measurements (proficiency, training runs, gradient noise) and about exact values."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from gdpo.config.layout import Layout, Run
from gdpo.core.files import read_csv
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import NoiseResult, Provenance, Stored, TrainLog, read_stored
from gdpo.report import comparison
from gdpo.report.bootstrap import interval, p_value
from gdpo.report.claims import claim_runs
from gdpo.report.claims.claim_runs import NotTestable
from gdpo.report.claims.objective_values import VALUES
from gdpo.report.claims.schema import Correlation, Derived, Measure
from gdpo.report.claims.score_tests import nearest
from gdpo.report.claims.verdicts import Finding, Part

# (layout, runs of a, runs of b) -> the values of a and of b, one a seed
Quantities = Callable[..., list[list[float | None]]]


def correlation(layout: Layout, claim: Correlation) -> Finding:
    """The mean over pairs of columns of Pearson's correlation over questions, with a bootstrap over questions."""
    scale, models = layout.scale, layout.scale.proficiency.models
    if claim.models and len(models) != claim.models:
        raise NotTestable(f"it is about {claim.models} base models, scale {scale.name} has {len(models)}")
    if len(models) < 2:
        raise NotTestable(f"scale {scale.name} measures the proficiency of one model alone")
    pairs = {
        "models": list(combinations(models, 2)),
        "average": [(model, "average") for model in models],
        "strict": [("average", "strict")],
    }[claim.between]
    columns = [*models, "average", "strict"]
    rows = [[float(row[column]) for column in columns] for row in read_csv(layout.proficiency)]
    found, draws = correlations(np.array(rows), [(columns.index(a), columns.index(b)) for a, b in pairs], layout)
    if not np.isfinite(draws).all():
        raise NotTestable("a model is right or wrong on every question, also in redraws")
    names = {model: scale.model(model).display for model in models} | {"average": "average", "strict": "strict"}
    parts = tuple(
        Part(f"{names[a]} and {names[b]}", float(found[i]), *interval(draws[:, i])) for i, (a, b) in enumerate(pairs)
    )
    mean, redrawn = float(found.mean()), draws.mean(axis=1)
    p = p_value(redrawn - nearest(mean, claim.claimed))
    return Finding(mean, *interval(redrawn), "correlation", len(rows), p, parts)


def correlations(rows: np.ndarray, pairs: list[tuple[int, int]], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's correlation of each pair of columns, (pairs,), and over redrawn rows, (draws, pairs).

    `rows` (questions, columns) hold few different rows, so that redrawing questions is redrawing how often each
    occurs.
    """
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    generator = np.random.default_rng([layout.scale.bootstrap_seed, len(rows)])
    redrawn = generator.multinomial(len(rows), counts / len(rows), size=layout.scale.bootstrap_draws)
    return _weighted(patterns, counts[None], pairs)[0], _weighted(patterns, redrawn, pairs)


def _weighted(patterns: np.ndarray, counts: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ patterns
    variance = share @ patterns**2 - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(
            [
                (share @ (patterns[:, a] * patterns[:, b]) - mean[:, a] * mean[:, b])
                / np.sqrt(variance[:, a] * variance[:, b])
                for a, b in pairs
            ],
            axis=1,
        )


def measure(layout: Layout, claim: Measure) -> Finding:
    """The mean over students and seeds of a's quantity over b's; the interval is from the smallest to the largest.

    Where only one of a pair of runs never reaches it (infinite), the mean is without the pair. The interval then
    reaches to infinity, where that run is a's, or to 0, where it is b's.
    """
    parts: list[Part] = []
    never: list[float] = []
    for student in claim_runs.students(layout, claim):
        pair = [claim_runs.selected(layout, student, selection) for selection in (claim.a, claim.b)]
        name = layout.scale.model(student).display
        if claim.quantity == "noise":
            paths = [layout.noise(runs[0].student, runs[0].trainset, runs[0].method) for runs in pair]
            parts += noise_ratio(name, *(_read(path, NoiseResult) for path in paths))
            continue
        a_values, b_values = QUANTITIES[claim.quantity](layout, *pair)
        both = [(run.seed, x, y) for run, x, y in zip(pair[0], a_values, b_values, strict=False) if x is not None and y]
        parts += [Part(f"{name}, seed {seed}", x / y) for seed, x, y in both if inf not in (x, y)]
        never += [x / y for _, x, y in both if (x == inf) != (y == inf)]
    if not parts:
        raise NotTestable(f"no two runs have a measured {claim.quantity.replace('_', ' ')} to compare")
    ends = [end for part in parts for end in (part.low, part.high) if end is not None] or [p.effect for p in parts]
    ends += never
    low, high = (min(ends), max(ends)) if len(ends) > 1 else (None, None)
    note = f"{len(never)} more pairs of runs of which one alone never has it" if never else ""
    effect = float(np.mean([part.effect for part in parts]))
    return Finding(effect, low, high, "ratio", len(parts), None, tuple(parts), note)


def noise_ratio(name: str, a: dict[str, Any], b: dict[str, Any]) -> list[Part]:
    """The ratio of two noises with the widest interval that the two intervals allow; none where one is missing."""
    if a.get("noise") is None or b.get("noise") is None:
        return []
    low = max(0.0, a["noise_low"]) / b["noise_high"]
    high = a["noise_high"] / b["noise_low"] if b["noise_low"] > 0 else inf
    return [Part(name, a["noise"] / b["noise"], low, high)]


def _read(path: Path, kind: type[Stored]) -> dict[str, Any]:
    return read_stored(path, kind) if path.exists() else {}


def _logs(layout: Layout, runs: list[Run]) -> list[dict[str, Any]]:
    return [_read(layout.run(run) / "train.json", TrainLog) for run in runs]


def _of_key(key: str) -> Quantities:
    return lambda layout, *pair: [[log.get(key) for log in _logs(layout, runs)] for runs in pair]


def _memory(layout: Layout, *pair: list[Run]) -> list[list[float | None]]:
    return [[comparison.memory_increase(_logs(layout, runs))] for runs in pair]


def _with_teacher(layout: Layout, *pair: list[Run]) -> list[list[float | None]]:
    """Training seconds, and the teacher's whole sampling charged to each run that learns from its completions."""
    return [
        [_plus_teacher(layout, run, log.get("seconds")) for run, log in zip(r, _logs(layout, r), strict=True)]
        for r in pair
    ]


def _plus_teacher(layout: Layout, run: Run, seconds: float | None) -> float | None:
    if seconds is None or layout.is_online(run):
        return seconds
    responses = layout.response_file(run)
    sampling = _read(provenance_path(responses), Provenance).get("wall_seconds") if responses else None
    return None if sampling is None else seconds + sampling


def _to_reward(layout: Layout, *pair: list[Run]) -> list[list[float | None]]:
    """Training seconds to the equal reward of table A3; infinite where a seed never reaches it."""
    watched = [[log.get("watch") or [] for log in _logs(layout, runs)] for runs in pair]
    if (reward := comparison.equal_reward(watched)) is None:
        return [[None] * len(curves) for curves in watched]
    reached = [[comparison.first_reach(curve, reward, "seconds") for curve in curves] for curves in watched]
    return [[inf if seconds is None else seconds for seconds in of] for of in reached]


QUANTITIES: dict[str, Quantities] = {
    "seconds": _of_key("seconds"),
    "seconds_with_teacher": _with_teacher,
    "seconds_to_reward": _to_reward,
    "completions": _of_key("completions"),
    "memory": _memory,
}


def derived(claim: Derived) -> Finding:
    """An exact value: its interval is the value itself."""
    value, unit = VALUES[claim.value]
    effect = value()
    return Finding(effect, effect, effect, unit)
