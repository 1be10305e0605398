"""Direct preference optimization of each group's best completion against its worst, by TRL's DPOTrainer."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from gdpo.groups import DataError
from gdpo.students.common import Run, arguments, fit, lora_config, policy, tokenized


class PairTrainer(DPOTrainer):
    """DPOTrainer on pairs that are tokenized already, as GDPOTrainer tokenizes them."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def train(run: Run) -> tuple[DPOTrainer, int]:
    """Train on one pair per group, groups of equal rewards left out.

    Returns the trainer and how many groups it used.
    """
    tokenizer = run.tokenizer()
    pairs = []
    for group in tokenized(run, tokenizer, smallest=2):
        rewards, sequences = group["rewards"], [group["sequences"][place] for place in group["index"]]
        best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
        if best != worst:
            pairs.append(
                {
                    "prompt_ids": group["prompt_ids"],
                    "chosen_ids": sequences[best],
                    "rejected_ids": sequences[worst],
                }
            )
    if not pairs:
        raise DataError("expected a group with two different rewards, found none")
    trainer = PairTrainer(
        model=policy(run),
        args=DPOConfig(
            **arguments(run, len(pairs)),
            beta=run.method.beta,
            max_length=run.method.max_length,
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        peft_config=lora_config(run.method.lora),
    )
    fit(trainer, run)
    return trainer, len(pairs)
