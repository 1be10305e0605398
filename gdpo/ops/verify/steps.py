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
    "measures": "likelihoods, KL and which answers were cut off, which are taken as recorded",
    "sources": "the counts of pool and training sets, which are taken from their files",
}


def verify(scale: Scale, result: Path) -> None:
    """Print what of table `result` does not follow from its scale's stored outputs; exit code 1 if anything."""
    findings = check(Layout(scale), target(scale, result))
    display(findings.text(f"{result} (scale {scale.name})"))
    if findings.disagreements:
        sys.exit(1)


def check(layout: Layout, table: Target) -> Findings:
    """Check a table's provenance, then its outputs, and compare its files with those made from the outputs."""
    findings = Findings()
    runs = _runs(layout, table.name)
    Records(layout, runs, table, findings).check()
    outputs = Outputs(layout, runs, findings)
    outputs.check()
    if outputs.complete:
        _compare(layout, table, outputs, findings)
    else:
        findings.disagree("not made anew, since not all of its outputs can be read", path=table.stem)
    if note := MEASURED.get(layout.scale.tables[table.name].kind):
        findings.unproved[note] = 0
    return findings


def _runs(layout: Layout, name: str) -> list[Run]:
    """The runs that a table shows, and those of its untrained students, which differences are taken from."""
    table = layout.scale.tables[name]
    shown = layout.selected_runs(table)
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    return list(dict.fromkeys([*shown, *untrained])) if shown else []


def _compare(layout: Layout, table: Target, outputs: Outputs, findings: Findings) -> None:
    """Compare every file of the table with its text as it is made anew, byte by byte."""
    scores = Regraded(layout, outputs.rows)
    for part in tables.parts(layout.scale.tables[table.name]):
        try:
            texts = tables.texts(scores, table.name, part)
        except (UserError, OSError) as error:
            findings.disagree(f"not made anew: {error}", path=table.part(part))
            continue
        for ending, text in texts.items():
            path = table.part(part).with_suffix(ending)
            if path not in table.files:
                continue
            try:
                stored = path.read_bytes().decode("utf-8")
            except FileNotFoundError:
                findings.disagree("no such file", path=path, expected="a part of the table")
            except UnicodeDecodeError as error:
                findings.disagree(path=path, found=str(error), expected="UTF-8")
            else:
                findings.disagreements += differences(path, stored, text)
                findings.checked["files of the table, byte by byte"] += 1
