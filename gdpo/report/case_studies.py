"""Case studies (paper, tables A13-A15): items that are right only after training, or only before it, verbatim.

An item is chosen by a rule, not by hand. Candidates are the items of the table's domains whose verdict changed at the
first seed; where some of them changed at every seed, only those. The one whose id has the smallest SHA-256 is shown. An
item that was sampled several times is shown by its first answer that has the change. In the CSV an apostrophe precedes
what a spreadsheet would take for a formula.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gdpo.config.layout import Layout, Run, origin
from gdpo.core.markdown import MARKUP, escape
from gdpo.core.records import Question, chat, read_records
from gdpo.core.result_files import Sample, read_rows
from gdpo.evaluate.samples import RIGHT_BEFORE, outputs, share_right, verdicts
from gdpo.report.columns import EXTRA_NOTE, column_title
from gdpo.report.rendered_table import csv_text, escape_formula
from gdpo.report.scores import Scores
from gdpo.report.tables import is_origin, row_title, score_files

CHANGES = {"gained": "wrong before, right after", "lost": "right before, wrong after"}
HEADER = [
    "model", "row", "change", "items", "at_every_seed", "seed", "benchmark", "id", "question", "gold",
    "verdict_before", "output_before", "verdict_after", "output_after",
]  # fmt: skip


@dataclass(frozen=True)
class CaseItem:
    """One benchmark item before training and after it, by seed."""

    benchmark: str
    question: Question
    before: dict
    after: tuple[dict, ...]

    def changed(self, change: str, seeds: int) -> bool:
        """Whether the verdict changed in this way at each of the first `seeds` seeds."""
        right = change == "gained"
        return _is_right(self.before) != right and all(_is_right(row) == right for row in self.after[:seeds])


def _is_right(row: dict) -> bool:
    """Whether at least half of an item's answers are right."""
    return share_right(row) >= RIGHT_BEFORE


def inputs(layout: Layout, name: str) -> list[Path]:
    table = layout.scale.tables[name]
    return [*score_files(layout, table), *(layout.benchmark(b, "test") for b in benchmarks(layout, name))]


def benchmarks(layout: Layout, name: str) -> list[str]:
    """The benchmarks of the table's domains."""
    scale = layout.scale
    return [b for domain in scale.tables[name].columns for b in scale.domain_benchmarks(domain)]


def items(layout: Layout, student: str, runs: Sequence[Run], names: Sequence[str]) -> list[CaseItem]:
    """Each item of the benchmarks `names` that the untrained student and each of `runs` answered."""
    answered_items = []
    for name in names:
        paths = [layout.samples(run, "test") / f"{name}.jsonl" for run in (*origin(student), *runs)]
        if all(path.exists() for path in paths):
            before, *after = ({row["id"]: row for row in read_rows(path, Sample)} for path in paths)
            for question in read_records(layout.benchmark(name, "test"), Question):
                if all(question.id in answered for answered in (before, *after)):
                    answers = tuple(answered[question.id] for answered in after)
                    answered_items.append(CaseItem(name, question, before[question.id], answers))
    return answered_items


def pick(candidates: Sequence[CaseItem], change: str, seeds: int) -> tuple[CaseItem | None, int, int]:
    """The chosen item, how many changed so at the first seed, and how many at every seed."""
    first = [item for item in candidates if item.changed(change, 1)]
    every = [item for item in first if item.changed(change, seeds)]
    chosen = min(every or first, key=lambda item: hashlib.sha256(item.question.id.encode()).digest(), default=None)
    return chosen, len(first), len(every)


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of table `name`."""
    found = rows(scores.layout, name)
    cells = [{key: escape_formula(text) for key, text in row.items()} for row in found]
    return {".csv": csv_text(HEADER, cells), ".md": markdown(scores.layout, name, found)}


def rows(layout: Layout, name: str) -> list[dict[str, str]]:
    """One row a student, row of the table and way to change; without an item's own columns where there is none."""
    scale, table = layout.scale, layout.scale.tables[name]
    found = []
    for student in scale.student_set(table.students):
        for cell in (cell for cell in table.rows if not is_origin(cell)):
            runs = layout.cell_runs(student, cell)
            answered = items(layout, student, runs, benchmarks(layout, name))
            for change in CHANGES:
                item, n, every = pick(answered, change, len(runs))
                row = {"model": scale.model(student).display, "row": row_title(scale, cell), "change": change}
                row |= {"items": str(n), "at_every_seed": str(every), "seed": str(runs[0].seed)}
                found.append(row | (_item_columns(layout, item) if item else {}))
    return found


def _item_columns(layout: Layout, item: CaseItem) -> dict[str, str]:
    question = item.question
    (verdict_before, output_before), (verdict_after, output_after) = map(decisive_answer, (item.before, item.after[0]))
    return {
        "benchmark": column_title(layout.scale, item.benchmark),
        "id": question.id,
        "question": chat(question)[-1]["content"],
        "gold": "a refusal" if question.grader == "refusal" and not question.answer else question.answer,
        "verdict_before": verdict_before,
        "output_before": output_before,
        "verdict_after": verdict_after,
        "output_after": output_after,
    }


def decisive_answer(row: dict) -> tuple[str, str]:
    """The verdict that decides whether the item counts as right, and the first answer that has it."""
    answers = list(zip(verdicts(row), outputs(row), strict=True))
    verdict, output = next(pair for pair in answers if (pair[0] == "right") == _is_right(row))
    right = sum(verdict == "right" for verdict, _ in answers)
    return verdict if len(answers) == 1 else f"{verdict}; {right} of {len(answers)} right", output


def markdown(layout: Layout, name: str, found: Sequence[dict[str, str]]) -> str:
    """The cases for people. Text of a data set or a model is fenced, so that it is never rendered."""
    blocks = [f"# {layout.scale.tables[name].title}"]
    for row in found:
        blocks.append(f"## {escape(row['model'], MARKUP)}, {escape(row['row'], MARKUP)}: {CHANGES[row['change']]}")
        if "id" not in row:
            blocks.append(f"No item changed so at seed {row['seed']}.")
            continue
        blocks.append(
            f"{escape(row['benchmark'], MARKUP)}, item {escape(row['id'], MARKUP)}: one of {row['items']} that changed "
            f"so at seed {row['seed']}, {row['at_every_seed']} of them at every seed."
        )
        blocks += ["Question:", fenced(row["question"]), "Expected:", fenced(row["gold"])]
        for when in ("before", "after"):
            blocks += [f"{when.capitalize()} training ({row[f'verdict_{when}']}):", fenced(row[f"output_{when}"])]
    rule = (
        "Chosen by a rule: of the domain's test items whose verdict changed so at the first seed, those that changed "
        "so at every seed, where there are any; of these the one whose id has the smallest SHA-256. Ungradable counts "
        "as wrong."
    )
    notes = [rule, f"Scale: {layout.scale.name}."]
    if any(layout.scale.benchmark(b).ours for b in benchmarks(layout, name)):
        notes.append(EXTRA_NOTE)
    return "\n\n".join([*blocks, "\n".join(f"- {note}" for note in notes)]) + "\n"


def fenced(text: str) -> str:
    """`text` verbatim in a Markdown fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
