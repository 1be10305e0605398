"""What all methods share: the initial policy, the optimizer's settings, the tokenized groups, the saved checkpoint."""

from __future__ import annotations

import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL's trainers report their use otherwise

import datasets
import torch
from torch.distributed.fsdp import FSDPModule
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)
from transformers.utils import logging

from gdpo.config.fields import Dtype
from gdpo.config.models import Lora, Method
from gdpo.core import process_group
from gdpo.core.errors import UserError
from gdpo.core.files import replacing
from gdpo.core.records import Group
from gdpo.models.checkpoints import check_whole, tokenizer_of
from gdpo.models.dtypes import autocasts, weights_dtype
from gdpo.trainer import adapters, compat
from gdpo.trainer.dataset import DataError, prompt_ids, tokenize_groups
from gdpo.trainer.distributed import micro_batch_size, whole_state
from gdpo.trainer.resuming import StepProgress, train_resuming

CHECKPOINT_STEPS = 50


@dataclass(frozen=True)
class TrainingRun:
    """One student, trained once: `train_run`'s arguments."""

    base: Path
    method: Method
    groups: list[Group]
    work: Path
    seed: int
    dtype: Dtype
    reward_fn: Callable[..., list[float]] | None
    ref_cache: Path | None
    callbacks: Sequence[TrainerCallback] = ()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return padding_tokenizer(self.base)


def padding_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer, with a token to pad with."""
    tokenizer = tokenizer_of(base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def quiet() -> None:
    """Show no progress bars outside a terminal, and no warning of the name that TRL still gives to checkpointing."""
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        logging.disable_progress_bar()
        os.environ["TQDM_DISABLE"] = "1"


def policy(run: TrainingRun) -> PreTrainedModel:
    """The student before training. Its weights are float32: bfloat16 would round these learning rates' steps away."""
    check_whole(run.base)
    dtype = torch.float64 if run.dtype == "float64" else torch.float32
    return AutoModelForCausalLM.from_pretrained(run.base, dtype=dtype, use_safetensors=True)


def lora_config(lora: Lora | None) -> Any:
    """An adapter on every linear layer but the head, or None."""
    if lora is None:
        return None
    return adapters.lora_config(lora.r, lora.alpha, lora.dropout)


