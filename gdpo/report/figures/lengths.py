"""Lengths of questions and of their best completions, and units per question, by training set (paper, A Fig. 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Lengths
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.records import Group, chat, read_records
from gdpo.report.figures import style
from gdpo.report.figures.common import questions, trained_sets, unit_bin, unit_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

QUANTILES = {"p5": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95}


def available(scale: Scale, shown: Lengths) -> bool:
    return bool(trained_sets(scale, shown.table))


def inputs(layout: Layout, shown: Lengths) -> list[Path]:
    sets = trained_sets(layout.scale, shown.table)
    return [layout.model(layout.scale.students[0]), *map(layout.trainset, sets), *map(layout.groups, sets)]


def counter(layout: Layout) -> tuple[Callable[[str], int], str]:
    """How a text is measured, and in what: tokens of the first student, or words where it has no fast tokenizer."""
    path = layout.model(layout.scale.students[0]) / "tokenizer.json"
    if not path.exists():
        return lambda text: len(text.split()), "words"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), "tokens"


def best(group: Group) -> str:
    """The completion that SFT would take: of the highest reward, the first of equals."""
    return group.completions[max(range(len(group.rewards)), key=lambda i: (group.rewards[i], -i))]


def data(layout: Layout, shown: Lengths) -> list[dict]:
    """A row a set and a length (`what`: question or completion; `measure`: tokens or words) with its quantiles, and a
    row a set and a number of units with how many of the set's questions need so many."""
    import numpy as np

    measure, unit = counter(layout)
    empty = dict.fromkeys(("what", "set", "measure", "n", "mean", *QUANTILES, "bin", "questions", "share"))
    rows = []
    for name in trained_sets(layout.scale, shown.table):
        asked = questions(layout, name)
        texts = {
            "question": [chat(question)[0]["content"] for question in asked],
            "completion": [best(group) for group in read_records(layout.groups(name), Group)],
        }
        of_set = empty | {"set": layout.scale.trainset(name).display}
        for what, found in texts.items():
            lengths = [measure(text) for text in found]
            if lengths:
                row = {"what": what, "measure": unit, "n": len(lengths), "mean": float(np.mean(lengths))}
                rows.append(of_set | row | {k: float(np.quantile(lengths, share)) for k, share in QUANTILES.items()})
        counts = Counter(unit_bin(len(question.units), shown.most_units) for question in asked if question.units)
        for key in unit_bins(shown.most_units):
            share = counts[key] / max(1, counts.total())
            row = {"what": "units", "n": counts.total(), "bin": key, "questions": counts[key], "share": share}
            rows.append(of_set | row)
    return rows


def draw(rows: list[dict], shown: Lengths) -> Canvas:
    sets = style.distinct(rows, "set")
    canvas, ((question, completion, units),) = style.panels(shown, 3, width_ratios=[1, 1, 1.3])
    for what, ax in (("question", question), ("completion", completion)):
        found = [row for row in rows if row["what"] == what]
        _boxes(ax, found, [sets.index(row["set"]) for row in found])
        ax.set_xlabel(f"{what if what == 'question' else 'best completion'}, {found[0]['measure'] if found else ''}")
        ax.set_yticks(range(len(sets)), sets)
        ax.tick_params(left=ax is question, labelleft=ax is question)
        ax.set_ylim(len(sets) - 0.5, -0.5)
    for series, name in enumerate(sets):
        counts = [row for row in rows if row["what"] == "units" and row["set"] == name]
        at = [i + (series - (len(sets) - 1) / 2) * 0.8 / len(sets) for i in range(len(counts))]
        units.bar(
            at, [100 * row["share"] for row in counts], 0.8 / len(sets), label=name, edgecolor="black", linewidth=0.4,
            color=style.look(series)["color"], hatch=style.hatch(series),
        )  # fmt: skip
    units.set_xticks(range(shown.most_units), unit_bins(shown.most_units))
    units.set(xlabel="knowledge units", ylabel="questions, %")
    units.grid(False, axis="x")
    style.legend(canvas, [units], len(sets))
    return canvas


def _boxes(ax: Axes, found: list[dict], places: list[int]) -> None:
    stats = [
        {"whislo": r["p5"], "q1": r["q1"], "med": r["median"], "q3": r["q3"], "whishi": r["p95"], "mean": r["mean"]}
        for r in found
    ]
    black = {"color": "black", "linewidth": 0.8}
    drawn = ax.bxp(
        stats, positions=places, orientation="horizontal", widths=0.6, showfliers=False, showmeans=True,
        patch_artist=True, medianprops=black | {"linewidth": 1.6}, whiskerprops=black, capprops=black,
        meanprops={"marker": "x", "markeredgecolor": "black", "markersize": 4},
    )  # fmt: skip
    for box, place in zip(drawn["boxes"], places, strict=True):
        box.set(facecolor=style.look(place)["color"], hatch=style.hatch(place), linewidth=0.6)
    ax.set_xlim(left=0)
