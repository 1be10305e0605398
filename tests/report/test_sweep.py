"""Learning rates chosen on validation items: what is left to sweep, and what a new outcome keeps."""

from __future__ import annotations

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.files import read_csv, write_json
from gdpo.report import steps


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("gdpo.config.learning_rates", "gdpo.report.steps"):
        monkeypatch.setattr(f"{module}.sweep_file", lambda scale: tmp_path / f"{scale}.csv")
    return Layout(load_scale("micro"))


def score(layout, of) -> None:
    """A validation score for every run that is left to sweep, by its rate."""
    for run in layout.sweep_runs():
        mean = of(run.method.partition("~")[0], float(run.method.partition("~")[2]))
        benchmarks = {"chain2": {"score": mean}, "logic": {"score": mean}}
        write_json(layout.score(run, "validation"), {"benchmarks": benchmarks})


def test_best_rate_at_the_end_of_the_grid_adds_larger_rates(layout):
    """SFT grows with its rate up to 3e-3; all else is best at the grid's smallest rate."""
    grid, further = layout.scale.sweep.learning_rates, layout.scale.sweep.extended_rates

    def of(method, rate):
        return -abs(rate - 3e-3) + 0.5 if method == "sft" else 0.5 - rate

    cells = {(run.student, run.trainset, run.method.partition("~")[0]) for run in layout.sweep_runs()}
    assert len(layout.sweep_runs()) == len(cells) * len(grid)
    score(layout, of)
    steps.sweep(layout.scale)
    left = layout.sweep_runs()
    assert {run.method for run in left} == {f"sft~{rate:g}" for rate in further}
    assert {(run.student, run.trainset, "sft") for run in left} == {cell for cell in cells if cell[2] == "sft"}
    score(layout, of)
    steps.sweep(layout.scale)
    assert layout.sweep_runs() == []
    rows = read_csv(layout.root.parent.parent / "micro.csv")
    assert len(rows) == len(cells) * len(grid) + len(left)
    chosen = {(r["student"], r["trainset"], r["method"]): float(r["learning_rate"]) for r in rows if r["chosen"] == "1"}
    assert chosen.keys() == cells
    assert {rate for (_, _, method), rate in chosen.items() if method == "sft"} == {3e-3}
    assert {rate for (_, _, method), rate in chosen.items() if method != "sft"} == {min(grid)}
    run = next(iter(cells))
    assert layout.scale.method(run[2], run[0], run[1]).learning_rate == chosen[run]


def test_equal_scores_choose_the_smaller_rate(layout):
    score(layout, lambda method, rate: 0.25)
    steps.sweep(layout.scale)
    rows = [row for row in read_csv(layout.root.parent.parent / "micro.csv") if row["chosen"] == "1"]
    assert {float(row["learning_rate"]) for row in rows} == {min(layout.scale.sweep.learning_rates)}
    assert layout.sweep_runs() == []
