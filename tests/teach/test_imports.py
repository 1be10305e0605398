"""Files of others' responses become groups as they are; what asks a benchmark is dropped, or empties its column."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale
from gdpo.config.models import Import, Reward, TrainSet
from gdpo.config.strict import Strict
from gdpo.core.files import read_json, write_jsonl
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Group, HeldoutItem, Question, read_records, write_records
from gdpo.evaluate.steps import trained_on
from gdpo.metakl.contamination import ItemIndex, read_heldout_items, user_texts
from gdpo.metakl.steps import benchmark
from gdpo.teach.imports import contaminating_benchmarks, read_imported, to_groups, values_at
from gdpo.teach.steps import import_groups, instruction
from tests.mirror import MIRROR, needs_mirror
from tests.refusal import refused

SETTINGS = Reward(correctness=1.0, format=0.5, length=0.5, knee=10, limit=20, think="optional")
ROW = {
    "question": "What is 1+1?",
    "ground_truth": "1+1 = 2\nA: 2",
    "6b_finetuning": {"is_correct": True, "solution": "1+1 = <<1+1=2>>2\nA: 2"},
    "175b_finetuning": {"is_correct": False, "solution": " 1+1 = 3\nA: 3"},
}
JUDGED = Import(prompt="question", completions="*.solution", right="*.is_correct")
CODE = Import(prompt="query", completions="code", answer="gt")
REWARDED = Import(rewards="rewards")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "import.yaml"


def trainset(*fields: Import, **more: object) -> TrainSet:
    entry = {"display": "i", "select": "import", "size": 10, "domain": "math", "paths": ["x.jsonl"] * len(fields)}
    return TrainSet(**entry | {"fields": list(fields)} | more)


def written(path: Path, *rows: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


def test_stars_match_every_entry_with_the_rest_of_the_path() -> None:
    row = {"a": {"x": {"t": 1}, "y": 5, "z": {"t": 2}}, "b": [{"t": [7, 8]}, {}, {"t": [9]}]}
    assert values_at(row, "a.*.t") == {("x",): 1, ("z",): 2}
    assert values_at(row, "b.*.t.*") == {(0, 0): 7, (0, 1): 8, (2, 0): 9}
    assert values_at(row, "b.2.t.0") == {(): 9}
    assert values_at(row, "a.x.u") == values_at(row, "b.3") == values_at(row, "a.y.*") == values_at(row, "b.x") == {}


def test_verdicts_become_rewards_and_texts_are_unchanged(tmp_path: Path) -> None:
    path = written(tmp_path / "test.jsonl", ROW)
    read = read_imported([path], [JUDGED], "Box it.")
    [group] = to_groups(read, trainset(JUDGED), lambda _: 15, SETTINGS)
    assert group.id == "test-1"
    assert group.prompt == [{"role": "user", "content": "What is 1+1?\n\nBox it."}]
    assert group.completions == [ROW["6b_finetuning"]["solution"], ROW["175b_finetuning"]["solution"]]
    # correctness 1 or 0, format 0.5, length 0.5 * (20 - 15) / (20 - 10) = 0.25
    assert group.rewards == [1.75, 0.75]
    assert [part.verdict for part in group.parts] == ["right", "wrong"]


def test_imported_rewards_and_conversations_are_unchanged(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1?"}]
    row = {"prompt": prompt, "completions": ["2", "3"], "rewards": [0.3, -1]}
    read = read_imported([written(tmp_path / "mine.jsonl", row)], [REWARDED], "Box it.")
    [group] = to_groups(read, trainset(REWARDED), len, SETTINGS)
    assert group.prompt == prompt
    assert group.rewards == [0.3, -1.0]
    assert group.parts == []


def test_equal_prompts_of_several_files_are_one_group(tmp_path: Path) -> None:
    judged_file = written(tmp_path / "a" / "test.jsonl", ROW, {**ROW, "question": "What is 1.1?"})
    code = {"query": "What  is 1+1?", "code": ["So \\boxed{2}.", "So \\boxed{4}."], "gt": 2}
    other = {"query": "What is 11?", "code": ["\\boxed{11}", "no idea"], "gt": "11"}
    code_file = tmp_path / "b" / "test.jsonl.gz"
    code_file.parent.mkdir()
    code_file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in (other, code)).encode()))
    read = read_imported([judged_file, code_file], [JUDGED, CODE])
    groups = to_groups(read, trainset(JUDGED, CODE), lambda _: 5, SETTINGS)
    # 1.1 and 11 would be one text without punctuation, and are two problems.
    assert [(group.id, len(group.completions)) for group in groups] == [("test-1", 4), ("test-2", 2), ("test.2-1", 2)]
    assert groups[0].completions[2:] == code["code"]
    assert [part.verdict for part in groups[0].parts] == ["right", "wrong", "right", "wrong"]
    assert [part.verdict for part in groups[2].parts] == ["right", "ungradable"]


def test_files_of_equal_names_have_different_ids(tmp_path: Path) -> None:
    paths = ["a/test.jsonl", "b/test.jsonl", "test.2.jsonl", "c/test.jsonl"]
    files = [written(tmp_path / path, {**PLAIN, "prompt": path}) for path in paths]
    ids = [group.id for group in read_imported(files, [REWARDED])]
    assert ids == ["test-1", "test.2-1", "test.2.2-1", "test.3-1"]


def test_empty_answer_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"query": "Q", "code": ["1", "2"], "gt": " "})
    with refused(path="x.jsonl", line=1, found="an empty answer", expected="one for grader 'math'"):
        to_groups(read_imported([path], [CODE]), trainset(CODE), len, SETTINGS)


def test_a_row_may_hold_one_completion(tmp_path: Path) -> None:
    fields = Import(prompt="q", completions="response", right="ok")
    path = written(tmp_path / "x.jsonl", *({"q": "1+1?", "response": str(i), "ok": int(i == 2)} for i in (2, 3)))
    [group] = to_groups(read_imported([path], [fields]), trainset(fields), len, SETTINGS)
    assert group.completions == ["2", "3"]
    assert [part.verdict for part in group.parts] == ["right", "wrong"]


PLAIN = {"prompt": "Q", "completions": ["a", "b"], "rewards": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("fields", "row", "key", "found", "expected"),
    [
        (JUDGED, {"question": "Q", "a": ROW["6b_finetuning"]}, None, "one completion", "at least two"),
        (JUDGED, {"a": ROW["6b_finetuning"]}, "question", "no values", "one"),
        (JUDGED, {"question": "Q"}, "*.solution", "no completion", "at least one"),
        (
            JUDGED,
            {"question": "Q", "a": {"solution": "x", "is_correct": True}, "b": {"solution": "y"}},
            "*.is_correct",
            "1 entries beside 2 completions at *.solution",
            "one for each",
        ),
        (
            JUDGED,
            {"question": "Q", "a": {"solution": "x", "is_correct": "no"}},
            "*.is_correct",
            "'no'",
            "true or false",
        ),
        (CODE, {"query": "Q", "code": ["a", "b"], "gt": None}, "gt", "None", "text or a number"),
        (REWARDED, {**PLAIN, "prompt": ""}, "prompt", "str", "text or messages with role and content"),
        (REWARDED, {**PLAIN, "prompt": [{"role": "user"}]}, "prompt", "list", "text or messages"),
        (REWARDED, {**PLAIN, "completions": ["a", None]}, "completions", "NoneType", "text"),
        (REWARDED, {**PLAIN, "rewards": [1.0]}, "rewards", "1 entries beside 2 completions", "one for each"),
        (REWARDED, {**PLAIN, "rewards": [1.0, float("nan")]}, "rewards", "nan", "a finite number"),
        (REWARDED, {**PLAIN, "rewards": [1.0, True]}, "rewards", "True", "a finite number"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, fields: Import, row: dict, key: str | None, found: str, expected: str
) -> None:
    with refused(path=str(tmp_path / "bad.jsonl"), line=1, key=key, found=found, expected=expected):
        read_imported([written(tmp_path / "bad.jsonl", row)], [fields])


def test_empty_files_are_named(tmp_path: Path) -> None:
    with refused(path=re.compile(r"a\.jsonl, .*b\.jsonl$"), found="no row"):
        read_imported([written(tmp_path / name) for name in ("a.jsonl", "b.jsonl")], [REWARDED])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {"right": "a", "answer": "b"}}, "exactly one of 'rewards', 'right' and 'answer'"),
        ({"fields": [REWARDED, REWARDED]}, "fields: found 2 entries, expected one, or one for each of 'paths'"),
        ({"paths": ["x", "y"], "fields": [REWARDED, JUDGED]}, "'rewards' for some files only"),
        ({"fields": CODE, "domain": "general"}, "'fields' with an 'answer' needs a 'grader' in domain general"),
        ({"domain": None}, "select: import needs a 'domain'"),
        ({"paths": []}, "'paths' belongs to select: import"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    good = trainset(REWARDED)
    with pytest.raises(ValidationError, match=message):
        TrainSet.model_validate(good.model_dump() | changes)


def test_only_user_messages_are_compared_with_benchmarks(tmp_path: Path) -> None:
    item = Question(id="b-1", domain="math", source="b", question="What is 1+1?\n\nBox it.", answer="2", grader="math")
    rows = [
        {**PLAIN, "prompt": "what is 1+1"},
        {**PLAIN, "prompt": [{"role": "assistant", "content": "What is 1+1?"}, {"role": "user", "content": "No!"}]},
    ]
    read = read_imported([written(tmp_path / "x.jsonl", *rows)], [REWARDED], "Box it.")
    assert contaminating_benchmarks(read, ItemIndex({"b": [item]}, ["Box it."])) == {"x-1": ["b"]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch):
    """Tiny, with benchmarks of one item each (what it is called), a student that counts words, and groups to import.

    Beside them one more item of the last benchmark's source is guarded, and one of a protected source.
    """
    monkeypatch.chdir(tmp_path)
    tiny = load_scale("tiny")

    def scale(**changes: object) -> Strict:
        return tiny.model_copy(update={"trainsets": {"i": trainset(REWARDED, paths=["groups.jsonl"], **changes)}})

    layout, guarded = Layout(tiny), []
    for name, entry in tiny.benchmarks.items():
        item = Question(id=name, domain=entry.domain, source=name, question=f"ask {name}", answer="1", grader="exact")
        write_records(layout.benchmark(name, "test"), [item])
        guarded.append(HeldoutItem(benchmark=name, item=item))
    for other, text in ((name, "not scored"), ("kept-apart", "ask kept-apart")):
        more = item.model_copy(update={"id": f"{other}-2", "question": text})
        guarded.append(HeldoutItem(benchmark=other, item=more))
    write_records(layout.heldout_items, guarded)
    words = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    layout.model(tiny.students[0]).mkdir(parents=True)
    words.save(str(layout.model(tiny.students[0]) / "tokenizer.json"))
    return scale


def test_contaminated_groups_are_dropped_and_counted(world, capsys) -> None:
    first, second, *_ = world().benchmarks
    written(
        Path("groups.jsonl"), *({**PLAIN, "prompt": p} for p in (f"ask {first}", "else", f"Ask  {second}?", "other"))
    )
    import_groups(world(), "i", None)
    layout = Layout(world())
    assert [group.id for group in read_records(layout.groups("i"), Group)] == ["groups-2", "groups-4"]
    made = read_json(provenance_path(layout.groups("i")))
    assert (made["read"], made["contaminated"], made["asked"]) == (4, "drop", {first: 1, second: 1})
    assert f"1 of 4 groups ask items of {first}: dropped" in capsys.readouterr().err


def test_groups_repeating_unscored_or_protected_items_are_dropped(world) -> None:
    """What is not scored may not be imported by default; kept, it empties no column."""
    *_, last = world().benchmarks
    written(Path("groups.jsonl"), *({**PLAIN, "prompt": p} for p in ("Not scored.", "ask kept-apart", "else")))
    import_groups(world(), "i", None)
    layout = Layout(world())
    assert [group.id for group in read_records(layout.groups("i"), Group)] == ["groups-3"]
    assert read_json(provenance_path(layout.groups("i")))["asked"] == {last: 1, "kept-apart": 1}
    scale = world(contaminated="keep")
    import_groups(scale, "i", None)
    assert len(read_records(layout.groups("i"), Group)) == 3
    assert read_json(provenance_path(layout.groups("i")))["asked"] == {}
    assert trained_on(Layout(scale), Run(scale.students[0], "i", "gdpo", 0), "test") == {}


def test_kept_contaminated_groups_name_their_empty_columns(world, capsys) -> None:
    first, second, *_ = world().benchmarks
    written(Path("groups.jsonl"), *({**PLAIN, "prompt": p} for p in (f"ask {first}", "else", f"ask {second}")))
    scale = world(contaminated="keep", size=2)
    import_groups(scale, "i", None)
    assert [group.id for group in read_records(Layout(scale).groups("i"), Group)] == ["groups-1", "groups-2"]
    assert read_json(provenance_path(Layout(scale).groups("i")))["asked"] == {first: 1}
    assert f"1 of 2 groups ask items of {first}: kept, so its column stays empty" in capsys.readouterr().err
    assert list(trained_on(Layout(scale), Run(scale.students[0], "i", "gdpo", 0), "test")) == [first]


def test_all_groups_contaminated_names_benchmarks_and_option(world) -> None:
    first = next(iter(world().benchmarks))
    written(Path("groups.jsonl"), {**PLAIN, "prompt": f"ask {first}"})
    with refused(problem=f"all 1 groups ask items of {first}", hint="'contaminated: keep' trains on them"):
        import_groups(world(), "i", None)
    assert not Layout(world()).groups("i").exists()


def test_imported_questions_get_the_domains_instruction() -> None:
    scale = load_scale("smol")
    asked_with = {scale.sources[scale.benchmarks[n].source].instruction for n in scale.domain_benchmarks("math")}
    assert instruction(scale, "math") in asked_with
    alone = scale.model_copy(update={"benchmarks": {}})
    assert instruction(alone, "math") in {s.instruction for s in scale.sources.values() if s.domain == "math"}
    assert instruction(load_scale("tiny"), "math") == ""


@needs_mirror
@pytest.mark.parametrize(
    ("name", "groups", "size"), [("gsm8k-solutions", 1319, 4), ("gsm8k-six", 1319, 6), ("math-cot8", 100, 8)]
)
def test_the_examples_of_published_responses_import_unchanged(name: str, groups: int, size: int) -> None:
    entry = load_scale(EXAMPLE).trainset(name)
    read = read_imported([MIRROR / path for path in entry.paths], entry.fields)
    assert len(read) == groups
    assert {len(group.completions) for group in read} == {size}
    if name == "math-cot8":  # the file's own verdicts
        assert sum(c.right for group in read for c in group.completions) == 728


@needs_mirror
def test_contaminated_groups_of_the_example_are_dropped(tmp_path: Path, monkeypatch) -> None:
    """Smol scores on items of MATH-500 and MMLU and guards them all: 5 of the problems are in one, 2 in the other, all
    by their text. Two more share 13 words with an item that has other numbers, and are spared."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale(EXAMPLE)
    benchmark(scale, MIRROR)
    entry = scale.trainset("math-cot8")
    read = read_imported([MIRROR / path for path in entry.paths], entry.fields, instruction(scale, "math"))
    index = ItemIndex.from_scale(scale, read_heldout_items(Layout(scale).heldout_items))
    found = contaminating_benchmarks(read, index)
    assert sorted(found.values()) == [["math500"]] * 5 + [["mmlu"]] * 2
    asked = [
        Question(id="q", domain="math", source="s", question=text, answer="1", grader="math")
        for group in read
        for text in user_texts(group.prompt)
    ]
    spared = [entry for question in asked for entry in index.look_up(question).spared]
    assert [(entry.benchmark, entry.why) for entry in spared] == [("math500", "numbers")] * 2


@needs_mirror
def test_training_on_test_solutions_empties_that_column(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale = load_scale(EXAMPLE)
    scale = scale.model_copy(update={"benchmarks": {"gsm8k": scale.benchmarks["gsm8k"]}})
    layout, entry = Layout(scale), scale.trainset("gsm8k-solutions")
    read = read_imported([MIRROR / path for path in entry.paths], entry.fields, instruction(scale, "math"))
    write_records(layout.groups("gsm8k-solutions"), to_groups(read, entry, len, SETTINGS))
    benchmark(scale, MIRROR)
    dropped = trained_on(layout, Run(scale.students[0], "gsm8k-solutions", "gdpo", 0), "test")
    assert dropped == {"gsm8k": "300 of its 300 items are in training set gsm8k-solutions"}


def test_empty_path_matches_no_row(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completions": ["b", "c"], "right": [True, False]}])
    with refused(path="a.jsonl", line=1, found="0 entries beside 2 completions"):
        read_imported([tmp_path / "a.jsonl"], [Import(right="")])
