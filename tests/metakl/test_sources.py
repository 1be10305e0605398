"""Rows of each layout become the right Questions; bad rows are named; a mirror, if any, is read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled
from pydantic import ValidationError

from gdpo.config import CONFIG, load_scale, merge, read_yaml
from gdpo.data_schema import HubSource, Source
from gdpo.errors import UserError
from gdpo.grading import grade_many
from gdpo.metakl.pool import pool
from gdpo.metakl.readers import READERS, last_boxed, unit
from gdpo.metakl.sources import Unavailable, catalogue, mirror_dir, read, read_source
from tests.mirror import MIRROR, mirror_of, needs_mirror, with_manifest

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


def test_gsm8k(tmp_path: Path) -> None:
    [question] = read_source("g", source("gsm8k", instruction="Box it."), mirror_of(tmp_path, GSM8K))
    assert question.id == "g-1"
    assert question.question == GSM8K["question"] + "\n\nBox it."
    assert question.answer == "1072"
    assert question.difficulty == 2.0
    assert question.topics == ["addition", "division"]
    assert question.units == []
    assert question.solution == (
        "<think>\nSold 48/2 = 24 clips in May.\nThat is 48+24 = 72 in all.\n</think>\n\n\\boxed{1072}"
    )


@pytest.mark.parametrize("row", [CSQA, CSQA_HUB], ids=["original", "hub"])
def test_commonsenseqa_in_both_layouts(tmp_path: Path, row: dict) -> None:
    [question] = read_source("c", source("commonsenseqa", "letter"), mirror_of(tmp_path, row))
    assert (question.question, question.choices, question.answer) == ("Where?", ["bank", "library"], "B")
    assert question.topics == ["revolving_door"]


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


def test_a_source_without_questions_is_named(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, {"problem": "Prove it.", "solution": "Clear."})
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
    with pytest.raises(UserError) as caught:
        read_source("s", source(reader), mirror)
    assert f"{mirror / 'rows.jsonl'}, line {line}, {problem}" in str(caught.value)


def test_rows_and_gzip(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(GSM8K) + "\n" for _ in range(3))
    with_manifest(tmp_path)
    settings = source("gsm8k", rows=2).model_copy(update={"mirror": "rows.jsonl.gz"})
    assert [q.id for q in read_source("g", settings, tmp_path)] == ["g-1", "g-2"]


def test_an_unknown_reader_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sources\.g\.reader: found 'gsm8'; did you mean 'gsm8k'\?"):
        read_source("g", source("gsm8"), tmp_path)


OPTIONS = [
    ("problem", {"fields": {"question": "q", "answer": "a"}}, "'fields' belongs to reader: fields"),
    ("fields", {}, "'fields' belongs to reader: fields"),
    ("fields", {"fields": {"question": "q"}}, "fields: found no path of answer"),
    ("fields", {"fields": {"question": "q", "answer": "a", "choices": "c"}}, "'choices' belongs to grader letter"),
    ("fields", {"fields": {"question": "q", "answer": "a", "units": "u"}}, "fields.units"),
]


@pytest.mark.parametrize(("reader", "options", "message"), OPTIONS)
def test_a_source_that_cannot_be_read_is_named(reader: str, options: dict, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        source(reader, **options)
    assert message in str(caught.value)


def test_a_scale_adds_a_source_in_yaml(tmp_path: Path) -> None:
    """The pool of a scale file that names one source of the catalogue and one of its own."""
    mirror_of(tmp_path, {"ask": "1+1?", "say": 2.0}, {"ask": "1 + 1", "say": 2}, file="mine/sums.jsonl")
    mirror_of(tmp_path, GSM8K, file="gsm8k/train.jsonl")
    raw = read_yaml(CONFIG / "smol.yaml")
    used = {benchmark["source"]: None for benchmark in raw["benchmarks"].values()}
    mine = {
        "domain": "math", "grader": "math", "licence": "CC0", "mirror": "mine/sums.jsonl", "pool": True,
        "fields": {"question": "ask", "answer": "say"}, "instruction": "Box it.",
    }  # fmt: skip
    raw["sources"] = {**used, "sums": mine, "gsm8k-train": {"pool": True}}
    raw["decontaminate"]["protect"] = []
    raw["models"]["expert"]["tuned"]["sources"] = ["gsm8k-train"]
    raw["trainsets"] = {"metakl": {"display": "M", "select": "metakl", "size": 1}}
    raw["tables"] = dict.fromkeys(read_yaml(CONFIG / "tables.yaml"))
    raw["studies"] = dict.fromkeys(read_yaml(CONFIG / "studies.yaml"))
    (tmp_path / "mine.yaml").write_text(json.dumps(raw))
    questions, counts = pool(load_scale(tmp_path / "mine.yaml"), tmp_path)
    assert [(q.id, q.answer) for q in questions] == [("sums-1", "2"), ("gsm8k-train-1", "1072")]
    assert (counts["sums"]["rows"], counts["sums"]["duplicates"], counts["sums"]["unusable"]) == (2, 1, 0)
    assert counts["gsm8k-train"]["revision"].startswith("mirror:gsm8k/train.jsonl@sha256:")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    good, bad = {"problem": "P", "answer": "1"}, {"problem": "P"}
    found = read("s", source("problem"), mirror_of(tmp_path, bad, good, bad, good))
    assert (found.rows, found.unusable, len(found.questions)) == (4, 2, 2)
    limited = read("s", source("problem", rows=1), tmp_path)
    assert (limited.rows, limited.unusable, len(limited.questions)) == (2, 1, 1)


def test_a_file_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, GSM8K)
    expected = json.loads((mirror / "manifest.json").read_text())["entries"][0]["sha256"]
    with (mirror / "rows.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(
        UserError, match=rf"rows\.jsonl: found sha256 [0-9a-f]{{64}}, expected {expected} as .*manifest"
    ):
        read_source("g", source("gsm8k"), mirror)
    (mirror / "rows.jsonl").unlink()
    with pytest.raises(UserError, match=r"rows\.jsonl: no such file; .*manifest\.json has it"):
        read_source("g", source("gsm8k"), mirror)
    other = source("gsm8k").model_copy(update={"mirror": "other.jsonl"})
    with pytest.raises(
        UserError, match=r"sources\.g\.mirror: found 'other\.jsonl', expected a file of .*manifest\.json"
    ):
        read_source("g", other, mirror)


MANIFESTS = [
    ("[]", "manifest.json: found no list 'entries'"),
    ('{"entries": {"file": "rows.jsonl"}}', "manifest.json: found no list 'entries'"),
    ('{"entries": ["rows.jsonl"]}', "manifest.json, entries.0: found 'rows.jsonl', expected file and sha256 as text"),
    ('{"entries": [{"file": 3, "sha256": "a"}]}', "manifest.json, entries.0: found {'file': 3, 'sha256': 'a'}, exp"),
    ('{"entries": [{"file": "rows.jsonl"}]}', "manifest.json, entries.0: found {'file': 'rows.jsonl'}, expected"),
]


@pytest.mark.parametrize(("content", "message"), MANIFESTS)
def test_a_malformed_manifest_is_named(tmp_path: Path, content: str, message: str) -> None:
    mirror = mirror_of(tmp_path, GSM8K)
    (mirror / "manifest.json").write_text(content)
    with pytest.raises(UserError) as caught:
        read_source("g", source("gsm8k"), mirror)
    assert f"{mirror}/{message}" in str(caught.value)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list:
    """The calls of a Hub whose branches are all at COMMIT."""
    calls: list = []

    def dataset_info(_: object, path: str, **options: object) -> SimpleNamespace:
        calls.append((path, options))
        return SimpleNamespace(sha=COMMIT)

    def load_dataset(*args: object, **options: object) -> list[dict]:
        calls.append((args, options))
        return [CSQA_HUB]

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return calls


def test_without_mirror_the_hub_is_asked_and_the_commit_recorded(hub: list) -> None:
    at_main = HubSource(path="tau/commonsense_qa", split="validation", revision="main")
    found = read("c", source("commonsenseqa", "letter", hub=at_main), None)
    assert found.questions[0].answer == "B"
    assert found.revision == f"hub:tau/commonsense_qa@{COMMIT}"
    loaded = (("tau/commonsense_qa", None), {"data_dir": None, "split": "validation", "revision": COMMIT})
    assert hub == [("tau/commonsense_qa", {"revision": "main", "timeout": 10}), loaded]


def test_a_pinned_commit_needs_no_question(hub: list) -> None:
    pinned = "f" * 40
    at_commit = HubSource(path="a/b", split="s", revision=pinned, data_files="MRC/train.txt")
    assert read("c", source("commonsenseqa", "letter", hub=at_commit), None).revision == f"hub:a/b@{pinned}"
    options = {"data_dir": None, "data_files": "MRC/train.txt", "split": "s", "revision": pinned}
    assert hub == [(("a/b", None), options)]


def test_a_source_without_a_file_in_the_mirror_is_read_from_the_hub(hub: list, tmp_path: Path) -> None:
    only_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s")).model_copy(
        update={"mirror": None}
    )
    assert read("c", only_hub, mirror_of(tmp_path, CSQA)).revision == f"hub:a/b@{COMMIT}"
    elsewhere = only_hub.model_copy(update={"mirror": "other.jsonl"})
    assert read("c", elsewhere, tmp_path).revision == f"hub:a/b@{COMMIT}"


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_no_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("datasets.load_dataset", "huggingface_hub.HfApi.dataset_info"):
        monkeypatch.setattr(name, raising(ConnectionError("no route\nto host")))
    hub = HubSource(path="a/b", split="test", revision="main")
    with pytest.raises(UserError, match=r"sources\.g: expected to load a/b from the Hub, found: no route$"):
        read_source("g", source("gsm8k", hub=hub), None)
    with pytest.raises(UserError, match=r"sources\.g: found no 'hub' entry"):
        read_source("g", source("gsm8k"), None)


RESPONSE = SimpleNamespace(headers={}, request=None)
GATED = "sources.g: a/b is gated on the Hub"
ANSWERS = [
    (ConnectionError("no route"), f"{GATED}, which does not answer"),
    (GatedRepoError("401", response=RESPONSE), f"{GATED}, and nobody who has accepted its terms is logged in"),
    (HfHubHTTPError("503 Busy\nsoon", response=RESPONSE), f"{GATED}, which says: 503 Busy"),
]


@pytest.mark.parametrize(("answer", "message"), ANSWERS)
def test_a_gated_source_is_not_loaded_before_the_hub_gives_it(
    hub: list, monkeypatch: pytest.MonkeyPatch, answer: Exception, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", raising(answer))
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", revision="f" * 40, gated=True))
    with pytest.raises(Unavailable) as caught:
        read_source("g", at_hub, None)
    assert str(caught.value) == message
    assert caught.value.reason == message.removeprefix("sources.g: ")
    assert hub == [("a/b", {"revision": "f" * 40, "timeout": 10})]


def test_a_gated_source_that_the_hub_gives_is_read(hub: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_, **__: None)
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", gated=True))
    assert read("g", at_hub, None).revision == f"hub:a/b@{COMMIT}"


def test_offline_a_gated_source_comes_from_the_cache_or_is_unavailable(
    hub: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", raising(OfflineModeIsEnabled("offline")))
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", revision="main", gated=True))
    assert read("g", at_hub, None).revision == "hub:a/b@main"
    monkeypatch.setattr("datasets.load_dataset", raising(ConnectionError("nothing cached")))
    with pytest.raises(Unavailable, match=r"a/b is gated on the Hub and was not to be loaded: nothing cached$"):
        read("g", at_hub, None)


def test_mirror_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's, else the environment's, else the scale's; else the Hub."""
    monkeypatch.delenv("GDPO_MIRROR", raising=False)
    scale = load_scale("smol")
    assert mirror_dir(None, scale) is None
    paths = {name: mirror_of(tmp_path / name, GSM8K) for name in ("scale", "environment", "given")}
    named = scale.model_copy(update={"mirror": str(paths["scale"])})
    assert mirror_dir(None, named) == paths["scale"]
    monkeypatch.setenv("GDPO_MIRROR", str(paths["environment"]))
    assert mirror_dir(None, named) == paths["environment"]
    assert mirror_dir(str(paths["given"]), named) == paths["given"]
    with pytest.raises(UserError, match=r"mirror: found '.*nowhere', expected a directory"):
        mirror_dir(str(tmp_path / "nowhere"), named)
    monkeypatch.setenv("GDPO_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match=r"GDPO_MIRROR: found no manifest\.json in"):
        mirror_dir(None, named)


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
    with pytest.raises(UserError, match=r"sources\.yaml, sources\.mine\.domain: Input should be 'math'"):
        catalogue()


COLUMNS = [
    "aime24", "amc23", "math500", "gsm8k-test", "olympiadbench", "minerva", "mmlu-test", "commonsenseqa-dev",
    "gpqa-diamond", "trustllm-misuse", "trustllm-jailbreak", "strongreject", "wildjailbreak-eval",
]  # fmt: skip


@needs_mirror
def test_the_papers_columns_are_in_the_mirror_but_for_two_that_are_gated() -> None:
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
@pytest.mark.slow
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
