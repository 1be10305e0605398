"""The quality of annotation by the taxonomy: is the topic that a question's source names among its skills?

The matcher does not see the topic. The taxonomy by embeddings is compared with the same taxonomy by TF-IDF, and chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import comb
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from gdpo.config.data import Encoder, Taxonomy
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Question
from gdpo.metakl import taxonomy
from gdpo.metakl.taxonomy import Candidates, CosineFunction, Tree

COLUMNS = ["source", "method", "questions", "skills", "share", "low", "high", "first"]


def quality(questions: list[Question], settings: Taxonomy, encoder: Encoder, work: Path) -> list[dict]:
    """Rows of COLUMNS per source whose topics are areas and per method; see `measure_methods`.

    Finished sources are cached in the directory `work`, so that a killed call resumes.
    """
    tree = taxonomy.load(settings.file)
    labels = [[q.id, q.source, q.domain, q.topics] for q in questions]
    depends = [tree, settings.model_dump(exclude={"file"}), encoder, labels, taxonomy.views(questions)]
    methods = {"taxonomy": taxonomy.embedding_cosines(encoder), "tf-idf": tf_idf}
    return measure_methods(questions, tree, settings, methods, work / f"{fingerprint(depends)}.jsonl")


def measure_methods(
    questions: Sequence[Question],
    tree: Tree,
    settings: Taxonomy,
    methods: dict[str, CosineFunction],
    cache: Path | None = None,
) -> list[dict]:
    """Rows per source and method, those of `methods` and chance; finished sources are cached in the file `cache`.

    A source counts where the topics of at least half its questions stand for areas; the rest of its questions are left
    out. `skills` is how many a question has, the first method's number also for the others; `share` of the questions
    have an area of their topics among them, within `low` to `high` at 95% (Wilson); `first` is the share whose nearest
    area is one. Chance draws as many areas as the first method names: its rows are expectations, without an interval.
    """
    views_of = dict(zip((question.id for question in questions), taxonomy.views(questions), strict=True))
    by_source: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_source[question.source].append(question)
    sources = sorted(by_source)

    def batches(done: int) -> Iterator[tuple[list[int], list[list[dict]]]]:
        for number in tqdm(range(done, len(sources)), initial=done, total=len(sources), desc="quality", unit="source"):
            source = sources[number]
            yield [number], [_source_rows(source, by_source[source], views_of, tree, settings, methods)]

    return [row for rows in resumable_batches(cache, "sources", len(sources), batches) for row in rows]


def _source_rows(
    source: str,
    questions: list[Question],
    views_of: Mapping[str, list[str]],
    tree: Tree,
    settings: Taxonomy,
    methods: dict[str, CosineFunction],
) -> list[dict]:
    """The source's rows; none where too few of its topics stand for areas."""
    choices = taxonomy.candidates(tree, questions[0].domain)
    truth = {question.id: areas_of(question, tree, choices) for question in questions}
    known = [question.id for question in questions if truth[question.id]]
    if not known or 2 * len(known) < len(questions):
        return []
    known_truth = [truth[identity] for identity in known]
    return _method_rows(source, [views_of[identity] for identity in known], known_truth, choices, settings, methods)


def areas_of(question: Question, tree: Tree, choices: Candidates) -> set[int]:
    """The areas, by number, that the question's topics stand for."""
    numbers = (choices.index[name] for name in tree.match_topics(question.topics, choices))
    return {number for number in numbers if number < choices.areas}


def _method_rows(
    source: str,
    question_views: list[list[str]],
    truth: list[set[int]],
    choices: Candidates,
    settings: Taxonomy,
    methods: dict[str, CosineFunction],
) -> list[dict]:
    rows: list[dict] = []
    sizes: list[int] = []
    areas: list[int] = []
    for method, similar in methods.items():
        scored = taxonomy.scores(taxonomy.cosines(question_views, choices.glosses, similar), choices)
        if not sizes:
            chosen = [taxonomy.nearest(row, settings) for row in scored]
            sizes = [len(numbers) for numbers in chosen]
            areas = [sum(number < choices.areas for number in numbers) for numbers in chosen]
        else:
            chosen = [np.argsort(-row, kind="stable")[:size].tolist() for row, size in zip(scored, sizes, strict=True)]
        first = scored[:, : choices.areas].argmax(axis=1)
        hits = sum(not true.isdisjoint(numbers) for true, numbers in zip(truth, chosen, strict=True))
        right = sum(int(number) in true for true, number in zip(truth, first, strict=True))
        interval = [float(end) for end in binomtest(hits, len(question_views)).proportion_ci(method="wilson")]
        rows.append(_row(source, method, sizes, hits / len(question_views), right / len(question_views), interval))
    drawn = [chance(choices.areas, len(true), size) for true, size in zip(truth, areas, strict=True)]
    first = [chance(choices.areas, len(true), 1) for true in truth]
    return [*rows, _row(source, "chance", sizes, float(np.mean(drawn)), float(np.mean(first)), (None, None))]


def _row(source: str, method: str, sizes: list[int], share: float, first: float, interval: Sequence) -> dict:
    low, high = interval
    values = (source, method, len(sizes), float(np.mean(sizes)), share, low, high, first)
    return dict(zip(COLUMNS, values, strict=True))


def chance(areas: int, true: int, drawn: int) -> float:
    """The probability that `drawn` of `areas`, without replacement, hold one of the `true` ones."""
    return 1 - comb(areas - true, drawn) / comb(areas, drawn)


def tf_idf(texts: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
    """Cosines [n, m] of the TF-IDF of texts and glosses, weighted by the glosses."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit(glosses)
    products: np.ndarray = (vectorizer.transform(texts) @ vectorizer.transform(glosses).T).toarray()
    return products


def sentence(row: dict) -> str:
    """A row in words."""
    spread = "" if row["low"] is None else f" ({row['low']:.1%} to {row['high']:.1%})"
    return (
        f"quality {row['source']}, {row['method']}: the topic is among {row['skills']:.2f} skills of "
        f"{row['share']:.1%}{spread} of {row['questions']} questions, and the nearest area of {row['first']:.1%}"
    )
