"""Skills into knowledge units: names, clusters against scikit-learn's over the whole, agreement by hand."""

from __future__ import annotations

import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from gdpo.config.data import Merge
from gdpo.core.records import Question, Skills, read_records, write_records
from gdpo.metakl import merge as merging
from gdpo.metakl import steps
from gdpo.metakl.merge import (
    COLUMNS,
    agreement,
    by_embedding,
    clusters,
    components,
    first_name,
    merge,
    pair_agreement,
    report,
    stems,
    units,
)
from gdpo.metakl.stems import words
from tests.metakl import small_trainset
from tests.refusal import refused


def question(number: int, *needed: str) -> Question:
    return Question(
        id=f"q{number}", domain="math", source="s", question=f"Q{number}", answer="1", grader="math", units=list(needed)
    )


class Angles:
    """Each text a unit vector in the plane, at the angle in degrees that the table gives it."""

    def __init__(self, degrees: dict[str, float]):
        self.degrees = degrees

    def embed(self, texts):
        angles = [math.radians(self.degrees[text]) for text in texts]
        return np.array([[math.cos(a), math.sin(a)] for a in angles], dtype=np.float32)


def random_rows(n: int, d: int, noise: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(max(1, n // 5), d))[draw.integers(0, max(1, n // 5), n)]
    rows = rows + noise * draw.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def partition(labels) -> set[frozenset[int]]:
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    return {frozenset(rows) for rows in members.values()}


@pytest.mark.parametrize(
    ("skill", "expected"),
    [
        ("quadratic_equations", ["quadratic", "equations"]),
        ("Two-Step  reasoning", ["two", "step", "reasoning"]),
        ("solveLinearSystem", ["solve", "linear", "system"]),
        ("HTTPRequest2D", ["http", "request2", "d"]),
        ("Newton's_law", ["newtons", "law"]),
        ("école_ﬁeld", ["école", "field"]),
        ("+", ["+"]),
    ],
)
def test_a_name_is_split_into_words(skill, expected):
    assert words(skill) == expected


def test_names_of_equal_stems_merge():
    """addition of fractions: addit, fraction; solving equations: equat, solv. `of` and `the` say nothing; `to` does."""
    assert stems("addition_of_fractions") == stems("fraction_addition") == ("addit", "fraction")
    assert stems("solving_equations") == stems("EquationSolving") == stems("solve_the_equation") == ("equat", "solv")
    assert stems("percent_to_decimal") != stems("percent_decimal")
    assert stems("division") != stems("division_division")
    assert stems("of_the") == ("of", "the")


@pytest.mark.parametrize("noise", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.85])
def test_clustering_by_component_equals_clustering_the_whole(monkeypatch, noise, threshold):
    monkeypatch.setattr(merging, "BLOCK", 37)
    rows = random_rows(300, 12, noise, seed=round(10 * noise))
    whole = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - threshold
    ).fit_predict(1 - rows.astype(float) @ rows.T.astype(float))
    found = clusters(rows, threshold)
    assert partition(found) == partition(whole)
    assert list(dict.fromkeys(found)) == list(range(len(set(found))))


def test_components_do_not_depend_on_the_block(monkeypatch):
    """A chain 0, 10, ..., 90 degrees: neighbours have cosine 0.985, so at 0.98 all ten are one, at 0.99 none are."""
    rows = Angles({str(i): 10 * i for i in range(10)}).embed(map(str, range(10)))
    for block in (1, 3, 512):
        monkeypatch.setattr(merging, "BLOCK", block)
        assert components(rows, 0.98) == [list(range(10))]
        assert components(rows, 0.99) == [[i] for i in range(10)]


def test_average_linkage_stops_a_chain():
    """0, 20, 40 degrees at cosine 0.9: cos 20 = 0.940, cos 40 = 0.766. All are one component. 0 and 20 (or 20 and 40)
    join; the third's mean cosine with them is (0.940 + 0.766) / 2 = 0.853 < 0.9, so it stays alone; at 0.85 it joins.
    """
    rows = Angles({"a": 0, "b": 20, "c": 41}).embed("abc")
    assert components(rows, 0.9) == [[0, 1, 2]]
    assert clusters(rows, 0.9) == [0, 0, 1]
    assert clusters(rows, 0.84) == [0, 0, 0]


def test_pair_at_the_threshold_merges():
    """(1, 0) and (0.6, 0.8): cosine 0.6."""
    rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float64)
    assert clusters(rows, 0.6) == [0, 0]
    assert clusters(rows, 0.6001) == [0, 1]


