"""What the worlds of a trial say, as rows of tables and as sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gdpo.core.markdown import table_lines
from gdpo.report.trial.answers import MARGIN, Answer
from gdpo.report.trial.effects import Cell, StudentWorld, shared_rates
from gdpo.report.trial.exploratory import Comparison
from gdpo.report.trial.packing import CUT, RIGHT, UNPARSEABLE, WRONG
from gdpo.report.world_statistics import smallest_detectable, t_estimate

CELL_COLUMNS = [
    "student", "trainset", "method", "rate", "worlds", "gain", "gain_low", "gain_high", "forgetting", "forgetting_low",
    "forgetting_high", "taught", "format", "lost_wrong", "lost_unparseable", "lost_cut", "won", "kl_forward",
    "kl_reverse", "nll_untaught", "nll_text",
]  # fmt: skip
ANSWER_COLUMNS = [
    "question", "part", "effect", "low", "high", "p", "adjusted_p", "verdict", "worlds", "leave_out_low",
    "leave_out_high", "note",
]  # fmt: skip
EXPLORATORY_COLUMNS = [
    "group", "comparison", "measure", "effect", "low", "high", "p", "adjusted_p", "worlds", "note",
]  # fmt: skip
POWER_COLUMNS = ["question", "sd", "worlds", "of", "detectable", "decidable"]


def cell_rows(worlds: Sequence[StudentWorld]) -> list[dict[str, Any]]:
    """One row a (training set, method, rate) that every world has: means over worlds, in points, with t intervals."""
    cells = [cell for cell in worlds[0].cells() if all(world.has(cell) for world in worlds)]
    return [_cell_row(worlds, cell, rate) for cell in cells for rate in shared_rates(worlds, [cell])]


def _cell_row(worlds: Sequence[StudentWorld], cell: Cell, rate: str) -> dict[str, Any]:
    trainset, method = cell
    placed = [(world, world.row(cell, rate, world.seeds()[0])) for world in worlds]
    found: dict[str, Any] = {"student": worlds[0].student, "trainset": trainset, "method": method, "rate": rate}
    found["worlds"] = len(worlds)
    found |= _interval("gain", [world.gain(row, trainset) for world, row in placed])
    found |= _interval("forgetting", [world.forgetting(row) for world, row in placed])
    found["taught"] = _mean([world.average(row, ("taught",)) for world, row in placed])
    found["format"] = _mean([_format_change(world, row) for world, row in placed])
    moved = [transitions(world, row) for world, row in placed]
    found |= {name: _mean([entry[name] for entry in moved]) for name in moved[0]}
    for name in ("kl_forward", "kl_reverse"):
        found[name] = _mean([_number(world.world.runs[row][name]) for world, row in placed], 4)
    found["nll_untaught"] = _mean([nll_change(world, row) for world, row in placed], 4)
    found["nll_text"] = _mean([_text_change(world, row) for world, row in placed], 4)
    return found


def transitions(world: StudentWorld, row: int) -> dict[str, float]:
    """Of untaught items, in percent: right before and not after, by the answer after; and the other way round."""
    places = [np.r_[world.world.of_column(name)] for name in world.of_role("untaught")]
    before, after = (world.world.codes[place][np.concatenate(places)] for place in (world.untrained, row))
    lost = before == RIGHT
    ends = {"lost_wrong": WRONG, "lost_unparseable": UNPARSEABLE, "lost_cut": CUT}
    found = {name: 100 * float((lost & (after == code)).mean()) for name, code in ends.items()}
    return found | {"won": 100 * float((~lost & (after == RIGHT)).mean())}


def nll_change(world: StudentWorld, row: int) -> float:
    """The change of the NLL of untaught gold answers, nats a token, mean over columns; above 0 is forgetting."""
    runs, names = world.world.runs, world.of_role("untaught")
    return _mean_number([_number(runs[row][f"nll_{n}"]) - _number(runs[world.untrained][f"nll_{n}"]) for n in names])


def _text_change(world: StudentWorld, row: int) -> float:
    runs = world.world.runs
    return _number(runs[row]["nll_text"]) - _number(runs[world.untrained]["nll_text"])


def _format_change(world: StudentWorld, row: int) -> float:
    names = world.of_role("format")
    return float(world.change(row, names).mean()) if names else float("nan")


def answer_rows(answers: Sequence[Answer], ranges: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """One row a question and one a part of it; `ranges`: question -> its effect's range over leaving out a column."""
    found = []
    for answer in answers:
        low, high = ranges.get(answer.question, (float("nan"), float("nan")))
        found.append(_answer_row(answer, "") | {"leave_out_low": _shown(low), "leave_out_high": _shown(high)})
        for part in answer.parts:
            rows = [part, *part.parts] if part.parts else [part]
            found += [_answer_row(one, one.question) | {"question": answer.question} for one in rows]
    return found


