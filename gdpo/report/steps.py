"""The report's commands (`gdpo table`, `gdpo sweep` and others): results from scores and samples alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from gdpo.config.layout import Layout, Run
from gdpo.config.learning_rates import best_rate, sweep_file, swept
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, suggest
from gdpo.core.files import read_csv, replacing, write_csv, write_json, write_text
from gdpo.core.project import require_checkout
from gdpo.core.provenance import provenance_below, provenance_path, recorded
from gdpo.core.result_files import Provenance, RunScores, read_stored
from gdpo.core.terminal import display, say
from gdpo.report import score_display, tables, unlike_rows
from gdpo.report.columns import averaged_columns
from gdpo.report.published_scale import directory_of, scale_of
from gdpo.report.scores import Scores


def table(scale: Scale, name: str) -> None:
    """Write each part of a table as CSV, Markdown and, for most kinds, LaTeX, under results/<scale>/tables/."""
    layout = Layout(scale)
    shown = scale.table(name)
    settings = [shown, scale.bootstrap_draws, scale.bootstrap_seed]
    runs = layout.selected_runs(shown)
    if runs and not any(layout.samples(run, "test").exists() for run in runs):
        found = f"none of the {len(runs)} runs of {name}"
        raise UserError(path=f"{layout.root}/samples", found=found, expected="their samples")
    scores = Scores(layout)
    for part in tables.parts(shown):
        path = layout.table(name + part)
        with recorded(path, "table", settings, {"bootstrap": scale.bootstrap_seed}) as extra:
            for end, text in tables.texts(scores, name, part).items():
                write_text(path.with_suffix(end), text)
            extra["runs"] = [str(run) for run in runs]
        say(f"table {path}")
    for sentence in unlike_rows.notes(layout, [name]):
        say(f"note: {sentence}")


def figure(scale: Scale, name: str) -> None:
    """Draw a figure as PDF and PNG, and write its numbers as CSV, under results/<scale>/figures/."""
    from gdpo.report import figures

    layout = Layout(scale)
    with recorded(layout.figure(name), "figure", figures.drawn(scale, name), {"bootstrap": scale.bootstrap_seed}):
        paths = figures.write(layout, name)
    say(f"figure {', '.join(map(str, paths))}")


def publish(scale: Scale, name: str) -> None:
    """Copy a table, a figure or the claims to results/, which has the active scale's, and to paper/ what is printed."""
    from gdpo.report import figures

    layout = Layout(scale)
    if name == "claims":
        sources = [(layout.root / f"claims{end}", "results") for end in (".csv", ".md")]
    elif name in scale.tables:
        files = tables.files(scale.tables[name], layout.table(name).with_suffix(""))
        sources = [(path, "results") for path in files]
        sources += [(path, "paper/tables") for path in files if path.suffix == ".tex"]
    elif name not in (known := figures.names(scale)):
        raise UserError(key="publish", found=f"'{name}'", hint=suggest(name, ["claims", *scale.tables, *known]))
    else:
        sources = [(layout.figure(name).with_suffix(end), "paper/figures") for end in (".pdf", ".png")]
    sources += [(provenance_path(path), to) for path, to in sources if path.suffix == ".csv"]
    for source, to in sources:
        if not source.is_file():
            raise UserError("no such file", path=source, expected="what `gdpo publish` copies, made before")
        with replacing(Path(to) / source.name) as temporary:
            shutil.copyfile(source, temporary)


def sweep(scale: Scale) -> None:
    """Choose for each (student, trainset, method) the best learning rate by the mean over validation benchmarks.

    Of equal rates the smaller is chosen. The file has each candidate's score. Recorded cells stay; larger rates are
    added to a cell whose best rate was the grid's largest. Delete a cell's rows to have it swept again.
    Raises UserError outside a checkout, where the choice is kept.
    """
    require_checkout("workflow/config/sweep")
    if scale.limit:
        expected = "none (rates are chosen on the whole scale)"
        raise UserError(key="sweep", found=f"limit={scale.limit}", expected=expected)
    layout = Layout(scale)
    path = sweep_file(scale.scale)
    scores: dict[tuple[str, str, str], dict[float, list[float]]] = {}  # cell -> rate -> a score a seed
    for run in layout.sweep_runs():
        method, _, rate = run.method.partition("~")
        mean = _validation_mean(layout, run)
        scores.setdefault((run.student, run.trainset, method), {}).setdefault(float(rate), []).append(mean)
    cells = swept(scale.scale)
    for cell, by_rate in scores.items():
        means = {rate: round(100 * sum(seeds) / len(seeds), 2) for rate, seeds in by_rate.items()}
        cells.setdefault(cell, {}).update(means)
    rows = []
    for (student, trainset, method), means in cells.items():
        best = best_rate(means)
        for tried, mean in sorted(means.items()):
            row = {"student": student, "trainset": trainset, "method": method, "learning_rate": f"{tried:g}"}
            rows.append(row | {"validation_mean": f"{mean:.2f}", "chosen": int(tried == best)})
    seeds = {f"sweep_{i}": seed for i, seed in enumerate(scale.sweep.seeds)}
    with recorded(path, "sweep", scale.sweep, seeds) as extra:
        write_csv(path, ["student", "trainset", "method", "learning_rate", "validation_mean", "chosen"], rows)
        extra["items"] = {name: benchmark.validation_items for name, benchmark in scale.benchmarks.items()}
    say(f"sweep: {len(scores)} cells over {len(scale.sweep.learning_rates)} rates, written to {path}")


