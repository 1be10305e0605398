"""`gdpo fit`: GDPOTrainer on a file of groups, for whoever wants the trainer and nothing else of this project.

A group is a line of JSON with `prompt`, `completions` and `rewards`. The trained model appears at `out` when it is
whole, with its provenance. Until then checkpoints and the reference's log-probabilities are in `OUT.work`, from which
the same call resumes after a kill. It needs the base install alone.
"""

from __future__ import annotations

import math
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from gdpo.core import process_group
from gdpo.core.errors import ArgumentError, UserError, disk_error, first_line
from gdpo.core.files import read_json, read_jsonl, replacing, sha256, write_json
from gdpo.core.provenance import recorded
from gdpo.core.terminal import say
from gdpo.trainer.adapters import lora_config
from gdpo.trainer.dataset import DataError, check_group, prompt_ids, template_kwargs
from gdpo.trainer.distributed import micro_batch_size
from gdpo.trainer.divergence import DivergedError
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.gdpo_trainer import GDPOTrainer
from gdpo.trainer.loading import BROKEN
from gdpo.trainer.objective import Advantage, Link, Pairs
from gdpo.trainer.reference_cache import cache_key, reference_parameters
from gdpo.trainer.resuming import StepProgress, train_resuming

REPORTS = 20  # ours: lines of progress of one training
FEW_STEPS = 10  # ours: fewer steps than this move a model little at the paper's learning rate


@dataclass(frozen=True)
class Fit:
    """What `gdpo fit` is asked for; the command's help says what each is. Counts of batches are of groups."""

    model: str
    data: Path
    out: Path
    eval_data: Path | None
    learning_rate: float
    epochs: float
    batch_size: int
    micro_batch_size: int
    beta: float
    pairs: Pairs
    link: Link
    advantage: Advantage
    length: str
    max_length: int
    max_activation_tokens: int | None
    lora_rank: int | None
    lora_alpha: int | None
    save_steps: int
    seed: int

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def settings(self) -> dict[str, Any]:
        """All that the trained model depends on: the files by their hash, wherever they are."""
        named = {name: value for name, value in asdict(self).items() if name not in ("out", "save_steps")}
        files = {"data": self.data, "eval_data": self.eval_data}
        return named | {name: path and f"sha256={sha256(path)}" for name, path in files.items()}


def fit(given: Fit) -> None:
    """Train as `given` says, and write the trained model to `given.out`.

    Raises UserError where the model or the groups do not fit, where `out` exists, and where `OUT.work` has checkpoints
    of other settings.
    """
    _quiet()
    _check_out(given)
    train, evaluation = _read(given.data), _read(given.eval_data) if given.eval_data else None
    tokenizer = _tokenizer(given.model)
    for path, rows in ((given.data, train), (given.eval_data, evaluation)):
        if path is not None and rows is not None:
            _check_groups(path, rows, tokenizer, given.max_length)
    settings = given.settings
    _keep_settings(given, settings)
    process_group.barrier()
    with _said_in_a_sentence(given):
        if process_group.is_main_process():
            with replacing(given.out) as out, recorded(out, "fit", settings, {"run": given.seed}) as extra:
                extra |= {"result": given.out.as_posix(), **_train(given, train, evaluation, tokenizer, out)}
        else:
            _train(given, train, evaluation, tokenizer, None)  # the first process writes
    if process_group.is_main_process():
        shutil.rmtree(given.work, ignore_errors=True)
        say(f"fit: the trained model is {given.out}, with its provenance in {given.out / 'provenance.json'}")


def _quiet() -> None:
    """Progress is said in lines of our own; libraries' bars would be lost among them."""
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()


