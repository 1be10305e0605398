"""What a Trainer needs to train alike in several processes, and where each holds only its share of the weights.

Two ways (accelerate): every process holds the model and gradients are averaged (DDP), or `fully_shard` deals out the
weights and gathers a layer's for as long as it computes (FSDP2). A sharded weight is gathered by the hooks of the
module it belongs to, so what reads weights has to run within a forward of the outermost one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from gdpo.trainer.samplers import Filled, Order, filled_loader


class Parallel(Trainer):
    """A Trainer whose processes together take the items that one would, each of them once.

    Where there are several, the last row of `train_dataset` is a blank, which counts nothing.
    """

    # What sharded weights are gathered in, and so computed in, where training is in bfloat16; None: as they are kept.
    gathered_in: torch.dtype | None = torch.bfloat16
    model: nn.Module
    train_dataset: Dataset

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled and os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false").lower() in ("true", "1"):
            raise ValueError(
                "fsdp_cpu_ram_efficient_loading: expected false, found true, by which all processes but the first "
                "start with weights that nobody has read, and the reference is scored before they are dealt out"
            )
        if self.is_fsdp_enabled and self.accelerator.mixed_precision == "bf16":
            # By accelerate's own policy gradients would be summed in bfloat16, and log-probabilities, which come out
            # of the model as sums of hundreds, rounded to it.
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=self.gathered_in, reduce_dtype=torch.float32
            )

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        return filled_loader(loader) if self.accelerator.num_processes > 1 else loader

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        processes = self.accelerator.num_processes
        if processes == 1 or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        return Filled(self._order(len(self.train_dataset) - 1), self._train_batch_size * processes)

    def _order(self, items: int) -> Order:
        """The order in which one process takes its items: accelerate's, from the seed that is set."""
        from accelerate.data_loader import SeedableRandomSampler

        order: Order = SeedableRandomSampler(range(items), data_seed=self.args.data_seed)
        return order


def run_in_wrapped_forward(
    wrapper: nn.Module, model: nn.Module, function: Callable[[], Tensor], token: Tensor
) -> Tensor:
    """Run `function` within one forward of `wrapper`, which may hold `model` for several processes or be it, sharded.

    The wrapper prepares its exchanges once per forward, while `function` calls the model itself several times.
    `token` is a tensor for the wrapper to move about; nobody reads it.
    """
    if wrapper is model and not isinstance(model, FSDPModule):
        return function()
    forward = model.forward

    def once(_: Tensor) -> Tensor:
        model.forward = forward
        return function()

    model.forward = once
    try:
        found: Tensor = wrapper(token)
        return found
    finally:
        model.forward = forward


def recompute_plan(
    sizes: Sequence[int], limit: float, others: Callable[[list[int]], Sequence[list[int]]]
) -> list[bool]:
    """Whether each forward pass of a batch is to be computed again in the backward pass.

    Args:
        sizes: tokens of this process's forward passes; from the one on with which they exceed `limit`, all are.
        others: exchanges `sizes` for those of all processes.

    Where weights are sharded every pass is an exchange that all take part in. So there are as many as the process with
    the most has, and one that must be computed again in any process is in all.
    """
    kept = [list(accumulate(of_one)) for of_one in others(list(sizes))]
    most = max(map(len, kept))
    return [any(total > limit for so_far in kept for total in so_far[place : place + 1]) for place in range(most)]


def whole_state(trainer: Trainer) -> dict[str, Any]:
    """The trained model's state dict; where weights are sharded all processes must ask, and the first one is told."""
    model: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
    if not isinstance(model, FSDPModule):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
