"""What is measured: each function trains or scores once and says how long that took, at what peak memory.

They run in a process of their own (`benchmarks.measure`), so that their arguments are plain data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PrinterCallback, Trainer
from transformers.models.llama import modeling_llama  # noqa: F401 - imported before the fork, not in the measurement
from transformers.utils import logging
from trl import DPOConfig, GRPOConfig, GRPOTrainer, SFTConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference

from benchmarks.data import (
    EOS,
    GROUP_SIZE,
    PAD,
    SEED,
    Shape,
    Size,
    as_pairs,
    as_rows,
    build_model,
    build_tokenizer,
    make_groups,
    sequence_lengths,
    useful_tokens,
)
from benchmarks.measure import metered
from gdpo.students.dpo import PairTrainer
from gdpo.students.sft import IGNORED, ExampleTrainer
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.logprobs import token_log_probs

Measured = dict[str, Any]


def gdpo(shape: Shape, size: Size, device: str, work: Path, **config: Any) -> Measured:
    """GDPOTrainer over the groups, one epoch."""
    groups = make_groups(shape, size.vocabulary)
    rows, model, tokenizer = as_rows(groups), build_model(size, device), build_tokenizer(size.vocabulary)
    arguments = GDPOConfig(
        per_device_train_batch_size=shape.groups_per_step, max_length=None, **_arguments(device, work) | config
    )
    with metered(device) as measured:
        trainer = GDPOTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer)
        _train(trainer)
    return {
        **measured,
        "useful_tokens": useful_tokens(groups),
        "items": len(rows),
        "steps": trainer.state.global_step,
        "train_seconds": _logged(trainer)["train_runtime"],
        "padding_share": _logged(trainer)["padding_share"],
        "flops": training_flops(size, sequence_lengths(groups)),
    }


def sft(shape: Shape, size: Size, device: str, work: Path, **config: Any) -> Measured:
    """TRL's SFTTrainer on the best completion of each group, one epoch."""
    groups = make_groups(shape, size.vocabulary)
    model, tokenizer = build_model(size, device), build_tokenizer(size.vocabulary)
    rows, ends = [], []
    for group in groups:
        prompt, completion = group["prompt_ids"], group["completion_ids"][group["rewards"].index(max(group["rewards"]))]
        rows.append({"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion})
        ends.append((len(prompt), len(completion)))
    arguments = SFTConfig(
        per_device_train_batch_size=shape.groups_per_step,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **_arguments(device, work) | config,
    )
    with metered(device) as measured:
        trainer = ExampleTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        _train(trainer)
    return {
        **measured,
        "useful_tokens": sum(completion for _, completion in ends),
        "items": len(rows),
        "steps": trainer.state.global_step,
        "train_seconds": _logged(trainer)["train_runtime"],
    }


def dpo(
    shape: Shape,
    size: Size,
    device: str,
    work: Path,
    pairs: str,
    micro_batches: int = 1,
    by_length: bool = True,
    **config: Any,
) -> Measured:
    """TRL's DPOTrainer over the same groups' pairs, one epoch of as many optimizer steps as GDPOTrainer takes."""
    groups = make_groups(shape, size.vocabulary)
    rows, model, tokenizer = as_pairs(groups, pairs), build_model(size, device), build_tokenizer(size.vocabulary)
    per_step = len(rows) // len(groups) * shape.groups_per_step
    arguments = DPOConfig(
        per_device_train_batch_size=per_step // micro_batches,
        gradient_accumulation_steps=micro_batches,
        train_sampling_strategy="group_by_length" if by_length else "random",
        remove_unused_columns=False,  # the sampler needs the lengths
        max_length=None,
        precompute_ref_log_probs=True,
        **_arguments(device, work) | config,
    )
    collator = CountingCollator(pad_token_id=PAD)
    with metered(device) as measured:
        trainer = PairTrainer(
            model=model,
            args=arguments,
            data_collator=collator,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        _train(trainer)
    ends = [(len(row["prompt_ids"]), len(row[side])) for row in rows for side in ("chosen_ids", "rejected_ids")]
    return {
        **measured,
        "useful_tokens": useful_tokens(groups),
        "items": len(rows),
        "steps": trainer.state.global_step,
        "train_seconds": _logged(trainer)["train_runtime"],
        "padding_share": 1 - collator.used / collator.processed,
        "flops": training_flops(size, ends),
    }


def grpo(shape: Shape, size: Size, device: str, work: Path) -> Measured:
    """TRL's GRPOTrainer on the same prompts: rollouts of exactly `shape.longest` tokens from the policy."""
    groups = make_groups(shape, size.vocabulary)
    rows, model, tokenizer = as_rows(groups), build_model(size, device), build_tokenizer(size.vocabulary)

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(ids[0]) for ids in completion_ids]

    arguments = GRPOConfig(
        **_arguments(device, work),
        per_device_train_batch_size=shape.groups_per_step * GROUP_SIZE,
        num_generations=GROUP_SIZE,
        max_completion_length=shape.longest,
        generation_kwargs={"suppress_tokens": [PAD, EOS]},
    )
    with metered(device) as measured:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
            processing_class=tokenizer,
        )
        _train(trainer)
    tokens = len(groups) * GROUP_SIZE * _logged(trainer)["completions/mean_length"]
    return {**measured, "useful_tokens": round(tokens), "items": len(rows), "steps": trainer.state.global_step}


def sampling(shape: Shape, size: Size, device: str, work: Path) -> Measured:
    """The teacher's completions for the same prompts, by Hugging Face's `generate` as GRPOTrainer calls it."""
    groups = make_groups(shape, size.vocabulary)
    model, tokenizer = build_model(size, device).eval(), build_tokenizer(size.vocabulary)
    prompts = [row["prompt"] for row in as_rows(groups)]
    tokens = 0
    with metered(device) as measured, torch.inference_mode(), _autocast(device):
        for start in range(0, len(prompts), shape.groups_per_step):
            part = prompts[start : start + shape.groups_per_step]
            inputs = tokenizer(part, return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
            output = model.generate(
                **inputs,
                do_sample=True,
                top_k=0,
                num_return_sequences=GROUP_SIZE,
                max_new_tokens=shape.longest,
                suppress_tokens=[PAD, EOS],
                pad_token_id=PAD,
            )
            tokens += output[:, inputs["input_ids"].shape[1] :].numel()
    return {**measured, "useful_tokens": tokens, "items": len(prompts)}


def log_probs(
    tokens: int, hidden: int, vocabulary: int, device: str, work: Path, chunked: bool, repeats: int = 2
) -> Measured:
    """The head's log-probabilities of `tokens` targets, forward and backward, the weight's gradient included."""
    torch.manual_seed(SEED)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    states = torch.randn(tokens, hidden, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, hidden, device=device, dtype=dtype).mul_(hidden**-0.5).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), device=device)

    def step(count: int) -> None:
        if chunked:
            scored = token_log_probs(states[:count], weight, targets[:count])
        else:
            logits = (states[:count] @ weight.T).float()
            scored = -functional.cross_entropy(logits, targets[:count], reduction="none")
        scored.sum().backward()

    step(8)  # first calls load code, which is no memory of the step
    states.grad = weight.grad = None
    with metered(device, since_now=True) as measured:
        for _ in range(repeats):
            states.grad = weight.grad = None
            step(tokens)
    return {**measured, "useful_tokens": tokens * repeats, "items": 1}


