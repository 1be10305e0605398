"""Online group relative policy optimization on the groups' prompts, by TRL's GRPOTrainer without vLLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from gdpo.core.errors import UserError
from gdpo.students.common import TrainingRun, arguments, fit, lora_config, policy
from gdpo.trainer.chat_template import rendered, restore_think
from gdpo.trainer.dataset import prompt_ids
from gdpo.trainer.reward_funcs import RewardFunc


def train(run: TrainingRun) -> tuple[GRPOTrainer, int]:
    """Train on rollouts of every prompt, a group's size of them; returns the trainer and the prompts' number.

    The rollouts per prompt are `method.group_size`, else as many as the offline groups have. Loss as in the
    GRPO paper (per-completion means, advantages scaled by the group's std); TRL's default would be DAPO's.
    """
    assert run.method.beta is not None  # gdpo.config.models.Method
    if run.reward_fn is None:
        raise UserError(key=run.method.display, found="none", expected="a reward function for trainer grpo")
    tokenizer = run.tokenizer()
    longest = max(len(prompt_ids(tokenizer, group.prompt)) for group in run.groups)
    size = run.method.group_size or max(len(group.completions) for group in run.groups)
    trainer = GRPOTrainer(
        model=policy(run),
        reward_funcs=reward_with_thinking(run.reward_fn, tokenizer),
        args=GRPOConfig(
            **arguments(run, len(run.groups), sequences=size),
            beta=run.method.beta,
            num_generations=size,
            max_completion_length=run.method.max_new_tokens or run.method.max_length - longest,
            temperature=1.0,
            loss_type="grpo",
        ),
        train_dataset=Dataset.from_list([{"prompt": group.prompt, "id": group.id} for group in run.groups]),
        processing_class=tokenizer,
        peft_config=lora_config(run.method.lora),
    )
    fit(trainer, run)
    return trainer, len(run.groups)


def reward_with_thinking(reward_fn: Callable[..., list[float]], tokenizer: PreTrainedTokenizerBase) -> RewardFunc:
    """`reward_fn` on completions with the thought that the chat template opens; TRL's begin inside that thought."""

    def reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        rendered_prompts = [rendered(tokenizer, prompt) for prompt in prompts]
        restored = [
            [{**message, "content": restore_think(prompt, message["content"])} for message in completion]
            for prompt, completion in zip(rendered_prompts, completions, strict=True)
        ]
        return [*reward_fn(prompts=prompts, completions=restored, **columns)]

    return reward
