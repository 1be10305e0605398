"""What each trained run took, a row a run: `gdpo runs`. `gdpo cost` has the sums of all steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout, Run
from gdpo.config.tables import Study, Table
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, TrainLog, read_stored

COLUMNS = [
    "student", "trainset", "method", "seed", "groups", "skipped_groups", "too_long", "steps", "tokens", "seconds",
    "memory_before_mb", "memory_peak_mb", "device", "hardware", "evaluate_seconds",
]  # fmt: skip
LOGGED = ("groups", "skipped_groups", "too_long", "steps", "tokens", "seconds", "device")
StoredProvenance = Mapping[str, Any]


def selections(layout: Layout) -> list[Table | Study]:
    """The tables, and the studies whose rows are at their own rates."""
    return [*layout.scale.tables.values(), *(study for study in layout.scale.studies.values() if not study.grid)]


def shown_runs(layout: Layout) -> list[Run]:
    """Each run that one of `selections` shows, once."""
    return list(dict.fromkeys(run for chosen in selections(layout) for run in layout.selected_runs(chosen)))


def trained(layout: Layout) -> list[Run]:
    """As `shown_runs`, without the untrained students and finished models."""
    return [run for run in shown_runs(layout) if not run.is_origin]


def inputs(layout: Layout) -> list[Path]:
    return [path for run in trained(layout) for path in (layout.run(run), layout.score(run, "test"))]


def rows(layout: Layout) -> list[dict[str, str]]:
    """A row for each finished training run: seconds, and memory in MB. What its log lacks is empty.

    `evaluate_seconds`: of the scoring on test items, all benchmarks together.
    """
    return [_row(layout, run) for run in trained(layout) if (layout.run(run) / "train.json").exists()]


def _row(layout: Layout, run: Run) -> dict[str, str]:
    log, record = read_stored(layout.run(run) / "train.json", TrainLog), train_record(layout, run)
    memory = log.get("memory_mb", {})
    values = {**run.__dict__, **{key: log.get(key) for key in LOGGED}}
    values |= {"memory_before_mb": memory.get("before"), "memory_peak_mb": memory.get("peak")}
    values |= {"hardware": machine_name(record), "evaluate_seconds": evaluate_record(layout, run).get("wall_seconds")}
    return {key: "" if values[key] is None else str(values[key]) for key in COLUMNS}


def train_record(layout: Layout, run: Run) -> StoredProvenance:
    """The provenance of a run's model; empty where there is none."""
    return _record(layout.run(run) / "provenance.json")


def evaluate_record(layout: Layout, run: Run) -> StoredProvenance:
    """The provenance of a run's score on test items; empty where there is none."""
    return _record(provenance_path(layout.score(run, "test")))


def _record(path: Path) -> StoredProvenance:
    return read_stored(path, Provenance) if path.exists() else {}


def machine_name(record: StoredProvenance) -> str:
    """The name of the GPU that a result was made on, or of the processor where there was no GPU."""
    hardware = record.get("hardware", {})
    name: str = hardware.get("gpu") or hardware.get("cpu") or hardware.get("machine", "")
    return name
