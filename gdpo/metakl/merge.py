"""Merges skills into knowledge units: skills of the same word stems and meaning are one unit (paper, MetaKL step 3).

The paper asks GPT-4o (backend `openai`). The backend `embedding` needs no language model: it joins names of equal word
stems, then clusters names by the cosine of their sentence embeddings. `source` leaves every skill as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gdpo.config.data import MergeBackend
from gdpo.config.scale import Scale
from gdpo.core import progress
from gdpo.core.records import Question
from gdpo.metakl.stems import stem, words

if TYPE_CHECKING:
    import numpy as np

SkillsOf = Mapping[str, Sequence[str]]  # question id -> its skills
UnitOf = Mapping[str, str]  # skill -> unit

COLUMNS = [
    "first", "second", "skills", "first_units", "second_units",
    "adjusted_rand", "precision", "recall", "f1", "questions", "same_units",
]  # fmt: skip

# Words that distinguish no skills. To, from, by, not and without distinguish some, and are not listed.
STOP_WORDS = frozenset(["a", "an", "and", "as", "at", "for", "in", "of", "on", "or", "the", "their"])

BLOCK = 512  # rows of the similarity matrix at once: 512 x 30,000 floats are 60 MB
SLACK = 1e-4  # more than float32 products of unit vectors err by; a pair too many costs time and changes nothing
ROUNDING = 1e-9  # of 1 - cosine in float64, so that a pair at the threshold itself is joined


def merge(skills: SkillsOf, backend: MergeBackend, scale: Scale, work: Path, extra: dict) -> dict[str, str]:
    """skill -> knowledge unit, for every skill of any question, by `backend`.

    Counts or an endpoint's totals go into `extra`. An endpoint's answers are cached in `work`.
    """
    counts = Counter(skill for named in skills.values() for skill in dict.fromkeys(named))
    if backend == "source":
        return {skill: skill for skill in sorted(counts)}
    if backend == "openai":
        from gdpo.metakl.ask_merge import merge_skills

        return merge_skills(sorted(counts), scale.merge.needed_endpoint, work / "merge.jsonl", extra)
    from gdpo.models.sentence_encoder import SentenceEncoder

    return by_embedding(counts, SentenceEncoder(scale.needed_encoder), scale.merge.threshold, extra)


def units(names: Sequence[str], unit_of: UnitOf) -> list[str]:
    """The units of a question's skills, each once, in the skills' order."""
    return list(dict.fromkeys(unit_of[name] for name in names))


def report(annotated: Sequence[Question], unit_of: UnitOf) -> dict[str, dict]:
    """unit -> {count, members}, sorted: how many questions need the unit, and which skills it merges."""
    counts = Counter(unit for question in annotated for unit in set(question.units))
    members: dict[str, list[str]] = {}
    for skill in sorted(unit_of):
        members.setdefault(unit_of[skill], []).append(skill)
    return {unit: {"count": counts[unit], "members": members[unit]} for unit in sorted(members)}


# The embedding backend


class TextEncoder(Protocol):
    """Gives each of n texts a vector of norm 1, (n, d), as gdpo.models.sentence_encoder.SentenceEncoder does."""

    def embed(self, texts: Sequence[str]) -> np.ndarray: ...


def by_embedding(counts: Mapping[str, int], encoder: TextEncoder, threshold: float, extra: dict) -> dict[str, str]:
    """skill -> unit. Skills of equal `stems` form a group; clusters of them, of mean cosine >= `threshold`, are units.

    A group is embedded by the name of its most frequent skill (`first_name`), and a unit has that name of its skills.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for skill in sorted(counts):
        groups.setdefault(stems(skill), []).append(skill)
    groups = dict(sorted(groups.items()))
    names = [first_name(group, counts) for group in groups.values()]
    labels = clusters(encoder.embed([" ".join(words(name)) for name in names]), threshold)
    merged: dict[int, list[str]] = {}
    for label, group in zip(labels, groups.values(), strict=True):
        merged.setdefault(label, []).extend(group)
    extra["embedding"] = {"skills": len(counts), "stems": len(groups), "units": len(merged)}
    unit_of = {skill: first_name(group, counts) for group in merged.values() for skill in group}
    return dict(sorted(unit_of.items()))


def first_name(group: Sequence[str], counts: Mapping[str, int]) -> str:
    """The skill of most questions; of equals the shortest, then the first by alphabet."""
    return min(group, key=lambda skill: (-counts[skill], len(skill), skill))


