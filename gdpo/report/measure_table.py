"""Tables of what training changed in single items and in likelihoods, beside the scores (ours; kind `measures`).

A line a student and row, means over seeds. What is lost and won is counted from samples (`gdpo.report.transitions`);
likelihoods and KL are read as they were measured (`gdpo.evaluate.measures`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout, Run, origin
from gdpo.core.result_files import MeasuredRun, read_stored
from gdpo.report.columns import column_notes, untaught_columns
from gdpo.report.rendered_table import RenderedTable, TableCell, number
from gdpo.report.score_tables import TableRow, table_rows
from gdpo.report.scores import Scores
from gdpo.report.tables import is_origin, row_title, score_files, shown_benchmarks
from gdpo.report.transitions import Transitions, counted, transferability

TITLES = {
    "lost": "lost", "lost_adjusted": "lost, adjusted", "won": "won", "won_adjusted": "won, adjusted",
    "wrong": "lost: wrong", "unparseable": "unparseable", "cut": "cut off", "untaught_lost": "untaught lost",
    "untaught_won": "untaught won", "nll_gold": "NLL gold", "nll_untaught": "NLL untaught", "nll_text": "NLL text",
    "kl_forward": "KL forward", "kl_reverse": "KL reverse", "transferability": "TI",
}  # fmt: skip
PERCENT = ("lost", "lost_adjusted", "won", "won_adjusted", "wrong", "unparseable", "cut", "untaught_lost",
           "untaught_won")  # fmt: skip


def inputs(layout: Layout, name: str) -> list[Path]:
    table = layout.scale.tables[name]
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    runs = dict.fromkeys([*layout.selected_runs(table), *untrained])
    return [*score_files(layout, table), *(layout.measures(run, "test") for run in runs)]


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of table `name`."""
    return rendered(scores, name).texts()


def rendered(scores: Scores, name: str) -> RenderedTable:
    layout, table = scores.layout, scores.layout.scale.tables[name]
    rows, body, breaks = [], [], []
    kept = [line for line in table_rows(layout, table) if not is_origin(line.cell)]
    for place, line in enumerate(kept):
        found = line_values(scores, line, shown_benchmarks(layout.scale, table))
        shown = {key: number(found.get(key), 1 if key in PERCENT else 3) for key in TITLES}
        labels = {"model": layout.scale.model(line.student).display, "row": row_title(layout.scale, line.cell)}
        rows.append(labels | shown | {"seeds": " ".join(str(run.seed) for run in line.runs)})
        body.append([TableCell(text) for text in rows[-1].values()])
        if place and kept[place - 1].student != line.student:
            breaks.append(place)
    return RenderedTable(
        title=f"{table.title} (what training changed)",
        csv_columns=["model", "row", *TITLES, "seeds"],
        csv_rows=rows,
        heads=["model", "row", *TITLES.values(), "seeds"],
        body=body,
        breaks=breaks,
        notes=_notes(layout, name),
    )


def line_values(scores: Scores, line: TableRow, names: Sequence[str]) -> dict[str, float | None]:
    """Each of TITLES for one row: means over its seeds. A value is missing where nothing can be said."""
    layout = scores.layout
    [before] = origin(line.student)
    untaught = [name for name in untaught_columns(layout) if name in names]
    per_seed: list[dict[str, float | None]] = []
    for run in line.runs:
        measured = read_stored(layout.measures(run, "test"), MeasuredRun)
        items = {name: _transitions(scores, before, run, name, measured) for name in names}
        known = {name: entry for name, entry in items.items() if entry is not None}
        values = _shares(layout, known)
        values |= {"untaught_lost": None, "untaught_won": None}
        if untaught and all(name in known for name in untaught):
            parts = _shares(layout, {name: known[name] for name in untaught})
            values |= {"untaught_lost": parts["lost"], "untaught_won": parts["won"]}
        values |= _likelihoods(layout, before, measured, names, untaught)
        values["transferability"] = _transferability(known, measured["new_task"])
        per_seed.append(values)
    return {key: _mean(values.get(key) for values in per_seed) for key in TITLES}


def _transitions(scores: Scores, before: Run, run: Run, name: str, measured: Mapping[str, Any]) -> Transitions | None:
    """A benchmark's transitions; None where it was dropped for one of the runs."""
    old, new = scores.items(before, name), scores.items(run, name)
    return None if old is None or new is None else counted(old, new, set(measured["cut"].get(name, ())))


def _shares(layout: Layout, known: Mapping[str, Transitions]) -> dict[str, float | None]:
    """Counts in percent of all items, macro over benchmarks as scores are."""
    if not known:
        return {}
    chance = {name: layout.scale.benchmark(name).chance for name in known}
    counts = [
        {
            "lost": entry.lost / entry.n,
            "lost_adjusted": entry.adjusted_lost(chance[name]) / entry.n,
            "won": entry.won / entry.n,
            "won_adjusted": entry.adjusted_won(chance[name]) / entry.n,
            "wrong": entry.wrong / entry.n,
            "unparseable": entry.unparseable / entry.n,
            "cut": entry.cut / entry.n,
        }
        for name, entry in known.items()
    ]
    return {key: 100 * sum(count[key] for count in counts) / len(counts) for key in counts[0]}


def _likelihoods(
    layout: Layout, before: Run, measured: Mapping[str, Any], names: Sequence[str], untaught: Sequence[str]
) -> dict[str, float | None]:
    """Changes of negative log-likelihood, nats a token, from the untrained student; and KL, nats a token."""
    old = read_stored(layout.measures(before, "test"), MeasuredRun)

    def change(of: Iterable[str]) -> float | None:
        changes = [_change(old["gold"].get(name), measured["gold"].get(name)) for name in of]
        return _mean(changes)

    return {
        "nll_gold": change(name for name in names if name not in untaught),
        "nll_untaught": change(untaught),
        "nll_text": _change(old["text"], measured["text"]),
        "kl_forward": measured["kl"]["forward"],
        "kl_reverse": measured["kl"]["reverse"],
    }


def _change(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> float | None:
    """The mean over items of the change of nats a token; None where no item has a gold answer."""
    if old is None or new is None:
        return None
    pairs = zip(old["nll"], new["nll"], new["tokens"], strict=True)
    return _mean((after - before) / tokens for before, after, tokens in pairs if tokens)


def _transferability(known: Mapping[str, Transitions], new_task: Sequence[str]) -> float | None:
    relative = {
        name: (entry.right_after - entry.right_before) / entry.right_before
        for name, entry in known.items()
        if entry.right_before
    }
    taught = {name: change for name, change in relative.items() if name in new_task}
    return transferability(taught, {name: change for name, change in relative.items() if name not in new_task})


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _notes(layout: Layout, name: str) -> list[str]:
    return [
        "Means over seeds. lost, won: percent of items that were right before training and are not after, and the "
        "other way round, macro over benchmarks; adjusted: less what two guessers of these scores lose or win by "
        "chance. Lost ones are told apart by the answer after training: wrong, unparseable, or cut off at its limit.",
        "NLL: change of the negative log-likelihood, nats a token, of gold answers to taught and to untaught items, "
        "and of text as the student was pretrained on. KL: nats a token along answers to the new task's prompts; "
        "forward: from the untrained student along its own answers; reverse: from the trained one along its own.",
        "TI: Transferability Index, the relative change of scores on all other benchmarks by that on the domains of "
        "the training set; 1: as much is gained there, below 0: what is gained here is lost there.",
        f"Scale: {layout.scale.name}.",
        *column_notes(layout, shown_benchmarks(layout.scale, layout.scale.tables[name])),
    ]
