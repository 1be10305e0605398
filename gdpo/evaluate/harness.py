"""Run lm-eval on a model's benchmarks and return every item's output and verdict.

All benchmarks of a run are asked in one call: the batches, and with them the last bits of the log-probabilities,
then depend on the configuration alone. Written answers are graded afterwards, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.evaluator import evaluate as lm_eval_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from gdpo.config.benchmarks import Benchmark
from gdpo.config.fields import Dtype, Engine
from gdpo.core.errors import UserError
from gdpo.core.records import Question, Verdict
from gdpo.evaluate.model import Student
from gdpo.evaluate.tasks import Tasks
from gdpo.evaluate.tasks.items import most_likely, verdict_of_letter
from gdpo.grading.grade import grade_many
from gdpo.models.sampling_vllm import vllm_package

if TYPE_CHECKING:
    from gdpo.evaluate.vllm import VllmStudent

TASKS = Path(__file__).parent / "tasks"

Grade = Callable[[Sequence[tuple[Question, str]]], list[Verdict]]  # of (question, answer) pairs


def task_config(name: str, benchmark: Benchmark, items: Path) -> dict[str, Any]:
    """The lm-eval task of one benchmark: our task file of its kind, pointed at its items."""
    config = dict(load_yaml(TASKS / f"gdpo_{benchmark.kind}.yaml", resolve_func=True))
    config |= {"task": name, "metadata": {**config["metadata"], "items": str(items)}, "process_results": _no_metrics}
    if benchmark.kind == "generate":
        settings = {**config["generation_kwargs"], "max_gen_toks": benchmark.max_new_tokens}
        if benchmark.temperature > 0:
            settings |= {"do_sample": True, "temperature": benchmark.temperature, "top_p": benchmark.top_p, "top_k": 0}
        config |= {"generation_kwargs": settings, "repeats": benchmark.samples}
    return config


def _no_metrics(doc: dict, results: list) -> dict[str, float]:
    """No metrics: lm-eval would grade item by item, where `grade_many` takes all benchmarks at once."""
    return {}


def evaluate(
    path: Path,
    dtype: Dtype,
    tasks: Tasks,
    batch_size: int,
    grade: Grade = grade_many,
    engine: Engine = "hf",
    gpus: int = 1,
    work_dir: Path | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Ask a model the items of its benchmarks and grade its answers.

    Args:
        path: The model's checkpoint.
        dtype: The dtype of its weights.
        tasks: The benchmarks.
        batch_size: Rows a batch; vLLM makes batches of its own.
        grade: Gives the verdicts on (question, answer) pairs.
        engine: What the model answers by.
        gpus: How many GPUs vLLM uses.
        work_dir: Where finished batches are kept. The caller names the directory by all that the answers depend on. An
            interrupted call resumes from it, and returns what a call without interruption would.

    Returns:
        benchmark -> one row an item, in the items' order: id, hashes of document and prompt, output, verdict. An item
        that is asked several times has lists, `outputs` and `verdicts`.

    Raises:
        UserError: A benchmark's answers leave no room for its questions.
    """
    seeds = {name: benchmark.seed for name, (benchmark, _) in tasks.items() if benchmark.temperature > 0}
    if engine == "vllm":
        with _in_vllm(path, dtype, gpus, seeds, tasks, work_dir) as model:
            samples = _samples(model, path, tasks)
    else:
        samples = _samples(Student(path, dtype, batch_size, seeds, work_dir), path, tasks)
    rows = {name: [_row(sample) for sample in samples[name]] for name in tasks}
    written = [name for name, (benchmark, _) in tasks.items() if benchmark.kind == "generate"]
    answers = [
        (row, Question.model_validate(sample["doc"]), text)
        for name in written
        for row, sample in zip(rows[name], samples[name], strict=True)
        for text in sample["resps"][0]
    ]
    verdicts = grade([(question, text) for _, question, text in answers])
    for (row, _, _), verdict in zip(answers, verdicts, strict=True):
        if "outputs" in row:
            row.setdefault("verdicts", []).append(verdict)
        else:
            row["verdict"] = verdict
    return rows


@contextmanager
def _in_vllm(
    path: Path, dtype: Dtype, gpus: int, seeds: Mapping[str, int], tasks: Tasks, work_dir: Path | None
) -> Iterator[VllmStudent]:
    vllm_package()  # else lm-eval's complaint would be a traceback
    from gdpo.evaluate.vllm import VllmStudent

    model = VllmStudent(path, dtype, gpus, seeds, tasks, work_dir)
    try:
        yield model
    finally:
        model.close()


def _samples(model: Student | VllmStudent, path: Path, tasks: Tasks) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval logs of every item, by benchmark."""
    for name, (benchmark, _) in tasks.items():
        if benchmark.kind == "generate" and benchmark.max_new_tokens >= model.max_length:
            raise UserError(
                key=f"benchmarks.{name}.max_new_tokens",
                found=benchmark.max_new_tokens,
                expected=f"fewer than the {model.max_length} tokens of the model in {path}",
            )
    configs = [task_config(name, benchmark, items) for name, (benchmark, items) in tasks.items()]
    # Not `simple_evaluate`: it describes the whole machine after every call, which takes longer than a tiny run.
    results = lm_eval_evaluate(
        lm=model,
        task_dict=TaskManager(include_defaults=False).load(configs),
        apply_chat_template=True,
        bootstrap_iters=0,
        log_samples=True,
    )
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    return samples


def _row(sample: dict[str, Any]) -> dict[str, Any]:
    """A row of a samples file. The verdict on a written answer is still missing; a choice has its own."""
    doc, answers = sample["doc"], sample["resps"][0]
    row = {"id": doc["id"], **{key: sample[key] for key in ("doc_hash", "prompt_hash")}}
    if not isinstance(answers[0], str):
        letter = most_likely(doc, sample["filtered_resps"])
        return {**row, "output": letter, "verdict": verdict_of_letter(doc, letter)}
    return {**row, "outputs": list(answers)} if len(answers) > 1 else {**row, "output": answers[0]}
