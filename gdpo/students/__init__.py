"""How each method trains a student (paper, section Training): sft, dpo, grpo, gdpo; one `train` each.

A module here with a function `train(run)`, which returns the trainer and how many groups it used, is a trainer that a
method can name; further parameters are the method's `options` (gdpo.config.trainers).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdpo.config.fields import Dtype
from gdpo.config.models import Method
from gdpo.core import process_group
from gdpo.core.errors import UserError
from gdpo.core.records import Group

if TYPE_CHECKING:
    from transformers import Trainer

    from gdpo.students.watch import ValidationReward

RewardFunction = Callable[..., list[float]]


def train_run(
    *,
    base: Path,
    method: Method,
    groups: list[Group],
    out: Path,
    work: Path,
    seed: int,
    dtype: Dtype = "float32",
    reward_fn: RewardFunction | None = None,
    ref_cache: Path | None = None,
    watch: ValidationReward | None = None,
) -> dict[str, Any]:
    """Train the checkpoint at `base` by `method` on `groups`; write an ordinary checkpoint to `out`.

    Args:
        base: the checkpoint of the untrained student.
        method: the settings.
        groups: completions with their rewards.
        out: where the trained checkpoint goes.
        work: where the Trainer's checkpoints go, from which a killed run resumes; removed at the end.
        seed: fixes the data's order, the adapter's initial weights and the rollouts.
        dtype: bfloat16 trains in float32 under bfloat16 autocast and saves in bfloat16; mixed uses autocast where there
            is a GPU and saves in float32; float64 is for exact comparisons.
        reward_fn: what trainer grpo learns from, called as TRL calls it, by keyword, with the groups' ids as column
            `id`.
        ref_cache: where trainer gdpo stores its reference's log-probabilities, for all runs of one base and one set;
            absent, in `work`.
        watch: measures validation reward during training; its time does not count in `seconds`.

    In several processes (`gdpo.runtime.launch`) each calls this, and the first writes.

    Returns `run_metrics`. Raises UserError where no group can be trained on.
    """
    from transformers import set_seed

    from gdpo.core import device
    from gdpo.students import common
    from gdpo.trainer.dataset import DataError
    from gdpo.trainer.divergence import DivergedError

    if method.group_size and method.trainer != "grpo":  # whose group_size counts rollouts
        groups = [first_completions(group, method.group_size) for group in groups]
    if method.right_only:
        groups = [right for group in groups if (right := right_completions(group)).completions]
    if method.shuffled_rewards:
        groups = [shuffled_rewards(group, seed) for group in groups]
    counting = CountingReward(reward_fn) if reward_fn else None
    if watch and counting:
        watch.rollouts = lambda: counting.count
    callbacks = [watch] if watch else []
    device.reset_peak_memory(device.default_device())
    before = device.memory_held(device.default_device())
    start = time.perf_counter()
    if watch:
        watch.start_clock()
    common.quiet()
    set_seed(seed)
    try:
        fitting = common.fitting_groups(groups, Path(base), method)
        run = common.TrainingRun(Path(base), method, fitting, Path(work), seed, dtype, counting, ref_cache, callbacks)
        trainer, trained = import_module(f"gdpo.students.{method.trainer}").train(run, **method.options)
    except (DataError, DivergedError) as error:
        key = ", ".join(part for part in (method.display, error.key) if part)
        raise UserError(**error.fields | {"key": key}) from None
    common.save(trainer, run, Path(out))
    process_group.barrier()
    seconds = time.perf_counter() - start - (watch.paused if watch else 0.0)
    counts = {"groups": trained, "skipped_groups": len(fitting) - trained, "too_long": len(groups) - len(fitting)}
    return run_metrics(trainer, seconds, counts, counting.count if counting else 0, before)


def run_metrics(
    trainer: Trainer, seconds: float, counts: dict[str, int], completions: int, before: int
) -> dict[str, Any]:
    """The metrics of a finished run; `before` is the memory, in bytes, that the process held when it began.

    `train_loss`, `steps`, `seconds`; `tokens` of prompts and completions without padding; the `counts`, which are
    `groups` trained on, `skipped_groups` with nothing to learn from, such as equal rewards, and `too_long`, groups
    whose prompt leaves no room for an answer in `max_length`, which no method trains on; `processes`; `completions`
    sampled while training; `device`, which is cpu or the GPU's name; `memory_mb`, the memory `before` and at the
    `peak`, of this run on a GPU and of the process so far on a CPU; `watch`, the entries of validation reward where it
    was measured; and `log`, a list with a mapping per step.
    """
    from gdpo.core import device
    from gdpo.students.watch import split_log

    (*log, summary), watched = split_log(trainer.state.log_history)
    return {
        "train_loss": summary["train_loss"],
        "steps": trainer.state.global_step,
        "tokens": int(log[-1].get("num_tokens", 0)),
        "seconds": round(seconds, 2),
        **counts,
        "processes": process_group.processes(),
        "completions": completions,
        "device": device.device_name(device.default_device()),
        # A system counts resident pages only roughly, and may count more of them than at its own peak.
        "memory_mb": {
            "before": before // 2**20,
            "peak": max(before, device.peak_memory(device.default_device())) // 2**20,
        },
        **({"watch": watched} if watched else {}),
        "log": log,
    }


def first_completions(group: Group, size: int) -> Group:
    """`group` with its first `size` completions, as if no more had been sampled."""
    first = {key: getattr(group, key)[:size] for key in ("completions", "rewards", "parts")}
    return group.model_copy(update=first)


def right_completions(group: Group) -> Group:
    """`group` with its right completions alone; without verdicts, as gold responses are, all of them."""
    kept = [i for i in range(len(group.completions)) if not group.parts or group.parts[i].verdict == "right"]
    fields = {key: [getattr(group, key)[i] for i in kept] for key in ("completions", "rewards")}
    return group.model_copy(update={**fields, "parts": [group.parts[i] for i in kept] if group.parts else []})


def shuffled_rewards(group: Group, seed: int) -> Group:
    """`group` with its rewards dealt out anew among its completions: a control that keeps every other thing."""
    places = random.Random(f"shuffle {seed} {group.id}").sample(range(len(group.rewards)), len(group.rewards))
    return group.model_copy(update={"rewards": [group.rewards[place] for place in places], "parts": []})


class CountingReward:
    """A reward function that counts the completions of all processes, which the student has just sampled."""

    def __init__(self, reward_fn: RewardFunction):
        self.reward_fn = reward_fn
        self.count = 0
        self.__name__ = "reward"  # the name that TRL logs it by

    def __call__(self, prompts: list, completions: list, **columns: Any) -> list[float]:
        self.count += len(completions) * process_group.processes()  # each process has sampled as many
        return self.reward_fn(prompts=prompts, completions=completions, **columns)
