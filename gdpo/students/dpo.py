"""Direct preference optimization on each group's best and worst completion, by TRL's DPOTrainer."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer

from gdpo.core import process_group
from gdpo.core.device import to_device
from gdpo.students.common import TrainingRun, arguments, fit, lora_config, policy, tokenized_groups
from gdpo.trainer.compat import DPOHooks
from gdpo.trainer.dataset import DataError
from gdpo.trainer.distributed import Parallel
from gdpo.trainer.ties import best_and_worst

# What TRL logs as a mean over pairs; of a dummy pair it is 0.
MEANS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)


class PairTrainer(Parallel, DPOHooks, DPOTrainer):
    """DPOTrainer on pairs that are tokenized already, as GDPOTrainer tokenizes them.

    In several processes the loss is the mean over a step's pairs. In one process it is TRL's mean over the batches of
    a step. The two are the same where the batches have one size; only an epoch's last batch may be smaller.
    """

    def __init__(self, *args: Any, **options: Any):
        if options.get("peft_config") is not None:
            # The reference is then the policy before it is sharded, under autocast, and the policy must compute as the
            # reference has. Without an adapter the reference is a model of its own, which TRL loads and shards too.
            self.gathered_in = None
        super().__init__(*args, **options)
        if self.accelerator.num_processes > 1:
            self.loss_is_scaled_for_ga = True

    def before_reference(self) -> None:
        if self.is_fsdp_enabled and self.ref_model is None:
            to_device(self.model, self.args.device)  # as in GDPOTrainer: Trainer leaves what it will shard on the CPU

    def items_in_step(self, batches: list[Any], device: Any) -> Tensor | None:
        """The pairs of one optimizer step, over its batches and all processes."""
        if self.accelerator.num_processes == 1:
            return None
        own = torch.stack([count_pairs(batch) for batch in batches]).sum().to(device)
        total: Tensor = self.accelerator.reduce(own, "sum")
        return total

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        # Weights that are gathered in float32 compute in float32, unless autocast is on.
        in_float32 = self.is_fsdp_enabled and self.gathered_in is None
        with self.accelerator.autocast() if in_float32 else nullcontext():
            mean = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None:
            return mean
        size, processes = len(inputs["ref_chosen_logps"]), self.accelerator.num_processes
        real = count_pairs(inputs)
        total = self.accelerator.reduce(real, "sum")
        self.scale_last_logged(MEANS, size * processes / int(total))
        # A dummy pair has neither a chosen nor a rejected token, so margin 0, loss -log sigmoid(0), and no gradient.
        loss = mean - (size - real) / size * math.log(2)
        return loss * (size * processes / num_items_in_batch)


def count_pairs(batch: dict[str, Tensor]) -> Tensor:
    """How many pairs of a batch, whose first half are the chosen completions, are no dummies; a scalar."""
    chosen, _ = batch["completion_mask"].chunk(2)
    return chosen.any(-1).sum()


def shared_dataset(rows: list[dict[str, Any]], directory: Path) -> Dataset:
    """`rows` as a data set.

    Several processes read it from `directory`, with a dummy pair at the end: TRL's first process writes the
    reference's log-probabilities for all of them beside the files of the data set.
    """
    if process_group.processes() == 1:
        return Dataset.from_list(rows)
    dummy = {"prompt_ids": rows[0]["prompt_ids"][:2], "chosen_ids": [], "rejected_ids": []}
    path = directory / "pairs"
    if process_group.is_main_process():
        features = Dataset.from_list(rows).features
        Dataset.from_list([*rows, dummy], features=features).save_to_disk(path)
    process_group.barrier()
    return load_from_disk(path)


def train(run: TrainingRun) -> tuple[DPOTrainer, int]:
    """Train on one pair per group, groups of equal rewards left out.

    Returns the trainer and how many groups it used.
    """
    assert run.method.beta is not None  # gdpo.config.models.Method
    tokenizer = run.tokenizer()
    rows = []
    for group in tokenized_groups(run, tokenizer, smallest=2):
        sequences = [group["sequences"][number] for number in group["index"]]
        if pair := best_and_worst(group["rewards"]):
            best, worst = pair
            rows.append(
                {
                    "prompt_ids": group["prompt_ids"],
                    "chosen_ids": sequences[best],
                    "rejected_ids": sequences[worst],
                }
            )
    if not rows:
        raise DataError(found="none", expected="a group with two different rewards")
    trainer = PairTrainer(
        model=policy(run),
        args=DPOConfig(
            **arguments(run, len(rows)),
            beta=run.method.beta,
            max_length=run.method.max_length,
            precompute_ref_log_probs=True,
        ),
        train_dataset=shared_dataset(rows, run.work),
        processing_class=tokenizer,
        peft_config=lora_config(run.method.lora),
    )
    fit(trainer, run)
    return trainer, len(rows)
