"""Tables as selections of runs: their columns, the files each kind of table reads and writes, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell, Table
from gdpo.report.columns import averaged, paper, title

if TYPE_CHECKING:
    from gdpo.report.scores import Scores

MAKERS = {"scores": "score_tables", "comparison": "comparison", "sources": "source_table", "cases": "case_studies"}
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


def columns(layout: Layout, table: Table) -> list[Column]:
    """A table's benchmarks by domain, and the average over all domains where it is asked for.

    In each domain the paper's come first, then their average, then those of ours. A column that stays empty has its
    place, and so has an average that is left with nothing.
    """
    scale, found = layout.scale, []
    for domain in table.columns:
        single = [Column(name, title(scale, name), (name,)) for name in scale.domain_benchmarks(domain)]
        papers = paper(scale, domain)
        found += single[: len(papers)]
        if len(papers) > 1:
            found.append(Column(f"{domain}_avg", f"{domain} avg", tuple(averaged(layout, domain))))
        found += single[len(papers) :]
    if table.overall:
        found.append(Column("overall_avg", "overall avg", tuple(averaged(layout))))
    return found


def asked(scale: Scale, table: Table) -> list[str]:
    """Every benchmark that a table shows or averages over."""
    if table.overall:
        return list(scale.benchmarks)
    return [name for domain in table.columns for name in scale.domain_benchmarks(domain)]


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
    found: list[Path] = _maker(layout.scale.tables[name]).inputs(layout, name)
    return found


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of one part of table `name`."""
    found: dict[str, str] = _maker(scores.layout.scale.tables[name]).texts(scores, name, part)
    return found


def scored(layout: Layout, table: Table) -> list[Path]:
    """Scores and samples of the table's runs and of its students untrained, from whom differences are taken."""
    untrained = [run for student in layout.scale.student_set(table.students) for run in origin(student)]
    return layout.scored([*layout.selected_runs(table), *untrained])


def _maker(table: Table) -> ModuleType:
    return import_module(f"gdpo.report.{MAKERS[table.kind]}")