def _answer_row(answer: Answer, part: str) -> dict[str, Any]:
    shown = {name: _shown(getattr(answer, name)) for name in ("effect", "low", "high")}
    p_values = {"p": f"{answer.p:.4f}", "adjusted_p": "" if part else f"{answer.adjusted_p:.4f}"}
    verdict = "" if part else answer.verdict
    named = {"question": answer.question, "part": part, "verdict": verdict, "worlds": len(answer.values)}
    return named | shown | p_values | {"note": answer.note}


def exploratory_rows(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """One row a comparison; p-values before and after their adjustment for all of them."""
    return [
        {
            "group": one.group,
            "comparison": one.answer.question,
            "measure": one.measure,
            "worlds": len(one.answer.values),
        }
        | {name: _shown(getattr(one.answer, name)) for name in ("effect", "low", "high")}
        | {"p": f"{one.answer.p:.4f}", "adjusted_p": f"{one.adjusted_p:.4f}", "note": one.answer.note}
        for one in found
    ]


def ranges(
    answers: Sequence[Answer], questions: Sequence[Callable[[str | None], Answer]], columns: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Question -> the least and the largest effect over leaving out each of `columns`; `answers` are to `questions`."""
    found = {}
    for whole, ask in zip(answers, questions, strict=True):
        effects = [answer.effect for answer in map(ask, columns) if np.isfinite(answer.effect)]
        if effects:
            found[whole.question] = (min(effects), max(effects))
    return found


def power_rows(answers: Sequence[Answer], of: int) -> list[dict[str, Any]]:
    """What `of` worlds can decide, by how much the given worlds' effects differ: question and part, one row each.

    `detectable`: the effect, in points, that a test at 0.05 finds with 80% power; decidable where within MARGIN.
    """
    rows = []
    for answer in [part for one in answers for part in (one, *one.parts)]:
        known = len(answer.values) > 1
        sd = float(np.std(answer.values, ddof=1)) if known else float("nan")
        least = smallest_detectable(sd, of) if known else float("nan")
        rows.append(
            {"question": answer.question, "sd": _shown(sd), "worlds": len(answer.values), "of": of}
            | {"detectable": _shown(least), "decidable": "yes" if least <= MARGIN else "no"}
        )
    return rows


def markdown(answers: Sequence[Answer], worlds: Sequence[int], kind: str) -> str:
    """The answers as a page, for people."""
    heads = ["question", "effect", "95% interval", "p (Holm)", "verdict"]
    body = [
        [a.question, _shown(a.effect), f"{_shown(a.low)} to {_shown(a.high)}", f"{a.adjusted_p:.4f}", a.verdict]
        for a in answers
    ]
    lines = [
        "# The trial's answers", "",
        f"From {len(worlds)} {kind} worlds ({', '.join(map(str, worlds))}). Points; margin {MARGIN:g}. "
        "docs/protocol.md defines each effect.", "",
        *table_lines(heads, body), "",
    ]  # fmt: skip
    notes = [f"- {answer.question}: {answer.note}." for answer in answers if answer.note]
    return "\n".join([*lines, *notes, *([""] if notes else [])])


def _interval(name: str, values: Sequence[float]) -> dict[str, str]:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), "")
    found = t_estimate(known)
    return {name: _shown(found.mean), f"{name}_low": _shown(found.low), f"{name}_high": _shown(found.high)}


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _mean_number(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return sum(known) / len(known) if known else float("nan")


def _mean(values: Sequence[float], digits: int = 2) -> str:
    return _shown(_mean_number(values), digits)


def _shown(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""
