"""The runs that a claim is about: only those of the scale's tables and studies, so that no claim needs others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.loader import read_yaml
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core.errors import UserError, suggest
from gdpo.core.project import CONFIG
from gdpo.report import trained_runs
from gdpo.report.claims.schema import (
    Claim,
    Claims,
    Columns,
    Compared,
    Correlation,
    Derived,
    Interaction,
    Measure,
    Selection,
    Trend,
    selections,
)
from gdpo.report.columns import averaged_columns


class NotTestable(Exception):
    """The active scale has no results on a claim; the message says why."""


def check_names(path: Path, claims: Claims, scale: Scale) -> None:
    """Raises UserError where a claim has a name that neither the scale nor the shared tables and studies have."""
    shared = {key: read_yaml(CONFIG / f"{key}.yaml") for key in ("tables", "studies")}
    entries = [entry for kind in shared.values() for entry in kind.values()]
    rows = [row for entry in entries for row in entry.get("rows", [])]
    known = {
        "trainset": {"none", *scale.trainsets, *(row.get("trainset", "none") for row in rows)},
        "method": {"origin", *scale.methods, *(row.get("method", "origin") for row in rows)},
        "students": {"main", "study", *scale.student_sets, *(entry.get("students", "main") for entry in entries)},
        "study": {*scale.studies, *shared["studies"]},
    }
    for name, claim in claims.root.items():
        for kind, value in _names(claim):
            if value not in known[kind]:
                raise UserError(path=path, key=f"{name}.{kind}", found=f"'{value}'", hint=suggest(value, known[kind]))


def _names(claim: Claim) -> Iterable[tuple[str, str]]:
    for selection in selections(claim):
        yield "trainset", selection.trainset
        yield "method", selection.method
    for kind, key in (("students", "students"), ("students", "against"), ("study", "study")):
        if hasattr(claim, key):
            yield kind, getattr(claim, key)


def students(layout: Layout, claim: Compared) -> list[str]:
    """The students of a claim's set that have all of its rows, as some tables are about one student alone.

    Raises NotTestable where the scale lacks the set, or no student of it has the rows.
    """
    return _with_rows(layout, _student_set(layout.scale, claim.students), claim)


def others(layout: Layout, claim: Interaction) -> list[str]:
    """As `students`, of the set `against`, without those of the claim's own set."""
    scale = layout.scale
    own = _student_set(scale, claim.students)
    left = [student for student in _student_set(scale, claim.against) if student not in own]
    if not left:
        raise NotTestable(f"scale {scale.name} has no student in '{claim.against}' beside those in '{claim.students}'")
    return _with_rows(layout, left, claim)


def _student_set(scale: Scale, name: str) -> list[str]:
    if name != "main" and name not in scale.student_sets:
        raise NotTestable(f"scale {scale.name} has no student set '{name}'")
    return scale.student_set(name)


def _with_rows(layout: Layout, names: list[str], claim: Claim) -> list[str]:
    found, reasons = [], []
    for student in names:
        try:
            for selection in selections(claim):
                selected(layout, student, selection)
            found.append(student)
        except NotTestable as reason:
            reasons.append(reason)
    if not found:
        raise reasons[0] if reasons else NotTestable(f"scale {layout.scale.name} has no student for it")
    return found


def selected(layout: Layout, student: str, selection: Selection) -> list[Run]:
    """The runs of `selection` for a student, one a seed, as a table or study of the scale has them.

    A row that shows a finished model in a run's place is found by the training set and method it stands for. Raises
    NotTestable where no table or study of the scale has such a row for the student.
    """
    if selection.method == "origin":
        return origin(student)
    scale = layout.scale
    for entry in trained_runs.selections(layout):
        for cell in entry.rows:
            same = (cell.trainset, cell.method) == (selection.trainset, selection.method)
            if same and student in scale.student_set(entry.students):
                return layout.cell_runs(student, cell)
    what = f"{selection.method} on {selection.trainset}"
    raise NotTestable(f"no table of scale {scale.name} has {what} for {scale.model(student).display}")


def study_rows(layout: Layout, name: str) -> list[tuple[str, Cell]]:
    """(student, cell) of a study, students outermost. Raises NotTestable where the scale lacks the study."""
    study = layout.scale.studies.get(name)
    if study is None:
        raise NotTestable(f"scale {layout.scale.name} has no study '{name}'")
    return [(s, cell) for s in _student_set(layout.scale, study.students) for cell in study.rows]


def benchmarks(layout: Layout, columns: Columns) -> list[str]:
    """The benchmarks that the average is over. Raises NotTestable where the scale has none, or none can be had."""
    names = averaged_columns(layout, None if columns == "overall" else columns)
    if not names:
        raise NotTestable(f"scale {layout.scale.name} has no {columns} benchmark")
    return names


def runs(layout: Layout, claim: Claim) -> list[Run]:
    """Each run that a claim reads, once, with untrained students. Raises NotTestable where one is in no table."""
    if isinstance(claim, Correlation | Derived):
        return []
    if isinstance(claim, Trend):
        cells = study_rows(layout, claim.study)
        return list(dict.fromkeys(run for student, cell in cells for run in layout.cell_runs(student, cell)))
    names = students(layout, claim)
    if isinstance(claim, Interaction):
        names = [*names, *others(layout, claim)]
    found = [run for s in names for selection in selections(claim) for run in selected(layout, s, selection)]
    before = [] if isinstance(claim, Measure) else [run for s in names for run in origin(s)]
    return list(dict.fromkeys([*before, *found]))


def files(layout: Layout, claim: Claim) -> list[Path]:
    """Each file and directory that a claim reads; none where it is not testable."""
    try:
        needed = runs(layout, claim)
    except NotTestable:
        return []
    if isinstance(claim, Correlation):
        return [layout.proficiency]
    if isinstance(claim, Trend) and claim.x == "questions":
        sets = [layout.trainset(cell.trainset) for _, cell in study_rows(layout, claim.study)]
        return [*layout.scored(needed), *dict.fromkeys(sets)]
    if not isinstance(claim, Measure):
        return layout.scored(needed)
    if claim.quantity == "noise":
        return list(dict.fromkeys(layout.noise(run.student, run.trainset, run.method) for run in needed))
    taught = [layout.response_file(run) for run in needed] if claim.quantity == "seconds_with_teacher" else []
    return list(dict.fromkeys([*(layout.run(run) for run in needed), *filter(None, taught)]))
