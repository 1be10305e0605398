"""A world's finished runs, read from results/<scale>/world-N/ and packed (gdpo.report.trial.packing)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gdpo.config.layout import Layout, Run, origin
from gdpo.core.files import read_json
from gdpo.core.hashing import fingerprint
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Group, Question, read_records
from gdpo.core.result_files import MeasuredRun, Provenance, RunScores, Sample, TrainLog, read_rows, read_stored
from gdpo.evaluate.samples import verdicts
from gdpo.report.trial.distance import distances
from gdpo.report.trial.packing import CUT, RIGHT, UNPARSEABLE, WRONG, PackedWorld
from gdpo.teach.levels import describe

CODES = {"right": RIGHT, "wrong": WRONG, "ungradable": UNPARSEABLE}
DIGITS = 5  # of a stored likelihood or KL, in nats


def inputs(layout: Layout) -> list[Path]:
    """Every file that a packed world is made from."""
    runs = [*untrained(layout), *layout.trial_runs()]
    files = [path for run in runs for path in (*layout.scored([run]), layout.measures(run, "test"))]
    files += [layout.score(run, "validation") for run in runs]
    sets = dict.fromkeys(run.trainset for run in layout.trial_runs())
    files += [layout.groups(name) for name in sets]
    return files + [layout.run(run) for run in runs]


def untrained(layout: Layout) -> list[Run]:
    trial = layout.scale.trial
    return origin(trial.student) if trial else []


def gathered(layout: Layout) -> PackedWorld:
    """The world of the layout's scale, with every run of its trial."""
    scale, world = layout.scale, layout.scale.world
    assert world is not None  # a trial has worlds
    runs = [*untrained(layout), *layout.trial_runs()]
    columns = {
        name: {"items": _items(layout, name), "role": entry.role, "domain": entry.domain, "chance": entry.chance}
        for name, entry in scale.benchmarks.items()
    }
    sets = list(dict.fromkeys(run.trainset for run in layout.trial_runs()))
    about = {
        "scale": scale.scale,
        "world": world.seed,
        "columns": columns,
        "shares": {name: shares(layout, name) for name in sets},
        "groups": {name: _rewards(layout, name) for name in sets},
        "distances": distances(layout, runs[0].student, sets),
        "cpu_seconds": round(sum(_cpu_seconds(path) for path in _timed(layout, runs)), 1),
    }
    codes = np.stack([np.concatenate([_codes(layout, run, name) for name in columns]) for run in runs])
    return PackedWorld(about, [_row(layout, run, list(columns)) for run in runs], codes)


def shares(layout: Layout, trainset: str) -> dict[str, float]:
    """Skill -> its share of a training set's questions, of the skills of taught columns."""
    path = layout.trainset(trainset)
    while not path.exists() and layout.scale.trainset(trainset).parts:
        trainset = layout.scale.trainset(trainset).parts[0]
        path = layout.trainset(trainset)
    if not path.exists():
        return {}
    counts = Counter(question.source for question in read_records(path, Question))
    total = sum(counts.values())
    taught = layout.scale.role_benchmarks("taught")
    return {name: round(counts[name] / total, 6) for name in taught if counts[name]}


def _items(layout: Layout, name: str) -> int:
    return len(read_records(layout.benchmark(name, "test"), Question))


def _rewards(layout: Layout, trainset: str) -> dict[str, Any]:
    """What a set's groups can rank, and the share of their completions that are right."""
    groups = read_records(layout.groups(trainset), Group)
    judged = [part.verdict for group in groups for part in group.parts]
    right = round(judged.count("right") / len(judged), 4) if judged else None
    return {**{name: round(value, 4) for name, value in describe(groups).items()}, "right": right}


def _codes(layout: Layout, run: Run, column: str) -> np.ndarray:
    rows = list(read_rows(layout.samples(run, "test") / f"{column}.jsonl", Sample))
    cut = set(read_stored(layout.measures(run, "test"), MeasuredRun)["cut"].get(column, []))
    judged = [CODES[verdicts(row)[0]] for row in rows]
    return np.array([CUT if place in cut and code != RIGHT else code for place, code in enumerate(judged)], np.uint8)


def _row(layout: Layout, run: Run, columns: Sequence[str]) -> dict[str, Any]:
    measured = read_stored(layout.measures(run, "test"), MeasuredRun)
    validation = read_stored(layout.score(run, "validation"), RunScores)["benchmarks"]
    record = read_json(provenance_path(layout.score(run, "test")))
    log = {} if run.is_origin else read_stored(layout.run(run) / "train.json", TrainLog)
    method, _, rate = run.method.partition("~")
    row = {
        "student": run.student,
        "trainset": run.trainset,
        "method": method,
        "rate": rate,
        "seed": run.seed,
        "steps": "" if run.is_origin else int(log["steps"] or 0),
        "kl_forward": _rounded(measured["kl"].get("forward")),
        "kl_reverse": _rounded(measured["kl"].get("reverse")),
        "nll_text": _per_token(measured["text"]),
        "samples": fingerprint([record["samples"][name]["sha256"] for name in columns]),
    }
    row |= {f"validation_{name}": validation[name]["score"] if name in validation else "" for name in columns}
    return row | {f"nll_{name}": _per_token(measured["gold"].get(name)) for name in columns}


def _per_token(likelihoods: Mapping[str, Any] | None) -> float | str:
    """The mean over items of nats a token; empty where no item has a gold answer."""
    pairs = zip(likelihoods["nll"], likelihoods["tokens"], strict=True) if likelihoods else ()
    means = [nll / tokens for nll, tokens in pairs if tokens]
    return round(sum(means) / len(means), DIGITS) if means else ""


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, DIGITS)


def _timed(layout: Layout, runs: Sequence[Run]) -> list[Path]:
    """Every recorded result of the world that took time: its models, groups, runs and scores."""
    scale = layout.scale
    models = [layout.model(name) for name in dict.fromkeys((*scale.proficiency.models, scale.respond.teacher))]
    sets = list(dict.fromkeys(run.trainset for run in layout.trial_runs()))
    files = [*models, *(layout.responses(name) for name in sets), *(layout.groups(name) for name in sets)]
    files += [layout.run(run) for run in runs if not run.is_origin]
    files += [layout.score(run, split) for run in runs for split in ("test", "validation")]
    return [provenance_path(path) for path in files if provenance_path(path).exists()]


def _cpu_seconds(path: Path) -> float:
    seconds: float = read_stored(path, Provenance)["cpu_seconds"]
    return seconds
