"""Random weights of a published shape, trained at length: memory, speed and MFU beside the plan's figures.

The arms are those of `benchmarks/`, DPO's being TRL's DPOTrainer; sizes come from gdpo/models/shapes.yaml, the plan's
figures from gdpo/models/shapes.py and scale paper's methods and card.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gdpo.config.loader import load_scale
from gdpo.config.models import Method
from gdpo.core.errors import UserError
from gdpo.models import shapes
from tools.gpu_first.gpu_plan import Plan

Row = dict[str, Any]
ARMS = {
    "sft": ("sft", {}),
    "dpo": ("dpo", {"pairs": "disjoint"}),
    "dpo-chain": ("dpo", {"pairs": "chain"}),
    "gdpo": ("gdpo", {}),
}
REFERENCED = ("dpo", "dpo-chain", "gdpo")  # whose reference reads every sequence once before training
TWICE = 2  # ours: matrix products before the one that is timed


def measure(
    plan: Plan,
    project: Path,
    arm: str,
    shape: str | Row,
    layers: int | None,
    length: int,
    prompt: int,
    groups: int,
    product: int,
    config: Row,
    threads: int | None = None,
) -> list[Row]:
    """Train by `arm` on `groups` groups of ten at up to `length` tokens; one row.

    `shape` names an entry of shapes.yaml, or holds the sizes; `layers` replaces its number of layers. `config` goes to
    the trainer. `product` is the size of the square matrix product that measures what the device reaches. Raises
    UserError, without beginning, where the plan says that the device's memory does not hold the run.
    """
    import torch

    from benchmarks import arms, data
    from benchmarks import measure as meter

    if threads:
        torch.set_num_threads(threads)
    whole = shapes.published()[shape] if isinstance(shape, str) else shapes.Shape(**shape)
    sized = replace(whole, layers=layers) if layers else whole
    name, given = ARMS[arm]
    planned = planned_memory(sized, name, length, config) / shapes.GIB
    if plan.device == "cuda" and planned > (there := torch.cuda.get_device_properties(0).total_memory / shapes.GIB):
        raise UserError(
            f"{arm} of {sized.layers} layers: the plan has {planned:.1f} GiB, found a device of {there:.1f}"
        )
    size = data.Size(
        sized.hidden, sized.layers, sized.heads, sized.intermediate, sized.vocabulary, sized.kv_heads, sized.tied
    )
    completion = length - int(1.2 * prompt)
    groups_of = data.Shape("at length", prompt, completion, completion, groups, groups_per_step=1)
    lengths = sequences(data.make_groups(groups_of, size.vocabulary), arm)
    meter.begin(plan.device)
    reached = product_rate(plan.device, product)
    with TemporaryDirectory() as work:
        steps = {} if arm in ("sft", "gdpo") else {"micro_batches": len(lengths) // 2 // groups}
        found = getattr(arms, name)(groups_of, size, plan.device, Path(work), **given, **steps, **config)
    return [row(arm, sized, whole, found, lengths, planned, reached)]


def sequences(groups: list[Row], arm: str) -> list[int]:
    """Tokens of every sequence that an epoch reads, prompts included."""
    sizes = [[len(g["prompt_ids"]) + len(ids) for ids in g["completion_ids"]] for g in groups]
    if arm == "sft":
        best = [g["rewards"].index(max(g["rewards"])) for g in groups]
        return [each[place] for each, place in zip(sizes, best, strict=True)]
    if arm == "dpo-chain":  # all but the best and the worst stand in two pairs
        ranked = [
            [n for _, n in sorted(zip(g["rewards"], each, strict=True))] for g, each in zip(groups, sizes, strict=True)
        ]
        return [n for each in ranked for n in (*each, *each[1:-1])]
    return [n for each in sizes for n in each]


def planned_memory(shape: shapes.Shape, trainer: str, length: int, config: Row) -> float:
    """Bytes at the worst moment by gdpo.models.shapes, of scale paper's method in one process that checkpoints."""
    method: Method = (
        load_scale("paper").methods[trainer].model_copy(update={"max_length": length, "micro_batch_size": 1})
    )
    if method.forward:
        given = {name: value for name, value in config.items() if name in type(method.forward).model_fields}
        method = method.model_copy(update={"forward": method.forward.model_copy(update=given)})
    return sum(shapes.training_memory(shape, method, 10, 1, bool(config.get("gradient_checkpointing"))).values())


def product_rate(device: str, size: int) -> float:
    """Operations a second of a square bfloat16 (on a CPU float32) matrix product on random numbers."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(TWICE):
        left @ right
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(TWICE):
        left @ right
    if device == "cuda":
        torch.cuda.synchronize()
    return 2 * TWICE * size**3 / (time.perf_counter() - started)


def row(
    arm: str, sized: shapes.Shape, whole: shapes.Shape, found: Row, lengths: list[int], planned: float, reached: float
) -> Row:
    """What was measured beside what the plan says; operations are the plan's, without those that are done again."""
    from benchmarks.run import peak_flops

    tokens = sum(lengths)
    passes = sum(n * sized.training(n) for n in lengths)
    if arm in REFERENCED:
        passes += sum(n * sized.forward(n / 2) for n in lengths)
    card = load_scale("paper").expected.card
    assert card is not None  # of scale paper
    sheet = peak_flops()
    return {
        "arm": arm, "layers": sized.layers, "of_layers": whole.layers, "parameters": sized.parameters,
        "longest": max(lengths), "sequences": len(lengths), "tokens": tokens, "steps": found["steps"],
        "seconds": found["seconds"], "train_seconds": found["train_seconds"],
        "tokens_per_second": tokens / found["seconds"],
        "useful_tokens_per_second": found["useful_tokens"] / found["seconds"],
        "operations": passes, "mfu": passes / found["seconds"] / sheet if sheet else None,
        "of_product": passes / found["seconds"] / reached, "product_tflops": reached / 1e12,
        "planned_mfu": card.train,
        "planned_tokens_per_second": tokens / passes * sheet * card.train if sheet else None,
        "peak_gib": found["peak_mib"] / 1024, "planned_gib": planned, "padding": found.get("padding_share"),
    }  # fmt: skip
