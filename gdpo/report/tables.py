"""Tables: their columns, the files that each kind reads and writes, and the module that makes each kind."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell, Table
from gdpo.report.columns import averaged_columns, column_title, paper_columns, untaught_columns

if TYPE_CHECKING:
    from gdpo.report.scores import Scores

MAKERS = {"scores": "score_tables", "comparison": "comparison", "sources": "source_table", "cases": "case_studies",
          "measures": "measure_table"}  # fmt: skip
PARTS = {"scores": ("", "_retention", "_forgetting")}  # suffixes of the table's name; other kinds are one table
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


def columns(layout: Layout, table: Table) -> list[Column]:
    """A table's benchmarks by domain, and the average over all domains where the table has one.

    In each domain the paper's benchmarks come first, then their average, then our own benchmarks. Behind the overall
    average come those that are untaught, with theirs, and those of the answer's form. Columns that stay
    empty are included, and so are averages over no benchmark.
    """
    scale, shown = layout.scale, []
    for domain in table.columns:
        single = [Column(name, column_title(scale, name), (name,)) for name in scale.domain_benchmarks(domain)]
        papers = paper_columns(scale, domain)
        shown += single[: len(papers)]
        if len(papers) > 1:
            shown.append(Column(f"{domain}_avg", f"{domain} avg", tuple(averaged_columns(layout, domain))))
        shown += single[len(papers) :]
    if table.overall:
        shown.append(Column("overall_avg", "overall avg", tuple(averaged_columns(layout))))
        untaught = scale.role_benchmarks("untaught")
        beside = [Column(n, column_title(scale, n), (n,)) for n in (*untaught, *scale.role_benchmarks("format"))]
        average = [Column("untaught_avg", "untaught avg", tuple(untaught_columns(layout)))] if untaught else []
        shown += [*beside[: len(untaught)], *average, *beside[len(untaught) :]]
    return shown


def shown_benchmarks(scale: Scale, table: Table) -> list[str]:
    """Each benchmark that a table shows or averages over."""
    if table.overall:
        return list(scale.benchmarks)
    return [name for domain in table.columns for name in scale.domain_benchmarks(domain)]


def row_title(scale: Scale, cell: Cell) -> str:
    """The row's title. A row that is named as its training set has the set's title at this scale."""
    return scale.trainset(cell.trainset).display if cell.row == cell.trainset else cell.row


def is_origin(cell: Cell) -> bool:
    """Whether a row is the untrained student's. A finished model in its place is treated as a trained one."""
    return cell.method == "origin" and not cell.model


def parts(table: Table) -> tuple[str, ...]:
    """The suffixes of a table's name, one for each table that it consists of."""
    return PARTS.get(table.kind, ("",))


def files(table: Table, stem: Path) -> list[Path]:
    """Each file that a table writes under `stem`, a path without an ending; without provenance files."""
    ends = ENDS.get(table.kind, ALL_ENDS)
    return [stem.with_name(f"{stem.name}{part}{end}") for part in parts(table) for end in ends]


def inputs(layout: Layout, name: str) -> list[Path]:
    """Each file and directory that table `name` reads."""
    found: list[Path] = _maker(layout.scale.tables[name]).inputs(layout, name)
    return found


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of one part of table `name`."""
    found: dict[str, str] = _maker(scores.layout.scale.tables[name]).texts(scores, name, part)
    return found


def score_files(layout: Layout, table: Table) -> list[Path]:
    """Scores and samples of the table's runs, and of its untrained students, which differences are from."""
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    return layout.scored([*layout.selected_runs(table), *untrained])


def _maker(table: Table) -> ModuleType:
    return import_module(f"gdpo.report.{MAKERS[table.kind]}")
