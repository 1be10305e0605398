"""The numbers that the report's text quotes: the scale's settings, sizes, runs, machines and time.

They are read from the configuration and from files of other steps; nothing is measured here. What a scale has not made
yet is null or left out, and the text then says so or says nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from gdpo.config.layout import Layout
from gdpo.config.learning_rates import learning_rates, sweep_file, swept
from gdpo.config.models import Method, Model, TrainSet
from gdpo.config.scale import Scale
from gdpo.core.files import read_csv, read_json, read_jsonl
from gdpo.core.provenance import provenance_below
from gdpo.core.result_files import Provenance, QuestionOrGroup, read_rows, read_stored
from gdpo.report import trained_runs
from gdpo.report.bootstrap import LEVEL
from gdpo.report.columns import column_title
from gdpo.report.figures import names as drawable
from gdpo.report.figures import settings as figure_settings
from gdpo.report.tables import columns


def inputs(layout: Layout) -> list[Path]:
    """What `numbers` reads: the training sets and the scores of tables and studies, and the cost."""
    groups = [layout.groups(name) for name in _trainsets(layout)]
    scores = [layout.score(run, "test") for run in trained_runs.shown_runs(layout)]
    return [layout.units, *groups, *scores, layout.root / "cost.csv"]


def settings(scale: Scale) -> list:
    """The settings that the numbers quote: the configuration, the recorded sweep, and the figures' titles."""
    recorded = [[*cell, sorted(means.items())] for cell, means in swept(scale.scale).items()]
    return [scale, scale.names, recorded, figures(scale)]


def numbers(layout: Layout) -> dict[str, Any]:
    """The report's numbers by name; every value is plain JSON."""
    scale, empty = layout.scale, layout.unavailable()
    return {
        "scale": {"name": scale.name, "description": scale.description, "limit": scale.limit},
        "seeds": scale.seeds,
        "bootstrap": {"draws": scale.bootstrap_draws, "seed": scale.bootstrap_seed, "level": LEVEL},
        "students": [_model(layout, name) for name in scale.students],
        "student_sets": {k: [_model(layout, name) for name in v] for k, v in scale.student_sets.items()},
        "teacher": _model(layout, scale.respond.teacher),
        "benchmarks": [_benchmark(layout, name, empty) for name in scale.benchmarks],
        "pool": {"questions": _lines(layout.pool), "units": _units(layout), "retained": scale.mastered_threshold},
        "selection": scale.selection.model_dump(mode="json"),
        "respond": scale.respond.model_dump(mode="json"),
        "reward": scale.reward.model_dump(mode="json"),
        "trainsets": [_trainset(layout, name) for name in _trainsets(layout)],
        "methods": [_method(layout, name) for name in dict.fromkeys(cell[2] for cell in _cells(layout))],
        "rates": _rates(layout),
        "sweep": _sweep(layout),
        "runs": _counts(layout),
        "tables": {name: _table(layout, name) for name in scale.tables},
        "figures": figures(scale),
        "cost": _cost(layout),
        **_origins(layout),
    }


def figures(scale: Scale) -> dict[str, dict[str, str]]:
    """Title, caption and width of each figure that the scale can have, by name, in order."""
    known = figure_settings.known(scale)
    return {name: known[name].model_dump(include={"title", "caption", "width"}) for name in drawable(scale)}


def _cells(layout: Layout) -> list[tuple[str, str, str]]:
    """(student, trainset, method) of every trained cell, each once."""
    return list(dict.fromkeys((r.student, r.trainset, r.method) for r in trained_runs.trained(layout)))


def _trainsets(layout: Layout) -> list[str]:
    return list(dict.fromkeys(trainset for _, trainset, _ in _cells(layout)))


def _model(layout: Layout, name: str) -> dict[str, Any]:
    return {"name": name, "display": layout.scale.model(name).display, "parameters": parameters(layout.model(name))}


def parameters(directory: Path) -> int | None:
    """How many numbers a model's safetensors files hold, read from their headers; None where there are none."""
    sizes = []
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                sizes.append(math.prod(tensor["shape"]))
    return sum(sizes) if sizes else None


def _lines(path: Path) -> int | None:
    return sum(1 for _ in read_jsonl(path)) if path.exists() else None


def _units(layout: Layout) -> int | None:
    return len(read_json(layout.units)) if layout.units.exists() else None


def _benchmark(layout: Layout, name: str, empty: dict[str, str]) -> dict[str, Any]:
    """A benchmark; `empty` says why its items cannot be had."""
    entry = layout.scale.benchmark(name)
    found = _lines(layout.benchmark(name, "test"))
    return {
        "name": name,
        "display": column_title(layout.scale, name),
        "domain": entry.domain,
        "items": entry.items if found is None else found,
        "validation_items": entry.validation_items,
        **({"samples": entry.samples} if entry.samples > 1 else {}),
        **({"unavailable": empty[name]} if name in empty else {}),
    }


