"""`gdpo table`, `gdpo sweep`, `gdpo summary`: results from scores and samples alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from gdpo.config import Scale, sweep_file
from gdpo.console import say
from gdpo.errors import UserError
from gdpo.files import read_csv, read_json, replacing, write_csv, write_text
from gdpo.layout import Layout, Run
from gdpo.provenance import provenance_path, recorded
from gdpo.report import tables

KINDS = {"": "Score", "_retention": "Retention"}


def table(scale: Scale, name: str) -> None:
    """Write a table of scores and the same of retention, CSV and Markdown, under results/<scale>/tables/."""
    layout = Layout(scale)
    settings = [scale.tables[name], scale.bootstrap_draws, scale.bootstrap_seed]
    shown = tables.columns(scale, scale.tables[name])
    for suffix, what in KINDS.items():
        path = layout.table(name + suffix)
        with recorded(path, "table", settings, {"bootstrap": scale.bootstrap_seed}) as extra:
            header, rows = tables.table_rows(layout, name, retention=what == "Retention")
            notes = tables.notes(scale, what) + tables.dropped(layout, name)
            title = f"{scale.tables[name].title} ({what.lower()})"
            write_csv(path, header, rows)
            write_text(path.with_suffix(".md"), tables.markdown(title, shown, rows, notes))
            extra["runs"] = [str(run) for run in layout.selected_runs(scale.tables[name])]
        say(f"table {path}: {len(rows)} rows")


def publish(scale: Scale, name: str) -> None:
    """Copy a table of this scale to results/, where the active scale's tables lie."""
    for suffix in KINDS:
        source = Layout(scale).table(name + suffix)
        for path in (source, source.with_suffix(".md"), provenance_path(source)):
            with replacing(Path("results") / path.name) as temporary:
                shutil.copyfile(path, temporary)


def sweep(scale: Scale) -> None:
    """Choose, for every (student, trainset, method), the grid's best rate by the mean over validation columns.

    Ties go to the smaller rate. Every candidate's score is kept beside the choice. What is recorded already stays
    as it is; delete its rows to have it swept again.
    """
    if scale.limit:
        raise UserError(f"sweep: found limit={scale.limit}, expected none (rates are chosen on the whole scale)")
    layout = Layout(scale)
    path = sweep_file(scale.scale)
    found: dict[tuple[str, str, str], dict[float, list[float]]] = {}
    for run in layout.sweep_runs():
        method, _, rate = run.method.partition("~")
        mean = _validation_mean(layout, run)
        found.setdefault((run.student, run.trainset, method), {}).setdefault(float(rate), []).append(mean)
    rows = read_csv(path) if path.exists() else []
    for (student, trainset, method), by_rate in found.items():
        means = {rate: sum(scores) / len(scores) for rate, scores in by_rate.items()}
        best = min(means, key=lambda rate: (-means[rate], rate))
        for rate, mean in sorted(means.items()):
            row = {"student": student, "trainset": trainset, "method": method, "learning_rate": f"{rate:g}"}
            rows.append(row | {"validation_mean": f"{100 * mean:.2f}", "chosen": int(rate == best)})
    seeds = {f"sweep_{i}": seed for i, seed in enumerate(scale.sweep.seeds)}
    with recorded(path, "sweep", scale.sweep, seeds) as extra:
        write_csv(path, ["student", "trainset", "method", "learning_rate", "validation_mean", "chosen"], rows)
        extra["items"] = {name: benchmark.validation_items for name, benchmark in scale.benchmarks.items()}
    say(f"sweep: {len(found)} cells over {len(scale.sweep.learning_rates)} rates, written to {path}")


def _validation_mean(layout: Layout, run: Run) -> float:
    scores = read_json(layout.score(run, "validation"))["benchmarks"]
    if not scores:
        raise UserError(f"{layout.score(run, 'validation')}: found no benchmark, expected validation scores")
    return sum(entry["score"] for entry in scores.values()) / len(scores)


def summary(scale: Scale, since: float) -> None:
    """Print, per step, how many results were made since `since` (seconds since the epoch) and their time."""
    steps: dict[str, list[dict]] = {}
    for path in sorted(Layout(scale).root.rglob("*provenance.json")):
        if path.stat().st_mtime >= since and "work" not in path.relative_to(Layout(scale).root).parts:
            record = read_json(path)
            steps.setdefault(record["step"], []).append(record)
    if not steps:
        return
    say(f"\n{'step':<14}{'results':>8}{'seconds':>10}{'peak MB':>9}")
    for step, records in steps.items():
        seconds = sum(record["wall_seconds"] for record in records)
        say(f"{step:<14}{len(records):>8}{seconds:>10.1f}{max(r['peak_memory_mb'] for r in records):>9}")


def show(scale: Scale, name: str) -> None:
    """Print the active scale's table and its retention as plain text, and say where their parts are."""
    for suffix, what in KINDS.items():
        path = Path("results") / f"{name}{suffix}.csv"
        rows = read_csv(path)
        keys = [key for key in rows[0] if not key.endswith("_ci")]
        cells = [keys, *([_shown(row, key) for key in keys] for row in rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
        print(f"{scale.tables[name].title}: {what.lower()}, percent, mean ±95% half-width; scale {scale.name}")
        for line in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        print(f"{path}, Markdown and provenance beside it\n")
    print(f"scores, samples, groups, models: {Layout(scale).root}/")


def _shown(row: dict[str, str], key: str) -> str:
    half = row.get(f"{key}_ci")
    return f"{row[key]}±{half}" if half else row[key]
