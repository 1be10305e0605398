"""An evaluation that is interrupted, at any batch, goes on from there: the same bytes, and nothing asked twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gdpo.config.benchmarks import Judge
from gdpo.config.layout import Layout, Run, origin
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.core.files import read_json, resumable_batches
from gdpo.core.provenance import provenance_path
from gdpo.core.records import write_records
from gdpo.evaluate import harness, steps
from gdpo.evaluate.model import Student
from gdpo.models.choice_likelihood import Choices
from tests.evaluate.spelling import speller
from tests.evaluate.test_harness import CHOSEN, GREEDY, SAMPLED, files, question, speaker  # noqa: F401  (fixtures)
from tests.evaluate.test_vllm import StandIn, vllm  # noqa: F401  (a fixture)
from tests.refusal import refused


class Stopped(BaseException):
    """As Ctrl-C, which no step catches."""


class Meter:
    """Counts what `name` of `owner` does, and stops it after `most` times where that is given."""

    def __init__(self, monkeypatch, owner, name: str):
        self.done, self.most = 0, None
        original = getattr(owner, name)

        def metered(*given, **named):
            if self.done == self.most:
                raise Stopped
            self.done += 1
            return original(*given, **named)

        monkeypatch.setattr(owner, name, metered)


@pytest.fixture
def asked(files):  # noqa: F811
    """Greedy answers in three batches of four rows, two sampled columns in five and three, and lettered questions."""
    sums, others = files / "sums.jsonl", files / "others.jsonl"
    return {
        "greedy": (GREEDY, sums),
        "sampled": (SAMPLED, sums),
        "other": (SAMPLED.model_copy(update={"temperature": 0.7}), others),
        "letters": (CHOSEN, files / "letters.jsonl"),
    }


def evaluated(path: Path, asked: dict, kept: Path | None, **changes) -> str:
    return json.dumps(
        harness.evaluate(path, "float32", asked, 4, lambda p: ["right"] * len(p), work_dir=kept, **changes)
    )


def test_evaluation_resumes_at_any_batch(speaker, asked, tmp_path, monkeypatch):  # noqa: F811
    """Stopped before each batch in turn, of answers and of choices, it makes that one and those behind it alone."""
    for owner, name in ((Student, "_model_generate"), (Choices, "batch")):
        with monkeypatch.context() as patch:
            meter = Meter(patch, owner, name)
            whole = evaluated(speaker, asked, None)
            count = meter.done
            assert count >= 4
            for stop in range(count):
                kept = tmp_path / name / str(stop)
                meter.done, meter.most = 0, stop
                with pytest.raises(Stopped):
                    evaluated(speaker, asked, kept)
                meter.done, meter.most = 0, None
                torch.manual_seed(99)  # another process knows nothing of where the random numbers were
                assert evaluated(speaker, asked, kept) == whole
                assert meter.done == count - stop


def test_torn_line_is_redone_and_invalid_line_is_refused(
    speaker,  # noqa: F811
    asked,
    tmp_path,
    monkeypatch,
    capsys,
):
    whole = evaluated(speaker, asked, tmp_path)
    [path] = tmp_path.glob("answers-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]) + lines[7][: len(lines[7]) // 2])
    meter = Meter(monkeypatch, Student, "_model_generate")
    capsys.readouterr()
    monkeypatch.setattr("gdpo.core.terminal._terminal", sys.stderr)
    assert evaluated(speaker, asked, tmp_path) == whole
    assert meter.done == len(lines) - 7
    held = sum(len(json.loads(line)["indices"]) for line in lines[:7])
    assert f"{path} holds {held} of 33 answers, which are not made again" in capsys.readouterr().err
    for broken in (b'{"indices": [0]}\n', b"nothing\n"):
        path.write_bytes(lines[0] + broken + lines[2])
        with refused(path="answers-", line=2, hint="delete the file to make all of it again"):
            evaluated(speaker, asked, tmp_path)


def test_missing_random_state_is_refused(tmp_path):
    class State:
        def save(self) -> str:
            return "s"

        def load(self, saved: str) -> None:
            raise ValueError(saved)

    path = tmp_path / "kept.jsonl"
    path.write_text('{"indices": [0], "answers": ["a"]}\n')
    for line in ('{"indices": [0], "answers": ["a"]}', '{"indices": [0], "answers": ["a"], "state": "?"}'):
        path.write_text(f"{line}\n")
        with refused(path="kept.jsonl", line=1, found="none", expected="the 'state' of random numbers"):
            resumable_batches(path, "answers", 2, lambda done: [([1], ["b"])], State())


def test_vllm_evaluation_resumes(vllm, asked, tmp_path, monkeypatch):  # noqa: F811
    path = speller(tmp_path / "model")
    whole = evaluated(path, asked, None, engine="vllm")
    monkeypatch.setattr("gdpo.evaluate.vllm.KEPT_BATCH", 5)
    assert evaluated(path, asked, None, engine="vllm") == whole
    meter = Meter(monkeypatch, StandIn, "generate")
    kept, made = tmp_path / "kept", 0
    for stop in (3, 4):
        meter.done, meter.most = 0, stop
        with pytest.raises(Stopped):
            evaluated(path, asked, kept, engine="vllm")
        made += stop
    meter.done, meter.most = 0, None
    assert evaluated(path, asked, kept, engine="vllm") == whole
    assert made + meter.done == 7 + 3  # 33 requests for answers and 12 for choices, five at a time
    assert not any(engine.open for engine in vllm.made)


SCALE = {
    "scale": "mine", "extends": "micro", "eval_batch_size": 2,
    "benchmarks": {"logic": {"samples": 3, "temperature": 1.0, "top_p": 0.9}},
}  # fmt: skip
SEEDS = [0, 1]
ARGUMENTS = ["--student", "tiny-s", "--trainset", "hard-only", "--method", "sft", "--seeds", *map(str, SEEDS)]


def cell(root: Path) -> tuple[Scale, list[Run]]:
    """Two trained runs of a scale of few questions, one column of them sampled, ready to be evaluated in `root`."""
    (root / "mine.yaml").write_text(yaml.safe_dump(SCALE))
    scale = load_scale(root / "mine.yaml")
    layout, runs = Layout(scale), [Run("tiny-s", "hard-only", "sft", seed) for seed in SEEDS]
    for name in scale.benchmarks:
        items = [question(f"{name}{n}", f"{n} and {n}?") for n in range(4 if name in ("chain2", "logic") else 1)]
        write_records(root / layout.benchmark(name, "test"), items)
    write_records(root / layout.groups("hard-only"), [])
    for run in runs:
        speller(root / layout.run(run), scale=1 + run.seed)
    return scale, runs


def results(layout: Layout, runs: list[Run]) -> dict[str, bytes]:
    """Every byte of samples and scores."""
    found = [path for run in runs for path in sorted(layout.samples(run, "test").iterdir())]
    return {str(path): path.read_bytes() for path in [*found, *(layout.score(run, "test") for run in runs)]}


KILLED = """
import os, signal, sys
from gdpo.cli import main as cli
from gdpo.evaluate.model import Student
from tests.refusal import refused
generate, left = Student._model_generate, int(sys.argv.pop(1))
def generated(*given, **named):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return generate(*given, **named)
Student._model_generate = generated
cli.main()
"""


def killed(batches: int) -> None:
    """`gdpo evaluate` of the cell, by kill -9 after so many batches, and what Snakemake deletes when a job fails."""
    command = [sys.executable, "-c", KILLED, str(batches), "evaluate", "--scale", "mine.yaml", *ARGUMENTS]
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for place in ("samples", "scores"):
        shutil.rmtree(Path("results/mine") / place, ignore_errors=True)


def test_killed_evaluation_gives_the_same_bytes(tmp_path, monkeypatch, capsys):
    """By kill -9 amid the second seed's samples: its other batches and the first seed are not asked again."""
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "killed").mkdir()
    meter = Meter(monkeypatch, Student, "_model_generate")
    monkeypatch.chdir(tmp_path / "undisturbed")
    scale, runs = cell(Path())
    steps.evaluate(scale, runs, "test")
    layout, seed = Layout(scale), meter.done // 2
    expected, sampled = results(layout, runs), 4 * 3 // 2
    assert len({expected[str(layout.score(run, "test"))] for run in runs}) == 2
    assert not any((layout.work / "evaluate").iterdir())
    monkeypatch.chdir(tmp_path / "killed")
    cell(Path())
    killed(seed + seed - sampled + 3)
    meter.done = 0
    monkeypatch.setattr("gdpo.core.terminal._terminal", sys.stderr)
    steps.evaluate(scale, runs, "test")
    assert meter.done == sampled - 3
    assert results(layout, runs) == expected
    assert not any((layout.work / "evaluate").iterdir())
    said = capsys.readouterr().err
    assert f"evaluate {runs[0]} (test): finished by an earlier call" in said
    records = [read_json(provenance_path(layout.score(run, "test"))) for run in runs]
    assert ["resumed" in record for record in records] == [False, True]
    assert [record["result"] for record in records] == [str(layout.score(run, "test")) for run in runs]


