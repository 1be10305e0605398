"""Which skills are a question's, worked by hand on a small tree; our own taxonomy is whole and covers its sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gdpo.config.data import Encoder, Taxonomy
from gdpo.core.errors import UserError
from gdpo.core.files import read_jsonl
from gdpo.core.records import Question, Skills
from gdpo.metakl import quality, taxonomy
from gdpo.metakl.readers import READERS
from tests.mirror import MIRROR, needs_mirror
from tests.refusal import refused

TREE = """
areas:
  plants: {domains: [general], gloss: what grows}
  rocks: {domains: [general], gloss: what is hard}
  sums: {domains: [math], gloss: what is added}
skills:
  - areas: [plants]
    skills: {leaves: green and flat, roots: under the ground}
  - areas: [rocks]
    skills: {lava: hot}
  - areas: [plants, rocks]
    skills: {soil: brown}
  - areas: [sums]
    skills: {carrying: ten and more}
topics:
  botany: [plants, leaves]
  geology: [rocks]
"""
# The candidates of general: plants, rocks, leaves, roots, lava, soil.
COSINES = np.array([[0.6, 0.2, 0.4, 0.5, 0.1, 0.8]])


@pytest.fixture
def tree(tmp_path: Path) -> taxonomy.Tree:
    (tmp_path / "tree.yaml").write_text(TREE)
    return taxonomy.load(str(tmp_path / "tree.yaml"))


def question(number: int, text: str = "Why?", **fields: object) -> Question:
    settings = {"domain": "general", "source": "s", "answer": "A", "grader": "letter"} | fields
    return Question(id=f"q{number}", question=text, **settings)


def always(asked: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
    """COSINES for every question of domain general; 0.9 and 0.7 for sums and carrying."""
    return np.repeat(COSINES if len(glosses) == 6 else [[0.9, 0.7]], len(asked), axis=0)


def named(questions: list[Question], tree: taxonomy.Tree, settings: Taxonomy) -> list[Skills]:
    return taxonomy.match_skills(questions, taxonomy.views(questions), tree, settings, always)


def names(settings: Taxonomy, tree: taxonomy.Tree, **fields: object) -> list[str]:
    [skills] = named([question(1, **fields)], tree, settings)
    return list(skills.skills)


def test_candidates_are_areas_then_skills_of_the_domain(tree: taxonomy.Tree) -> None:
    found = taxonomy.candidates(tree, "general")
    assert found.names == ["plants", "rocks", "leaves", "roots", "lava", "soil"]
    assert (found.areas, found.parents) == (2, [[0], [0], [1], [0, 1]])
    assert found.glosses[5] == "soil: brown"
    assert taxonomy.candidates(tree, "math").names == ["sums", "carrying"]
    assert taxonomy.candidates(tree, "safety").names == []


def test_scores_by_hand(tree: taxonomy.Tree) -> None:
    """Plants: (0.6 + its best skill 0.8) / 2; rocks: (0.2 + 0.8) / 2; leaves: (0.4 + plants 0.6) / 2;
    roots: (0.5 + 0.6) / 2; lava: (0.1 + rocks 0.2) / 2; soil: (0.8 + its better area 0.6) / 2."""
    scores = taxonomy.scores(COSINES, taxonomy.candidates(tree, "general"))
    assert scores[0] == pytest.approx([0.7, 0.5, 0.5, 0.55, 0.15, 0.7])


def test_an_area_without_skills_keeps_its_cosine() -> None:
    found = taxonomy.Candidates(["a"], ["a: x"], 1, [], {"a": 0})
    assert taxonomy.scores(np.array([[0.3]]), found).tolist() == [[0.3]]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"min_skills": 1, "max_skills": 6, "margin": 0.1}, ["plants", "soil"]),  # 0.7 twice; 0.55 is below 0.6
        ({"min_skills": 1, "max_skills": 6, "margin": 0.18}, ["plants", "soil", "roots"]),
        ({"min_skills": 1, "max_skills": 1, "margin": 0.18}, ["plants"]),  # of equal ones the earlier
        ({"min_skills": 4, "max_skills": 6, "margin": 0.1}, ["plants", "soil", "roots", "rocks"]),
    ],
)
def test_skills_within_the_margin(tree: taxonomy.Tree, settings: dict, expected: list[str]) -> None:
    assert names(Taxonomy(**settings), tree) == expected


def test_only_skills_of_the_questions_domain_match(tree: taxonomy.Tree) -> None:
    questions = [question(1), question(2, domain="math"), question(3)]
    skills = named(questions, tree, Taxonomy())
    assert [entry.id for entry in skills] == ["q1", "q2", "q3"]
    assert [list(entry.skills) for entry in skills] == [["plants", "soil"], ["sums", "carrying"], ["plants", "soil"]]
    assert skills[1].skills["sums"] == "similarity 0.80"  # (0.9 + 0.7) / 2
    with refused(found="no area of domain safety", expected="one"):
        named([question(4, domain="safety")], tree, Taxonomy())


def test_topics_of_the_source_come_first_and_count(tree: taxonomy.Tree) -> None:
    """`geology` stands for rocks; `lava` is a name itself; `sums` is of another domain; `who` stands for nothing."""
    settings = Taxonomy(min_skills=1, max_skills=4, margin=0.18)
    topics = ["geology", "sums", "who", "lava"]
    assert names(settings, tree, topics=topics) == ["rocks", "lava", "plants", "soil"]  # roots is the fifth
    assert names(settings.model_copy(update={"topics": False}), tree, topics=topics) == ["plants", "soil", "roots"]
    [entry] = named([question(1, topics=topics)], tree, settings)
    assert entry.skills["rocks"] == "the source says geology"
    assert entry.skills["soil"] == "similarity 0.70"


def test_min_skills_nearest_stay_beside_many_topics(tree: taxonomy.Tree) -> None:
    """Five topics are more than `max_skills`; the two nearest that no topic names, soil and roots, stay."""
    settings = Taxonomy(min_skills=2, max_skills=3, margin=0.18)
    assert names(settings, tree, topics=["botany", "geology", "lava"]) == [
        "plants", "leaves", "rocks", "lava", "soil", "roots",
    ]  # fmt: skip


def test_views_leave_out_what_a_source_repeats() -> None:
    """The last paragraph of every question of `s` is its instruction, and that of its first closes a passage; `t` asks
    two things, always with the same choices; `u` has one question."""
    box = "\n\nBox it."
    questions = [
        question(1, "Passage.\n\nWhich?" + box, choices=["x", "y"]),
        question(2, "Is it?" + box, choices=["z", "y"]),
        question(3, "One.\n\nWhich?", source="t", choices=["yes", "no"]),
        question(4, "One.\n\nWho?", source="t", choices=["yes", "no"]),
        question(5, "Alone." + box, source="u"),
    ]
    assert taxonomy.views(questions) == [
        ["Passage.\n\nWhich?\nx\ny", "Which?"],
        ["Is it?\nz\ny"],
        ["One.\n\nWhich?"],
        ["One.\n\nWho?"],
        ["Alone.\n\nBox it."],
    ]


def test_the_nearest_view_counts() -> None:
    """Questions of 2, 1 and 2 views: the maximum of rows 0 and 1, row 2, and the maximum of rows 3 and 4."""

    def similar(asked: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
        assert (list(asked), list(glosses)) == (["a", "b", "c", "d", "e"], ["x", "y"])
        return np.array([[0.1, 0.9], [0.3, 0.2], [0.5, 0.5], [0.0, 0.1], [0.0, -0.2]])

    found = taxonomy.cosines([["a", "b"], ["c"], ["d", "e"]], ["x", "y"], similar)
    assert found.tolist() == [[0.3, 0.9], [0.5, 0.5], [0.0, 0.1]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gloss: what grows", "gloss: ' '", r"tree\.yaml, areas\.plants\.gloss: "),
        ("{lava: hot}", "{Lava: hot}", r"tree\.yaml, skills\.1\.skills\.Lava"),
        ("{lava: hot}", "{leaves: hot}", r"skills\.1\.skills: found 'leaves' a second time, expected it once"),
        ("{lava: hot}", "{plants: hot}", r"skills\.1\.skills: found 'plants' a second time, expected it once"),
        ("{lava: hot}", "{lava: hot, lava: cold}", r"tree\.yaml, line \d+: not readable as YAML.*'lava' a second"),
        ("areas: [sums]", "areas: [sum]", r"skills\.3\.areas: found 'sum', expected one of 'areas'"),
        ("geology: [rocks]", "geology: [rock]", r"topics\.geology: found 'rock', expected the name of an area or"),
        ("domains: [math]", "domains: [maths]", r"areas\.sums\.domains\.0: "),
        ("domains: [math]", "domains: []", r"areas\.sums\.domains: "),
        ("topics:", "labels:", r"tree\.yaml, labels: unknown key"),
    ],
)
def test_invalid_taxonomy_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "tree.yaml"
    path.write_text(TREE.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        taxonomy.load(str(path))
    assert "\n" not in str(error.value)


def test_killed_annotation_resumes(tmp_path, monkeypatch) -> None:
    """Five questions, two at once; the third batch is killed, the second call does it alone."""
    (tmp_path / "tree.yaml").write_text(TREE)
    settings, encoder = Taxonomy(file=str(tmp_path / "tree.yaml")), Encoder(reference="dir:nowhere")
    questions, asked = [question(number, f"Why {number}?") for number in range(5)], []

    def similar(texts: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
        asked.append(list(texts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return always(texts, glosses)

    monkeypatch.setattr(taxonomy, "embedding_cosines", lambda encoder: similar)
    monkeypatch.setattr(taxonomy, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        taxonomy.annotate(questions, settings, encoder, tmp_path)
    done = taxonomy.annotate(questions, settings, encoder, tmp_path)
    assert asked == [["Why 0?", "Why 1?"], ["Why 2?", "Why 3?"], ["Why 4?"], ["Why 4?"]]
    assert done == named(questions, taxonomy.load(settings.file), settings)


def test_a_missing_taxonomy_is_named(tmp_path: Path) -> None:
    with refused(problem="no such file", path="mine.yaml", expected="a taxonomy"):
        taxonomy.load(str(tmp_path / "mine.yaml"))


def test_max_skills_is_at_least_min_skills() -> None:
    with pytest.raises(ValueError, match="max_skills: found 2, expected at least the 3"):
        Taxonomy(min_skills=3, max_skills=2)


# Quality


def test_chance_by_hand() -> None:
    """2 of 5 areas, 1 true: 2/5. 2 of 5 with 2 true: 1 - C(3, 2) / C(5, 2) = 0.7. As many as there are: certain."""
    assert quality.chance(5, 1, 2) == pytest.approx(0.4)
    assert quality.chance(5, 2, 2) == pytest.approx(0.7)
    assert quality.chance(5, 1, 5) == 1.0


def test_quality_by_hand(tree: taxonomy.Tree) -> None:
    """Four questions of source s, whose skills are always plants and soil: the two on botany hold their area, that on
    geology does not, and the one without a topic is left out, so 2 of 3; Wilson's interval at 2/3 of 3 is 0.208 to
    0.939. The nearest area is right for the same two. The other method puts rocks first: 1 of 3. Chance draws one of
    two areas: 1/2. Source t names topics of one question in three, and is left out."""
    topics = [["botany"], ["plants"], ["geology"], []]
    questions = [question(i, f"Why {i}?", topics=t) for i, t in enumerate(topics)]
    questions += [question(10 + i, f"How {i}?", source="t", topics=t) for i, t in enumerate([["botany"], [], []])]

    def other(asked: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
        return np.repeat([[0.1, 0.9, 0.0, 0.0, 0.8, 0.0]], len(asked), axis=0)

    settings = Taxonomy(min_skills=1, max_skills=6, margin=0.1)
    rows = quality.measure_methods(questions, tree, settings, {"taxonomy": always, "other": other})
    assert [list(row) for row in rows] == [quality.COLUMNS] * 3
    assert [(row["source"], row["method"], row["questions"], row["skills"]) for row in rows] == [
        ("s", "taxonomy", 3, 2.0),
        ("s", "other", 3, 2.0),
        ("s", "chance", 3, 2.0),
    ]
    assert [row["share"] for row in rows] == pytest.approx([2 / 3, 1 / 3, 1 / 2])
    assert [row["first"] for row in rows] == pytest.approx([2 / 3, 1 / 3, 1 / 2])
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((0.208, 0.939), abs=1e-3)
    assert (rows[2]["low"], rows[2]["high"]) == (None, None)
    assert quality.sentence(rows[0]) == (
        "quality s, taxonomy: the topic is among 2.00 skills of 66.7% (20.8% to 93.9%) of 3 questions, "
        "and the nearest area of 66.7%"
    )
    assert "(" not in quality.sentence(rows[2])


def test_killed_quality_resumes(tree: taxonomy.Tree, tmp_path) -> None:
    """Three sources of two questions; the second one stops the first call."""
    questions = [question(i, f"Why {i}?", source="rst"[i // 2], topics=["botany"]) for i in range(6)]
    seen: list[int] = []

    def similar(asked: Sequence[str], glosses: Sequence[str]) -> np.ndarray:
        seen.append(len(asked))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return always(asked, glosses)

    settings = Taxonomy(min_skills=1, margin=0.1)
    whole = quality.measure_methods(questions, tree, settings, {"taxonomy": always})
    with pytest.raises(KeyboardInterrupt):
        quality.measure_methods(questions, tree, settings, {"taxonomy": similar}, tmp_path / "kept.jsonl")
    assert quality.measure_methods(questions, tree, settings, {"taxonomy": similar}, tmp_path / "kept.jsonl") == whole
    assert len(seen) == 2 + 2 and len(whole) == 3 * 2


def test_quality_hides_the_topic_from_the_matcher(tree: taxonomy.Tree) -> None:
    questions = [question(1, "Why 1?", topics=["geology"]), question(2, "Why 2?", topics=["geology"])]
    [row, *_] = quality.measure_methods(
        questions, tree, Taxonomy(min_skills=1, margin=0.1, topics=True), {"taxonomy": always}
    )
    assert row["share"] == 0.0


def test_tf_idf_finds_shared_words() -> None:
    """Words of one gloss alone, words of none: cosine 1 with the one, 0 with everything."""
    cosines = quality.tf_idf(["volcano lava", "nothing here"], ["lava volcano", "green leaf"])
    assert cosines == pytest.approx(np.array([[1.0, 0.0], [0.0, 0.0]]))


# Our own taxonomy

MMLU = """abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry
college_computer_science college_mathematics college_medicine college_physics computer_security conceptual_physics
econometrics electrical_engineering elementary_mathematics formal_logic global_facts high_school_biology
high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics
high_school_physics high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning management marketing
medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory professional_accounting
professional_law professional_medicine professional_psychology public_relations security_studies sociology
us_foreign_policy virology world_religions"""
MATH = ["Algebra", "Counting & Probability", "Geometry", "Intermediate Algebra", "Number Theory", "Prealgebra"]
MATH += ["Precalculus"]


def test_every_subject_and_type_is_an_area() -> None:
    ours = taxonomy.load()
    general, math = taxonomy.candidates(ours, "general"), taxonomy.candidates(ours, "math")
    assert len(MMLU.split()) == 57
    for subject in MMLU.split():
        asked = READERS["mmlu"]({"question": "?", "subject": subject, "answer": "A", **dict.fromkeys("ABCD", "x")})
        assert list(ours.match_topics(asked["topics"], general)) == [subject]
        assert general.index[subject] < general.areas
    for kind in MATH:
        asked = READERS["problem"]({"problem": "?", "answer": "1", "type": kind})
        [area] = ours.match_topics(asked["topics"], math)
        assert math.index[area] < math.areas


def test_default_taxonomy_has_several_hundred_skills() -> None:
    """At least 150 for each domain, no two with the same gloss, and at least one below every area."""
    ours = taxonomy.load()
    sizes = {d: len(taxonomy.candidates(ours, d).names) for d in ("math", "general", "safety")}
    assert all(size >= 150 for size in sizes.values())
    glosses = [area.gloss for area in ours.areas.values()]
    glosses += [gloss for branch in ours.skills for gloss in branch.skills.values()]
    assert len(set(glosses)) == len(glosses)
    assert set(ours.areas) == {area for branch in ours.skills for area in branch.areas}


@needs_mirror
@pytest.mark.parametrize(
    ("file", "reader", "domain"),
    [
        ("mmlu/val.jsonl", "mmlu", "general"),
        ("mmlu/dev.jsonl", "mmlu", "general"),
        ("math_train/train.jsonl", "problem", "math"),
        ("math_test5000/test.jsonl", "problem", "math"),
        ("logiqa2/dev.jsonl", "logiqa2", "general"),
        ("star1/train.jsonl", "star1", "safety"),
        ("gsm8k/train.jsonl", "gsm8k", "math"),
    ],
)
def test_every_topic_of_the_mirror_has_a_skill(file: str, reader: str, domain: str) -> None:
    ours = taxonomy.load()
    found = taxonomy.candidates(ours, domain)
    rows = (READERS[reader](row) for _, row in read_jsonl(MIRROR / file))
    topics = {topic for row in rows if row for topic in row["topics"]}
    assert topics and [topic for topic in sorted(topics) if not ours.match_topics([topic], found)] == []