def test_unit_is_named_after_its_most_frequent_skill():
    """a_sum stands for sums, a_sum (3 + 2 questions); totals (4 alone) is near them, and gives the unit its name."""
    counts = {"sums": 2, "a_sum": 3, "totals": 4, "triangle": 1, "triangles": 1}
    extra: dict = {}
    unit_of = by_embedding(counts, Angles({"a sum": 0, "totals": 5, "triangle": 90}), 0.9, extra)
    assert unit_of == {
        "a_sum": "totals",
        "sums": "totals",
        "totals": "totals",
        "triangle": "triangle",
        "triangles": "triangle",
    }
    assert extra == {"embedding": {"skills": 5, "stems": 3, "units": 2}}
    assert first_name(["ccc", "bb", "aa"], {"ccc": 1, "bb": 1, "aa": 1}) == "aa"


def test_question_order_does_not_change_units():
    counts = {"sums": 2, "totals": 2, "triangle": 1}
    encoder = Angles({"sums": 0, "totals": 5, "triangle": 90})
    backwards = dict(reversed(counts.items()))
    assert list(by_embedding(counts, encoder, 0.9, {}).items()) == list(
        by_embedding(backwards, encoder, 0.9, {}).items()
    )


def test_source_backend_keeps_every_skill(tmp_path):
    """u in 2 questions (named twice in one), v in 1; each unit's one member is itself."""
    questions = [question(1, "v", "u", "u"), question(2, "u")]
    skills = {"q1": ["v", "u", "u"], "q2": ["u"]}
    unit_of = merge(skills, "source", SimpleNamespace(), tmp_path, {})
    assert unit_of == {"u": "u", "v": "v"}
    assert units(["v", "u", "u"], unit_of) == ["v", "u"]
    expected = {"u": {"count": 2, "members": ["u"]}, "v": {"count": 1, "members": ["v"]}}
    assert list(report(questions, unit_of).items()) == list(expected.items())


def test_embedding_takes_the_scales_encoder_and_threshold(monkeypatch, tmp_path):
    """sum is in two questions, total in one; 5 degrees apart, cosine 0.996."""
    made = []

    def encoder(settings):
        made.append(settings)
        return Angles({"sum": 0, "total": 5})

    monkeypatch.setattr("gdpo.models.sentence_encoder.SentenceEncoder", encoder)
    skills = {"q1": ["sum", "total"], "q2": ["sum", "sum"]}
    for threshold, expected in ((0.99, {"sum": "sum", "total": "sum"}), (0.999, {"sum": "sum", "total": "total"})):
        scale = SimpleNamespace(needed_encoder="the encoder", merge=Merge(backend="embedding", threshold=threshold))
        assert merge(skills, "embedding", scale, tmp_path, {}) == expected
    assert made == ["the encoder"] * 2


def test_openai_backend_requests_each_skill_once(monkeypatch, tmp_path):
    asked = []

    def merge_skills(names, endpoint, journal, extra):
        asked.append((names, endpoint.model, journal))
        extra["asked"] = True
        return dict.fromkeys(names, "sum")

    monkeypatch.setitem(sys.modules, "gdpo.metakl.ask_merge", SimpleNamespace(merge_skills=merge_skills))
    settings = Merge(backend="openai", endpoint={"base_url": "http://localhost/v1", "model": "m"})
    extra: dict = {}
    scale = SimpleNamespace(merge=settings)
    assert merge({"q1": ["total", "sum"], "q2": ["sum"]}, "openai", scale, tmp_path, extra) == {
        "sum": "sum",
        "total": "sum",
    }
    assert asked == [(["sum", "total"], "m", tmp_path / "merge.jsonl")]
    assert extra == {"asked": True}


