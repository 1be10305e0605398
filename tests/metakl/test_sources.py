"""Rows of each layout become the right Questions; bad rows are named; a mirror, if any, is read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from gdpo.errors import UserError
from gdpo.grading import grade_many
from gdpo.metakl import sources
from gdpo.metakl.readers import READERS, last_boxed, unit
from gdpo.metakl.sources import mirror_dir, read_source
from gdpo.schema import HubSource, Source

GSM8K = {
    "question": "Natalia sold clips to 48 friends in April, and half as many in May. How many in all?",
    "answer": "Sold 48/2 = <<48/2=24>>24 clips in May.\nThat is 48+24 = <<48+24=72>>72 in all.\n#### 1,072",
}
CSQA = {
    "answerKey": "B",
    "id": "1",
    "question": {
        "question_concept": "revolving door",
        "choices": [{"label": "A", "text": "bank"}, {"label": "B", "text": "library"}],
        "stem": "Where?",
    },
}
CSQA_HUB = {
    "id": "1",
    "question": "Where?",
    "question_concept": "revolving door",
    "choices": {"label": ["A", "B"], "text": ["bank", "library"]},
    "answerKey": "B",
}


def source(reader: str, grader: str = "math", **extra: object) -> Source:
    return Source(domain="math", reader=reader, grader=grader, licence="MIT", mirror="rows.jsonl", **extra)


def written(directory: Path, *rows: dict) -> Path:
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def test_gsm8k(tmp_path: Path) -> None:
    [question] = read_source("g", source("gsm8k", instruction="Box it."), written(tmp_path, GSM8K))
    assert question.id == "g-1"
    assert question.question == GSM8K["question"] + "\n\nBox it."
    assert question.answer == "1072"
    assert question.difficulty == 2.0
    assert question.units == ["addition", "division", "few_step_reasoning"]
    assert question.solution == (
        "<think>\nSold 48/2 = 24 clips in May.\nThat is 48+24 = 72 in all.\n</think>\n\n\\boxed{1072}"
    )


@pytest.mark.parametrize("row", [CSQA, CSQA_HUB], ids=["original", "hub"])
def test_commonsenseqa_in_both_layouts(tmp_path: Path, row: dict) -> None:
    [question] = read_source("c", source("commonsenseqa", "letter"), written(tmp_path, row))
    assert (question.question, question.choices, question.answer) == ("Where?", ["bank", "library"], "B")
    assert question.units == ["revolving_door"]


def fields(reader: str, **row: object) -> dict | None:
    return READERS[reader](row)


def test_readers_by_hand() -> None:
    amc = fields("problem", problem="P", answer=27.0)
    assert (amc["answer"], amc["difficulty"], amc["solution"]) == ("27", 0.0, None)
    math = fields("problem", problem="P", solution=r"So \boxed{\frac{1}{2}}", level="Level 4", type="Number Theory")
    assert (math["answer"], math["difficulty"], math["units"]) == (r"\frac{1}{2}", 4.0, ["number_theory"])
    assert math["solution"].endswith("</think>\n\n\\boxed{\\frac{1}{2}}")
    assert fields("problem", problem="Prove it.", solution="Clear.") is None
    olympiad = fields("olympiadbench", question="Q", context="C", final_answer=["$2$", "3"], subfield="Algebra")
    assert (olympiad["question"], olympiad["answer"], olympiad["units"]) == ("C\n\nQ", "2, 3", ["algebra"])
    hub = fields("mmlu", question="Q", subject="us_history", choices=["a", "b", "c", "d"], answer=2)
    original = fields("mmlu", question="Q", subject="us_history", A="a", B="b", C="c", D="d", answer="C")
    assert hub == original and hub["answer"] == "C"
    gpqa = fields(
        "gpqa", Question="Q", Subdomain="Optics",
        **{"Correct Answer": "r", **{f"Incorrect Answer {n}": f"x{n}" for n in (1, 2, 3)}},
    )  # fmt: skip
    assert gpqa["choices"]["ABCD".index(gpqa["answer"])] == "r"
    assert fields("csqa2", question="Q", answer="no", topic_prompt="map")["answer"] == "B"
    logiqa = fields("logiqa2", text="T", question="Q", options=["a", "b"], answer=1, type={"X Y": True, "Z": False})
    assert (logiqa["answer"], logiqa["units"]) == ("B", ["x_y"])
    assert fields("prompt", forbidden_prompt="P", category="Hate, harassment")["units"] == ["hate_harassment"]
    assert fields("labelled_prompt", prompt="P", is_safe=True) is None
    assert fields("labelled_prompt", prompt="P", is_safe=False, category={"a b": True, "c": False})["units"] == ["a_b"]
    assert fields("wildjailbreak", adversarial="P", data_type="adversarial_benign") is None
    assert fields("wildjailbreak", adversarial="P", data_type="adversarial_harmful")["question"] == "P"
    assert fields("hh_rlhf", chosen="\n\nHuman: a b\nc\n\nAssistant: No.\n\nHuman: d")["question"] == "a b\nc"
    refusing = "<think>Bad.</think>\n\nI'm sorry, but I can't assist with that."
    star = fields("star1", question="Q", response=refusing, category=["Self-Harm"])
    assert (star["solution"], star["units"]) == (refusing, ["self_harm"])
    assert fields("star1", question="Q", response="<think>Ok.</think>Talk to a friend.", category=["Self-Harm"]) is None


def test_last_boxed_balances_braces() -> None:
    assert last_boxed(r"\boxed{1} then \boxed{\frac{a}{b_{2}}}.") == r"\frac{a}{b_{2}}"
    assert last_boxed("none") is None
    assert last_boxed(r"\boxed{1") is None


def test_a_source_without_questions_is_named(tmp_path: Path) -> None:
    mirror = written(tmp_path, {"problem": "Prove it.", "solution": "Clear."})
    with pytest.raises(UserError, match=r"sources\.s: reader 'problem' found no question"):
        read_source("s", source("problem"), mirror)


def test_unit() -> None:
    assert unit("Violence / Physical Harm") == "violence_physical_harm"


@pytest.mark.parametrize(
    ("reader", "row", "problem"),
    [
        (
            "gsm8k",
            {"question": "Q", "answer": "no mark"},
            "answer: found 'no mark', expected a solution that ends",
        ),
        ("gsm8k", {"question": 3, "answer": "a\n#### 1"}, "question: found 3, expected text"),
        ("commonsenseqa", CSQA | {"answerKey": "C"}, "answerKey: found 'C', expected one of A, B"),
        (
            "mmlu",
            {"question": "Q", "subject": "s", "choices": ["a"], "answer": 1},
            "answer: found 1, expected",
        ),
        ("star1", {"question": "Q"}, "response: found None, expected text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, reader: str, row: dict, problem: str) -> None:
    good = {"gsm8k": GSM8K, "commonsenseqa": CSQA}.get(reader)
    mirror = written(tmp_path, *([good] if good else []), row)
    line = 2 if good else 1
    with pytest.raises(UserError) as caught:
        read_source("s", source(reader), mirror)
    assert f"{mirror / 'rows.jsonl'}, line {line}, {problem}" in str(caught.value)


def test_rows_and_gzip(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(GSM8K) + "\n" for _ in range(3))
    settings = source("gsm8k", rows=2).model_copy(update={"mirror": "rows.jsonl.gz"})
    assert [q.id for q in read_source("g", settings, tmp_path)] == ["g-1", "g-2"]


def test_an_unknown_reader_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sources\.g\.reader: found 'gsm8'; did you mean 'gsm8k'\?"):
        read_source("g", source("gsm8"), tmp_path)


def test_without_mirror_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: object, **options: object) -> list[dict]:
        asked.append((args, options))
        return [CSQA_HUB]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    hub = HubSource(path="tau/commonsense_qa", split="validation", revision="abc")
    [question] = read_source("c", source("commonsenseqa", "letter", hub=hub), None)
    assert question.answer == "B"
    assert asked == [(("tau/commonsense_qa", None), {"data_dir": None, "split": "validation", "revision": "abc"})]


def test_no_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("datasets.load_dataset", offline)
    hub = HubSource(path="a/b", split="test", revision="main")
    with pytest.raises(UserError, match=r"sources\.g: expected to load a/b from the Hub, found: no route$"):
        read_source("g", source("gsm8k", hub=hub), None)
    with pytest.raises(UserError, match=r"sources\.g: found no 'hub' entry"):
        read_source("g", source("gsm8k"), None)


def test_mirror_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BESIDE", tmp_path / "beside")
    monkeypatch.delenv("GDPO_MIRROR", raising=False)
    assert mirror_dir(None) is None
    (tmp_path / "beside").mkdir()
    assert mirror_dir(None) == tmp_path / "beside"
    (tmp_path / "environment").mkdir()
    monkeypatch.setenv("GDPO_MIRROR", str(tmp_path / "environment"))
    assert mirror_dir(None) == tmp_path / "environment"
    (tmp_path / "given").mkdir()
    assert mirror_dir(str(tmp_path / "given")) == tmp_path / "given"
    with pytest.raises(UserError, match=r"mirror: found '.*nowhere', expected a directory"):
        mirror_dir(str(tmp_path / "nowhere"))


MIRROR = Path(os.environ["GDPO_MIRROR"]) if "GDPO_MIRROR" in os.environ else sources.BESIDE
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="no mirror of the benchmarks (set GDPO_MIRROR)")


@needs_mirror
@pytest.mark.parametrize(
    ("reader", "grader", "file", "count"),
    [
        ("gsm8k", "math", "gsm8k/train.jsonl", 7473),
        ("problem", "math", "aime24/test.jsonl", 30),
        ("problem", "math", "amc23/test.jsonl", 40),
        ("problem", "math", "math500/test.jsonl", 500),
        ("problem", "math", "minerva_math/test.jsonl", 272),
        ("problem", "math", "math_train/train.jsonl", 7472),  # two rows have no answer
        ("olympiadbench", "math", "olympiadbench/test.jsonl", 675),
        ("commonsenseqa", "letter", "commonsenseqa/dev.jsonl", 1221),
        ("mmlu", "letter", "mmlu/test.jsonl.gz", 14042),
        ("logiqa2", "letter", "logiqa2/test.jsonl", 1572),
        ("csqa2", "letter", "csqa2/dev.jsonl", 2541),
        ("prompt", "refusal", "strongreject/test.jsonl", 313),
        ("prompt", "refusal", "trustllm_safety/misuse.jsonl", 1174),
        ("prompt", "refusal", "trustllm_safety/jailbreak.jsonl", 1400),
        ("prompt", "refusal", "dan_in_the_wild/jailbreak_prompts.jsonl", 666),
        ("hh_rlhf", "refusal", "hh_rlhf/harmless_base_test.jsonl", 2312),
        ("star1", "refusal", "star1/train.jsonl", 636),
    ],
)
def test_real_files(reader: str, grader: str, file: str, count: int) -> None:
    settings = source(reader, grader).model_copy(update={"mirror": file})
    questions = read_source("s", settings, MIRROR)
    assert len(questions) == count
    assert all(question.units and all(question.units) for question in questions)


@needs_mirror
@pytest.mark.parametrize("file", ["gsm8k/test.jsonl", "math500/test.jsonl", "minerva_math/test.jsonl"])
def test_real_solutions_are_graded_right(file: str) -> None:
    """A reader that took the wrong field for the answer would fail here."""
    reader = "gsm8k" if "gsm8k" in file else "problem"
    settings = source(reader, rows=100).model_copy(update={"mirror": file})
    questions = read_source("s", settings, MIRROR)
    verdicts = grade_many([(question, question.solution) for question in questions])
    assert verdicts.count("right") / len(verdicts) >= 0.97