def stems(skill: str) -> tuple[str, ...]:
    """The stems of a skill's words, as a sorted tuple: skills of equal stems are the same name.

    Stop words are left out, so that addition_of_fractions and fraction_addition are one. Names that differ only in the
    order of words (sum_of_products, product_of_sums) are one too: sentence embeddings do not distinguish them either.
    """
    parts = words(skill)
    return tuple(sorted(stem(word) for word in parts if word not in STOP_WORDS)) or tuple(parts)


def clusters(embeddings: np.ndarray, threshold: float) -> list[int]:
    """A label for each row of `embeddings` (n, d), rows of norm 1: agglomerative clusters of average linkage.

    Two clusters become one while the mean cosine between their members is at least `threshold`. The whole n x n matrix
    is never in memory. Rows that no chain of pairs of cosine >= threshold joins are in different `components`, and no
    cluster crosses components: every cosine between two components is below the threshold, and so is the mean.
    Clustering each component alone therefore clusters the whole. Labels count from 0 in order of first row.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    labels = [-1] * len(embeddings)
    offset = 0
    for rows in components(embeddings, threshold - SLACK):
        if len(rows) == 1:
            own_labels = [1]
        else:
            distances = pdist(embeddings[rows].astype(float), "cosine")
            own_labels = fcluster(linkage(distances, "average"), 1 - threshold + ROUNDING, "distance").tolist()
        for row, label in zip(rows, own_labels, strict=True):
            labels[row] = offset + label
        offset += max(own_labels)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def components(embeddings: np.ndarray, threshold: float) -> list[list[int]]:
    """The connected components of the graph that joins rows of cosine >= `threshold`, each a rising list of rows."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from tqdm import tqdm

    n = len(embeddings)
    labels = np.arange(n)
    for start in tqdm(range(0, n, BLOCK), desc="pairs of skills", disable=n <= BLOCK):
        # Rows before the block have been compared with it already.
        near, far = np.nonzero(embeddings[start : start + BLOCK] @ embeddings[start:].T >= threshold)
        edges = labels[start + near], labels[start + far]
        joined = coo_array((np.ones(len(near), dtype=bool), edges), shape=(n, n))
        labels = connected_components(joined, directed=False)[1][labels]
        progress.report(start, n, "skills compared")
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        rows.setdefault(label, []).append(row)
    return list(rows.values())


# Agreement between backends


def agreement(merged: Mapping[MergeBackend, UnitOf], skills: SkillsOf) -> list[dict]:
    """A row for each pair of backends: how far they agree on which skills are one unit; none where one backend ran.

    The measures are over pairs of skills, each pair counted once. `precision` is the share of the first backend's
    joined pairs that the second joins too, `recall` the share of the second's that the first joins; a share of no pairs
    is empty. `adjusted_rand` is the Rand index above chance (Hubert and Arabie 1985). `same_units` is the share of
    questions that need equally many units by both.
    """
    return [
        {"first": a, "second": b, "skills": len(merged[a])}
        | {"first_units": len(set(merged[a].values())), "second_units": len(set(merged[b].values()))}
        | pair_agreement(merged[a], merged[b])
        | {"questions": len(skills), "same_units": _same_units(merged[a], merged[b], skills)}
        for a, b in combinations(merged, 2)
    ]


def pair_agreement(first: UnitOf, second: UnitOf) -> dict[str, float | None]:
    """`adjusted_rand`, `precision`, `recall` and `f1` of two partitions of the same skills, over their pairs."""
    both = _pairs(Counter((first[skill], second[skill]) for skill in first))
    by_first, by_second = _pairs(Counter(first.values())), _pairs(Counter(second.values()))
    total = len(first) * (len(first) - 1) // 2
    chance = by_first * by_second / total if total else 0.0
    maximum = (by_first + by_second) / 2
    return {
        "adjusted_rand": 1.0 if maximum == chance else (both - chance) / (maximum - chance),
        "precision": both / by_first if by_first else None,
        "recall": both / by_second if by_second else None,
        "f1": 2 * both / (by_first + by_second) if by_first + by_second else None,
    }


def _pairs(sizes: Counter) -> int:
    """How many pairs lie within sets of these sizes."""
    return sum(size * (size - 1) // 2 for size in sizes.values())


def _same_units(first: UnitOf, second: UnitOf, skills: SkillsOf) -> float:
    equal = (len({first[s] for s in named}) == len({second[s] for s in named}) for named in skills.values())
    return sum(equal) / len(skills)