def _validation_mean(layout: Layout, run: Run) -> float:
    known = averaged_columns(layout)
    entries = read_stored(layout.score(run, "validation"), RunScores)["benchmarks"]
    scores: list[float] = [entry["score"] for name, entry in entries.items() if name in known]
    if not scores:
        raise UserError(path=layout.score(run, "validation"), found="no benchmark", expected="validation scores")
    return sum(scores) / len(scores)


def summary(scale: Scale, since: float) -> None:
    """Print, per step, how many results were made since `since` (seconds since the epoch) and their time."""
    steps: dict[str, list[dict]] = {}
    for path in provenance_below(Layout(scale).root):
        if path.stat().st_mtime >= since:
            record = read_stored(path, Provenance)
            steps.setdefault(record["step"], []).append(record)
    if not steps:
        return
    say(f"\n{'step':<14}{'results':>8}{'seconds':>10}{'peak MB':>9}")
    for step, records in steps.items():
        seconds = sum(record["wall_seconds"] for record in records)
        say(f"{step:<14}{len(records):>8}{seconds:>10.1f}{max(r['peak_memory_mb'] for r in records):>9}")


def show(scale: Scale, name: str) -> None:
    """Print a table of results/ as plain text, with its retention and forgetting, and where its files are.

    It is shown as a table of the scale that its provenance names; a note says so where another scale was asked for.
    """
    stem = Path("results") / name
    scale.table(name)
    scale, note = _made_at(stem, scale)
    shown = scale.table(name)
    if shown.kind == "scores":
        of = {part: read_csv(stem.with_name(f"{name}{part}.csv")) for part in tables.parts(shown)}
        width = shutil.get_terminal_size((score_display.WIDTH, 0)).columns
        ours = {name for name in tables.shown_benchmarks(scale, shown) if scale.benchmark(name).ours}
        display(f"{shown.title}; scale {scale.name}{note}\n\n{score_display.score_text(of, width, ours)}")
    else:
        display(f"scale {scale.name}{note}\n\n{_text(stem.with_name(f'{name}.md'))}")
    for sentence in unlike_rows.notes(Layout(scale), [name]):
        display(f"note: {sentence}")
    display(f"{stem}*: CSV, Markdown and provenance; scores, samples, groups, models: {Layout(scale).root}/")


def _made_at(stem: Path, asked: Scale) -> tuple[Scale, str]:
    """The scale that the table in results/ was made at, and a note behind its name.

    Raises UserError where that is neither the one asked for nor a known one.
    """
    path = stem.with_name(f"{stem.name}.csv")
    if not path.exists():
        path = stem.with_name(f"{stem.name}.md")
    if not provenance_path(path.with_suffix(".csv")).exists():
        return asked, " as asked for, since no provenance names one"
    found = directory_of(path)
    if found == asked.name:
        return asked, ""
    make = f"snakemake --cores all {stem}.csv --config scale={asked.scale}"
    make += f" limit={asked.limit}" if asked.limit else ""
    return load_scale(*scale_of(path)), f", not {asked.name}, which `{make}` puts here"


def _text(path: Path) -> str:
    if not path.exists():
        raise UserError("no such file", path=path, expected="a table made by `gdpo publish`")
    return path.read_text(encoding="utf-8")


def audit(scale: Scale) -> None:
    """Recompute the published averages and print which do not follow. It is the same at every scale: results/audit."""
    from gdpo.report import audit as audits
    from gdpo.report.published import published as printed

    rows, path = printed(), Path("results") / "audit.csv"
    with recorded(path, "audit", {}):
        write_csv(path, audits.COLUMNS, audits.csv_rows(audits.averages(rows)))
        write_text(path.with_suffix(".md"), audits.markdown(rows))
    display(audits.markdown(rows))


