"""Every answer of the trial under every rule, reading and set of columns: specification curves (Simonsohn et al. 2020).

`specifications` gives the numbers, and `draw` one panel a question: its effects in ascending order, with intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gdpo.report.figures import style
from gdpo.report.figures.settings import load
from gdpo.report.trial import answers
from gdpo.report.trial.answers import MAIN_SETS, MARGIN, Answer, Choose, Rates
from gdpo.report.trial.effects import StudentWorld
from gdpo.report.trial.exploratory import RULES, by_validation

COLUMNS = ["question", "rule", "reading", "without", "effect", "low", "high", "worlds"]
HEIGHT, A_ROW = 1.9, 2  # inches of a row of panels, and panels in it
READING = "gdpo"  # ours, beside the objective as printed


@dataclass(frozen=True)
class Specification:
    """An answer by one way of asking.

    Attributes:
        answer: What the worlds say; its effect is NaN where fronts cannot be compared.
        rule: How each row's rate is chosen: fixed, own or best; `front`, all rates.
        reading: printed, or our reading of the objective.
        without: The column that is left out; empty: none.
    """

    answer: Answer
    rule: str
    reading: str
    without: str

    @property
    def series(self) -> str:
        """What it is drawn as."""
        return "our reading" if self.reading != "printed" else self.rule


def specifications(worlds: Sequence[StudentWorld], rates: Rates, grpo_rates: Sequence[float]) -> list[Specification]:
    """The five questions by every rule, reading and column left out, in that order."""
    roles = {name: entry["role"] for name, entry in worlds[0].world.columns.items()}
    untaught = [None, *(name for name, role in roles.items() if role == "untaught")]
    counted = [None, *(name for name, role in roles.items() if role != "format")]
    rules: dict[str, Choose] = {"fixed": answers.fixed(rates)}
    rules |= {rule: by_validation(rule) for rule in RULES}

    def asked() -> Iterator[tuple[str, str, str | None, Answer]]:
        for rule, choose in rules.items():
            for without in untaught:
                yield rule, "printed", without, answers.narrow_forgetting(worlds, choose, without)
        for without in untaught:
            yield "front", "printed", without, answers.objective(worlds, without)
        ours = [((name, "sft"), (name, READING)) for name in MAIN_SETS if all(w.has((name, READING)) for w in worlds)]
        for without in untaught if ours else []:
            yield "front", "ours", without, answers.between_fronts(answers.OBJECTIVE, worlds, ours, without)
        for without in untaught:
            yield "front", "printed", without, answers.data(worlds, without)
        for rule, choose in rules.items():
            for without in counted:
                yield rule, "printed", without, answers.both(worlds, choose, without)
        for without in counted:
            yield "own", "printed", without, answers.cost(worlds, grpo_rates, without)

    return [Specification(answer, rule, reading, without or "") for rule, reading, without, answer in asked()]


def rows(found: Sequence[Specification]) -> list[dict[str, Any]]:
    """One row a specification."""
    return [
        {"question": one.answer.question, "rule": one.rule, "reading": one.reading, "without": one.without}
        | {name: _shown(getattr(one.answer, name)) for name in ("effect", "low", "high")}
        | {"worlds": len(one.answer.values)}
        for one in found
    ]


def draw(found: Sequence[Specification], numbers: Path, footer: str) -> list[Path]:
    """Draw one panel a question, as PDF and PNG beside the path `numbers`."""
    questions = list(dict.fromkeys(one.answer.question for one in found))
    series = list(dict.fromkeys(one.series for one in found))
    with style.context():
        from matplotlib.figure import Figure as Canvas

        count = -(-len(questions) // A_ROW)
        canvas = Canvas(figsize=(load().style.widths["page"], HEIGHT * count), layout="constrained")
        axes = canvas.subplots(count, A_ROW, squeeze=False)
        for ax in axes.flat[len(questions) :]:
            ax.set_visible(False)
        for question, ax in zip(questions, axes.flat, strict=False):
            shown = [one for one in found if one.answer.question == question and np.isfinite(one.answer.effect)]
            _panel(ax, sorted(shown, key=lambda one: one.answer.effect), series)
            ax.set_title(question, loc="left")
            ax.set(ylabel="effect, points", xticks=[])
        style.legend(canvas, axes.flat[: len(questions)], len(series))
        return style.save(canvas, numbers, footer)


def _panel(ax: Any, ordered: Sequence[Specification], series: Sequence[str]) -> None:
    """Effects by rank with their 95% intervals; the band is the margin."""
    ax.axhspan(-MARGIN, MARGIN, color="#EEEEEE", zorder=0)
    ax.axhline(0, color="black", linewidth=0.6, zorder=1)
    for number, name in enumerate(series):
        placed = [(rank, one.answer) for rank, one in enumerate(ordered) if one.series == name]
        if placed:
            effects = np.array([answer.effect for _, answer in placed])
            spread = np.array([[a.effect - a.low, a.high - a.effect] for _, a in placed]).T
            look = {key: value for key, value in style.look(number).items() if key != "linestyle"}
            places = [rank for rank, _ in placed]
            ax.errorbar(places, effects, yerr=spread, elinewidth=0.5, linestyle="none", label=name, **look)


def _shown(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""
