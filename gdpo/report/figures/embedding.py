"""t-SNE of the knowledge that questions need, by training set (paper, figure: knowledge embeddings by data set).

The paper embeds names of skills by a language model; here a question is the TF-IDF of its knowledge units and of the
words in their names. Questions that need the same units are the same point, so each combination is embedded once.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Embedding
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.records import Question, read_records
from gdpo.report.figures import style
from gdpo.report.figures.common import questions, trained_sets
from gdpo.report.figures.settings import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Units = tuple[str, ...]


def available(scale: Scale, shown: Embedding) -> bool:
    return bool(trained_sets(scale, shown.table))


def inputs(layout: Layout, shown: Embedding) -> list[Path]:
    sets = trained_sets(layout.scale, shown.table)
    return [layout.annotated, *map(layout.trainset, sets)]


def combinations(found: list[Question]) -> Counter[Units]:
    """How many questions need each combination of units; questions without units are left out."""
    return Counter(tuple(sorted(set(question.units))) for question in found if question.units)


def data(layout: Layout, shown: Embedding) -> list[dict]:
    """Rows `what: coverage`, of the pool and each set: questions, distinct units and combinations of units; then rows
    `what: point`: where each embedded combination lies and how many of the set's questions need it."""
    counts = {"pool": combinations(read_records(layout.annotated, Question))}
    for name in trained_sets(layout.scale, shown.table):
        counts[layout.scale.trainset(name).display] = combinations(questions(layout, name))
    every = sorted(set().union(*counts.values()))
    places = embedded(sampled(every, shown.points, shown.seed), shown)
    empty = dict.fromkeys(("what", "set", "questions", "units", "combinations", "x", "y"))
    rows = []
    for title, count in counts.items():
        units = {unit for key in count for unit in key}
        row = {"what": "coverage", "set": title, "questions": count.total(), "units": len(units)}
        rows.append(empty | row | {"combinations": len(count)})
    for title, count in counts.items():
        for key, (x, y) in places.items():
            if count[key]:
                point = {"what": "point", "set": title, "questions": count[key], "units": len(key), "x": x, "y": y}
                rows.append(empty | point)
    return rows


def sampled(every: list[Units], most: int, seed: int) -> list[Units]:
    """At most so many combinations, drawn evenly."""
    import numpy as np

    if len(every) <= most:
        return every
    chosen = np.random.default_rng(seed).choice(len(every), most, replace=False)
    return [every[i] for i in sorted(chosen)]


def embedded(documents: list[Units], shown: Embedding) -> dict[Units, tuple[float, float]]:
    """Each combination's place on the plane; on one thread, since sums over threads are not repeatable."""
    import numpy as np
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(documents) < 4:  # too few to have neighbours
        return {key: (float(i), 0.0) for i, key in enumerate(documents)}
    with threadpool_limits(1):
        weights = TfidfVectorizer(analyzer=terms).fit_transform(documents)
        dimensions = min(shown.dimensions, weights.shape[1] - 1, len(documents) - 1)
        reduced = TruncatedSVD(max(1, dimensions), random_state=shown.seed).fit_transform(weights)
        perplexity = min(shown.perplexity, (len(documents) - 1) / 3)
        start = "pca" if min(reduced.shape) > 1 else "random"
        plane = TSNE(perplexity=perplexity, init=start, random_state=shown.seed).fit_transform(reduced)
    return dict(zip(documents, np.asarray(plane, dtype=float).tolist(), strict=True))


def terms(units: Units) -> list[str]:
    """The terms of a combination: its units as they are, and the words of their names."""
    return [*units, *(f"word {word}" for unit in units for word in unit.split("_"))]


def draw(rows: list[dict], shown: Embedding) -> Canvas:
    pool = rows[0]
    sets = [row for row in rows if row["what"] == "coverage" and row is not pool]
    points = [row for row in rows if row["what"] == "point"]
    columns = min(4, len(sets))
    canvas, axes = style.panels(shown, columns, -(-len(sets) // columns), sharex=True, sharey=True)
    largest = max((row["questions"] for row in points if row["set"] != "pool"), default=1)
    behind = [row for row in points if row["set"] == "pool"]
    for series, ax in enumerate(axes.flat):
        ax.set_visible(series < len(sets))
        if series >= len(sets):
            continue
        covered = sets[series]
        inside = [row for row in points if row["set"] == covered["set"]]
        ax.scatter([p["x"] for p in behind], [p["y"] for p in behind], s=4, color=load().style.muted, linewidths=0)
        inside.sort(key=lambda point: -point["questions"])  # so that no small point lies below a large one
        ax.scatter(
            [p["x"] for p in inside], [p["y"] for p in inside], s=[6 + 74 * p["questions"] / largest for p in inside],
            color=style.look(series)["color"], edgecolors="white", linewidths=0.5,
        )  # fmt: skip
        ax.set_title(f"{covered['set']}\n{covered['units']} of {pool['units']} units")
        ax.set(xticks=[], yticks=[])
        ax.margins(0.08)
        for spine in ax.spines.values():
            spine.set_visible(True)
    return canvas
