"""`gdpo verify` on results that the steps wrote from made-up answers: unchanged, and changed in every file."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import gdpo.evaluate
from gdpo.cli.main import main
from gdpo.config.benchmarks import Benchmark
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_json, write_json, write_jsonl
from gdpo.core.hashing import fingerprint
from gdpo.core.provenance import recorded
from gdpo.core.records import Question, read_records
from gdpo.evaluate.steps import evaluate
from gdpo.metakl.steps import benchmark
from gdpo.ops.verify.findings import Findings
from gdpo.ops.verify.outputs import Outputs, doc_hash, why_not_gradable
from gdpo.ops.verify.records import Records
from gdpo.ops.verify.target import scale_of
from gdpo.report.steps import publish, table

LIMIT = 4
ROOT = Path(f"results/micro-limit{LIMIT}")
RUN = "tiny-s/metakl/gdpo/0"
SAMPLES, SCORE = ROOT / "samples" / RUN / "chain2.jsonl", ROOT / f"scores/{RUN}.json"
TABLE = Path("results/table2.csv")


def answered(path, dtype, asked, batch_size, judged, engine, gpus, kept=None):
    """Stands in for the harness: answers are right or wrong by chance, seeded by the model's path."""
    draw, rows = random.Random(str(path)), {}
    for name, (_, items) in asked.items():
        questions = read_records(items, Question)
        texts = [q.answer or "I cannot help." if draw.random() < 0.5 else "nothing" for q in questions]
        told = judged(list(zip(questions, texts, strict=True)))
        rows[name] = [
            {"id": q.id, "doc_hash": doc_hash(q.model_dump()), "prompt_hash": q.id, "output": text, "verdict": verdict}
            for q, text, verdict in zip(questions, texts, told, strict=True)
        ]
    return rows


def make(scale) -> None:
    """Make everything behind table 2 but the models: their directories hold an empty file of weights."""
    layout = Layout(scale)
    benchmark(scale, None)
    runs = layout.selected_runs(scale.tables["table2"])
    for run in runs:
        path, settings = layout.run(run), scale.model_settings(run.student)
        path.mkdir(parents=True)
        (path / "model.safetensors").touch()
        if not run.is_origin:
            settings = scale.method(run.method, run.student, run.trainset)
            write_json(path / "train.json", {"run": run.__dict__, "steps": 2, "log": []})
            write_jsonl(layout.groups(run.trainset), [{"prompt": [{"role": "user", "content": "Who asks this?"}]}])
        with recorded(path, "model" if run.is_origin else "train", settings) as extra:
            extra["steps"] = 2
    evaluate(scale, runs, "test")
    table(scale, "table2")
    publish(scale, "table2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with a published table 2 of micro, from the real steps and made-up answers."""
    directory, before = tmp_path_factory.mktemp("finished"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gdpo.evaluate, "harness", SimpleNamespace(evaluate=answered), raising=False)
        os.chdir(directory)
        try:
            make(load_scale("micro", LIMIT))
        finally:
            os.chdir(before)
    return directory


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of the finished directory, as the working directory."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    return copy


def gdpo_verify(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """The exit code and what was printed."""
    monkeypatch.setattr("sys.argv", ["gdpo", "verify", *map(str, arguments)])
    capsys.readouterr()
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0), "".join(capsys.readouterr())
    return 0, "".join(capsys.readouterr())


def test_record_with_keys_of_version_0_1_0_agrees(here, monkeypatch, capsys):
    """Its hash is that of its own keys; it is compared under the keys of today."""
    old, path = [{"keep_units": 3, "reminders": 2}], ROOT / "trainsets" / "x.jsonl.provenance.json"
    record = {"step": "select", "result": str(ROOT / "trainsets" / "x.jsonl"), "settings": old}
    path.parent.mkdir(exist_ok=True)
    write_json(path, record | {"config_hash": fingerprint(old)})
    assert gdpo_verify(monkeypatch, capsys, TABLE)[0] == 0
    read = Records(Layout(load_scale("micro", LIMIT)), [], None, Findings())._record(path)
    assert read["settings"] == [{"keep_units": 3, "replay_per_unit": 2}]


def test_finished_table_agrees(here, monkeypatch, capsys):
    """12 runs, 13 benchmarks of 4 items each.

    Records: 26 of benchmarks, 1 of guarded items, 12 of runs, 12 of scores, 3 + 3 of tables; none of other models.
    """
    code, printed = gdpo_verify(monkeypatch, capsys, TABLE)
    assert code == 0
    assert f"{12 * 13 * 4:,} items' outputs; {12 * 13} scores; 9 files of the table" in printed
    assert f"{12 * 13} hashes of samples files" in printed
    assert f"{26 + 1 + 12 + 12 + 3 + 3} provenance records" in printed
    assert printed.endswith(f"verify {TABLE} (scale micro-limit4): everything agrees\n")


@pytest.mark.parametrize("path", [ROOT / "tables/table2.md", "results/table2_forgetting.tex"])
def test_table_is_named_by_any_of_its_files(here, monkeypatch, capsys, path):
    assert gdpo_verify(monkeypatch, capsys, path)[0] == 0


def edited_row(number: int, **changes) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[number - 1] |= changes
        write_jsonl(path, rows)

    return edit


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        value = read_json(path)
        change(value)
        write_json(path, value)

    return edit


def replaced(before: str, after: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))

    return edit


