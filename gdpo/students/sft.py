"""Supervised fine-tuning on each group's best completions, by TRL's SFTTrainer; loss on completions only."""

from __future__ import annotations

from typing import TypeVar

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from gdpo.core import process_group
from gdpo.students.common import TrainingRun, arguments, fit, lora_config, policy, tokenized_groups
from gdpo.trainer.distributed import Parallel

IGNORED = -100  # the label of a token without a loss, as torch and TRL have it


class ExampleTrainer(Parallel, SFTTrainer):
    """SFTTrainer on examples that are tokenized already; its loss is the mean over the tokens of a step's examples."""


Kind = TypeVar("Kind", bound=ExampleTrainer)


def build(run: TrainingRun, trainer_class: type[Kind]) -> tuple[Kind, int]:
    """A `trainer_class` that has not begun, on the `method.completions` best of each group, the first of equals.

    A remedy gives a class with another loss. Returns the trainer and how many groups it uses.
    """
    tokenizer = run.tokenizer()
    groups = tokenized_groups(run, tokenizer, smallest=1)
    examples = []
    for group in groups:
        ranked = sorted(zip(group["index"], group["rewards"], strict=True), key=lambda pair: -pair[1])
        for place, _ in ranked[: run.method.completions]:
            prompt, completion = group["prompt_ids"], group["sequences"][place]
            labels = [IGNORED] * len(prompt) + completion
            examples.append({"input_ids": prompt + completion, "labels": labels})
    settings = arguments(run, len(examples))
    if process_group.processes() > 1:
        examples.append({"input_ids": [tokenizer.pad_token_id] * 2, "labels": [IGNORED] * 2})  # the dummy of Parallel
    trainer = trainer_class(
        model=policy(run),
        args=SFTConfig(
            **settings,
            max_length=run.method.max_length,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
        peft_config=lora_config(run.method.lora),
    )
    return trainer, len(groups)


def train(run: TrainingRun) -> tuple[ExampleTrainer, int]:
    """Train an ExampleTrainer. Returns it and how many groups it used."""
    trainer, groups = build(run, ExampleTrainer)
    fit(trainer, run)
    return trainer, groups
