"""Training that resumes where a killed call stopped, and reports which step it is at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gdpo.core.errors import UserError, writing
from gdpo.core.files import read_json
from gdpo.core.progress import report
from gdpo.core.terminal import say
from gdpo.trainer import compat


class StepProgress(TrainerCallback):
    """Reports which step training is at, before the first one and after each."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        report(state.global_step, state.max_steps, "steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        report(state.global_step, state.max_steps, "steps")


def train_resuming(trainer: Trainer, work: Path) -> None:
    """Train to the end, from the last complete checkpoint in `work` where there is one."""
    last = last_checkpoint(work, sharded=trainer.is_fsdp_enabled)
    if last:
        say(f"Resuming from {last}")
    with writing(work):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))


def last_checkpoint(work: Path, sharded: bool = False) -> Path | None:
    """The last complete checkpoint of a Trainer in `work`; sharded and whole ones do not mix."""
    # The state is a checkpoint's last file, so a checkpoint that has it is complete.
    complete = [path.parent for path in work.glob("checkpoint-*/trainer_state.json") if _readable(path)]
    usable = [path for path in complete if compat.is_sharded_checkpoint(path) == sharded]
    return max(usable, key=lambda path: int(path.name.split("-")[-1]), default=None)


def _readable(state: Path) -> bool:
    """Whether a checkpoint's state was written to its end; on a full disk it is not."""
    try:
        return bool(read_json(state))
    except UserError:
        return False