def flipped(path: Path) -> None:
    """Turn the first item's verdict round."""
    before = json.loads(path.read_text().splitlines()[0])["verdict"]
    edited_row(1, verdict="wrong" if before == "right" else "right")(path)


def swapped(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))


def other_settings(record: dict) -> None:
    record["settings"]["learning_rate"] = 0.5
    record["config_hash"] = fingerprint(record["settings"])


def shortened(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


BEHIND = f"scores/{RUN}.json.provenance.json"
CHANGES = [  # a file, what is done to it, and what has to be printed
    (TABLE, replaced("Tiny-S,union,", "Tiny-S,union,9"), f"{TABLE}, line 5, row Tiny-S / union, column fact: found '9"),
    (TABLE, shortened, f"{TABLE}: found 11 rows, expected 12"),
    (TABLE, replaced("fact_low", "fact"), f"{TABLE}, line 1: found columns"),
    (TABLE, replaced("\n", "\r\n"), f"{TABLE}: found the same cells in other bytes"),
    (TABLE, Path.unlink, f"{TABLE}: no such file"),
    (TABLE, lambda path: path.write_bytes(b"\xff"), "expected UTF-8"),
    ("results/table2.md", replaced("| union ", "| onion "), ": found 'onion', expected 'union'"),
    ("results/table2_retention.tex", replaced(" & union", " & onion"), "found 'onion', expected 'union'"),
    ("results/table2_forgetting.csv", Path.unlink, "table2_forgetting.csv: no such file"),
    (SAMPLES, edited_row(2, output="something else"), f"{SAMPLES}: changed since it was scored"),
    (SAMPLES, edited_row(2, output="something else"), "lines that differ: 2\n"),
    (SAMPLES, flipped, f"{SAMPLES}, line 1, chain2-test-00000: found verdict "),
    (SAMPLES, edited_row(3, doc_hash="0"), f"{SAMPLES}, line 3, chain2-test-00002: its doc_hash"),
    (SAMPLES, edited_row(3, prompt_hash="0"), f"{SAMPLES}, line 3, chain2-test-00002: its prompt_hash"),
    (SAMPLES, edited_row(3, verdict=None), "chain2-test-00002: expected outputs, verdicts and hashes that are text"),
    (SAMPLES, edited_row(3, doc_hash=[]), "chain2-test-00002: expected outputs, verdicts and hashes"),
    (SAMPLES, edited_row(3, more=1), "chain2-test-00002: found doc_hash, id, more, "),
    (SAMPLES, swapped, f"{SAMPLES}, line 1, id: found 'chain2-test-00001', expected 'chain2-test-00000'"),
    (SAMPLES, shortened, f"{SAMPLES}: found 3 items, expected the 4"),
    (SAMPLES, replaced("{", ""), f"{SAMPLES}, line 1: found "),
    (SAMPLES, Path.unlink, f"{SAMPLES}: no such file"),
    (SAMPLES, lambda path: path.with_name("x.jsonl").touch(), "x.jsonl: found samples, expected none"),
    (SCORE, edited(lambda s: s["benchmarks"]["hop"].update(score=2)), f"{SCORE}, benchmarks.hop: found {{'score': 2"),
    (SCORE, edited(lambda s: s["benchmarks"].pop("hop")), f"{SCORE}: found no score of hop"),
    (SCORE, edited(lambda s: s["benchmarks"].update(hip={})), f"{SCORE}, benchmarks: found 'hip'"),
    (SCORE, edited(lambda s: s["dropped"].update(hop="why")), f"{SCORE}, dropped: found {{'hop': 'why'}}"),
    (SCORE, edited(lambda s: s["run"].update(seed=1)), f"{SCORE}: found run "),
    (SCORE, edited(lambda s: s.pop("run")), f"{SCORE}: expected an object with run"),
    (SCORE, Path.unlink, f"{SCORE}: no such file"),
    (ROOT / BEHIND, edited(lambda r: r.update(config_hash="0")), "json, config_hash: found 0, expected"),
    (ROOT / BEHIND, edited(lambda r: r["settings"][0].update(seed=3)), f"{BEHIND}, config_hash: found"),
    (ROOT / BEHIND, edited(lambda r: r.update(result="x")), f"{BEHIND}, result: found x"),
    (ROOT / BEHIND, edited(lambda r: r.pop("settings")), f"{BEHIND}: found no settings, expected an object with step"),
    (ROOT / BEHIND, edited(lambda r: r["samples"].update(hop=1)), f"{BEHIND}, samples.hop: expected a digest"),
    (ROOT / BEHIND, lambda path: path.write_text("{"), f"{BEHIND}: found Expecting property name"),
    (ROOT / BEHIND, lambda path: path.write_text("[]"), f"{BEHIND}: found list, expected an object with step, result"),
    (ROOT / BEHIND, Path.unlink, f"{BEHIND}: no such file"),
    (ROOT / f"runs/{RUN}/provenance.json", edited(other_settings), "make the result again"),
    (
        ROOT / f"runs/{RUN}/train.json",
        edited(lambda log: log.update(steps=3)),
        "train.json, steps: found 3, expected 2",
    ),
    (ROOT / f"runs/{RUN}/train.json", lambda path: path.write_text("[]"), "train.json: found list, expected an object"),
    (TABLE, lambda path: path.write_text(""), f"{TABLE}, line 1: found columns none"),
    (ROOT / f"runs/{RUN}/train.json", Path.unlink, "train.json: no such file"),
    (ROOT / "benchmarks/test/hop.jsonl", edited_row(1, answer="x"), "hop-test-00000: its doc_hash"),
    (ROOT / "benchmarks/test/hop.jsonl", Path.unlink, "hop.jsonl: no such file"),
    (TABLE.with_name("table2.csv.provenance.json"), edited(lambda r: r["runs"].pop()), "provenance.json, runs: found"),
]


@pytest.mark.parametrize(("path", "change", "sentence"), CHANGES, ids=range(len(CHANGES)))
def test_change_of_a_file_is_named(here, monkeypatch, capsys, path, change, sentence):
    change(Path(path))
    code, printed = gdpo_verify(monkeypatch, capsys, TABLE)
    assert code == 1
    assert sentence in printed
    assert "Traceback" not in printed


def test_table_made_from_edited_verdicts_disagrees(here, monkeypatch, capsys):
    """Verdicts edited, scores and tables made again from them: the table differs from the one that outputs make."""
    path = ROOT / "samples/tiny-s/none/origin/0/fact.jsonl"
    for number in range(1, LIMIT + 1):
        edited_row(number, verdict="ungradable")(path)
    scale = load_scale("micro", LIMIT)
    table(scale, "table2")
    publish(scale, "table2")
    code, printed = gdpo_verify(monkeypatch, capsys, TABLE)
    assert code == 1
    assert "row Tiny-S / Origin, column fact: found '0.00'" in printed


def test_missing_hashes_and_groups_are_reported_as_unchecked(here, monkeypatch, capsys):
    """Without hashes an output whose verdict stays the same passes, and the summary says so."""
    for path in ROOT.glob("scores/*/*/*/*.provenance.json"):
        edited(lambda record: record.pop("samples"))(path)
    wrong = next(n for n, row in enumerate(map(json.loads, SAMPLES.open()), start=1) if row["output"] == "nothing")
    edited_row(wrong, output="naught")(SAMPLES)
    shutil.rmtree(ROOT / "groups")
    code, printed = gdpo_verify(monkeypatch, capsys, TABLE)
    assert code == 0
    assert "12 runs without recorded hashes of samples" in printed
    assert "columns that metakl closes" in printed


def test_verdicts_of_a_guard_are_not_given_again(here):
    scale = load_scale("micro", LIMIT)
    guard = scale.model_copy(update={"judge": scale.judge.model_copy(update={"backend": "guard"})})
    flipped(ROOT / "samples" / RUN / "harmful.jsonl")
    flipped(SAMPLES)
    findings = Findings()
    [run] = [r for r in Layout(scale).selected_runs(scale.tables["table2"]) if str(r) == RUN]
    Outputs(Layout(guard), [run], findings).check()
    verdicts = [error for error in findings.disagreements if "verdict" in str(error.found)]
    assert [(error.path, error.line) for error in verdicts] == [(SAMPLES, 1)]
    assert any("verdicts of a guard" in thing for thing in findings.unproved)


def test_copy_of_some_of_the_files(here, monkeypatch, capsys):
    Path("kept").mkdir()
    for name in ("table2.csv", "table2.csv.provenance.json"):
        shutil.copy(Path("results") / name, "kept")
    code, printed = gdpo_verify(monkeypatch, capsys, "kept/table2.csv")
    assert (code, "1 files of the table" in printed) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["results/tableX.csv"], "results/tableX.csv: not made yet"),
        (["results/table2.pdf"], "results/table2.pdf: expected a table's CSV, Markdown or LaTeX"),
        (["results/tabel2.csv", "--scale", "micro"], "did you mean 'table2'?"),
        ([], "the following arguments are required: TABLE"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(here, monkeypatch, capsys, arguments, sentence):
    code, printed = gdpo_verify(monkeypatch, capsys, *arguments)
    assert (code, sentence in printed) == (2, True)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("results/tiny/tables/table2.csv", ("tiny", None)),
        ("results/tiny-limit16/tables/table2.csv", ("tiny", 16)),
        ("results/smol-check/tables/table2.csv", ("smol-check", None)),
    ],
)
def test_scale_is_read_from_provenance(tmp_path, made, found):
    write_json(tmp_path / "table2.csv.provenance.json", {"result": made})
    assert scale_of(tmp_path / "table2.csv") == found


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"result": "results/mine/tables/table2.csv"}, "found scale 'mine', expected its file by --scale"),
        ({"result": "elsewhere/table2.csv"}, "expected results/SCALE/tables/TABLE.csv"),
        ([], "expected results/SCALE/tables/TABLE.csv"),
    ],
)
def test_unknown_scale_is_asked_for(tmp_path, record, sentence):
    write_json(tmp_path / "table2.csv.provenance.json", record)
    with pytest.raises(UserError, match=sentence):
        scale_of(tmp_path / "table2.csv")


