"""What a Trainer needs to train alike in several processes, and where each holds only its share of the weights.

accelerate has two ways. In DDP every process holds the model, and gradients are averaged. In FSDP2 `fully_shard` deals
out the weights and gathers those of a layer for as long as it computes. The hooks of a module gather its weights, so
what reads weights has to run within a forward of the outermost module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from gdpo.core.errors import ArgumentError
from gdpo.trainer import compat
from gdpo.trainer.samplers import EpochSampler, FilledSampler

T = TypeVar("T")


def micro_batch_size(batch: int, most: int) -> int:
    """The largest part, of at most `most` items, that a process's batch of `batch` items is cut into evenly."""
    return max(size for size in range(1, min(batch, most) + 1) if batch % size == 0)


class Parallel(compat.TrainerHooks, Trainer):
    """A Trainer whose processes together take the items that one process would, each item once.

    Where there are several processes, the last row of `train_dataset` is a dummy, which has zero weight in the loss.
    """

    # The dtype that sharded weights are gathered and computed in where training is in bfloat16; None: their own.
    gathered_in: torch.dtype | None = torch.bfloat16
    model: nn.Module
    train_dataset: Dataset

    def accelerator_created(self) -> None:
        if self.is_fsdp_enabled and compat.only_first_process_loads():
            raise ArgumentError(
                key="fsdp_cpu_ram_efficient_loading",
                found="true, by which all processes but the first start with weights that nobody has read, and the "
                "reference is scored before the weights are dealt out",
                expected="false",
            )
        if self.is_fsdp_enabled and self.accelerator.mixed_precision == "bf16":
            # accelerate's own policy would sum gradients in bfloat16, and round log-probabilities to it, which come
            # out of the model as sums of hundreds.
            policy = MixedPrecisionPolicy(param_dtype=self.gathered_in, reduce_dtype=torch.float32)
            compat.set_fsdp_precision(self.accelerator, policy)

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        return compat.show_sampler_to_accelerate(loader) if self.accelerator.num_processes > 1 else loader

    def train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        processes = self.accelerator.num_processes
        if processes == 1 or self.args.train_sampling_strategy != "random":
            return super().train_sampler(train_dataset)
        return FilledSampler(self.order(len(self.train_dataset) - 1), self.batch_size_per_process * processes)

    def order(self, items: int) -> EpochSampler:
        """The order in which one process takes its items: accelerate's, from the seed that is set."""
        order: EpochSampler = compat.seedable_sampler(items, self.args.data_seed)
        return order


def run_in_wrapped_forward(wrapper: nn.Module, model: nn.Module, function: Callable[[], T], token: Tensor) -> T:
    """Run `function` within one forward of `wrapper`, which holds `model` for several processes or is it, sharded.

    The wrapper prepares its exchanges once per forward, while `function` calls the model itself several times.
    `token` is a tensor for the wrapper to move to its device; nothing reads it.
    """
    if wrapper is model and not isinstance(model, FSDPModule):
        return function()
    with compat.replaced_forward(model, function):
        result: T = wrapper(token)
    return result


def recompute_plan(
    sizes: Sequence[int], limit: float, others: Callable[[list[int]], Sequence[list[int]]]
) -> list[bool]:
    """Whether each forward pass of a batch is computed again in the backward pass.

    Args:
        sizes: tokens of this process's forward passes, in order.
        limit: tokens whose activations are kept. The pass that exceeds it and all after it are computed again.
        others: exchanges `sizes` for those of all processes.

    Where weights are sharded, every pass is an exchange that all processes take part in. So there are as many passes
    as the process with the most has, and a pass that one process must compute again is computed again by all.
    """
    totals = [list(accumulate(own)) for own in others(list(sizes))]
    most = max(map(len, totals))
    return [any(total > limit for own in totals for total in own[place : place + 1]) for place in range(most)]


def passes_again(model: nn.Module, forwards: Sequence[dict[str, Tensor]], limit: int | None) -> list[bool]:
    """`recompute_plan` of a batch's forward passes; where `model` is sharded, of those of all processes."""
    sizes = [forward["input_ids"].numel() for forward in forwards]
    gather = gather_object if isinstance(model, FSDPModule) else list
    return recompute_plan(sizes, math.inf if limit is None else limit, lambda own: gather([own]))


def backward_by_pass(
    passes: int,
    score: Callable[[int | None], tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    backward: Callable[[Tensor], None],
) -> tuple[Tensor, Tensor]:
    """`loss_of(*score(None))` where weights are sharded, with a backward pass after each forward pass but the last.

    In one backward pass of several forward passes autograd adds up a weight's gradients before FSDP2 gets the sum, so
    that every process would hold those of the whole model. The slopes of the loss are known after forward passes that
    keep nothing; then `score(number)`, times the slopes, has the loss's gradient by that forward pass.
    """
    with torch.no_grad():
        scored = score(None)
    leaves = [tensor.detach().requires_grad_() for tensor in scored]
    loss, log_ratios = loss_of(leaves[0], leaves[1])
    slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
    for number in range(passes):
        pairs = zip(score(number), slopes, strict=True)
        part = torch.stack([(own * slope).sum() for own, slope in pairs if slope is not None]).sum()
        if number < passes - 1:
            backward(part)
    return loss.detach() + (part - part.detach()), log_ratios.detach()


def whole_state(trainer: Trainer) -> dict[str, Any]:
    """The trained model's state dict. Where weights are sharded, all processes must call; only the first gets it."""
    model: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
    if not isinstance(model, FSDPModule):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
