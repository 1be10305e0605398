"""The catalogue of sources: valid, and on the mirror's real files as many questions as it should have, graded right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdpo.config.data import Source
from gdpo.config.loader import merge, read_yaml
from gdpo.core.project import CONFIG
from gdpo.grading.grade import grade_many
from gdpo.metakl.readers import READERS, unit
from gdpo.metakl.sources import catalogue, read_source
from tests.mirror import MIRROR, needs_mirror
from tests.refusal import refused

CATALOGUE = read_yaml(CONFIG / "sources.yaml")["sources"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_is_valid(name: str) -> None:
    entry = Source.model_validate(merge(CATALOGUE[name], {}))
    assert entry.reader == "fields" or entry.reader in READERS
    assert entry.stands_in_for is None or entry.stands_in_for in CATALOGUE
    assert not entry.pool


def test_sources_of_a_grader_share_their_instruction() -> None:
    for grader in ("math", "letter", "refusal"):
        assert len({entry.get("instruction", "") for entry in CATALOGUE.values() if entry["grader"] == grader}) == 1


COUNTS = {
    "gsm8k-train": 7473, "gsm8k-test": 1319, "aime24": 30, "amc23": 40, "math500": 500, "minerva": 272,
    "math-train": 7470,  # four rows have no answer, two of them an empty one
    "math-test5000": 5000, "olympiadbench": 675, "commonsenseqa-train": 9741, "commonsenseqa-dev": 1221,
    "mmlu-validation": 1531, "mmlu-dev": 285, "mmlu-test": 14042, "logiqa2-dev": 1569, "logiqa2-test": 1572,
    "csqa2-train": 9264, "csqa2-dev": 2541, "strongreject": 313, "trustllm-misuse": 1174, "trustllm-jailbreak": 1400,
    "do-anything-now": 666, "hh-rlhf": 2312, "safety-tuned-llamas": 2483, "advbench": 520,
    "star1": 636,  # the rest does not refuse
    "arc-easy": 2251,
}  # fmt: skip
SILENT = {"aime24", "amc23", "do-anything-now", "hh-rlhf", "safety-tuned-llamas", "advbench", "arc-easy"}  # no topic


@needs_mirror
@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if "mirror" in entry])
def test_real_files(name: str) -> None:
    questions = read_source(name, Source.model_validate(CATALOGUE[name]), MIRROR)
    assert len(questions) == COUNTS[name]
    assert all(topic == unit(topic) for question in questions for topic in question.topics)
    assert not any(question.units for question in questions)
    assert any(question.topics for question in questions) == (name not in SILENT)


def test_the_catalogue_is_read_without_a_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue().keys() == CATALOGUE.keys()
    assert catalogue()["aime24"].mirror == "aime24/test.jsonl"
    (tmp_path / "sources.yaml").write_text(json.dumps({"sources": {"mine": CATALOGUE["aime24"] | {"domain": "maths"}}}))
    monkeypatch.setattr("gdpo.metakl.sources.CONFIG", tmp_path)
    with refused(path="sources.yaml", key="sources.mine.domain", found="'maths'", expected="'math'"):
        catalogue()


COLUMNS = [
    "aime24", "amc23", "math500", "gsm8k-test", "olympiadbench", "minerva", "mmlu-test", "commonsenseqa-dev",
    "gpqa-diamond", "trustllm-misuse", "trustllm-jailbreak", "strongreject", "wildjailbreak-eval",
]  # fmt: skip


@needs_mirror
def test_mirror_has_every_paper_column_except_two_gated_ones() -> None:
    """And each file of the mirror gives as many items as its manifest has rows."""
    entries = {e["file"]: e["rows"] for e in json.loads((MIRROR / "manifest.json").read_text())["entries"]}
    rows = {name: entries.get(CATALOGUE[name].get("mirror")) for name in [*COLUMNS, "arc-easy"]}
    assert {name for name, number in rows.items() if number is None} == {"gpqa-diamond", "wildjailbreak-eval"}
    assert all(number in (None, COUNTS.get(name)) for name, number in rows.items())


@needs_mirror
def test_the_parts_of_math_name_the_same_topics() -> None:
    topics = [
        {
            topic
            for question in read_source(name, Source.model_validate(CATALOGUE[name]), MIRROR)
            for topic in question.topics
        }
        for name in ("math-train", "math-test5000", "math500")
    ]
    assert topics[0] == topics[1] == topics[2]
    assert "counting_and_probability" in topics[0]


@needs_mirror
@pytest.mark.long
@pytest.mark.parametrize("name", ["aime24", "amc23", "math500", "gsm8k-test", "olympiadbench", "minerva"])
def test_every_real_answer_is_graded_right(name: str) -> None:
    """Boxed, and in a sentence: an answer that the grader cannot read, or reads as another, would fail here."""
    questions = read_source(name, Source.model_validate(CATALOGUE[name]), MIRROR)
    assert grade_many([(q, rf"\boxed{{{q.answer}}}") for q in questions]).count("right") == len(questions)
    said = grade_many([(q, f"The answer is ${q.answer}$.") for q in questions])
    assert said.count("right") >= len(questions) - 1  # Minerva's answer to one is a sentence


@needs_mirror
@pytest.mark.parametrize("name", ["gsm8k-test", "math500", "minerva"])
def test_real_solutions_are_graded_right(name: str) -> None:
    """A reader that took the wrong field for the answer would fail here."""
    questions = read_source(name, Source.model_validate(CATALOGUE[name] | {"rows": 100}), MIRROR)
    verdicts = grade_many([(question, question.solution) for question in questions])
    assert verdicts.count("right") / len(verdicts) >= 0.97
