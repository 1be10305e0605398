"""Training that resumes where a killed call stopped, and reports which step it is at."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gdpo.core.errors import ArgumentError, UserError, writing
from gdpo.core.files import read_json
from gdpo.core.progress import report
from gdpo.core.terminal import say
from gdpo.trainer import compat

# What a checkpoint of whole weights has beside them and its state; each a pattern of names.
TORCH_FILES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


class StepProgress(TrainerCallback):
    """Reports which step training is at, before the first one and after each."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        report(state.global_step, state.max_steps, "steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        report(state.global_step, state.max_steps, "steps")


def train_resuming(trainer: Trainer, work: Path) -> None:
    """Train to the end, from the last whole checkpoint in `work` where there is one."""
    last = last_checkpoint(work, sharded=trainer.is_fsdp_enabled)
    if last:
        say(f"Resuming from {last}")
    with writing(work):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))


def chosen_checkpoint(given: Any, output_dir: Path, sharded: bool, tell: Callable[[str], Any]) -> str | None:
    """The checkpoint that `Trainer.train(resume_from_checkpoint=given)` resumes from; None where it begins anew.

    True is the last whole one of `output_dir`; `tell` is told of those after it. Raises ArgumentError where there is
    none, and where a path's is not whole.
    """
    if given is None or given is False:
        return None
    key, expected = "resume_from_checkpoint", "a whole checkpoint"
    if given is True:
        last = last_checkpoint(output_dir, sharded, tell)
        if last is None:
            raise ArgumentError(path=output_dir, key=key, found="none", expected=expected)
        return str(last)
    if not isinstance(given, str | Path):
        raise ArgumentError(key=key, found=type(given).__name__, expected="True, or the path of a checkpoint")
    if (found := damage(Path(given))) is not None:
        hint = "True takes the last whole one"
        raise ArgumentError(path=given, key=key, found=found, expected=expected, hint=hint)
    return str(given)


def last_checkpoint(work: Path, sharded: bool = False, tell: Callable[[str], Any] = say) -> Path | None:
    """The last whole checkpoint of a Trainer in `work`; sharded and whole weights do not mix.

    `tell` is told of each later one that is none, and what it lacks.
    """
    steps = {int(step): path for path in work.glob("checkpoint-*") if (step := path.name.split("-")[-1]).isdecimal()}
    for _, path in sorted(steps.items(), reverse=True):
        if compat.is_sharded_checkpoint(path) == sharded:
            if (found := damage(path)) is None:
                return path
            tell(f"{path} is not resumed from: found {found}, expected a whole checkpoint")
    return None


def damage(checkpoint: Path) -> str | None:
    """What a checkpoint lacks of what training resumes from, such as "no optimizer.pt"; None where it is whole.

    A killed call and a full disk leave files out, or cut them off.
    """
    if not checkpoint.is_dir():
        return "no directory"
    # The state is a checkpoint's last file, so that the parts of a sharded one, of many formats, are there with it.
    if not _is_state(checkpoint / "trainer_state.json"):
        return "no whole trainer_state.json"
    if compat.is_sharded_checkpoint(checkpoint) or any(checkpoint.glob("global_step*")):  # FSDP's, DeepSpeed's
        return None
    weights = list(checkpoint.glob("*.safetensors"))
    for index in checkpoint.glob("*.safetensors.index.json"):
        try:
            weights += [checkpoint / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        except (UserError, OSError, KeyError, TypeError, AttributeError):
            return f"no whole {index.name}"
    if not weights:
        return "no weights"
    for path in weights:
        if not _is_safetensors(path):
            return f"no whole {path.name}"
    for pattern in TORCH_FILES:
        found = list(checkpoint.glob(pattern))
        if not found:
            return f"no {pattern.replace('*', '')}"
        for path in found:
            if not zipfile.is_zipfile(path):  # the directory of a ZIP is its end
                return f"no whole {path.name}"
    return None


def _is_state(path: Path) -> bool:
    """Whether it is the state of a checkpoint, written to its end."""
    try:
        return bool(read_json(path))
    except (UserError, OSError):
        return False


def _is_safetensors(path: Path) -> bool:
    """Whether it is a file of weights of the size that its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False
