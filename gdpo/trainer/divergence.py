"""Training that diverges stops with one sentence, before its weights are saved: the loss and the weights are watched.

The step is kept on the device, since reading a number of each step would let the device wait. It is read where Trainer
waits anyway: when it logs and when it saves.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gdpo.core.errors import DescribedError

NEVER = 2**62  # a step that no training reaches
HINT = "a lower learning_rate, or finite weights to begin with"


class DivergedError(DescribedError, FloatingPointError):
    """A loss or weights that are no finite numbers, so that nothing trained after them is of use."""


class DivergenceWatch:
    """Remembers the first step of a training whose loss is no finite number."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.first = torch.tensor(NEVER, device=accelerator.device)

    def see(self, loss: Tensor, step: int) -> None:
        """The `loss` of a batch of this step; waits for no device."""
        wrong = torch.where(loss.detach().isfinite(), NEVER, step)
        self.first = torch.minimum(self.first, wrong.to(self.first.device))

    def check_loss(self) -> None:
        """Raises DivergedError naming the first step whose loss was no finite number; all processes must call."""
        first = int(self.accelerator.gather(self.first.unsqueeze(0)).min())
        if first != NEVER:
            found = f"a loss of step {first} that is no finite number: the training diverged"
            raise DivergedError(key="train", found=found, expected="a finite loss", hint=HINT)

    def check(self, model: nn.Module, step: int) -> None:
        """`check_loss`, and raises DivergedError where trained weights are no finite numbers after this step."""
        self.check_loss()
        finite = torch.tensor([has_finite_weights(model)], device=self.accelerator.device)
        if not bool(self.accelerator.gather(finite).all()):
            found = f"weights that are no finite numbers after step {step}: the training diverged"
            raise DivergedError(key="train", found=found, expected="finite weights", hint=HINT)


def has_finite_weights(model: nn.Module) -> bool:
    """Whether all weights of `model` that are trained are finite numbers, or this process's share of them."""
    trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained]
    return all(bool(weight.isfinite().all()) for weight in own)