LETTERED = Question(id="q", domain="math", source="s", question="?", choices=["x", "y"], answer="B", grader="letter")
HASHES = {"id": "q", "doc_hash": "", "prompt_hash": ""}
SAMPLED = {"samples": 2, "temperature": 1.0}


@pytest.mark.parametrize(
    ("settings", "answer", "expected"),
    [
        ({"kind": "choose"}, {"output": "B", "verdict": "right"}, None),
        ({"kind": "choose"}, {"output": "C", "verdict": "wrong"}, "one of A, B"),
        (SAMPLED, {"outputs": ["1", "2"], "verdicts": ["right", "wrong"]}, None),
        (SAMPLED, {"outputs": ["1"], "verdicts": ["right"]}, "2 outputs and verdicts"),
        (SAMPLED, {"outputs": "12", "verdicts": ["right", "wrong"]}, "2 outputs and verdicts"),
        (SAMPLED, {"output": "1", "verdict": "right"}, "doc_hash, id, outputs, prompt_hash, verdicts"),
    ],
)
def test_row_is_gradable_as_its_benchmark_asks(settings, answer, expected):
    benchmark = {"display": "S", "domain": "math", "source": "s", "max_new_tokens": 4, **settings}
    fields = why_not_gradable({**HASHES, **answer}, LETTERED, Benchmark.model_validate(benchmark))
    assert fields.get("expected") == expected


