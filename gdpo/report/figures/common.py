"""What several figures select: training sets of a table, averages over benchmarks, files of scored runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gdpo.config import Scale
from gdpo.layout import Layout, Run, Split, origin
from gdpo.records import Question, read_records


def trained_sets(scale: Scale, table: str) -> list[str]:
    """The training sets of a table's trained rows, each once; without imported ones, whose questions have no units."""
    rows = scale.tables[table].rows if table in scale.tables else []
    names = dict.fromkeys(cell.trainset for cell in rows if cell.method != "origin" and not cell.model)
    return [name for name in names if scale.trainset(name).select != "import"]


def questions(layout: Layout, trainset: str) -> list[Question]:
    return read_records(layout.trainset(trainset), Question)


def binned(units: int, most: int) -> str:
    """The bin of a number of units: itself, or all from `most` on."""
    return f"≥{most}" if units >= most else str(units)


def bins(most: int) -> list[str]:
    return [binned(units, most) for units in range(1, most + 1)]


def averages(scale: Scale) -> dict[str, list[str]]:
    """The overall average's benchmarks, then those of each domain's."""
    domains = dict.fromkeys(benchmark.domain for benchmark in scale.benchmarks.values())
    return {"overall": list(scale.benchmarks)} | {domain: scale.domain_benchmarks(domain) for domain in domains}


def validated(scale: Scale) -> list[str]:
    """The benchmarks that have validation items."""
    return [name for name, benchmark in scale.benchmarks.items() if benchmark.validation_items]


def scored(layout: Layout, runs: Iterable[Run], split: Split = "test") -> list[Path]:
    """The samples of runs and of their untrained students."""
    return layout.scored((run for given in runs for run in (*origin(given.student), given)), split)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
