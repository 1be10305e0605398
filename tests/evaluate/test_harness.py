"""Our harness around lm-eval: what a model is asked, token by token, in which batches, from which seeds; its judge."""

from __future__ import annotations

import json
import re

import pytest
from lm_eval.models.huggingface import HFLM

from gdpo.config.benchmarks import Benchmark, Judge
from gdpo.config.layout import Layout, origin
from gdpo.config.loader import load_scale
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Question, write_records
from gdpo.evaluate import harness, model, steps
from gdpo.evaluate.model import Student, rows_that_fit
from tests.evaluate.spelling import WINDOW, speller
from tests.refusal import refused


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return speller(tmp_path_factory.mktemp("speller"))


def question(name: str, text: str, **fields) -> Question:
    return Question(id=name, domain="math", source="made", question=text, answer="3", grader="math", **fields)


def lettered(name: str, text: str) -> Question:
    fields = {"choices": ["red", "green", "a very dark blue"], "answer": "B", "grader": "letter"}
    return Question(id=name, domain="general", source="made", question=text, **fields)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Questions of three lengths, other ones, and lettered ones."""
    path = tmp_path_factory.mktemp("items")
    sums = [question(f"s{n}", f"{n} and {n}? " + "Think. " * 20 * (n % 3)) for n in range(6)]
    write_records(path / "sums.jsonl", sums)
    write_records(path / "others.jsonl", [question(f"o{n}", f"What is {n}?") for n in range(3)])
    write_records(path / "letters.jsonl", [lettered(f"l{n}", f"Colour {n}? " + "Well. " * 30 * n) for n in range(4)])
    return path


def benchmark(**fields) -> Benchmark:
    return Benchmark(**{"display": "", "domain": "math", "source": "made", "max_new_tokens": 6} | fields)


GREEDY = benchmark()
SAMPLED = benchmark(samples=3, temperature=1.0, top_p=0.9, seed=5)
CHOSEN = benchmark(kind="choose", domain="general")


def test_samples_do_not_depend_on_what_else_is_asked(speaker, files):
    """Nor do greedy answers on the samples; a rerun gives the same, another seed something else."""
    sums, others = files / "sums.jsonl", files / "others.jsonl"
    everything = {"greedy": (GREEDY, sums), "other": (SAMPLED, others), "sampled": (SAMPLED, sums)}
    together = harness.evaluate(speaker, "float32", everything, 4)
    alone = harness.evaluate(speaker, "float32", {"sampled": (SAMPLED, sums)}, 4)
    assert together["sampled"] == alone["sampled"]
    assert together["greedy"] == harness.evaluate(speaker, "float32", {"greedy": (GREEDY, sums)}, 4)["greedy"]
    reseeded = {"sampled": (SAMPLED.model_copy(update={"seed": 6}), sums)}
    found = harness.evaluate(speaker, "float32", reseeded, 4)["sampled"]
    assert [row["outputs"] for row in found] != [row["outputs"] for row in alone["sampled"]]


def test_rows_of_sampled_and_of_greedy_items(speaker, files):
    asked = {"greedy": (GREEDY, files / "sums.jsonl"), "sampled": (SAMPLED, files / "sums.jsonl")}
    rows = harness.evaluate(speaker, "float32", asked, 4)
    assert [set(row) for row in rows["greedy"]] == [{"id", "doc_hash", "prompt_hash", "output", "verdict"}] * 6
    assert [set(row) for row in rows["sampled"]] == [{"id", "doc_hash", "prompt_hash", "outputs", "verdicts"}] * 6
    for greedy, sampled in zip(rows["greedy"], rows["sampled"], strict=True):
        assert (greedy["id"], greedy["prompt_hash"]) == (sampled["id"], sampled["prompt_hash"])
        assert len(sampled["outputs"]) == len(sampled["verdicts"]) == 3
        assert len(set(sampled["outputs"])) > 1


def test_one_sample_at_a_temperature_is_a_row_asked_once(speaker, files):
    warm = benchmark(temperature=1.0, top_p=0.9, seed=5)
    rows = harness.evaluate(speaker, "float32", {"warm": (warm, files / "sums.jsonl")}, 4)["warm"]
    greedy = harness.evaluate(speaker, "float32", {"cold": (GREEDY, files / "sums.jsonl")}, 4)["cold"]
    assert [set(row) for row in rows] == [{"id", "doc_hash", "prompt_hash", "output", "verdict"}] * 6
    assert [row["output"] for row in rows] != [row["output"] for row in greedy]


def test_verdicts_are_assigned_to_their_samples(speaker, files):
    asked = {"sampled": (SAMPLED, files / "sums.jsonl"), "greedy": (GREEDY, files / "others.jsonl")}
    told = iter(["right", "wrong", "ungradable"] * 7)
    seen = []

    def judged(pairs):
        seen.extend(pairs)
        return [next(told) for _ in pairs]

    rows = harness.evaluate(speaker, "float32", asked, 4, judged)
    assert [row["verdicts"] for row in rows["sampled"]] == [["right", "wrong", "ungradable"]] * 6
    assert [row["verdict"] for row in rows["greedy"]] == ["right", "wrong", "ungradable"]
    texts = [(row["id"], text) for row in rows["sampled"] for text in row["outputs"]]
    assert [(asked.id, text) for asked, text in seen] == [*texts, *((r["id"], r["output"]) for r in rows["greedy"])]


@pytest.mark.parametrize(
    ("row", "expected"), [(10, 8), (12, 8), (13, 4), (25, 2), (48, 2), (49, 1), (97, 1), (5000, 1)]
)
def test_rows_that_fit_are_halved(row, expected):
    """8 rows of 12 fill 96; of 13 to 24 four fit, to 48 two, and of longer ones one is taken all the same."""
    assert rows_that_fit(8, row, 96) == expected


def test_long_rows_go_in_small_batches_and_come_back_in_order(tmp_path, files, monkeypatch):
    """With a surer model, whose answers no rounding changes: a batch of another shape rounds otherwise."""
    path = speller(tmp_path, scale=50)
    asked = {"sums": (GREEDY, files / "sums.jsonl"), "letters": (CHOSEN, files / "letters.jsonl")}
    whole = harness.evaluate(path, "float32", asked, 4)
    sizes = []
    generate = Student._model_generate

    def generated(self, context, **settings):
        sizes.append(tuple(context.shape))
        return generate(self, context, **settings)

    monkeypatch.setattr(Student, "_model_generate", generated)
    monkeypatch.setattr(model, "ROW_TOKENS", 100)
    assert harness.evaluate(path, "float32", asked, 4) == whole
    assert {rows for rows, _ in sizes} == {1, 2}  # of some 24, 164 and 304 tokens, two of each
    assert all(rows == 1 or rows * (length + 6) <= 400 for rows, length in sizes)


def test_choices_are_as_likely_as_lm_eval_finds_them(tmp_path):
    """Behind one copy of their prompt or each behind its own; and where prompt and choice outgrow the window."""
    student = Student(speller(tmp_path, scale=5), "float32", 4, {})
    prompts = ["Which?", "Which of these two?", "no " * student.max_length]
    asked = [(("", ""), student.tok_encode(p), student.tok_encode(c)) for p in prompts for c in ("yes", "no", "maybe")]
    ours = student._loglikelihood_tokens(asked, disable_tqdm=True)
    theirs = HFLM._loglikelihood_tokens(student, asked, disable_tqdm=True)
    assert [value for value, _ in ours[:6]] == pytest.approx([value for value, _ in theirs[:6]], abs=1e-4)
    assert all(value < 0 for value, _ in ours)


def test_chat_template_is_used_unchanged(tmp_path):
    """One BOS where the template has it, none where it has none, whatever the tokenizer would add by itself."""
    for number, (templated, expected) in enumerate([(True, [2]), (False, [])]):
        path = speller(tmp_path / str(number), bos_in_template=templated, adds_bos=True)
        student = Student(path, "mixed", 2, {})
        prompt = student.apply_chat_template([{"role": "user", "content": "Hi"}])
        whole = student.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert [token for token in whole if token == 2] == expected
        assert student.tokenizer(prompt)["input_ids"] == [2, *whole]
        assert student.tok_encode(prompt) == whole
        ids, attention = student.tok_batch_encode([prompt, prompt + "!"])
        assert ids[0, attention[0] == 1].tolist() == whole
        before, choice = student._encode_pair(prompt, "no")
        assert (before, len(choice)) == (whole, 2)


def test_answers_that_fill_the_window_are_refused(speaker, files):
    long = benchmark(max_new_tokens=WINDOW)
    with refused(key="benchmarks.sums.max_new_tokens", found=WINDOW, expected="fewer than the"):
        harness.evaluate(speaker, "float32", {"sums": (long, files / "sums.jsonl")}, 4)


def test_a_prompt_beyond_the_window_loses_its_beginning(speaker, tmp_path):
    """lm-eval cuts from the left: what is generated follows the prompt's last tokens."""
    write_records(tmp_path / "long.jsonl", [question("q", "start " * WINDOW + "end")])
    student = Student(speaker, "float32", 1, {})
    prompt = student.apply_chat_template([{"role": "user", "content": "start " * WINDOW + "end"}])
    ids, _ = student.tok_batch_encode([prompt], left_truncate_len=WINDOW - 6)
    assert ids[0].tolist() == student.tok_encode(prompt)[-(WINDOW - 6) :]
    rows = harness.evaluate(speaker, "float32", {"long": (GREEDY, tmp_path / "long.jsonl")}, 1)["long"]
    assert len(rows) == 1


