"""Sources from a mirror or the Hub: what is read of which, what is left out, and what is named where it is wrong."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled
from pydantic import ValidationError

from gdpo.config.data import HubSource, Source
from gdpo.config.loader import load_scale, read_yaml
from gdpo.core.errors import UserError
from gdpo.core.project import CONFIG
from gdpo.metakl.pool import BenchmarkItems, read_pool
from gdpo.metakl.sources import Unavailable, load_source, mirror_dir, read_source
from tests.mirror import mirror_of, with_manifest
from tests.refusal import refused

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


def test_a_source_without_questions_is_named(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, {"problem": "Prove it.", "solution": "Clear."})
    with refused(key="sources.s", found="no question by reader 'problem'"):
        read_source("s", source("problem"), mirror)


def test_rows_and_gzip(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(GSM8K) + "\n" for _ in range(3))
    with_manifest(tmp_path)
    settings = source("gsm8k", rows=2).model_copy(update={"mirror": "rows.jsonl.gz"})
    assert [q.id for q in read_source("g", settings, tmp_path)] == ["g-1", "g-2"]


def test_an_unknown_reader_is_named(tmp_path: Path) -> None:
    with refused(key="sources.g.reader", found="'gsm8'", hint="did you mean 'gsm8k'?"):
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
    questions, counts = read_pool(load_scale(tmp_path / "mine.yaml"), tmp_path)
    assert [(q.id, q.answer) for q in questions] == [("sums-1", "2"), ("gsm8k-train-1", "1072")]
    assert (counts["sums"]["rows"], counts["sums"]["duplicates"], counts["sums"]["unusable"]) == (2, 1, 0)
    assert counts["gsm8k-train"]["revision"].startswith("mirror:gsm8k/train.jsonl@sha256:")


def test_unusable_rows_are_counted(tmp_path: Path) -> None:
    good, bad = {"problem": "P", "answer": "1"}, {"problem": "P"}
    found = load_source("s", source("problem"), mirror_of(tmp_path, bad, good, bad, good))
    assert (found.rows, found.unusable, len(found.questions)) == (4, 2, 2)
    limited = load_source("s", source("problem", rows=1), tmp_path)
    assert (limited.rows, limited.unusable, len(limited.questions)) == (2, 1, 1)


def test_file_that_differs_from_the_manifest_is_refused(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, GSM8K)
    expected = json.loads((mirror / "manifest.json").read_text())["entries"][0]["sha256"]
    with (mirror / "rows.jsonl").open("a") as file:
        file.write("\n")
    with refused(
        path="rows.jsonl",
        found=re.compile("^sha256 [0-9a-f]{64}$"),
        expected=re.compile(f"^{expected} as .*manifest"),
    ):
        read_source("g", source("gsm8k"), mirror)
    (mirror / "rows.jsonl").unlink()
    with refused(problem="no such file", path="rows.jsonl", hint="manifest.json has it"):
        read_source("g", source("gsm8k"), mirror)
    other = source("gsm8k").model_copy(update={"mirror": "other.jsonl"})
    with refused(key="sources.g.mirror", found="'other.jsonl'", expected=re.compile(r"^a file of .*manifest\.json")):
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


def test_without_mirror_the_hub_is_read_and_the_commit_recorded(hub: list) -> None:
    at_main = HubSource(path="tau/commonsense_qa", split="validation", revision="main")
    found = load_source("c", source("commonsenseqa", "letter", hub=at_main), None)
    assert found.questions[0].answer == "B"
    assert found.revision == f"hub:tau/commonsense_qa@{COMMIT}"
    loaded = (("tau/commonsense_qa", None), {"data_dir": None, "split": "validation", "revision": COMMIT})
    assert hub == [("tau/commonsense_qa", {"revision": "main", "timeout": 10}), loaded]


def test_pinned_commit_needs_no_request(hub: list) -> None:
    pinned = "f" * 40
    at_commit = HubSource(path="a/b", split="s", revision=pinned, data_files="MRC/train.txt")
    assert load_source("c", source("commonsenseqa", "letter", hub=at_commit), None).revision == f"hub:a/b@{pinned}"
    options = {"data_dir": None, "data_files": "MRC/train.txt", "split": "s", "revision": pinned}
    assert hub == [(("a/b", None), options)]


def test_a_source_without_a_file_in_the_mirror_is_read_from_the_hub(hub: list, tmp_path: Path) -> None:
    only_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s")).model_copy(
        update={"mirror": None}
    )
    assert load_source("c", only_hub, mirror_of(tmp_path, CSQA)).revision == f"hub:a/b@{COMMIT}"
    elsewhere = only_hub.model_copy(update={"mirror": "other.jsonl"})
    assert load_source("c", elsewhere, tmp_path).revision == f"hub:a/b@{COMMIT}"


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("datasets.load_dataset", "huggingface_hub.HfApi.dataset_info"):
        monkeypatch.setattr(name, raising(ConnectionError("no route\nto host")))
    hub = HubSource(path="a/b", split="test", revision="main")
    with refused(key="sources.g", found=re.compile("^'no route'$"), expected="to load a/b from the Hub"):
        read_source("g", source("gsm8k", hub=hub), None)
    with refused(key="sources.g", found="no 'hub' entry"):
        read_source("g", source("gsm8k"), None)


RESPONSE = SimpleNamespace(headers={}, request=None)
GATED = "sources.g: a/b is gated on the Hub"
ANSWERS = [
    (ConnectionError("no route"), f"{GATED}, which does not answer"),
    (GatedRepoError("401", response=RESPONSE), f"{GATED}, and nobody who has accepted its terms is logged in"),
    (HfHubHTTPError("503 Busy\nsoon", response=RESPONSE), f"{GATED}, which says: 503 Busy"),
]


@pytest.mark.parametrize(("answer", "message"), ANSWERS)
def test_gated_source_is_not_loaded_without_access(
    hub: list, monkeypatch: pytest.MonkeyPatch, answer: Exception, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", raising(answer))
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", revision="f" * 40, gated=True))
    with pytest.raises(Unavailable) as caught:
        read_source("g", at_hub, None)
    assert str(caught.value) == message
    assert caught.value.reason == message.removeprefix("sources.g: ")
    assert hub == [("a/b", {"revision": "f" * 40, "timeout": 10})]


def test_gated_source_with_access_is_read(hub: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_, **__: None)
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", gated=True))
    assert load_source("g", at_hub, None).revision == f"hub:a/b@{COMMIT}"


def test_gated_source_offline_is_read_from_cache_or_unavailable(hub: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", raising(OfflineModeIsEnabled("offline")))
    at_hub = source("commonsenseqa", "letter", hub=HubSource(path="a/b", split="s", revision="main", gated=True))
    assert load_source("g", at_hub, None).revision == "hub:a/b@main"
    monkeypatch.setattr("datasets.load_dataset", raising(ConnectionError("nothing cached")))
    with refused(Unavailable, problem=re.compile("a/b is gated on the Hub and was not to be loaded: nothing cached$")):
        load_source("g", at_hub, None)


def test_made_up_world_needs_a_number_of_items() -> None:
    scale = load_scale("micro")
    name, benchmark = next(iter(scale.benchmarks.items()))
    scale = scale.model_copy(update={"benchmarks": {name: benchmark.model_copy(update={"items": None})}})
    with refused(key=f"benchmarks.{name}.items", found="none", expected="how many"):
        BenchmarkItems(scale, None).benchmark_items(name, "test")


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
    with refused(key="mirror", found="nowhere'", expected="a directory"):
        mirror_dir(str(tmp_path / "nowhere"), named)
    monkeypatch.setenv("GDPO_MIRROR", str(tmp_path))
    with refused(key="GDPO_MIRROR", found="no manifest.json in"):
        mirror_dir(None, named)
