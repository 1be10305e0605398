"""The trial's commands: `gdpo world` packs a world's runs, `gdpo trial` answers the questions from packed worlds."""

from __future__ import annotations

from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import write_csv, write_text
from gdpo.core.provenance import recorded
from gdpo.core.terminal import say
from gdpo.report.trial import answers, exploratory, fronts, moves, predictions, specifications, summary
from gdpo.report.trial.effects import StudentWorld
from gdpo.report.trial.gather import gathered
from gdpo.report.trial.kept import packed_worlds
from gdpo.report.trial.packing import read_world, write_world

SEALED_WORLDS = 12  # as many as the protocol names


def world(scale: Scale) -> None:
    """Pack every run of the trial in this world. Raises UserError where the scale has no trial."""
    _check_trial(scale)
    layout = Layout(scale)
    seeds = {"world": scale.world.seed} if scale.world else {}
    with recorded(layout.packed_world, "world", [scale.trial, scale.sweep], seeds):
        packed = gathered(layout)
        write_world(layout.packed_world, packed)
    say(f"world {layout.packed_world}: {len(packed.runs)} runs")


def trial(scale: Scale, kind: str) -> None:
    """Answer the five questions from the packed worlds of a kind: `sealed` or `development`.

    Writes answers.csv, answers.md, exploratory.csv, specifications.csv, predictions.csv, moves.csv, cells.csv and
    power.csv, and the figures fronts and specifications, below results/<scale>/<kind>/.
    """
    _check_trial(scale)
    assert scale.trial is not None
    found = packed_worlds(scale, kind)
    worlds = [StudentWorld(read_world(path), scale.trial.student) for path in found.values()]
    out = Path("results") / scale.scale / kind
    rates, grpo = scale.trial.fixed_rates, scale.sweep.rates("grpo")
    with recorded(out / "answers.csv", "trial", [scale.trial, scale.sweep, sorted(found)]):
        given = answers.primary(worlds, rates, grpo)
        columns = [name for name, entry in scale.benchmarks.items() if entry.role != "format"]
        ranges = summary.ranges(given, answers.questions(worlds, rates, grpo), columns)
        rows = summary.answer_rows(given, ranges)
        write_csv(out / "answers.csv", summary.ANSWER_COLUMNS, rows)
        write_text(out / "answers.md", summary.markdown(given, sorted(found), kind))
        write_csv(out / "cells.csv", summary.CELL_COLUMNS, summary.cell_rows(worlds))
        write_csv(out / "power.csv", summary.POWER_COLUMNS, summary.power_rows(given, SEALED_WORLDS))
        explored = summary.exploratory_rows(exploratory.comparisons(worlds))
        write_csv(out / "exploratory.csv", summary.EXPLORATORY_COLUMNS, explored)
        write_csv(out / "moves.csv", moves.COLUMNS, moves.rows(worlds))
        write_csv(out / "predictions.csv", predictions.COLUMNS, predictions.predictions(worlds, rates))
        asked = specifications.specifications(worlds, rates, grpo)
        write_csv(out / "specifications.csv", specifications.COLUMNS, specifications.rows(asked))
        footer = f"{scale.scale}, {scale.trial.student}, {len(worlds)} worlds"
        specifications.draw(asked, out / "specifications", footer)
        sets = [cell[0] for cell in worlds[0].cells() if cell[1] == "sft" and all(world.has(cell) for world in worlds)]
        fronts.draw(scale, worlds, sets, out / "fronts")
    for answer in given:
        say(f"{answer.question}: {answer.effect:+.2f} [{answer.low:.2f}, {answer.high:.2f}], {answer.verdict}")


def _check_trial(scale: Scale) -> None:
    if scale.trial is None:
        raise UserError(key="trial", found=f"none in scale {scale.scale}", expected="a scale with a trial")
