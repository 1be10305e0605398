"""`gdpo verify`: make a table anew from stored outputs, and name whatever disagrees. Neither model nor network."""

from __future__ import annotations

import sys
from pathlib import Path

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.terminal import display
from gdpo.ops.verify.cells import differences
from gdpo.ops.verify.findings import Findings
from gdpo.ops.verify.outputs import Outputs, Regraded
from gdpo.ops.verify.records import Records
from gdpo.ops.verify.target import Target, target
from gdpo.report import tables

MEASURED = {  # what the tables of a kind show beside scores
    "comparison": "times, tokens and noise of the comparison, which are taken as recorded",
    "sources": "the counts of pool and training sets, which are taken from their files",
}


def verify(scale: Scale, result: Path) -> None:
    """Print what of table `result` does not follow from its scale's stored outputs; exit code 1 where anything."""
    findings = verified(Layout(scale), target(scale, result))
    display(findings.text(f"{result} (scale {scale.name})"))
    if findings.wrong:
        sys.exit(1)


def verified(layout: Layout, wanted: Target) -> Findings:
    findings = Findings()
    runs = _runs(layout, wanted.name)
    Records(layout, runs, wanted, findings).check()
    outputs = Outputs(layout, runs, findings)
    outputs.check()
    if outputs.complete:
        _compare(layout, wanted, outputs, findings)
    else:
        findings.wrong.append(f"{wanted.stem}: not made anew, since not all of its outputs can be read")
    if note := MEASURED.get(layout.scale.tables[wanted.name].kind):
        findings.unseen[note] = 0
    return findings


def _runs(layout: Layout, name: str) -> list[Run]:
    """The runs that a table shows, and its students untrained, from whom differences are taken."""
    table = layout.scale.tables[name]
    shown = layout.selected_runs(table)
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    return list(dict.fromkeys([*shown, *untrained])) if shown else []


def _compare(layout: Layout, wanted: Target, outputs: Outputs, findings: Findings) -> None:
    """Every file of the table with its text as made anew, byte by byte."""
    scores = Regraded(layout, outputs.rows)
    for part in tables.parts(layout.scale.tables[wanted.name]):
        try:
            made = tables.texts(scores, wanted.name, part)
        except (UserError, OSError) as error:
            findings.wrong.append(f"{wanted.part(part)}: not made anew: {error}")
            continue
        for end, text in made.items():
            path = wanted.part(part).with_suffix(end)
            if path not in wanted.files:
                continue
            try:
                kept = path.read_bytes().decode("utf-8")
            except FileNotFoundError:
                findings.wrong.append(f"{path}: no such file; expected a part of the table")
            except UnicodeDecodeError as error:
                findings.wrong.append(f"{path}: expected UTF-8, found {error}")
            else:
                findings.wrong += differences(path, kept, text)
                findings.checked["files of the table, byte by byte"] += 1
