"""Tables as selections of runs: their columns, the files each kind of table reads and writes, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config import Scale
from gdpo.layout import Layout, origin
from gdpo.table_schema import Cell, Table

if TYPE_CHECKING:
    from gdpo.report.scores import Scores

MAKERS = {"scores": "score_tables", "comparison": "comparison", "sources": "sources", "cases": "cases"}
PARTS = {"scores": ("", "_retention", "_forgetting")}  # suffixes of a table's name; one table alone for other kinds
ENDS = {"cases": (".csv", ".md")}
ALL_ENDS = (".csv", ".md", ".tex")


@dataclass(frozen=True)
class Column:
    """One numeric column: a benchmark, or the average of several (macro, as in the paper)."""

    key: str
    title: str
    benchmarks: tuple[str, ...]

    @property
    def single(self) -> bool:
        return self.benchmarks == (self.key,)


def columns(scale: Scale, table: Table) -> list[Column]:
    """A table's benchmarks by domain, each domain followed by its average, and the overall one where asked."""
    found = []
    for domain in table.columns:
        names = scale.domain_benchmarks(domain)
        found += [Column(name, scale.benchmark(name).display, (name,)) for name in names]
        if len(names) > 1:
            found.append(Column(f"{domain}_avg", f"{domain} avg", tuple(names)))
    if table.overall:
        found.append(Column("overall_avg", "overall avg", tuple(scale.benchmarks)))
    return found


def row_title(scale: Scale, cell: Cell) -> str:
    """The row's own title, except that a baseline is called what its training set is called at this scale."""
    return scale.trainset(cell.trainset).display if cell.row == cell.trainset else cell.row


def is_origin(cell: Cell) -> bool:
    """Whether a row is the untrained student's own; a finished model in its place is a row like a trained one."""
    return cell.method == "origin" and not cell.model


def parts(table: Table) -> tuple[str, ...]:
    """What is put behind a table's name for each table that it consists of."""
    return PARTS.get(table.kind, ("",))


def files(table: Table, stem: Path) -> list[Path]:
    """Every file that a table writes under `stem`, a path without an ending; provenance left out."""
    ends = ENDS.get(table.kind, ALL_ENDS)
    return [stem.with_name(f"{stem.name}{part}{end}") for part in parts(table) for end in ends]


def inputs(layout: Layout, name: str) -> list[Path]:
    """Every file and directory that table `name` reads."""
    return _maker(layout.scale.tables[name]).inputs(layout, name)


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of one part of table `name`."""
    return _maker(scores.layout.scale.tables[name]).texts(scores, name, part)


def scored(layout: Layout, table: Table) -> list[Path]:
    """Scores and samples of the table's runs and of its students untrained, from whom differences are taken."""
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    return layout.scored([*layout.selected_runs(table), *untrained])


def _maker(table: Table):
    return import_module(f"gdpo.report.{MAKERS[table.kind]}")