def test_item_without_a_newer_field_has_the_same_hash(here):
    """Without `topics`, in the file as in its hash."""
    path = ROOT / "benchmarks/test/chain2.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [{key: value for key, value in item.items() if key != "topics"} for item in items])
    scale = load_scale("micro", LIMIT)
    [run] = [run for run in Layout(scale).selected_runs(scale.tables["table2"]) if str(run) == RUN]
    for number, item in enumerate(items, start=1):
        del item["topics"]
        edited_row(number, doc_hash=doc_hash(item))(SAMPLES)
    findings = Findings()
    Outputs(Layout(scale), [run], findings).check()
    assert findings.disagreements == []


def test_choices_and_several_samples_are_graded_again(here):
    """Fact is asked as a choice between two letters, hop twice an item; one verdict of each is wrong."""
    scale = load_scale("micro", LIMIT)
    fact = scale.benchmark("fact").model_copy(update={"kind": "choose"})
    hop = scale.benchmark("hop").model_copy(update={"samples": 2, "temperature": 1.0})
    changed = scale.model_copy(update={"benchmarks": {"fact": fact, "hop": hop}})
    [run] = [run for run in Layout(scale).selected_runs(scale.tables["table2"]) if str(run) == RUN]
    asked = ROOT / "benchmarks/test"
    lettered = [LETTERED.model_copy(update={"id": f"q{n}"}) for n in range(2)]
    write_jsonl(asked / "fact.jsonl", [question.model_dump() for question in lettered])
    [question] = hops = read_records(asked / "hop.jsonl", Question)[:1]
    write_jsonl(asked / "hop.jsonl", [question.model_dump() for question in hops])
    rows = [
        {"id": q.id, "doc_hash": doc_hash(q.model_dump()), "prompt_hash": "", "output": "A", "verdict": verdict}
        for q, verdict in zip(lettered, ["wrong", "right"], strict=True)
    ]
    write_jsonl(ROOT / "samples" / RUN / "fact.jsonl", rows)
    several = {"outputs": [question.answer, question.answer], "verdicts": ["right", "wrong"]}
    row = {"id": question.id, "doc_hash": doc_hash(question.model_dump()), "prompt_hash": "", **several}
    write_jsonl(ROOT / "samples" / RUN / "hop.jsonl", [row])
    scores = {"fact": {"score": 0.0, "ungradable": 0.0, "n": 2}}
    scores["hop"] = {"score": 1.0, "ungradable": 0.0, "n": 1, "samples": 2}
    edited(lambda found: found.update(benchmarks=scores))(SCORE)
    for path in (ROOT / "samples" / RUN).glob("*.jsonl"):
        if path.stem not in scores:
            path.unlink()
    findings = Findings()
    Outputs(Layout(changed), [run], findings).check()
    of = ROOT / "samples" / RUN
    assert [str(disagreement) for disagreement in findings.disagreements] == [
        f"{of / 'fact.jsonl'}, line 2, q1: found verdict right, expected wrong on the stored output",
        f"{of / 'hop.jsonl'}, line 1, {question.id}: found verdict right, wrong, expected right, right "
        "on the stored output",
    ]
