"""Direct preference optimization of each group's best completion against its worst, by TRL's DPOTrainer."""

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
from gdpo.students.common import Run, arguments, fit, lora_config, policy, tokenized
from gdpo.trainer.dataset import DataError
from gdpo.trainer.distributed import Parallel

# What TRL logs as a mean over pairs; of a blank it is 0.
MEANS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)


class PairTrainer(Parallel, DPOTrainer):
    """DPOTrainer on pairs that are tokenized already, as GDPOTrainer tokenizes them.

    In several processes the loss is the mean over a step's pairs. In one it is TRL's mean over the parts of a step,
    which is the same where they are of one size: all but, in an epoch's last step, one that is not full.
    """

    def __init__(self, *args: Any, **given: Any):
        if given.get("peft_config") is not None:
            # The reference is then the policy before it is sharded, under autocast: as the reference has computed, so
            # must the policy. A whole model's reference is one that TRL loads and shards beside it.
            self.gathered_in = None
        super().__init__(*args, **given)
        if self.accelerator.num_processes > 1:
            self.loss_is_scaled_for_ga = True

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, *given: Any) -> Dataset:
        if self.is_fsdp_enabled and self.ref_model is None:
            to_device(self.model, self.args.device)  # as in GDPOTrainer: Trainer leaves what it will shard on the CPU
        return super()._precompute_ref_logps(*given)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor | None:
        """The pairs of one optimizer step, over its parts and all processes."""
        if self.accelerator.num_processes == 1:
            return None
        own = torch.stack([pairs(batch) for batch in batch_samples]).sum().to(device)
        everywhere: Tensor = self.accelerator.reduce(own, "sum")
        return everywhere

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        # Sharded weights that are gathered as they are compute in float32, unless told otherwise here.
        sharded = self.is_fsdp_enabled and self.gathered_in is None
        with self.accelerator.autocast() if sharded else nullcontext():
            found = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None:
            return found
        size, processes = len(inputs["ref_chosen_logps"]), self.accelerator.num_processes
        real = pairs(inputs)
        everywhere = self.accelerator.reduce(real, "sum")
        for name in MEANS:
            values = self._metrics["train"][name]
            values[-1] *= size * processes / int(everywhere)
        # A blank has neither a chosen nor a rejected token, hence margin 0, loss -log sigmoid(0), and no gradient.
        loss = found - (size - real) / size * math.log(2)
        return loss * (size * processes / num_items_in_batch)


def pairs(batch: dict[str, Tensor]) -> Tensor:
    """How many pairs of a batch, whose first half are the chosen completions, are no blanks; a scalar."""
    chosen, _ = batch["completion_mask"].chunk(2)
    return chosen.any(-1).sum()


def shared(rows: list[dict[str, Any]], directory: Path) -> Dataset:
    """`rows` as a data set; of several processes, with the blank and from one directory, beside which TRL's first
    process leaves the reference's log-probabilities for all."""
    if process_group.processes() == 1:
        return Dataset.from_list(rows)
    blank = {"prompt_ids": rows[0]["prompt_ids"][:2], "chosen_ids": [], "rejected_ids": []}
    path = directory / "pairs"
    if process_group.is_main_process():
        made = Dataset.from_list(rows)
        Dataset.from_list([*rows, blank], features=made.features).save_to_disk(path)
    process_group.barrier()
    return load_from_disk(path)


def train(run: Run) -> tuple[DPOTrainer, int]:
    """Train on one pair per group, groups of equal rewards left out.

    Returns the trainer and how many groups it used.
    """
    assert run.method.beta is not None  # gdpo.config.models.Method
    tokenizer = run.tokenizer()
    rows = []
    for group in tokenized(run, tokenizer, smallest=2):
        rewards, sequences = group["rewards"], [group["sequences"][place] for place in group["index"]]
        best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
        if best != worst:
            rows.append(
                {
                    "prompt_ids": group["prompt_ids"],
                    "chosen_ids": sequences[best],
                    "rejected_ids": sequences[worst],
                }
            )
    if not rows:
        raise DataError("expected a group with two different rewards, found none")
    trainer = PairTrainer(
        model=policy(run),
        args=DPOConfig(
            **arguments(run, len(rows)),
            beta=run.method.beta,
            max_length=run.method.max_length,
            precompute_ref_log_probs=True,
        ),
        train_dataset=shared(rows, run.work),
        processing_class=tokenizer,
        peft_config=lora_config(run.method.lora),
    )
    fit(trainer, run)
    return trainer, len(rows)