def _trainset(layout: Layout, name: str) -> dict[str, Any]:
    """A training set's size, and of its groups: completions a question, how many carry a contrast, share right."""
    entry = layout.scale.trainset(name)
    row: dict[str, Any] = {"name": name, "display": entry.display, "select": entry.select, "size": entry.size}
    path = layout.groups(name)
    if not path.exists():
        return row
    groups = list(read_rows(path, QuestionOrGroup))
    verdicts = [part["verdict"] for group in groups for part in group.get("parts", [])]
    row |= {
        "questions": len(groups),
        "domains": dict(sorted(Counter(group["domain"] for group in groups).items())),
        "completions": round(mean(len(group["completions"]) for group in groups), 2) if groups else None,
        "contrast": sum(len(set(group["rewards"])) > 1 for group in groups),
        "right": round(100 * verdicts.count("right") / len(verdicts), 1) if verdicts else None,
    }
    return row


def _method(layout: Layout, name: str) -> dict[str, Any]:
    kept = ("display", "trainer", "epochs", "batch_size", "beta", "objective", "lora", "group_size", "warmup_ratio")
    entry = layout.scale.methods[name].model_dump(mode="json")
    return {"name": name} | {key: entry[key] for key in kept}


def _rates(layout: Layout) -> list[dict[str, Any]]:
    """The learning rate of every trained cell, and whether the sweep chose it."""
    chosen = learning_rates(layout.scale.scale)
    return [
        {
            "student": student,
            "trainset": trainset,
            "method": method,
            "learning_rate": layout.scale.method(method, student, trainset).learning_rate,
            "swept": (student, trainset, method) in chosen,
        }
        for student, trainset, method in _cells(layout)
    ]


def _sweep(layout: Layout) -> dict[str, Any]:
    """The grid, the rates tried beyond it where its largest was best, and each swept cell's best with its mean."""
    path = sweep_file(layout.scale.scale)
    rows = read_csv(path) if path.exists() else []
    best = [_swept(layout, row) for row in rows if row["chosen"] == "1"]
    sweep = layout.scale.sweep
    tried = {float(row["learning_rate"]) for row in rows}
    found = {
        "learning_rates": sweep.learning_rates,
        "further": [rate for rate in sweep.extended_rates if rate in tried],
    }
    return found | {"seeds": sweep.seeds, "candidates": len(rows), "best": best}


def _swept(layout: Layout, row: dict[str, str]) -> dict[str, Any]:
    """A chosen row of the sweep with the names that people read; a name that the scale has no more stays as it is."""
    scale = layout.scale
    entries: dict[str, Mapping[str, Model | TrainSet | Method]] = {
        "student": scale.models,
        "trainset": scale.trainsets,
        "method": scale.methods,
    }
    shown = {key: known[row[key]].display if row[key] in known else row[key] for key, known in entries.items()}
    return shown | {
        "trainer": scale.methods[row["method"]].trainer if row["method"] in scale.methods else "",
        "learning_rate": float(row["learning_rate"]),
        "validation_mean": float(row["validation_mean"]),
    }


def _counts(layout: Layout) -> dict[str, int]:
    """Trained runs: distinct ones that tables and studies name, those of them made, and how often all are shown.

    `grid`: those that a study shows at each rate of the grid, which no table does.
    """
    trained = trained_runs.trained(layout)
    studied = [run for s in layout.scale.studies.values() if s.grid for run in layout.selected_runs(s)]
    made = {path.parent for path in (layout.root / "runs").glob("*/*/*/*/train.json")}
    shown = [run for chosen in trained_runs.selections(layout) for run in layout.selected_runs(chosen)]
    return {
        "trained": len(trained),
        "made": sum(layout.run(run) in made for run in trained),
        "shown": sum(not run.is_origin for run in shown),
        "grid": len(set(studied)),
    }


def _table(layout: Layout, name: str) -> dict[str, Any]:
    table = layout.scale.tables[name]
    students = [layout.scale.model(s).display for s in layout.scale.student_set(table.students)]
    shown = [{"key": c.key, "title": c.title} for c in columns(layout, table)]
    return {"title": table.title, "kind": table.kind, "students": students, "columns": shown}


def _cost(layout: Layout) -> list[dict[str, Any]]:
    """The rows of cost.csv, its figures as numbers; empty where it has not been made."""
    path = layout.root / "cost.csv"
    rows = read_csv(path) if path.exists() else []
    return [{k: v if k == "step" else _number(v) for k, v in row.items()} for row in rows]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _origins(layout: Layout) -> dict[str, Any]:
    """The machines, package versions and code that made this scale's results, from their provenance."""
    records = [read_stored(path, Provenance) for path in provenance_below(layout.root)]
    machines = Counter(_machine(record.get("hardware", {})) for record in records)
    packages: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.get("packages", {}).items():
            packages.setdefault(package, set()).add(version)
    return {
        "machines": [{"machine": machine, "results": count} for machine, count in machines.most_common()],
        "packages": {package: sorted(found) for package, found in sorted(packages.items())},
        "code": sorted({record["code"] for record in records if "code" in record}),
    }


def _machine(hardware: dict[str, Any]) -> str:
    """A machine in words: processor, cores, and the GPU where there is one."""
    words = [hardware.get("cpu") or hardware.get("machine") or "unknown processor"]
    if hardware.get("cpus"):
        words.append(f"{hardware['cpus']} cores")
    if hardware.get("gpu"):
        words.append(hardware["gpu"])
    return ", ".join(words)
