"""Selections that figures share: training sets of a table, averages over benchmarks, files of scored runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout, Run, Split, origin
from gdpo.config.scale import Scale
from gdpo.core.records import Question, read_records
from gdpo.report.columns import averaged_columns, paper_columns

if TYPE_CHECKING:
    from gdpo.report.scores import Bootstrapped


def trained_sets(scale: Scale, table: str) -> list[str]:
    """The training sets of a table's trained rows, without imported ones, whose questions have no units."""
    rows = scale.tables[table].rows if table in scale.tables else []
    names = dict.fromkeys(cell.trainset for cell in rows if cell.method != "origin" and not cell.model)
    return [name for name in names if scale.trainset(name).select != "import"]


def questions(layout: Layout, trainset: str) -> list[Question]:
    return read_records(layout.trainset(trainset), Question)


def unit_bin(units: int, limit: int) -> str:
    """The bin of a number of units: itself, or all from `limit` on."""
    return f"≥{limit}" if units >= limit else str(units)


def unit_bins(limit: int) -> list[str]:
    return [unit_bin(units, limit) for units in range(1, limit + 1)]


def averages(layout: Layout) -> dict[str, list[str]]:
    """The benchmarks of the overall average, then of each domain's."""
    scale = layout.scale
    domains = dict.fromkeys(scale.benchmark(name).domain for name in paper_columns(scale))
    return {"overall": averaged_columns(layout)} | {domain: averaged_columns(layout, domain) for domain in domains}


def has_validation(scale: Scale) -> bool:
    """Whether there is a benchmark with validation items."""
    return any(scale.benchmark(name).validation_items for name in paper_columns(scale))


def validation_benchmarks(layout: Layout) -> list[str]:
    """The benchmarks that averages are over and that have validation items."""
    return [name for name in averaged_columns(layout) if layout.scale.benchmark(name).validation_items]


def scored(layout: Layout, runs: Iterable[Run], split: Split = "test") -> list[Path]:
    """The samples of runs and of their untrained students."""
    return layout.scored((run for given in runs for run in (*origin(given.student), given)), split)


def estimate(name: str, found: Bootstrapped | None) -> dict[str, float | None]:
    """A mean with its 95% interval as `NAME`, `NAME_low`, `NAME_high`; None each where there is none."""
    from gdpo.report.bootstrap import interval

    if found is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    value, draws = found
    low, high = interval(draws)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
