"""Muon in float32 (https://kellerjordan.github.io/posts/muon/): momentum whose update is made orthogonal.

torch.optim.Muon computes its Newton-Schulz steps in bfloat16, whatever the weights are, and has no option for it. A CPU
without bfloat16 instructions emulates them, some sixty times slower than float32. So these few lines are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # Keller Jordan, and the default of torch.optim.Muon
STEPS = 5  # as above
MOMENTUM = 0.95  # as above
SMALLEST_NORM = 1e-7  # as above


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon with its defaults and no weight decay, but in the dtype of its matrices.

    `params` are matrices (A, B). An update is the gradient with Nesterov momentum, made orthogonal, times
    `lr` * sqrt(max(1, A / B)).
    """

    def __init__(self, params: Iterable[torch.Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                momentum = state["momentum"].lerp_(param.grad, 1 - MOMENTUM)
                update = orthogonal(param.grad.lerp(momentum, MOMENTUM))
                rows, columns = param.shape
                param.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)
        return loss


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (A, B) with the singular vectors of `matrix` and singular values near 1, by Newton-Schulz steps.

    Each step is the polynomial a x + b x^3 + c x^5 of the singular values, which brings all but the smallest near 1.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.size(0) > matrix.size(1) else matrix
    wide = wide / wide.norm().clamp(min=SMALLEST_NORM)
    for _ in range(STEPS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.size(0) > matrix.size(1) else wide