def power(scale: Scale) -> None:
    """Print what the published comparisons could have shown, from item counts alone: results/power, at every scale."""
    from gdpo.report import power as powers
    from gdpo.report.published import published as printed

    found, path = powers.comparisons(printed(), powers.item_counts()), Path("results") / "power.csv"
    with recorded(path, "power", {}):
        write_csv(path, powers.COLUMNS, powers.csv_rows(found))
        write_text(path.with_suffix(".md"), powers.markdown(found))
    display(powers.markdown(found))


def published(scale: Scale) -> None:
    """Write the published numbers with this scale's, where models, rows and benchmarks are the same."""
    from gdpo.report import published as beside

    layout = Layout(scale)
    path = layout.root / "published.csv"
    with recorded(path, "published", {}):
        pairs = beside.compare_all(layout)
        write_csv(path, beside.COLUMNS, beside.rows(pairs))
        write_text(path.with_suffix(".md"), beside.markdown(scale, pairs))
    say(f"published {path}: {len(pairs)} numbers beside ours")


def claims(scale: Scale) -> None:
    """Test each claim of the paper on this scale's results; write and print the verdicts."""
    from gdpo.report import claims as tests

    layout = Layout(scale)
    path = layout.root / "claims.csv"
    with recorded(path, "claims", tests.settings(scale), {"bootstrap": scale.bootstrap_seed}):
        found = tests.results(layout, tests.load(scale))
        write_csv(path, tests.COLUMNS, tests.rows(found))
        write_text(path.with_suffix(".md"), tests.markdown(layout, found))
    for result in found:
        say(f"{result.verdict:<13} {result.id}: {result.claim.statement}")
    say(f"claims {path}: {len(found)}")


def cost(scale: Scale) -> None:
    """Sum what the scale's results took, by step and, for training, by method."""
    from gdpo.report import cost as costs

    layout = Layout(scale)
    path = layout.root / costs.FILE
    rows = costs.rows(costs.records(layout))
    with recorded(path, "cost", {}):
        write_csv(path, costs.COLUMNS, rows)
    say(f"cost {path}: {len(rows)} rows")


def explore(scale: Scale) -> None:
    """Write the page over the scale's results, under results/<scale>/explorer/."""
    from gdpo.report import explorer

    layout = Layout(scale)
    seeds = {"bootstrap": scale.bootstrap_seed}
    with recorded(layout.explorer, "explore", explorer.settings(scale), seeds) as extra:
        extra |= (size := explorer.write(layout, layout.explorer))
    say(f"explorer {layout.explorer}/index.html: {size['files']} files, {size['bytes'] / 1e6:.1f} MB")


def runs(scale: Scale) -> None:
    """Write what each trained run of the matrix took, under results/<scale>/runs.csv."""
    from gdpo.report import trained_runs

    layout = Layout(scale)
    with recorded(layout.runs, "runs", {}):
        rows = trained_runs.rows(layout)
        write_csv(layout.runs, trained_runs.COLUMNS, rows)
    say(f"runs {layout.runs}: {len(rows)} of {len(trained_runs.trained(layout))} trained runs made")


def reproduced(scale: Scale, docs: bool = False) -> None:
    """Write the paper's numbers and this scale's, cell by cell; with `docs`, fill docs/numbers/SCALE.md."""
    from gdpo.report import reproduced as cells

    if docs:
        page = Path("docs/numbers") / f"{scale.scale}.md"
        kept = Path("results/reference") / scale.scale / "reproduced.csv"
        write_text(page, cells.filled(_text(page), scale.scale, read_csv(kept)))
        say(f"reproduced {page}: the cells of {kept}")
        return
    layout = Layout(scale)
    with recorded(layout.reproduced, "reproduced", {}, {"bootstrap": scale.bootstrap_seed}):
        rows = cells.rows(layout)
        write_csv(layout.reproduced, cells.COLUMNS, rows)
        write_text(layout.reproduced.with_suffix(".md"), cells.markdown(scale, rows))
    say(f"reproduced {layout.reproduced}: {sum(bool(row['ours']) for row in rows)} of {len(rows)} cells")


def numbers(scale: Scale) -> None:
    """Gather the numbers that the report's text quotes, in results/<scale>/numbers.json."""
    from gdpo.report import numbers as gathered

    layout = Layout(scale)
    path = layout.root / "numbers.json"
    found = gathered.numbers(layout)
    with recorded(path, "numbers", {}):
        write_json(path, found)
    say(f"numbers {path}: {found['runs']['made']} of {found['runs']['trained']} trained runs made")


def paper(scale: Scale) -> None:
    """Compile the report of this scale's results to paper/report.pdf."""
    from gdpo.report import paper as report

    path = report.PAPER / "report.pdf"
    with recorded(path, "paper", {"scale": scale.name}):
        report.build(Layout(scale))
    say(f"paper {path}")