class CountingCollator(DataCollatorForPreference):
    """TRL's collator, counting the tokens it hands out with and without padding."""

    used = 0
    processed = 0

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        self.used += int(batch["attention_mask"].sum())
        self.processed += batch["attention_mask"].numel()
        return batch


def training_flops(size: Size, sequences: list[tuple[int, int]]) -> float:
    """Floating-point operations that scoring and training on (prompt, completion) lengths takes without padding.

    Per token 2 operations a weight in the reference's pass, 2 in the policy's, 4 in its backward pass: the body on
    every token, the head on completion tokens; and causal attention's 2 x 2 x T^2 / 2 x hidden a layer.
    """
    keys = size.hidden * (size.kv_heads or size.heads) // size.heads
    body = size.layers * (2 * size.hidden**2 + 2 * size.hidden * keys + 3 * size.hidden * size.intermediate)
    head = size.hidden * size.vocabulary
    total = 0.0
    for prompt, completion in sequences:
        length = prompt + completion
        attention = 2 * size.layers * size.hidden * length**2
        total += 4 * (2 * body * length + 2 * head * completion + attention)
    return total


def _arguments(device: str, work: Path) -> dict[str, Any]:
    """The same optimizer for every trainer, float32 weights, bfloat16 autocast on CUDA, nothing saved or printed."""
    cuda = device == "cuda"
    return {
        "output_dir": str(work),
        "seed": SEED,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "num_train_epochs": 1,
        "gradient_checkpointing": False,
        "bf16": cuda,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "logging_steps": 10**6,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def _autocast(device: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def _train(trainer: Trainer) -> None:
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _logged(trainer: Trainer) -> dict[str, float]:
    return {name: value for entry in trainer.state.log_history for name, value in entry.items()}


datasets.disable_progress_bars()
logging.disable_progress_bar()
