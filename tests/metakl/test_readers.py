"""Each reader, by hand: a row of its source's layout becomes a question's fields, and a bad one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdpo.metakl.readers import READERS, last_boxed, unit
from gdpo.metakl.sources import read_source
from tests.metakl.test_sources import CSQA, GSM8K, source
from tests.mirror import mirror_of
from tests.refusal import refused


def fields(reader: str, **row: object) -> dict | None:
    return READERS[reader](row)


def test_readers_by_hand() -> None:
    amc = fields("problem", problem="P", answer=27.0)
    assert (amc["answer"], amc["difficulty"], amc["solution"]) == ("27", 0.0, None)
    assert amc["topics"] == []
    counting = fields("problem", problem="P", answer="1", difficulty=5.0, type="Counting & Probability")
    assert (counting["difficulty"], counting["topics"]) == (5.0, ["counting_and_probability"])
    course = fields(
        "problem", problem="P", solution=r"\boxed{1}", type="Introduction to Astronomy (8.282J Spring 2006)"
    )
    assert course["topics"] == ["introduction_to_astronomy"]
    math = fields("problem", problem="P", solution=r"So \boxed{\frac{1}{2}}", level="Level 4", type="Number Theory")
    assert (math["answer"], math["difficulty"], math["topics"]) == (r"\frac{1}{2}", 4.0, ["number_theory"])
    assert math["solution"].endswith("</think>\n\n\\boxed{\\frac{1}{2}}")
    assert fields("problem", problem="Prove it.", solution="Clear.") is None
    assert fields("problem", problem="P", answer=" ") is None
    assert fields("problem", problem="P", solution=r"So \boxed{ }.") is None
    assert fields("gsm8k", question="Q", answer="Add.\n#### ") is None
    assert fields("olympiadbench", question="Q", final_answer=["$$", "3"], subfield="Algebra") is None
    olympiad = fields("olympiadbench", question="Q", context="C", final_answer=["$2$", "3"], subfield="Algebra")
    assert (olympiad["question"], olympiad["answer"], olympiad["topics"]) == ("C\n\nQ", "2, 3", ["algebra"])
    for given, answer in (
        ("$69$,$84$", "69, 84"),
        ("221,$8$", "221, 8"),
        ("$(0, 1) \\cup\\{1\\}$.", "(0, 1) \\cup\\{1\\}"),
    ):
        assert fields("olympiadbench", question="Q", final_answer=[given], subfield="Algebra")["answer"] == answer
    hub = fields("mmlu", question="Q", subject="us_history", choices=["a", "b", "c", "d"], answer=2)
    original = fields("mmlu", question="Q", subject="us_history", A="a", B="b", C="c", D="d", answer="C")
    assert hub == original and hub["answer"] == "C"
    gpqa = fields(
        "gpqa", Question="Q", Subdomain="Optics",
        **{"Correct Answer": "r", **{f"Incorrect Answer {n}": f"x{n}" for n in (1, 2, 3)}},
    )  # fmt: skip
    assert gpqa["choices"]["ABCD".index(gpqa["answer"])] == "r"
    csqa2 = {"question": "Q", "answer": "no", "topic_prompt": "map", "relational_prompt": "part of"}
    assert fields("csqa2", **csqa2)["answer"] == "B"
    assert fields("csqa2", **csqa2)["topics"] == ["part_of", "map"]
    assert fields("csqa2", **csqa2, relational_prompt_used=False)["topics"] == ["map"]
    logiqa = fields("logiqa2", text="T", question="Q", options=["a", "b"], answer=1, type={"X Y": True, "Z": False})
    assert (logiqa["question"], logiqa["answer"], logiqa["topics"]) == ("T\n\nQ", "B", ["x_y"])
    row = {"text": "T", "question": "Q", "options": ["a", "b"], "answer": 1, "type": {"X Y": True, "Z": False}}
    assert fields("logiqa2", text=json.dumps(row)) == logiqa
    assert fields("prompt", forbidden_prompt="P", category="Hate, harassment")["topics"] == ["hate_harassment"]
    assert fields("prompt", prompt="P", type=None) == {"question": "P", "answer": "", "topics": []}
    assert fields("prompt", prompt="### Instruction:\nP\nQ\n\n### Response:\n")["question"] == "P\nQ"
    assert fields("labelled_prompt", prompt="P", is_safe=True) is None
    assert fields("labelled_prompt", prompt="P", is_safe=False, category={"a b": True, "c": False})["topics"] == ["a_b"]
    assert fields("wildjailbreak", adversarial="P", data_type="adversarial_benign") is None
    assert fields("wildjailbreak", adversarial="P", data_type="adversarial_harmful")["question"] == "P"
    assert fields("hh_rlhf", chosen="\n\nHuman: a b\nc\n\nAssistant: No.\n\nHuman: d")["question"] == "a b\nc"
    refusing = "<think>Bad.</think>\n\nI'm sorry, but I can't assist with that."
    star = fields("star1", question="Q", response=refusing, category=["Self-Harm"])
    assert (star["solution"], star["topics"]) == (refusing, ["self_harm"])
    assert fields("star1", question="Q", response="<think>Ok.</think>Talk to a friend.", category=["Self-Harm"]) is None


ARC = (
    "Please choose the correct answer to the question: Which is\n\nhot?\n\nAnswer1: ice Answer2: the sun "
    "Answer3: a 2:1 mix\n\nAnswer format: answer1/answer2/answer3"
)


def test_arc_in_both_layouts() -> None:
    """LLM-Adapters' instruction, and the Hub's rows, whose choices are lettered or numbered."""
    expected = {"question": "Which is\n\nhot?", "choices": ["ice", "the sun", "a 2:1 mix"], "answer": "B"}
    assert (
        fields("arc", instruction=ARC, input="", output="the correct answer is answer2", answer="answer2") == expected
    )
    for labels in (["A", "B", "C"], ["1", "2", "3"]):
        choices = {"label": labels, "text": expected["choices"]}
        hub = fields("arc", question=expected["question"], choices=choices, answerKey=labels[1])
        assert hub == expected


def test_family_relations_are_asked_with_words_of_one_gender() -> None:
    """An in-law's word is the other person's, so the row is left out; else four words, and which of them is right."""
    story = "Al is married to Bo. They have a child called Cy."
    asked = f"{story}\n\nWhat is Al to Cy? Respond only with the word."
    people = {"person1": "Al", "person2": "Cy"}
    found = fields("gym_family", question=asked, answer="father", metadata=people)
    assert found["question"] == f"{story}\n\nWhat is Al to Cy?"
    assert sorted(found["choices"]) == [f"Al is the {w} of Cy" for w in ("father", "grandfather", "husband", "son")]
    assert found["choices"]["ABCD".index(found["answer"])] == "Al is the father of Cy"
    assert fields("gym_family", question="Q? One word.", answer="mother-in-law") is None


def test_last_boxed_balances_braces() -> None:
    assert last_boxed(r"\boxed{1} then \boxed{\frac{a}{b_{2}}}.") == r"\frac{a}{b_{2}}"
    assert last_boxed("none") is None
    assert last_boxed(r"\boxed{1") is None


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
        (
            "arc",
            {"instruction": "Which?", "answer": "answer1"},
            "instruction: found 'Which?', expected a question, 'Ans",
        ),
        ("arc", {"instruction": ARC, "answer": "answer4"}, "answer: found 'answer4', expected one of answer1, answer2"),
        (
            "arc",
            {"instruction": ARC.replace("Answer3: ", ""), "answer": "answer1"},
            "choices: found ['ice', 'the sun a 2:1 mix'], expected 3 choices",
        ),
        ("gym_family", {"question": "Q", "answer": "son"}, "question: found 'Q', expected one that ends in '?'"),
        ("gym_family", {"question": "Q?", "answer": "son"}, "metadata: found None, expected person1 and person2"),
        ("star1", {"question": "Q"}, "response: found None, expected text"),
        (
            "mmlu",
            {"question": "Q", "subject": "s", "choices": [str(n) for n in range(11)], "answer": 10},
            "answer: found 10, expected the index of one of the first 10 choices",
        ),
        (
            "mmlu",
            {"question": "Q", "subject": "s", "choices": ["a", 2], "answer": 0},
            "choices.1: Input should be a valid string",
        ),
        ("star1", {"question": "Q", "response": "I'm sorry, but I can't.", "category": ["x"]}, "answer: found none"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, reader: str, row: dict, problem: str) -> None:
    good = {"gsm8k": GSM8K, "commonsenseqa": CSQA}.get(reader)
    mirror = mirror_of(tmp_path, *([good] if good else []), row)
    line = 2 if good else 1
    with refused(path=str(mirror / "rows.jsonl"), line=line) as caught:
        read_source("s", source(reader), mirror)
    assert problem in str(caught.value)