def _check_out(given: Fit) -> None:
    if given.out.name in ("", ".."):
        raise UserError(key="--out", found=f"'{given.out}'", expected="the path of a new directory, with its name")
    if given.out.exists():
        hint = "name another one by --out, or delete it"
        raise UserError(path=given.out, key="--out", found="something there", expected="a new directory", hint=hint)


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The groups of a file, each with the number of its line."""
    rows = list(read_jsonl(path))
    if not rows:
        raise UserError(path=path, found="no group", expected="one a line")
    return rows


def _tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the checkpoint `model`. Raises UserError where there is none, or where it is an adapter."""
    directory = Path(model)
    if (directory / "adapter_config.json").exists():
        hint = "merge it into its model first"
        raise UserError(path=model, key="--model", found="an adapter", expected="a whole model", hint=hint)
    expected = "a checkpoint's directory, or a model's name on the Hub"
    if directory.is_dir() and not (directory / "config.json").exists():
        raise UserError(path=model, key="--model", found="no config.json", expected=expected)
    try:
        AutoConfig.from_pretrained(model, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except BROKEN as error:
        if (refusal := disk_error(error)) is not None:
            raise refusal from None
        raise UserError(key="--model", found=f"'{model}' ({first_line(error)})", expected=expected) from None
    return tokenizer


def _check_groups(
    path: Path, rows: list[tuple[int, dict[str, Any]]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Raises UserError naming the line of a group that cannot be trained on, before any weights are loaded."""
    for line, row in rows:
        try:
            check_group(0, row, smallest=2)
        except DataError as error:
            raise _at_line(error, path, line) from None
        if not isinstance(row["prompt"], str) and tokenizer.chat_template is None:
            raise UserError(
                path=path, line=line, key="prompt", found="messages, and a model without a chat template",
                expected="text",
            )  # fmt: skip
        try:
            tokens = len(prompt_ids(tokenizer, row["prompt"], **template_kwargs(row)))
        except DataError as error:
            raise _at_line(error, path, line) from None
        if tokens >= max_length:
            raise UserError(
                path=path, line=line, key="prompt", found=f"{tokens} tokens",
                expected=f"fewer than the --max-length of {max_length}",
            )  # fmt: skip
    if not any(len(set(row["rewards"])) > 1 for _, row in rows):
        expected = "a group with two that differ"
        raise UserError(path=path, key="rewards", found="equal ones in each group", expected=expected)


def _at_line(error: DataError, path: Path, line: int) -> UserError:
    """The error of a row, by its place in the file."""
    key = re.sub(r"^row \d+(, )?", "", error.key or "") or None
    return UserError(**error.fields | {"path": path, "line": line, "key": key})


def _keep_settings(given: Fit, settings: dict[str, Any]) -> None:
    """Store the settings beside the checkpoints. Raises UserError where those are of other settings."""
    stored = given.work / "settings.json"
    if stored.exists():
        before = read_json(stored)
        for name, value in settings.items():
            if (earlier := before.get(name) if isinstance(before, dict) else None) != value:
                hint = "delete the directory, or name another --out"
                raise UserError(path=given.work, key=name, found=f"checkpoints of {earlier}", expected=value, hint=hint)
    elif process_group.is_main_process():
        write_json(stored, settings)


@contextmanager
def _said_in_a_sentence(given: Fit) -> Iterator[None]:
    """Within the block, what the trainer and torch refuse is a UserError."""
    try:
        yield
    except ArgumentError as error:
        path = given.data if isinstance(error, DataError) else None
        raise UserError(**error.fields | {"path": error.path or path}) from None
    except DivergedError as error:
        hint = "a lower --learning-rate, and --out anew"
        raise UserError(**error.fields | {"key": "fit", "hint": hint}) from None
    except torch.OutOfMemoryError:
        expected = "room for a group's activations"
        hint = "a smaller --micro-batch-size, --max-length or --max-activation-tokens, or --lora-rank"
        raise UserError(key="fit", found="the GPU's memory full", expected=expected, hint=hint) from None


def _train(
    given: Fit,
    train: list[tuple[int, dict[str, Any]]],
    evaluation: list[tuple[int, dict[str, Any]]] | None,
    tokenizer: PreTrainedTokenizerBase,
    out: Path | None,
) -> dict[str, Any]:
    """Train, write the model and its log to `out`, and return the metrics."""
    start = time.perf_counter()
    trainer = GDPOTrainer(
        given.model,
        args=GDPOConfig(**_arguments(given, len(train), evaluation is not None)),
        train_dataset=[row for _, row in train],
        eval_dataset=[row for _, row in evaluation] if evaluation else None,
        processing_class=tokenizer,
        peft_config=lora_config(given.lora_rank, given.lora_alpha or 2 * given.lora_rank) if given.lora_rank else None,
    )
    if trainer.is_fsdp_enabled:
        raise UserError(
            key="fit", found="fsdp", expected="one process, or ddp", hint="docs/running-elsewhere/processes.md"
        )
    before = cache_key(reference_parameters(trainer.model), None, [])
    trainer.remove_callback(PrinterCallback)
    for callback in (StepProgress(), Lines(len(train), trainer.skipped_groups)):
        trainer.add_callback(callback)
    train_resuming(trainer, given.work)
    (*log, summary) = trainer.state.log_history
    metrics = {
        "start": before,  # the hash of the weights before training
        "groups": len(train) - trainer.skipped_groups,
        "skipped_groups": trainer.skipped_groups,
        "steps": trainer.state.global_step,
        "train_loss": summary["train_loss"],
        "seconds": round(time.perf_counter() - start, 2),
        "processes": process_group.processes(),
    }
    if out is not None:
        policy = trainer.accelerator.unwrap_model(trainer.model)
        (policy.merge_and_unload() if given.lora_rank else policy).save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_json(out / "train.json", metrics | {"log": log})
    return metrics


def _arguments(given: Fit, groups: int, evaluates: bool) -> dict[str, Any]:
    """GDPOConfig's arguments: AdamW without weight decay, a linear warmup over a tenth of the steps and a linear decay.

    These are the scales' too. A step takes `batch_size` groups, cut evenly into parts of at most `micro_batch_size`.
    """
    cuda, processes = torch.cuda.is_available(), process_group.processes()
    per_process = math.ceil(min(given.batch_size, groups) / processes)
    micro_batch = micro_batch_size(per_process, given.micro_batch_size)
    steps = math.ceil(given.epochs * math.ceil(groups / (per_process * processes)))
    return {
        "output_dir": str(given.work),
        "ref_cache_dir": str(given.work / "reference"),
        "seed": given.seed,
        "learning_rate": given.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "weight_decay": 0.0,
        "num_train_epochs": given.epochs,
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": given.micro_batch_size,
        "gradient_accumulation_steps": per_process // micro_batch,
        "gradient_checkpointing": cuda,  # memory is scarce on a GPU, time on a CPU
        "bf16": cuda and torch.cuda.is_bf16_supported(),
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "logging_steps": max(1, steps // REPORTS),
        "eval_strategy": "epoch" if evaluates else "no",
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": given.save_steps,
        "save_total_limit": 1,
        "max_length": given.max_length,
        "max_activation_tokens": given.max_activation_tokens,
        **{name: getattr(given, name) for name in ("beta", "pairs", "link", "advantage", "length")},
    }


class Lines(TrainerCallback):
    """Says in lines how many groups and steps there are, and how training goes."""

    def __init__(self, groups: int, skipped: int):
        self.groups, self.skipped = groups, skipped
        self.began, self.first = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.began, self.first = time.monotonic(), state.global_step
        trained = self.groups - self.skipped
        left = f", {self.skipped} with equal rewards left out" if self.skipped else ""
        say(f"fit: {trained} groups{left}; {state.max_steps} steps on {args.device.type}")
        if state.max_steps < FEW_STEPS:
            say("fit: so few steps change a model little; a smaller --batch-size or more --epochs take more")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **given: Any,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            done = max(1, state.global_step - self.first)
            left = (time.monotonic() - self.began) / done * (state.max_steps - state.global_step)
            accuracy = logs["rewards/accuracies"]
            say(
                f"fit: step {state.global_step} of {state.max_steps}: loss {logs['loss']:.4f}, pairs in the order of "
                f"their rewards {accuracy:.0%}, {duration(left)} left"
            )
        elif "eval_loss" in logs:
            accuracy = logs["eval_rewards/accuracies"]
            say(f"fit: evaluated: loss {logs['eval_loss']:.4f}, pairs in the order of their rewards {accuracy:.0%}")


def duration(seconds: float) -> str:
    """A time in words, such as `3 min`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
