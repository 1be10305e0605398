"""`gdpo evaluate`: score runs on the test or the validation items, and store every item's output."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gdpo.config.benchmarks import Benchmark, Judge
from gdpo.config.layout import VERSION, Layout, Run, Split, origin
from gdpo.config.scale import Scale
from gdpo.core import progress
from gdpo.core.errors import UserError
from gdpo.core.files import read_json, read_jsonl, replacing, sha256, write_json, write_jsonl, write_text
from gdpo.core.hashing import fingerprint
from gdpo.core.provenance import provenance_path, recorded
from gdpo.core.records import Question, Verdict, chat, read_records
from gdpo.core.result_files import QuestionOrGroup, Sample, read_rows
from gdpo.core.terminal import say
from gdpo.evaluate.judging import judge as judge
from gdpo.evaluate.samples import digest, outputs, score
from gdpo.evaluate.tasks import Tasks
from gdpo.grading.grade import grade_many
from gdpo.grading.safety_judge import verdicts
from gdpo.metakl.contamination import ItemIndex, user_texts
from gdpo.metakl.word_frequencies import Frequencies
from gdpo.models.checkpoints import digest as digest_of

MEASURES = "measures.json"
DELETED = "weights.sha256"  # in a run's directory: its weights are deleted, or about to be


def evaluate(scale: Scale, runs: list[Run], split: Split) -> None:
    """Write the samples and the score of each run.

    A run is not scored on benchmarks whose items cannot be had, or whose items are in its training set.

    Finished work stays in work/, under the hash of all that it depends on, until the whole job is done: the answers
    and a model judge's verdicts batch by batch, and whole runs. A killed job repeats none of them. Where weights are
    not kept, whole runs stay in work/ for good: a job killed before it was recorded as done could not be done again.
    """
    layout = Layout(scale)
    work_dirs, closed = {}, dict[str, dict[str, str]]()  # training set -> the benchmarks that it closes
    for number, run in enumerate(runs, start=1):
        progress.part(number, len(runs), "run")
        if run.trainset not in closed:
            closed[run.trainset] = trained_on(layout, run, split)
        work_dirs[run] = _evaluate_one(layout, run, split, closed[run.trainset])
    without_weights = [run for run in runs if split == "test" and not scale.keep_weights and not run.is_origin]
    _delete_weights(layout, without_weights)
    for run in work_dirs.keys() - without_weights:
        shutil.rmtree(work_dirs[run], ignore_errors=True)


def _delete_weights(layout: Layout, runs: Sequence[Run]) -> None:
    """Delete the weights of runs. The hashes that name their finished scores are written first, for all of them."""
    for run in runs:
        write_text(layout.run(run) / DELETED, _weights_hash(layout, run))
    for run in runs:
        for path in layout.run(run).glob("*.safetensors"):
            path.unlink()


def _weights_hash(layout: Layout, run: Run) -> str:
    """The hash of a run's checkpoint, also of one whose weights have been deleted since it was scored."""
    path = layout.run(run)
    if (path / DELETED).exists():
        return (path / DELETED).read_text()
    if any(path.glob("*.safetensors")):
        return digest_of(path)
    raise _no_weights(path)


def _no_weights(path: Path) -> UserError:
    hint = "delete it to train it again" if path.exists() else None
    return UserError(path=path, found="no weights", expected="a model", hint=hint)


def _evaluate_one(layout: Layout, run: Run, split: Split, closed: dict[str, str]) -> Path:
    """Score one run but on the benchmarks `closed`, or take it from its work directory, which is returned."""
    scale, benchmarks = layout.scale, benchmarks_in(layout.scale, split)
    dropped = {name: why for name, why in layout.unavailable().items() if name in benchmarks}
    dropped |= closed
    tasks = {n: (b, layout.benchmark(n, split)) for n, b in benchmarks.items() if n not in dropped}
    if not tasks:
        raise UserError(f"evaluate {run}: no benchmark is left to score", hint=f"each was dropped: {_joined(dropped)}")
    work = layout.work / "evaluate" / fingerprint(_depends(layout, run, split, tasks))
    finished = work / f"finished-{fingerprint([dropped, settings(scale, run, split)])}" / "score.json"
    if provenance_path(finished).exists():  # which is written last
        say(f"evaluate {run} ({split}): finished by an earlier call, and taken from {finished.parent}")
    elif (layout.run(run) / DELETED).exists():
        raise _no_weights(layout.run(run))
    else:
        _score(layout, run, split, tasks, dropped, finished)
    score_path, samples_path = layout.score(run, split), layout.samples(run, split)
    with replacing(samples_path) as temporary:
        shutil.copytree(finished.parent / "samples", temporary, copy_function=shutil.copyfile)
    made_files = [(finished, score_path), (provenance_path(finished), provenance_path(score_path))]
    if _is_measured(scale, split):
        made_files.insert(0, (finished.with_name(MEASURES), layout.measures(run, split)))
    for made, path in made_files:
        with replacing(path) as temporary:
            shutil.copyfile(made, temporary)
    scores = read_json(score_path)["benchmarks"].values()
    mean = sum(s["score"] for s in scores) / len(scores)
    say(f"evaluate {run} ({split}): mean over {len(scores)} benchmarks {mean:.1%}")
    return work