def test_units_count_questions_and_list_members():
    unit_of = {"totals": "sum", "sum": "sum", "area": "area"}
    annotated = [question(1, "sum", "area"), question(2, "sum")]
    assert report(annotated, unit_of) == {
        "area": {"count": 1, "members": ["area"]},
        "sum": {"count": 2, "members": ["sum", "totals"]},
    }


def test_agreement_by_hand():
    """Skills a, b, c, d. First: {a, b, c}, {d}: 3 pairs joined; second: {a, b}, {c, d}: 2 pairs; both: ab, 1 pair.

    Precision 1/3, recall 1/2, F1 2 / 5. Of 6 pairs chance would have 3 * 2 / 6 = 1 in both, so the index is
    (1 - 1) / ((3 + 2) / 2 - 1) = 0. Question 1 (a, b) needs 1 unit by both; question 2 (c, d) 2 and 1; question 3
    (a, c) 1 and 2; question 4 (d) 1 and 1: half are equal.
    """
    first = {"a": "a", "b": "a", "c": "a", "d": "d"}
    second = {"a": "a", "b": "a", "c": "c", "d": "c"}
    skills = {"1": ["a", "b"], "2": ["c", "d"], "3": ["a", "c"], "4": ["d"]}
    [row] = agreement({"source": first, "embedding": second}, skills)
    assert list(row) == COLUMNS
    assert row == {
        "first": "source", "second": "embedding", "skills": 4, "first_units": 2, "second_units": 2,
        "adjusted_rand": 0.0, "precision": pytest.approx(1 / 3), "recall": 0.5, "f1": pytest.approx(0.4),
        "questions": 4, "same_units": 0.5,
    }  # fmt: skip


def test_agreement_has_a_row_for_each_pair_of_backends():
    merged = {name: {"a": "a"} for name in ("source", "embedding", "openai")}
    assert agreement({"source": {"a": "a"}}, {"1": ["a"]}) == []
    rows = agreement(merged, {"1": ["a"]})
    assert [(row["first"], row["second"]) for row in rows] == [
        ("source", "embedding"), ("source", "openai"), ("embedding", "openai"),
    ]  # fmt: skip


def test_shares_of_no_pairs_are_empty():
    """`source` joins nothing: no precision; two backends that join nothing agree in full."""
    alone, joined = {"a": "a", "b": "b", "c": "c"}, {"a": "a", "b": "a", "c": "c"}
    assert pair_agreement(alone, joined) == {"adjusted_rand": 0.0, "precision": None, "recall": 0.0, "f1": 0.0}
    assert pair_agreement(alone, alone) == {"adjusted_rand": 1.0, "precision": None, "recall": None, "f1": None}


def test_rand_index_equals_scikit_learns():
    draw = np.random.default_rng(3)
    for size in (2, 10, 200):
        labels = draw.integers(0, size // 2 + 1, (2, size)).tolist()
        first, second = ({str(i): str(label) for i, label in enumerate(row)} for row in labels)
        expected = adjusted_rand_score(*labels)
        assert pair_agreement(first, second)["adjusted_rand"] == pytest.approx(expected, abs=1e-12)


def test_merge_refuses_skills_of_unknown_questions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = small_trainset.make()
    skills = read_records(layout.skills, Skills)
    write_records(layout.skills, [*skills, Skills(id="other-1", skills={"sum": "why"})])
    with refused(path="skills.jsonl", found="skills of other-1", expected=re.compile("^a question of .*contaminated")):
        steps.merge(layout.scale)