def arguments(run: TrainingRun, items: int, sequences: int = 1) -> dict[str, Any]:
    """TrainingArguments' settings of a run over `items` items, each of `sequences` sequences in a TRL batch.

    The optimizer is AdamW without weight decay, the schedule a linear warmup and a linear decay, for every method. Both
    are ours. A step's batch is cut evenly into parts, so that it is `batch_size` exactly.
    """
    method, processes = run.method, process_group.processes()
    # TRL drops a batch of rollouts that is not full, so a batch of them must not be larger than the data.
    batch = min(method.batch_size, max(items // processes, 1) * processes) if sequences > 1 else method.batch_size
    if batch % processes:
        expected = f"a batch_size that is a multiple of the {processes} processes"
        raise UserError(key=method.display, found=batch, expected=expected)
    cuda = torch.cuda.is_available()
    if cuda and processes == 1 and torch.cuda.device_count() > 1:  # Trainer would deal out a larger batch to them
        found = f"{torch.cuda.device_count()} GPUs for one process"
        expected = "launch.processes to say so, or CUDA_VISIBLE_DEVICES to name one"
        raise UserError(key=method.display, found=found, expected=expected)
    per_process = batch // processes
    micro_batch = micro_batch_size(per_process, method.micro_batch_size)
    steps = method.steps or math.ceil(method.epochs * math.ceil(items / batch))
    return {
        "output_dir": str(run.work),
        "seed": run.seed,
        "learning_rate": method.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": method.warmup_ratio,
        "weight_decay": 0.0,
        "max_grad_norm": method.max_grad_norm,
        "num_train_epochs": method.epochs,
        **({"max_steps": method.steps} if method.steps else {}),
        "per_device_train_batch_size": micro_batch * sequences,
        "gradient_accumulation_steps": per_process // micro_batch,
        "gradient_checkpointing": cuda,  # memory is scarce on a GPU, time on a CPU
        "bf16": autocasts(run.dtype, cuda),
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": not sys.stderr.isatty(),
        "save_strategy": "steps" if steps >= 2 * CHECKPOINT_STEPS else "no",
        "save_steps": CHECKPOINT_STEPS,
        "save_total_limit": 1,
        "ddp_timeout": int(process_group.DISTRIBUTED_TIMEOUT.total_seconds()),
    }


def fitting_groups(groups: list[Group], base: Path, method: Method) -> list[Group]:
    """The groups whose prompt, by the tokenizer at `base`, leaves room for an answer in the method's `max_length`.

    Raises DataError where there is none.
    """
    tokenizer = padding_tokenizer(base)
    lengths = [len(prompt_ids(tokenizer, group.prompt)) for group in groups]
    fitting = [group for group, length in zip(groups, lengths, strict=True) if length <= method.longest_prompt]
    if not fitting:
        found = f"prompts of {min(lengths)} or more tokens" if lengths else "no prompt"
        expected = f"one of up to {method.longest_prompt}, which max_length={method.max_length} leaves to a prompt"
        raise DataError(found=found, expected=expected)
    return fitting


def group_rows(run: TrainingRun, smallest: int) -> list[dict[str, Any]]:
    """GDPOTrainer's rows: the groups with at least `smallest` completions that are not blank, and those alone."""
    rows = []
    for group in run.groups:
        pairs = zip(group.completions, group.rewards, strict=True)
        written = [(completion, reward) for completion, reward in pairs if completion.strip()]
        if len(written) >= smallest:
            completions, rewards = zip(*written, strict=True)
            rows.append({"prompt": group.prompt, "completions": completions, "rewards": rewards})
    if not rows:
        raise DataError(found="none", expected=f"groups of at least {smallest} completions")
    return rows


def tokenized_groups(run: TrainingRun, tokenizer: PreTrainedTokenizerBase, smallest: int) -> list[dict[str, Any]]:
    """`group_rows` as GDPOTrainer tokenizes them, so that every method sees the same ids."""
    return tokenize_groups(group_rows(run, smallest), tokenizer, run.method.max_length, smallest)


def fit(trainer: Trainer, run: TrainingRun) -> None:
    """Train to the end, from the last complete checkpoint in `work` where there is one.

    Raises UserError where weights should be sharded and are not: without a GPU accelerate does not shard, in silence.
    """
    if compat.fsdp_requested() and not trainer.is_fsdp_enabled:
        raise UserError(key="launch.strategy", found="fsdp2 where there is no GPU", expected="ddp")
    trainer.remove_callback(PrinterCallback)
    for callback in (*run.callbacks, StepProgress()):
        trainer.add_callback(callback)
    train_resuming(trainer, run.work)


def merged_state(trainer: Trainer, run: TrainingRun, state: dict[str, Any]) -> dict[str, Any]:
    """The state dict of the model with its adapter merged into it; `state` is that of model and adapter."""
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(trained, FSDPModule):  # it cannot be changed any more, so another model takes its weights
        from peft import get_peft_model

        trained = get_peft_model(policy(run), lora_config(run.method.lora))
        trained.load_state_dict(state)
    merged: PreTrainedModel = trained.merge_and_unload()
    return merged.state_dict()


def between(base: dict[str, Any], trained: dict[str, Any], share: float) -> dict[str, Any]:
    """The weights at `share` of the way from `base` to `trained` (WiSE-FT, 2109.01903, eq. 1)."""
    return {
        name: base[name].to(weight.device).lerp(weight.to(base[name].dtype), share) for name, weight in trained.items()
    }


def save(trainer: Trainer, run: TrainingRun, out: Path) -> None:
    """Write the trained weights, an adapter merged into them, with the base's configuration and tokenizer.

    Every process must call this, since each may hold a share of the weights. The first one writes.
    """
    state = whole_state(trainer)
    if not process_group.is_main_process():
        return
    if run.method.lora is not None:
        state = merged_state(trainer, run, state)
    if run.method.kept_change < 1:
        state = between(policy(run).state_dict(), state, run.method.kept_change)
    dtype = getattr(torch, weights_dtype(run.dtype))
    model = AutoModelForCausalLM.from_pretrained(run.base, dtype=dtype, use_safetensors=True)
    model.load_state_dict(state)
    with replacing(out) as directory:
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(run.base).save_pretrained(directory)
    shutil.rmtree(run.work, ignore_errors=True)