def test_a_judge_that_fails_loses_no_answer(tmp_path, monkeypatch):
    """Its model is not there, which shows only when everything has been answered; another judge takes the answers."""
    monkeypatch.chdir(tmp_path)
    scale, runs = cell(Path())
    for name in ("harmful", "jailbreak"):
        asked = [question("r", "How?").model_copy(update={"grader": "refusal", "answer": ""})]
        write_records(Layout(scale).benchmark(name, "test"), asked)
    judged = scale.model_copy(update={"judge": Judge(backend="guard", reference="dir:nowhere")})
    with refused() as caught:
        steps.evaluate(judged, runs[:1], "test")
    assert "nowhere" in str(caught.value)
    meter = Meter(monkeypatch, Student, "_model_generate")
    steps.evaluate(scale, runs[:1], "test")
    assert meter.done == 0


def test_work_directory_is_named_by_all_that_answers_depend_on(tmp_path, monkeypatch):
    """Weights, template, items, benchmarks' settings, batches, seeds and the engine; not what training wrote beside."""
    monkeypatch.chdir(tmp_path)
    scale, runs = cell(Path())
    layout = Layout(scale)

    def key(run: Run = runs[0], split: str = "test", **changes) -> str:
        changed = scale.model_copy(update=changes)
        tasks = {n: (b, layout.benchmark(n, "test")) for n, b in changed.benchmarks.items()}
        return steps.fingerprint(steps._depends(Layout(changed), run, split, tasks))

    def column(**changes) -> dict:
        return scale.benchmarks | {"logic": scale.benchmarks["logic"].model_copy(update=changes)}

    def model(**changes) -> dict:
        return scale.models | {"tiny-s": scale.models["tiny-s"].model_copy(update=changes)}

    first = key()
    (layout.run(runs[0]) / "train.json").write_text("{}")
    (layout.run(runs[0]) / ".snakemake_timestamp").touch()
    assert key() == key(judge=Judge(backend="guard", reference="dir:x"), keep_weights=False) == first
    keys = [first, key(runs[1]), key(split="validation"), key(eval_batch_size=3)]
    keys += [key(benchmarks=column(seed=7)), key(benchmarks=column(temperature=0.5)), key(benchmarks=column(samples=2))]
    keys += [key(benchmarks={n: b for n, b in scale.benchmarks.items() if n != "order"})]
    keys += [key(models=model(engine="vllm")), key(models=model(dtype="bfloat16"))]
    write_records(layout.benchmark("order", "test"), [question("order", "Other?")])
    keys += [key()]
    (layout.run(runs[0]) / "chat_template.jinja").write_text("{{ messages }}")
    keys += [key()]
    speller(layout.run(runs[0]), scale=3)
    keys += [key()]
    assert len(set(keys)) == len(keys)


