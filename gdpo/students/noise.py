"""How much a method's gradient differs between mini-batches (paper, table A3: gradient variance).

It is E|g - mean g|^2 / E|g|^2 at the untrained student, whose weights do not change: the share of a step's squared
gradient that is noise. A share, since two losses have different scales. At 0 every mini-batch has the same gradient, at
1 they have nothing in common. With the noise scale B of arXiv 1812.06162 it is B / (B + batch size).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gdpo.students.common import TrainingRun
from gdpo.trainer.dataset import DataError

STILL = 1e-12  # a learning rate that moves no weight
UNCLIPPED = 1e12
MIN_BATCHES = 3  # so that two mini-batches are left to differ when one is left out
COORDINATES = 1_000_000  # of a larger model, so many weights, drawn at random, are measured in place of all


class GradientRecorder(TrainerCallback):
    """Stores each step's gradient, accumulated over its parts, on the CPU: one row per mini-batch."""

    def __init__(self, seed: int):
        self.rows: list[Tensor] = []
        self._seed = seed
        self._drawn: Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        model: nn.Module = given["model"]
        grads = [p.grad.detach().flatten().float().cpu() for p in model.parameters() if p.grad is not None]
        flat = torch.cat(grads)
        if len(flat) > COORDINATES:
            if self._drawn is None:
                draw = torch.Generator().manual_seed(self._seed)
                self._drawn = torch.randint(len(flat), (COORDINATES,), generator=draw)
            flat = flat[self._drawn]
        self.rows.append(flat)


def gradients(run: TrainingRun, batches: int, size: int) -> Tensor:
    """(batches, weights): the gradient on `batches` mini-batches of `size` in one epoch, at the untrained student.

    Raises DataError where the groups fill fewer than four mini-batches. The last of them is left out, and two would be
    too few for an interval by leaving one out.
    """
    recorder = GradientRecorder(run.seed)
    changes = {"learning_rate": STILL, "max_grad_norm": UNCLIPPED, "epochs": 1, "batch_size": size}
    still = run.method.model_copy(update=changes)
    measured = TrainingRun(**{**run.__dict__, "method": still, "callbacks": [recorder]})
    import_module(f"gdpo.students.{run.method.trainer}").train(measured, **run.method.options)
    # The epoch's last batch may be smaller than the others, and so noisier.
    rows = recorder.rows[:-1][:batches]
    if len(rows) < MIN_BATCHES:
        expected = f"groups for {MIN_BATCHES + 1} mini-batches of {size}"
        raise DataError(found=len(recorder.rows), expected=expected)
    return torch.stack(rows)


def noise(products: Tensor, batches: float = 1.0) -> float:
    """E|g - mean g|^2 / E|g|^2 for the mean g of `batches` mini-batches, from inner products, (n, n); unbiased parts.

    The mean product of different mini-batches estimates |mean g|^2, and that of each with itself |mean g|^2 plus the
    variance, which a mean of several divides by their number. Above 1 where mini-batches happen to disagree.
    """
    n = len(products)
    own = products.diagonal().sum() / n
    shared = (products.sum() - products.diagonal().sum()) / (n * (n - 1))
    variance = (own - shared) / batches
    return float(variance / (shared + variance))


def interval(products: Tensor, batches: float = 1.0) -> tuple[float, float]:
    """The 95% interval of `noise`, by leaving out one mini-batch at a time."""
    n = len(products)
    others = ~torch.eye(n, dtype=torch.bool)
    without = torch.tensor([noise(products[others[i]][:, others[i]], batches) for i in range(n)], dtype=torch.float64)
    error = float(((n - 1) / n * (without - without.mean()).square().sum()).sqrt())
    value = noise(products, batches)
    return value - 1.96 * error, value + 1.96 * error
