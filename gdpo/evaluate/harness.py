"""Run lm-eval on a model's benchmarks and keep every item's output and verdict.

All benchmarks of a run are asked in one call, so that the batches, and with them the last bits of the
log-probabilities, depend on the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval.evaluator import evaluate as lm_eval_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from gdpo.evaluate.tasks.items import most_likely
from gdpo.generate import device
from gdpo.schema import Benchmark

TASKS = Path(__file__).parent / "tasks"


def task_config(name: str, benchmark: Benchmark, items: Path) -> dict[str, Any]:
    """The lm-eval task of one benchmark: our task file of its kind, pointed at its items."""
    config = dict(load_yaml(TASKS / f"gdpo_{benchmark.kind}.yaml", resolve_func=True))
    config |= {"task": name, "metadata": {**config["metadata"], "items": str(items)}}
    if benchmark.kind == "generate":
        config["generation_kwargs"] = {
            **config["generation_kwargs"],
            "max_gen_toks": benchmark.max_new_tokens,
        }
    return config


def evaluate(
    path: Path, dtype: str, benchmarks: Mapping[str, tuple[Benchmark, Path]], batch_size: int
) -> dict[str, list[dict[str, Any]]]:
    """benchmark -> one row an item, in the items' order: id, hashes of document and prompt, output, verdict."""
    model = HFLM(pretrained=str(path), dtype=dtype, batch_size=batch_size, device=device(), use_safetensors=True)
    configs = [task_config(name, benchmark, items) for name, (benchmark, items) in benchmarks.items()]
    # Not `simple_evaluate`: it describes the whole machine after every call, which takes longer than a tiny run.
    results = lm_eval_evaluate(
        lm=model,
        task_dict=TaskManager(include_defaults=False).load(configs),
        apply_chat_template=True,
        bootstrap_iters=0,
        log_samples=True,
    )
    return {name: [_row(sample) for sample in results["samples"][name]] for name in benchmarks}


def _row(sample: dict[str, Any]) -> dict[str, Any]:
    doc, response = sample["doc"], sample["filtered_resps"]
    output = response[0] if isinstance(response[0], str) else most_likely(doc, response)
    verdict = "right" if sample["right"] else "ungradable" if sample["ungradable"] else "wrong"
    hashes = {key: sample[key] for key in ("doc_hash", "prompt_hash")}
    return {"id": doc["id"], **hashes, "output": output, "verdict": verdict}


def score(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """A benchmark's score from its items' verdicts alone: share right, share ungradable, n."""
    verdicts = [row["verdict"] for row in rows]
    n = len(verdicts)
    return {"score": verdicts.count("right") / n, "ungradable": verdicts.count("ungradable") / n, "n": n}