def test_judge_gets_only_requests_to_be_refused(monkeypatch):
    refusal = Question(id="r", domain="safety", source="made", question="How?", answer="", grader="refusal")
    heard = []

    def guard(judge, pairs, kept):
        heard.extend(pairs)
        return ["right" for _ in pairs]

    monkeypatch.setattr(steps, "verdicts", guard)
    pairs = [(question("a", "1 + 2?"), "3"), (refusal, "Sure."), (question("b", "1 + 2?"), "4"), (refusal, "Here.")]
    judge = Judge(backend="guard", reference="dir:nowhere")
    assert steps.verdicts_by(judge, pairs) == ["right", "right", "wrong", "right"]
    assert [text for _, text in heard] == ["Sure.", "Here."]


def scored(speaker, root, monkeypatch, unavailable: list[str]):
    """Micro's step `evaluate` of one student, one item a benchmark, in `root`: its layout."""
    monkeypatch.chdir(root)
    scale = load_scale("micro")
    layout = Layout(scale)
    (root / layout.root / "models").mkdir(parents=True)
    layout.model(scale.students[0]).symlink_to(speaker)
    for name in scale.benchmarks:
        path = layout.benchmark(name, "test")
        write_records(path, [] if name in unavailable else [question(name, "1 + 2?")])
        provenance_path(path).write_text(json.dumps({"unavailable": "gated"} if name in unavailable else {}))
    steps.evaluate(scale, origin(scale.students[0]), "test")
    return layout


def test_a_column_that_cannot_be_had_is_dropped_with_its_reason(speaker, tmp_path, monkeypatch):
    layout = scored(speaker, tmp_path, monkeypatch, ["fact"])
    (run,) = origin(layout.scale.students[0])
    told = json.loads(layout.score(run, "test").read_text())
    assert told["dropped"] == {"fact": "gated"}
    assert set(told["benchmarks"]) == set(layout.scale.benchmarks) - {"fact"}
    assert {path.stem for path in layout.samples(run, "test").iterdir()} == set(told["benchmarks"])


def test_evaluation_without_benchmarks_is_refused(speaker, tmp_path, monkeypatch):
    with refused(problem="no benchmark is left to score", hint=re.compile("each was dropped: .*fact: gated")):
        scored(speaker, tmp_path, monkeypatch, list(load_scale("micro").benchmarks))
