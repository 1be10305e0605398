"""Online group relative policy optimization on the groups' prompts, by TRL's GRPOTrainer without vLLM."""

from __future__ import annotations

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from gdpo.errors import UserError
from gdpo.groups import prompt_ids
from gdpo.students.common import Run, arguments, fit, lora_config, policy


def train(run: Run) -> tuple[GRPOTrainer, int]:
    """Train on rollouts of every prompt, a group's size of them; returns the trainer and the prompts' number.

    The rollouts per prompt are `method.group_size`, else as many as the offline groups have. Loss as in the
    GRPO paper (per-completion means, advantages scaled by the group's std); TRL's default would be DAPO's.
    """
    if run.reward_fn is None:
        raise UserError(f"{run.method.display}: trainer grpo needs a reward function, found none")
    tokenizer = run.tokenizer()
    longest = max(len(prompt_ids(tokenizer, group.prompt)) for group in run.groups)
    size = run.method.group_size or max(len(group.completions) for group in run.groups)
    trainer = GRPOTrainer(
        model=policy(run),
        reward_funcs=run.reward_fn,
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