def _depends(layout: Layout, run: Run, split: Split, tasks: Tasks) -> list[Any]:
    """All that a run's answers depend on, whoever judges them."""
    from gdpo.core.device import default_device

    scale, student = layout.scale, layout.scale.model(run.student)
    if missing := [path for _, path in tasks.values() if not path.exists()]:
        raise UserError("no such file", path=missing[0], expected="a benchmark's items, which `gdpo benchmark` writes")
    items = {name: [benchmark.model_dump(), sha256(path)] for name, (benchmark, path) in tasks.items()}
    asked = [VERSION["evaluate"], run.__dict__, split, items, _weights_hash(layout, run)]
    # vLLM makes batches of its own, and must be the first to look for GPUs.
    batches = ["vllm"] if student.engine == "vllm" else [scale.eval_batch_size, default_device()]
    return [*asked, student.dtype, *batches]


def _score(layout: Layout, run: Run, split: Split, tasks: Tasks, dropped: dict[str, str], finished: Path) -> None:
    """Write a run's score to `finished`, its samples beside it, and last its provenance."""
    from gdpo.evaluate import harness

    scale, student, work = layout.scale, layout.scale.model(run.student), finished.parent.parent
    resumed = any(work.glob("*.jsonl"))
    with recorded(finished, "evaluate", settings(scale, run, split)) as extra:
        grade = partial(verdicts_by, scale.judge, work_dir=work)
        rows = harness.evaluate(
            layout.run(run), student.dtype, tasks, scale.eval_batch_size, grade, student.engine, student.gpus, work
        )
        samples = finished.parent / "samples"
        with replacing(samples) as temporary:
            for name in tasks:
                write_jsonl(temporary / f"{name}.jsonl", rows[name])
        extra["samples"] = {name: digest(samples / f"{name}.jsonl") for name in tasks}
        if _is_measured(scale, split):
            write_json(finished.with_name(MEASURES), _measured(layout, run, split, rows))
        scores = {name: score(rows[name]) for name in tasks}
        write_json(finished, {"run": run.__dict__, "split": split, "benchmarks": scores, "dropped": dropped})
        extra["result"] = layout.score(run, split).as_posix()
        if resumed:
            extra["resumed"] = "answers of a call that was interrupted are among these; its time is not counted"


def _is_measured(scale: Scale, split: Split) -> bool:
    return scale.measures is not None and split == "test"


