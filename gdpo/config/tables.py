"""The selections of a scale as typed models: tables, studies, what is watched in a comparison, and the sweep."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gdpo.config.fields import Name, Positive, Rate, Seeds
from gdpo.config.strict import Strict, omit_if_default
from gdpo.core.records import Domain


class Cell(Strict):
    """A row of a table for every student: the run it shows, or, in a run's place, a finished `model` as it is."""

    row: str
    trainset: Name = "none"
    method: Name = "origin"
    model: Name | None = None


class Table(Strict):
    """A table of the paper: scores of a selection of runs, or what `kind` says it is instead.

    `students` names one of the scale's student sets (`main`: its `students`). A scale that writes `rows` replaces those
    of the scale that it extends, or of tables.yaml; `add_rows` is put behind them.
    """

    resolved_keys: ClassVar = ("add_rows",)

    title: str
    kind: Literal["scores", "comparison", "sources", "cases", "measures"] = "scores"
    students: Name = "main"
    columns: list[Domain] = Field(default_factory=list)
    overall: bool = False
    rows: list[Cell] = Field(default_factory=list)


class Watch(Strict):
    """How the runs of a comparison are looked at: every so many steps, on so many validation items a benchmark.

    `noise_batches` mini-batches of `noise_batch_size` questions, of at most one epoch, tell how much a method's
    gradient varies; small ones, since one epoch has many of them.
    """

    every: Positive
    items: Positive
    max_new_tokens: Positive
    batch_size: Positive
    noise_batches: Annotated[int, Field(ge=3)]
    noise_batch_size: Positive


class Study(Strict):
    """A selection of runs that a figure reads: rows as in a table, at their own rates or, with `grid`, at each rate
    of the sweep's grid and scored on validation items. `add_rows` is as in a table."""

    resolved_keys: ClassVar = ("add_rows",)

    students: Name = "study"
    grid: bool = False
    rows: list[Cell]


class Sweep(Strict):
    """The learning-rate grid, one for every (student, trainset, method), judged on validation items only.

    `extended_rates`, above the grid, are tried where the best of the grid is its largest. `rates_of` gives single
    methods a grid of their own.
    """

    learning_rates: list[Rate]
    extended_rates: list[Rate] = Field(default_factory=list)
    rates_of: dict[Name, Annotated[list[Rate], Field(min_length=1)]] = Field(**omit_if_default({}))
    seeds: Seeds
    extra: list[Cell] = Field(default_factory=list)

    def rates(self, method: str) -> list[float]:
        """The grid of a method."""
        return self.rates_of.get(method, self.learning_rates)


class Trial(Strict):
    """What a student runs in each world of a trial: `rows`, at each rate of their method's grid (gdpo.report.trial).

    `fixed_rates` are those of the rule that has the paper's ratio of rates, by method.
    """

    student: Name
    rows: Annotated[list[Cell], Field(min_length=1)]
    fixed_rates: dict[Name, Rate] = Field(default_factory=dict)
