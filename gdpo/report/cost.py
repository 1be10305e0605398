"""What a scale's results took, step by step, from their provenance files: `gdpo cost`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout
from gdpo.core.provenance import provenance_below
from gdpo.core.result_files import Provenance, read_stored

FILE = "cost.csv"
COLUMNS = ["step", "results", "runs", "wall_seconds", "cpu_seconds", "peak_memory_mb"]
StoredProvenance = Mapping[str, Any]


def records(layout: Layout) -> list[tuple[Path, StoredProvenance]]:
    """(path below the scale's directory, provenance) of each result except cost.csv."""
    ours = layout.root / f"{FILE}.provenance.json"
    found = [path for path in provenance_below(layout.root) if path != ours]
    return [(path.relative_to(layout.root), read_stored(path, Provenance)) for path in found]


def rows(found: Iterable[tuple[Path, StoredProvenance]]) -> list[dict[str, str]]:
    """One row a step, by name, and one a method for training. Peaks are maxima; everything else is summed.

    `runs`: how many different runs the results are of; empty where they are of none. A run of the learning-rate sweep,
    METHOD~RATE, counts under `METHOD, sweep`. The last row is `all`.
    """
    steps: dict[str, list[tuple[str | None, StoredProvenance]]] = {}
    for path, record in found:
        steps.setdefault(_step(path, record), []).append((_run(path), record))
    every = [entry for entries in steps.values() for entry in entries]
    named = sorted(steps.items()) + ([("all", every)] if every else [])
    return [_row(step, entries) for step, entries in named]


def _run(path: Path) -> str | None:
    """STUDENT/TRAINSET/METHOD/SEED where the result is a run's: its model, samples, scores or drift."""
    parts = [part.removesuffix(".provenance.json").removesuffix(".json") for part in path.parts if part != "validation"]
    parts = [part for part in parts if part != "provenance"]
    return "/".join(parts[1:]) if parts[0] in ("runs", "scores", "drift") and len(parts) == 5 else None


def _step(path: Path, record: StoredProvenance) -> str:
    step: str = record["step"]
    run = _run(path)
    if step != "train" or run is None:
        return step
    method, _, rate = run.split("/")[2].partition("~")
    return f"train {method}, sweep" if rate else f"train {method}"


def _row(step: str, entries: list[tuple[str | None, StoredProvenance]]) -> dict[str, str]:
    runs = {run for run, _ in entries if run}
    row = {"step": step, "results": str(len(entries)), "runs": str(len(runs)) if runs else ""}
    for key in ("wall_seconds", "cpu_seconds"):
        row[key] = f"{sum(record[key] for _, record in entries):.1f}"
    return row | {"peak_memory_mb": str(max(record["peak_memory_mb"] for _, record in entries))}
