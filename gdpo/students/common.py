"""What the methods share: the start, the optimizer's settings, the tokenized groups, the saved checkpoint."""

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
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from gdpo.config.models import Dtype, Lora, Method
from gdpo.core import process_group
from gdpo.core.errors import UserError, writing
from gdpo.core.files import read_json, replacing
from gdpo.core.progress import report
from gdpo.core.records import Group
from gdpo.core.terminal import say
from gdpo.models.checkpoints import check_whole, tokenizer_of
from gdpo.models.dtypes import autocasts, weights_dtype
from gdpo.trainer import compat
from gdpo.trainer.dataset import DataError, prompt_ids, tokenize_groups
from gdpo.trainer.distributed import whole_state

CHECKPOINT_STEPS = 50


@dataclass(frozen=True)
class Run:
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
    """No progress bars where nobody watches, and no warning of the name TRL still gives to checkpointing."""
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        logging.disable_progress_bar()
        os.environ["TQDM_DISABLE"] = "1"


def policy(run: Run) -> PreTrainedModel:
    """The student as it starts: at these learning rates bfloat16 weights would not move, so they are float32."""
    check_whole(run.base)
    dtype = torch.float64 if run.dtype == "float64" else torch.float32
    return AutoModelForCausalLM.from_pretrained(run.base, dtype=dtype, use_safetensors=True)


def lora_config(lora: Lora | None) -> Any:
    """An adapter on every linear layer but the head, or None."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def arguments(run: Run, items: int, sequences: int = 1) -> dict[str, Any]:
    """TrainingArguments' settings of a run over `items`, each of `sequences` to a TRL batch.

    Linear decay after a linear warmup and AdamW without weight decay: ours, the same for every method. A step's batch
    is cut evenly into parts, so that it is `batch_size` exactly.
    """
    method, processes = run.method, process_group.processes()
    # TRL's rollouts leave out a batch that is not full, so a batch of rollouts must not be larger than the data.
    batch = min(method.batch_size, max(items // processes, 1) * processes) if sequences > 1 else method.batch_size
    if batch % processes:
        expected = f"expected a batch_size that is a multiple of the {processes} processes"
        raise UserError(f"{method.display}: {expected}, found {batch}")
    cuda = torch.cuda.is_available()
    if cuda and processes == 1 and torch.cuda.device_count() > 1:  # over which Trainer would deal out a larger batch
        expected = "expected launch.processes to say so, or CUDA_VISIBLE_DEVICES to name one"
        raise UserError(f"{method.display}: found {torch.cuda.device_count()} GPUs for one process, {expected}")
    own = batch // processes
    micro = max(size for size in range(1, min(method.micro_batch_size, own) + 1) if own % size == 0)
    steps = math.ceil(method.epochs * math.ceil(items / batch))
    return {
        "output_dir": str(run.work),
        "seed": run.seed,
        "learning_rate": method.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": method.warmup_ratio,
        "weight_decay": 0.0,
        "max_grad_norm": method.max_grad_norm,
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": micro * sequences,
        "gradient_accumulation_steps": own // micro,
        "gradient_checkpointing": cuda,  # memory binds there, and time on a CPU
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


def fitting(groups: list[Group], base: Path, method: Method) -> list[Group]:
    """The groups whose prompt, by the tokenizer at `base`, leaves room for an answer in the method's `max_length`.

    Raises DataError where there is none.
    """
    tokenizer = padding_tokenizer(base)
    lengths = [len(prompt_ids(tokenizer, group.prompt)) for group in groups]
    kept = [group for group, length in zip(groups, lengths, strict=True) if length <= method.longest_prompt]
    if not kept:
        found = f"{min(lengths)} or more" if lengths else "no prompt"
        room = f"max_length={method.max_length} leaves to a prompt {method.longest_prompt} tokens"
        raise DataError(f"{room}, found {found}")
    return kept


def rows(run: Run, smallest: int) -> list[dict[str, Any]]:
    """GDPOTrainer's rows: groups without their blank completions; at least `smallest` remain."""
    kept = []
    for group in run.groups:
        pairs = zip(group.completions, group.rewards, strict=True)
        written = [(completion, reward) for completion, reward in pairs if completion.strip()]
        if len(written) >= smallest:
            completions, rewards = zip(*written, strict=True)
            kept.append({"prompt": group.prompt, "completions": completions, "rewards": rewards})
    if not kept:
        raise DataError(f"expected groups of at least {smallest} completions, found none")
    return kept


def tokenized(run: Run, tokenizer: PreTrainedTokenizerBase, smallest: int) -> list[dict[str, Any]]:
    """`rows` as GDPOTrainer tokenizes them, so that every method sees the same ids."""
    return tokenize_groups(rows(run, smallest), tokenizer, run.method.max_length, smallest)


class Told(TrainerCallback):
    """Tells which step training is at, before the first one and after each."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        report(state.global_step, state.max_steps, "steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        report(state.global_step, state.max_steps, "steps")


def fit(trainer: Trainer, run: Run) -> None:
    """Train to the end, from the last whole checkpoint in `work` where there is one.

    Raises UserError where weights were to be sharded and are not, which accelerate does in silence without a GPU.
    """
    if compat.fsdp_requested() and not trainer.is_fsdp_enabled:
        raise UserError(key="launch.strategy", found="fsdp2 where there is no GPU", expected="ddp")
    trainer.remove_callback(PrinterCallback)
    for callback in (*run.callbacks, Told()):
        trainer.add_callback(callback)
    # The state is a checkpoint's last file, so a checkpoint that has it is whole. One of shares cannot be read whole.
    whole = [path.parent for path in run.work.glob("checkpoint-*/trainer_state.json") if _readable(path)]
    whole = [path for path in whole if compat.is_sharded_checkpoint(path) == trainer.is_fsdp_enabled]
    last = max(whole, key=lambda path: int(path.name.split("-")[-1]), default=None)
    if last:
        say(f"goes on from {last}")
    with writing(run.work):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))


def _readable(state: Path) -> bool:
    """Whether a checkpoint's state was written to its end, which on a full disk it is not."""
    try:
        return bool(read_json(state))
    except UserError:
        return False


def merged(trainer: Trainer, run: Run, state: dict[str, Any]) -> dict[str, Any]:
    """The state dict of a model whose adapter is merged into it; `state` is the whole one of the two."""
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(trained, FSDPModule):  # which cannot be changed any more: another one takes its place
        from peft import get_peft_model

        trained = get_peft_model(policy(run), lora_config(run.method.lora))
        trained.load_state_dict(state)
    merged_in: PreTrainedModel = trained.merge_and_unload()
    return merged_in.state_dict()


def save(trainer: Trainer, run: Run, out: Path) -> None:
    """Write the trained weights, an adapter merged into them, with the base's configuration and tokenizer.

    Every process calls this, since each may hold a share of the weights; the first one writes.
    """
    state = whole_state(trainer)
    if not process_group.is_main_process():
        return
    if run.method.lora is not None:
        state = merged(trainer, run, state)
    dtype = getattr(torch, weights_dtype(run.dtype))
    model = AutoModelForCausalLM.from_pretrained(run.base, dtype=dtype, use_safetensors=True)
    model.load_state_dict(state)
    with replacing(out) as directory:
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(run.base).save_pretrained(directory)
    shutil.rmtree(run.work, ignore_errors=True)