def test_missing_benchmark_items_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale, _ = cell(Path())
    [run], layout = origin("tiny-s"), Layout(scale)
    speller(layout.run(run))
    layout.benchmark("order", "test").unlink()
    with refused(problem="no such file", path="order.jsonl", expected="a benchmark's items"):
        steps.evaluate(scale, [run], "test")


def test_weights_are_deleted_after_all_runs_are_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale, runs = cell(Path())
    scale, layout = scale.model_copy(update={"keep_weights": False}), Layout(scale)
    meter = Meter(monkeypatch, Student, "_model_generate")
    meter.most = 20
    with pytest.raises(Stopped):
        steps.evaluate(scale, runs, "test")
    assert all(any(layout.run(run).glob("*.safetensors")) for run in runs)
    meter.most = None
    steps.evaluate(scale, runs, "test")
    assert not any(file for run in runs for file in layout.run(run).glob("*.safetensors"))


def test_a_job_killed_after_its_weights_were_deleted_is_done_again_without_them(tmp_path, monkeypatch):
    """Snakemake has not recorded it, and deletes its outputs; weights of another run or other items are not taken."""
    monkeypatch.chdir(tmp_path)
    scale, runs = cell(Path())
    scale, layout = scale.model_copy(update={"keep_weights": False}), Layout(scale)
    for done in (0, 1):  # weights deleted of some runs, then of all
        with monkeypatch.context() as patch:
            Meter(patch, Path, "unlink").most = done
            with pytest.raises(Stopped):
                steps.evaluate(scale, runs, "test")
        assert sum(any(layout.run(run).glob("*.safetensors")) for run in runs) == len(runs) - done
    steps.evaluate(scale, runs, "test")
    first = {run: layout.score(run, "test").read_bytes() for run in runs}
    for run in runs:
        layout.score(run, "test").unlink()
        shutil.rmtree(layout.samples(run, "test"))
    meter = Meter(monkeypatch, Student, "_model_generate")
    steps.evaluate(scale, runs, "test")
    assert {run: layout.score(run, "test").read_bytes() for run in runs} == first
    assert meter.done == 0
    write_records(layout.benchmark("order", "test"), [question("order", "Other?")])
    with refused(found="no weights", expected="a model", hint="delete it to train it again"):
        steps.evaluate(scale, runs, "test")


def test_the_untrained_student_is_kept_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale, _ = cell(Path())
    [run], layout = origin("tiny-s"), Layout(scale)
    speller(layout.run(run))
    meter = Meter(monkeypatch, Student, "_model_generate")
    meter.most = 3
    with pytest.raises(Stopped):
        steps.evaluate(scale, [run], "test")
    meter.done, meter.most = 0, None
    steps.evaluate(scale, [run], "test")
    resumed_after, meter.done = meter.done, 0
    steps.evaluate(scale, [run], "test")
    assert meter.done == resumed_after + 3  # what is done is not kept: a call for it again is meant
