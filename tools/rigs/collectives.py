"""How many collectives one micro-batch makes under FSDP2, counted by torch and by arithmetic; started by torchrun.

A model of a few thousand weights is dealt out over processes of gloo by accelerate, as on GPUs, and computes one
micro-batch as tools/rigs/fake_training.py has it, on real tensors.
"""

from __future__ import annotations

import json
import os
from typing import Any

from gdpo.config.loader import load_scale
from gdpo.config.models import Method
from gdpo.models.shapes import Shape

SMALL = Shape(
    hidden=32, layers=4, heads=4, kv_heads=2, head=8, intermediate=64, vocabulary=256, head_norms=True
)  # ours: more layers than the other units, so that a count says of what it is
LENGTH = 32
PASSES = 3


def arithmetic(name: str, layers: int, passes: int) -> dict[str, int]:
    """All-gathers and reduce-scatters of a micro-batch.

    The units are `layers`, the embedding, and the last norm with the head, which stays gathered until its backward. One
    forward and one backward pass gather the former twice and the latter once, and sum up each unit's gradient. GRPO's
    reference is one unit. Of several passes GDPO scores each once without a backward pass before, and the first of
    those leaves the head gathered for all until the first backward pass. There FSDP2 gathers the head once more, in
    advance, by its record of the scoring. Two gathers of bytes tell all processes how many passes the others have.
    """
    units = layers + 1
    if name == "gdpo" and passes > 1:
        return {"all_gather": passes * 3 * units + passes + 1 + 2, "reduce_scatter": passes * (units + 1)}
    return {"all_gather": 2 * units + 1 + (name == "grpo"), "reduce_scatter": units + 1}


def count(name: str, method: Method) -> dict[str, int]:
    """The collectives of one micro-batch by their kind."""
    import torch
    from torch.distributed.tensor.debug import CommDebugMode
    from trl.models.utils import prepare_fsdp
    from trl.trainer.utils import add_fused_lm_head

    from tools.rigs import fake_training as training

    torch.manual_seed(0)
    model = training.build(SMALL)
    reference = training.build(SMALL).requires_grad_(False) if name == "grpo" else None
    for each in (model, reference) if name in training.HEADS else ():
        if each is not None:
            add_fused_lm_head(each, outputs=training.HEADS[name])
    accelerator, model = training.prepared(model, None if name == "gdpo" else torch.bfloat16)
    if reference is not None:
        reference = prepare_fsdp(reference, accelerator)
    ids = torch.zeros(training.SEQUENCES.get(name, 1), LENGTH, dtype=torch.long)
    batch = training.gdpo_batch(model, SMALL, method, PASSES) if name == "gdpo" else {}
    counter = CommDebugMode()
    counter.advanced_module_tracker = NoModules()
    with counter:
        if name == "gdpo":
            training.gdpo_loss_of(model, accelerator, method, batch).backward()
        else:
            training.trl_loss_of(model, accelerator, name, method, ids, reference).backward()
    counts: dict[str, int] = {}
    for operation, number in counter.get_comm_counts().items():
        kind = next((k for k in ("all_gather", "reduce_scatter", "all_reduce") if k in plain(str(operation))), "other")
        counts[kind] = counts.get(kind, 0) + number
    return counts


class NoModules:
    """In place of CommDebugMode's record of modules, which loses its way where a pass is computed again."""

    name, is_bw, activation_checkpointing = "Global", False, False

    def __init__(self) -> None:
        self.module_parents_dict: dict[str, set[str]] = {"Global": set()}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


def plain(operation: str) -> str:
    """An operation's name with the words of a collective apart."""
    return operation.replace("allgather", "all_gather").replace("allreduce", "all_reduce")


def main() -> None:
    from tools.gpu_first.gpu_trainers import force_sharding
    from tools.rigs import fake_training as training

    os.environ.update(training.SHARDED)
    force_sharding()
    rows: list[dict[str, Any]] = []
    for name in ("sft", "dpo", "grpo", "gdpo"):
        method = load_scale("paper").methods[name].model_copy(update={"max_length": LENGTH})
        if method.forward:
            forward = method.forward.model_copy(update={"max_forward_tokens": LENGTH, "max_activation_tokens": 1})
            method = method.model_copy(update={"forward": forward})
        counts, passes = count(name, method), PASSES if name == "gdpo" else 1
        for kind, number in (arithmetic(name, SMALL.layers, passes) | {"all_reduce": 0}).items():
            rows.append({
                "method": name, "processes": int(os.environ["WORLD_SIZE"]), "layers": SMALL.layers, "passes": passes,
                "collective": kind, "counted": counts.get(kind, 0), "arithmetic": number,
            })  # fmt: skip
        if counts.get("other"):
            raise SystemExit(f"{name}: found {counts['other']} other collectives, expected none")
    if os.environ["RANK"] == "0":
        print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
