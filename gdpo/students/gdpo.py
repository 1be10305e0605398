"""Group direct preference optimization on whole groups, by GDPOTrainer."""

from __future__ import annotations

from gdpo.students.common import TrainingRun, arguments, fit, group_rows, lora_config, policy
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.ties import drop_tied_groups


def train(run: TrainingRun) -> tuple[GDPOTrainer, int]:
    """Train on the groups with two different rewards; returns the trainer and how many they are.

    The trainer also drops groups whose rewards become equal when completions of the same tokens share theirs.
    """
    assert run.method.objective is not None  # gdpo.config.models.Method
    groups = drop_tied_groups(group_rows(run, smallest=2))
    trainer = GDPOTrainer(
        model=policy(run),
        args=GDPOConfig(
            **arguments(run, len(groups)),
            **run.method.objective.model_dump(),
            **(run.method.forward.model_dump(exclude_none=True) if run.method.forward else {}),
            max_length=run.method.max_length,
            ref_cache_dir=None if run.ref_cache is None else str(run.ref_cache),
        ),
        train_dataset=groups,
        processing_class=run.tokenizer(),
        peft_config=lora_config(run.method.lora),
    )
    fit(trainer, run)
    return trainer, len(groups) - trainer.skipped_groups
