"""Run lm-eval on a model's benchmarks and keep every item's output and verdict.

All benchmarks of a run are asked in one call, so that the batches, and with them the last bits of the
log-probabilities, depend on the configuration alone. Written answers are judged afterwards, all at once.
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
from gdpo.config.models import Dtype, Engine
from gdpo.core.errors import UserError
from gdpo.core.records import Question, Verdict
from gdpo.evaluate.model import Student
from gdpo.evaluate.tasks.items import most_likely, verdict_of_letter
from gdpo.grading.grade import grade_many
from gdpo.models.sampling_vllm import vllm_package

if TYPE_CHECKING:
    from gdpo.evaluate.vllm import VllmStudent

TASKS = Path(__file__).parent / "tasks"

Asked = Mapping[str, tuple[Benchmark, Path]]  # a benchmark and the file of its items
Judged = Callable[[Sequence[tuple[Question, str]]], list[Verdict]]


def task_config(name: str, benchmark: Benchmark, items: Path) -> dict[str, Any]:
    """The lm-eval task of one benchmark: our task file of its kind, pointed at its items."""
    config = dict(load_yaml(TASKS / f"gdpo_{benchmark.kind}.yaml", resolve_func=True))
    config |= {"task": name, "metadata": {**config["metadata"], "items": str(items)}, "process_results": _unjudged}
    if benchmark.kind == "generate":
        settings = {**config["generation_kwargs"], "max_gen_toks": benchmark.max_new_tokens}
        if benchmark.temperature > 0:
            settings |= {"do_sample": True, "temperature": benchmark.temperature, "top_p": benchmark.top_p, "top_k": 0}
        config |= {"generation_kwargs": settings, "repeats": benchmark.samples}
    return config


def _unjudged(doc: dict, results: list) -> dict[str, float]:
    """No metrics: lm-eval would judge item by item, where `grade_many` takes all columns at once."""
    return {}


def evaluate(
    path: Path,
    dtype: Dtype,
    benchmarks: Asked,
    batch_size: int,
    judged: Judged = grade_many,
    engine: Engine = "hf",
    gpus: int = 1,
    kept: Path | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """benchmark -> one row an item, in the items' order: id, hashes of document and prompt, output, verdict.

    Of an item that is asked several times the row has lists, `outputs` and `verdicts`. `judged` gives the verdicts on
    (question, answer) pairs. The model answers by `engine`: by vLLM over `gpus` GPUs, which takes no `batch_size`.
    What the model has answered is kept batch by batch in the directory `kept`, which the caller names by all that the
    answers depend on: a call that was interrupted goes on from there, and gives what one without interruption would.
    Raises UserError where a benchmark's answers leave no room for its questions.
    """
    seeds = {name: benchmark.seed for name, (benchmark, _) in benchmarks.items() if benchmark.temperature > 0}
    if engine == "vllm":
        with _in_vllm(path, dtype, gpus, seeds, benchmarks, kept) as model:
            samples = _samples(model, path, benchmarks)
    else:
        samples = _samples(Student(path, dtype, batch_size, seeds, kept), path, benchmarks)
    rows = {name: [_row(sample) for sample in samples[name]] for name in benchmarks}
    written = [name for name, (benchmark, _) in benchmarks.items() if benchmark.kind == "generate"]
    answers = [
        (row, Question.model_validate(sample["doc"]), text)
        for name in written
        for row, sample in zip(rows[name], samples[name], strict=True)
        for text in sample["resps"][0]
    ]
    found = judged([(question, text) for _, question, text in answers])
    for (row, _, _), verdict in zip(answers, found, strict=True):
        if "outputs" in row:
            row.setdefault("verdicts", []).append(verdict)
        else:
            row["verdict"] = verdict
    return rows


@contextmanager
def _in_vllm(
    path: Path, dtype: Dtype, gpus: int, seeds: Mapping[str, int], benchmarks: Asked, kept: Path | None
) -> Iterator[VllmStudent]:
    vllm_package()  # else lm-eval's complaint would be a traceback
    from gdpo.evaluate.vllm import VllmStudent

    model = VllmStudent(path, dtype, gpus, seeds, benchmarks, kept)
    try:
        yield model
    finally:
        model.close()


def _samples(model: Student | VllmStudent, path: Path, benchmarks: Asked) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval logs of every item."""
    for name, (benchmark, _) in benchmarks.items():
        if benchmark.kind == "generate" and benchmark.max_new_tokens >= model.max_length:
            raise UserError(
                key=f"benchmarks.{name}.max_new_tokens",
                found=benchmark.max_new_tokens,
                expected=f"fewer than the {model.max_length} tokens of the model in {path}",
            )
    configs = [task_config(name, benchmark, items) for name, (benchmark, items) in benchmarks.items()]
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
    """A row whose verdict is still missing where the answer is written; what a choice is needs no judge."""
    doc, answers = sample["doc"], sample["resps"][0]
    row = {"id": doc["id"], **{key: sample[key] for key in ("doc_hash", "prompt_hash")}}
    if not isinstance(answers[0], str):
        letter = most_likely(doc, sample["filtered_resps"])
        return {**row, "output": letter, "verdict": verdict_of_letter(doc, letter)}
    return {**row, "outputs": list(answers)} if len(answers) > 1 else {**row, "output": answers[0]}
