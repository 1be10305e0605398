"""What a training set's data card is about: the files of the steps, read and checked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gdpo.config.layout import Layout
from gdpo.config.models import TrainSet
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, read_json
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Domain, Question, read_records
from gdpo.core.result_files import Provenance, read_stored
from gdpo.metakl.decontaminate import ALL


@dataclass(frozen=True)
class CardData:
    """The files behind a card. Counters are by source; `read` is what the first step recorded of each source."""

    layout: Layout
    name: str
    domain_of: dict[str, Domain]  # of each source of the pool, in the scale's order
    read: dict[str, dict]  # empty where nothing was recorded
    pool: Counter[str]
    annotated: list[Question]
    chosen: list[Question]
    contamination: list[dict[str, str]]
    units: dict[str, dict]
    unit_proficiency: list[dict[str, str]]
    proficiency: list[dict[str, str]]

    @property
    def scale(self) -> Scale:
        return self.layout.scale

    @property
    def trainset(self) -> TrainSet:
        return self.scale.trainset(self.name)

    @property
    def domains(self) -> list[Domain]:
        present = set(self.domain_of.values())
        return [domain for domain in get_args(Domain) if domain in present]

    @property
    def question_sets(self) -> dict[str, list[Question]]:
        """The questions left of the pool, and those of the training set."""
        return {"pool": self.annotated, "selected": self.chosen}

    def question_text(self, question: Question) -> str:
        """A question without the instruction that its source has below each."""
        source = self.scale.sources.get(question.source)
        return question.question.removesuffix(source.instruction if source else "")

    def benchmark_items(self, source: str, how: str = "dropped") -> int:
        """How many of a source's questions repeat a benchmark item: `exact`, `near`, or both, `dropped`."""
        rows = (row for row in self.contamination if (row["source"], row["benchmark"]) == (source, ALL))
        return sum(int(row[how]) for row in rows)


def gather(layout: Layout, trainset: str) -> CardData:
    """The data of the card, from the files of `layout`. Raises UserError for a missing file."""
    pool = read_records(layout.pool, Question)
    pool_domains = {question.source: question.domain for question in pool}
    configured = {name: source.domain for name, source in layout.scale.sources.items() if source.pool}
    domain_of = {s: d for domain in get_args(Domain) for s, d in {**configured, **pool_domains}.items() if d == domain}
    origin = provenance_path(layout.pool)
    read = (read_stored(origin, Provenance).get("sources") if origin.exists() else None) or {}
    return CardData(
        layout=layout,
        name=trainset,
        domain_of=domain_of,
        read=read if read.keys() >= domain_of.keys() else {},  # a pool that the user provides was not read here
        pool=Counter(question.source for question in pool),
        annotated=read_records(layout.annotated, Question),
        chosen=read_records(layout.trainset(trainset), Question),
        contamination=_table(layout.contamination, ["source", "benchmark"], ["exact", "near", "dropped", "spared"]),
        units=_units(layout.units),
        unit_proficiency=_table_if_exists(layout.unit_proficiency, ["unit"], ["count", "average"]),
        proficiency=_table_if_exists(layout.proficiency, ["id"], layout.scale.proficiency.models),
    )


def _table_if_exists(path: Path, names: list[str], numbers: list[str]) -> list[dict[str, str]]:
    return _table(path, names, numbers) if path.exists() else []


def _table(path: Path, names: list[str], numbers: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises UserError where it lacks a column, or a number is none."""
    rows = read_csv(path, *names, *numbers)
    for number, row in enumerate(rows, start=1):
        for column in numbers:
            if not re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", row[column]):
                raise UserError(path=path, key=f"row {number}, {column}", found=f"'{row[column]}'", expected="a number")
    return rows


def _units(path: Path) -> dict[str, dict]:
    """units.json as `gdpo metakl merge` writes it. Raises UserError naming the unit that is none."""
    units = read_json(path)
    if not isinstance(units, dict):
        raise UserError(path=path, found=type(units).__name__, expected="a mapping of units")
    for name, unit in units.items():
        kinds = [type(unit.get(key)) for key in ("count", "members")] if isinstance(unit, dict) else []
        if kinds != [int, list]:
            expected = "'count', a whole number, and 'members', a list"
            raise UserError(path=path, key=name, found="others", expected=expected)
    return units