def _measured(layout: Layout, run: Run, split: Split, rows: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """What is measured of a run besides its scores; `rows` are its samples.

    The new task's prompts are the items of the generated benchmarks in the domains of its training set.
    """
    from gdpo.evaluate.measures import Measures, answered_items, cut_off

    scale = layout.scale
    measures = Measures(layout.model(run.student), scale.model(run.student).dtype)
    assert scale.measures is not None  # the caller has asked
    most = scale.measures.items
    items = {name: list(read_records(layout.benchmark(name, split), Question))[:most] for name in rows}
    generated = [name for name in rows if scale.benchmark(name).kind == "generate"]
    new = [] if run.is_origin else [name for name in generated if scale.benchmark(name).domain in _domains(layout, run)]
    new = [name for name in new if scale.benchmark(name).role == "taught"]
    before = {name: list(read_rows(_origin_samples(layout, run, split, name), Sample)) for name in new}
    found = measures.measure(
        layout.run(run),
        gold=items,
        text=_untaught_text(scale, run.student),
        own=[pair for name in new for pair in answered_items(items[name], rows[name][:most])],
        references=[pair for name in new for pair in answered_items(items[name], before[name][:most])],
    )
    limits = {name: scale.benchmark(name).max_new_tokens for name in generated}
    cut = {name: cut_off(measures.tokenizer, rows[name], limit) for name, limit in limits.items()}
    return {"run": run.__dict__, "split": split, **found, "cut": cut, "new_task": new}


def _domains(layout: Layout, run: Run) -> set[str]:
    """The domains of a run's training set."""
    return {row["domain"] for row in read_rows(layout.groups(run.trainset), QuestionOrGroup)}


def _origin_samples(layout: Layout, run: Run, split: Split, name: str) -> Path:
    [before] = origin(run.student)
    path = layout.samples(before, split) / f"{name}.jsonl"
    if not path.exists():
        hint = f"`gdpo evaluate --student {run.student} --split {split}` with no other option makes them"
        raise UserError(path=path, found="none", expected="the untrained student's samples", hint=hint)
    return path


def _untaught_text(scale: Scale, student: str) -> list[Question]:
    """Examples of a student's pretraining by a seed of their own; none where it was not pretrained here."""
    pretrain, measures = scale.model(student).pretrain, scale.measures
    if not (measures and measures.text and pretrain and scale.world):
        return []
    from gdpo.tiny.world import pretraining_questions

    return pretraining_questions(scale.world, pretrain.mix, measures.text, measures.seed)


def benchmarks_in(scale: Scale, split: Split) -> dict[str, Benchmark]:
    """The benchmarks that have items in `split`."""
    return {n: b for n, b in scale.benchmarks.items() if split == "test" or b.validation_items}


def settings(scale: Scale, run: Run, split: Split) -> list[Any]:
    """What a run's scores depend on besides its model and the items, as their provenance has it."""
    parts: list[Any] = [run.__dict__, {n: b.model_dump() for n, b in benchmarks_in(scale, split).items()}]
    if scale.judge.backend != "rules":  # scores by rules keep the hash they had before there were judges
        parts.append(scale.judge)
    if scale.measures:
        parts.append(scale.measures)
    return [*parts, *scale.sampled_by(run.student)]


def verdicts_by(judge: Judge, pairs: Sequence[tuple[Question, str]], work_dir: Path | None = None) -> list[Verdict]:
    """Verdicts on (question, answer) pairs: by `judge` on replies to requests to be refused, else by our graders.

    A model judge's are kept in `work_dir`, see `gdpo.grading.safety_judge.verdicts`.
    """
    refusals = [i for i, (question, _) in enumerate(pairs) if question.grader == "refusal"]
    others = [i for i, (question, _) in enumerate(pairs) if question.grader != "refusal"]
    by_index = dict(zip(refusals, verdicts(judge, [pairs[i] for i in refusals], work_dir), strict=True))
    by_index |= zip(others, grade_many([pairs[i] for i in others], show_progress=True), strict=True)
    return [by_index[i] for i in range(len(pairs))]


def _joined(dropped: dict[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in dropped.items())


def drift(scale: Scale, runs: list[Run]) -> None:
    """Measure how far each run has moved from its student, along its own answers to the validation items (nats)."""
    from gdpo.evaluate.drift import Drift

    layout = Layout(scale)
    generated = [n for n, b in scale.benchmarks.items() if b.validation_items and b.kind == "generate"]
    questions = {q.id: chat(q) for n in generated for q in read_records(layout.benchmark(n, "validation"), Question)}
    measures: dict[str, Drift] = {}
    for number, run in enumerate(runs):
        progress.report(number, len(runs), "runs")
        if run.student not in measures:
            measures[run.student] = Drift(layout.model(run.student), scale.model(run.student).dtype)
        with recorded(layout.drift(run), "drift", run.__dict__):
            samples = layout.samples(run, "validation")
            rows = [row for n in generated for row in _samples_if_any(samples / f"{n}.jsonl")]
            answered = [(questions[row["id"]], text) for row in rows for text in outputs(row)]
            drifted = measures[run.student].measure(layout.run(run), answered)
            write_json(layout.drift(run), drifted)
        say(f"drift {run}: {drifted['kl']:.4f} nats a token from its reference")


def _samples_if_any(path: Path) -> Iterable[dict[str, Any]]:
    """The rows of a samples file; none of a benchmark that the run may not be scored on."""
    return read_rows(path, Sample) if path.exists() else ()


def trained_on(layout: Layout, run: Run, split: Split) -> dict[str, str]:
    """benchmark -> why a run may not be scored on it: items of the benchmark are in its training groups."""
    if run.is_origin:
        return {}
    scale = layout.scale
    items = {name: read_records(layout.benchmark(name, split), Question) for name in scale.benchmarks}
    prompts = [row["prompt"] for _, row in read_jsonl(layout.groups(run.trainset))]
    texts = [text for prompt in prompts for text in user_texts(prompt)]
    # Where the pool was cleaned, by what it was cleaned by: of fewer texts other phrases are frequent.
    selected = scale.trainset(run.trainset).select != "import" and layout.frequencies.exists()
    frequencies = Frequencies.read(layout.frequencies) if selected and scale.decontaminate.ngram else None
    overlap = ItemIndex.from_scale(scale, items, texts, frequencies)
    matched = {(match.benchmark, match.item) for prompt in prompts for match in overlap.matches_prompt(prompt)}
    shared = Counter(benchmark for benchmark, _ in matched)
    return {
        name: f"{shared[name]} of its {len(items[name])} items are in training set {run.trainset}"
        for name in scale.benchmarks
        if shared[name]
    }
