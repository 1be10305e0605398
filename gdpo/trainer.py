"""GDPOTrainer: offline group preference optimization in TRL's style (paper, section GDPO).

    trainer = GDPOTrainer("Qwen/Qwen3-0.6B", args=GDPOConfig("out"), train_dataset=groups)
    trainer.train()

A row of `train_dataset` is a group: `prompt` (text or messages), `completions` (texts), `rewards` (numbers).
Each completion is scored once per step, by the policy; the reference scored it once before training.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from gdpo.objective import gdpo_loss, pair_weights

IGNORED = -100
Prompt = str | list[dict[str, str]]


class DataError(ValueError):
    """Training data that no group can be made of. The message names the row and the column."""


@dataclass
class GDPOConfig(TrainingArguments):
    """`transformers.TrainingArguments` with GDPO's own. A batch size counts groups, not completions."""

    # Defaults that differ from TrainingArguments
    learning_rate: float = field(
        default=2e-6, metadata={"help": "AdamW's initial learning rate. Paper, appendix: 2e-6."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks its columns."})

    # The objective; see gdpo.objective
    beta: float = field(default=0.1, metadata={"help": "Inverse temperature. Paper: 'beta = 0.1'."})
    pairs: str = field(
        default="adjacent",
        metadata={"help": "Eq. 13's pairs or eq. 12's.", "choices": ["adjacent", "all"]},
    )
    link: str = field(
        default="sigmoid",
        metadata={"help": "The pair loss; the paper prints sigmoid.", "choices": ["sigmoid", "logsigmoid"]},
    )
    advantage: str = field(
        default="shifted",
        metadata={
            "help": "How the advantage weighs a log-ratio: 'literal' divides by it as printed, 'unweighted' "
            "is GDPO-A, 'shifted' multiplies by A - min A + 1, 'reciprocal' divides by it, 'gap' weighs each pair "
            "by its difference of advantages.",
            "choices": ["literal", "unweighted", "shifted", "reciprocal", "gap"],
        },
    )
    length: str = field(
        default="sum",
        metadata={
            "help": "Log-ratio of a completion: sum or mean over its tokens.",
            "choices": ["sum", "mean"],
        },
    )

    # The data and the forward pass
    max_length: int | None = field(
        default=1024, metadata={"help": "Tokens of prompt and completion; what exceeds it is cut at the end."}
    )
    forward_batch_size: int = field(
        default=32,
        metadata={"help": "Completions per forward pass. Those of like length share one, which saves padding."},
    )
    disable_dropout: bool = field(
        default=True,
        metadata={"help": "Train without dropout, so that a log-ratio is 0 before the first step."},
    )


class GDPOTrainer(Trainer):
    """Trains `model` by the GDPO loss on offline groups.

    Args:
        model: the policy, or the path or Hub name to load it from. A `PeftModel` trains its adapter.
        ref_model: the reference; absent, the policy as it starts (a `PeftModel` with its adapter disabled).
        args: absent, `GDPOConfig("gdpo")`.
        train_dataset: rows with `prompt`, `completions`, `rewards`: a `datasets.Dataset` or a list. A group
            whose rewards are all equal has no pair, and is left out (`skipped_groups` counts them).
        processing_class: the tokenizer; absent, the policy's own.
        peft_config: wraps `model` in this adapter.

    Logs, beside the loss, `rewards/accuracies` and `rewards/margins` (over the loss's pairs, as DPO has
    them), `log_ratios/best` and `log_ratios/worst` of each group, and `kl`: half the squared log-ratio
    (Schulman's k2), taken on the groups' completions and so off-policy, a trend rather than a level.
    Raises DataError, a ValueError of one sentence, on rows that do not fit.
    """

    loss_is_scaled_for_ga = False  # a mean over groups: Trainer divides by the accumulation steps

    def __init__(
        self,
        model: str | PreTrainedModel,
        ref_model: PreTrainedModel | None = None,
        args: GDPOConfig | None = None,
        train_dataset: Dataset | Sequence[dict[str, Any]] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: Any = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        args = args or GDPOConfig("gdpo")
        set_seed(args.seed)  # an adapter starts at random
        if isinstance(model, str):
            model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, use_safetensors=True)
        if processing_class is None:
            processing_class = AutoTokenizer.from_pretrained(model.config._name_or_path)
        if peft_config is not None:
            from peft import get_peft_model

            model = get_peft_model(model, peft_config)
        if args.disable_dropout:
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        if train_dataset is None:
            raise DataError("train_dataset: expected rows with prompt, completions and rewards, found none")
        rows = tokenize_groups(train_dataset, processing_class, args.max_length)
        kept = informative(rows)
        self.skipped_groups = len(rows) - len(kept)
        pad_id = processing_class.pad_token_id
        collator = GroupCollator(
            pad_id if pad_id is not None else processing_class.eos_token_id, args.forward_batch_size
        )
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=Dataset.from_list(kept),
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self._metrics: dict[str, list[float]] = defaultdict(list)
        self._tokens = 0
        column = self._reference_log_probs(ref_model)
        self.train_dataset = self.train_dataset.add_column("ref_log_probs", column)

    def _reference_log_probs(self, ref_model: PreTrainedModel | None) -> list[list[float]]:
        """The reference's log-probability of every sequence of every group, in the data's order."""
        model = self.model if ref_model is None else ref_model.to(self.args.device)
        disabled = contextlib.nullcontext()
        if ref_model is None and hasattr(model, "disable_adapter"):
            disabled = model.disable_adapter()
        training = model.training
        model.eval()
        column: list[list[float]] = []
        groups, size = self.train_dataset.to_list(), self.args.per_device_train_batch_size
        with torch.no_grad(), disabled, self.compute_loss_context_manager():
            for start in range(0, len(groups), size):
                rows = groups[start : start + size]
                batch = self._prepare_inputs(self.data_collator(rows))
                values = iter(self._log_probs(model, batch)[batch["unsorted"]].tolist())
                column += [[next(values) for _ in row["sequences"]] for row in rows]
        model.train(training)
        return column

    def _log_probs(self, model: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
        """Log-probability of each distinct completion, sum or mean over its tokens, in chunk order."""
        scored = [completion_log_probs(model, **chunk) for chunk in batch["chunks"]]
        if self.args.length == "mean":
            lengths = [(chunk["labels"] != IGNORED).sum(-1) for chunk in batch["chunks"]]
            scored = [total / length for total, length in zip(scored, lengths, strict=True)]
        return torch.cat(scored)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        log_probs = self._log_probs(model, inputs)
        log_ratios = (log_probs - inputs["ref_log_probs"].to(log_probs.dtype))[inputs["index"]]
        rewards, mask = inputs["rewards"].to(log_probs.dtype), inputs["mask"]
        loss = gdpo_loss(
            log_ratios,
            rewards,
            mask,
            beta=self.args.beta,
            pairs=self.args.pairs,
            link=self.args.link,
            advantage=self.args.advantage,
        )
        self._measure(log_ratios.detach(), rewards, mask)
        self._tokens += sum(int(chunk["attention_mask"].sum()) for chunk in inputs["chunks"])
        return (loss, {"log_ratios": log_ratios}) if return_outputs else loss

    @torch.no_grad()
    def _measure(self, log_ratios: Tensor, rewards: Tensor, mask: Tensor) -> None:
        weights = pair_weights(rewards, mask, self.args.pairs)
        gaps = log_ratios.unsqueeze(-1) - log_ratios.unsqueeze(-2)
        best = rewards.masked_fill(~mask, -math.inf).argmax(-1, keepdim=True)
        worst = rewards.masked_fill(~mask, math.inf).argmin(-1, keepdim=True)
        measured = {
            "rewards/accuracies": (weights * (gaps > 0)).sum((-2, -1)).mean(),
            "rewards/margins": self.args.beta * (weights * gaps).sum((-2, -1)).mean(),
            "log_ratios/best": log_ratios.gather(-1, best).mean(),
            "log_ratios/worst": log_ratios.gather(-1, worst).mean(),
            "kl": (0.5 * log_ratios.square() * mask).sum() / mask.sum(),
        }
        values = self.accelerator.reduce(torch.stack(list(measured.values())), "mean")
        for name, value in zip(measured, values.tolist(), strict=True):
            self._metrics[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs |= {name: sum(values) / len(values) for name, values in self._metrics.items()}
        logs["num_tokens"] = self._tokens
        self._metrics.clear()
        super().log(logs, start_time)


def completion_log_probs(model: torch.nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """log pi(completion | prompt) of each sequence, (N,), from (N, T) right-padded tensors.

    `labels` are the input ids on completion tokens and IGNORED elsewhere. Logits are computed from the first
    completion token on only, which spares the vocabulary-wide part of the longest shared prompt.
    """
    first = int((labels != IGNORED).int().argmax(-1).min())
    keep = labels.shape[1] - first + 1
    outputs = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, logits_to_keep=keep)
    logits = outputs.logits[:, -keep:-1].float()
    losses = functional.cross_entropy(logits.transpose(1, 2), labels[:, first:], ignore_index=IGNORED, reduction="none")
    return -losses.sum(-1)


@dataclass
class GroupCollator:
    """Joins groups into one batch in which every distinct sequence stands once.

    `chunks`: right-padded `input_ids`, `attention_mask`, `labels`, each of at most `chunk_size` sequences,
    sorted by length; the other tensors lead back: `index` (B, G) gives each completion's place in the chunks
    laid end to end, `mask` and `rewards` are (B, G), `ref_log_probs` is in chunk order, `unsorted` gives the
    rows' order.
    """

    pad_token_id: int
    chunk_size: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        sequences = [(row["prompt_ids"], ids) for row in rows for ids in row["sequences"]]
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]) + len(sequences[i][1]))
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order)] = torch.arange(len(order))
        starts = range(0, len(order), self.chunk_size)
        batch = {
            "chunks": [self._pad([sequences[i] for i in order[s : s + self.chunk_size]]) for s in starts],
            "unsorted": place,
        }
        shape = (len(rows), max(len(row["index"]) for row in rows))
        index, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
        rewards = torch.zeros(shape, dtype=torch.float32)
        offset = 0
        for group, row in enumerate(rows):
            size = len(row["index"])
            index[group, :size] = place[offset + torch.tensor(row["index"])]
            rewards[group, :size] = torch.tensor(row["rewards"])
            mask[group, :size] = True
            offset += len(row["sequences"])
        batch |= {"index": index, "mask": mask, "rewards": rewards}
        if "ref_log_probs" in rows[0]:
            values = [value for row in rows for value in row["ref_log_probs"]]
            batch["ref_log_probs"] = torch.tensor(values)[torch.tensor(order)]
        return batch

    def _pad(self, sequences: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
        length = max(len(prompt) + len(completion) for prompt, completion in sequences)
        padded: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
        for prompt, completion in sequences:
            used = len(prompt) + len(completion)
            rest = length - used
            padded["input_ids"].append([*prompt, *completion, *[self.pad_token_id] * rest])
            padded["attention_mask"].append([1] * used + [0] * rest)
            padded["labels"].append([*[IGNORED] * len(prompt), *completion, *[IGNORED] * rest])
        return {name: torch.tensor(values) for name, values in padded.items()}


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """A prompt's token ids: text as the tokenizer takes it, messages by the chat template up to the reply."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)


def completion_ids(tokenizer: PreTrainedTokenizerBase, completion: str) -> list[int]:
    """A completion's token ids, its text verbatim, ended by one end-of-sequence token.

    It is tokenized apart from its prompt, as it was when a model generated it.
    """
    ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]


def informative(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that make a pair: those with two different rewards. Raises DataError where there is none."""
    kept = [row for row in rows if len(set(row["rewards"])) > 1]
    if not kept:
        raise DataError("rewards: expected a group with two different rewards, found none")
    return kept


def tokenize_groups(
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    smallest: int = 2,
) -> list[dict[str, Any]]:
    """Check groups of at least `smallest` completions and tokenize them.

    Each gives `prompt_ids`; `sequences`, its distinct completions' ids, cut so that prompt and completion fit
    in `max_length`; `index`, each completion's place among them; `rewards`. Raises DataError naming the row.
    """
    groups = []
    for number, row in enumerate(rows):
        check_group(number, row, smallest)
        prompt = prompt_ids(tokenizer, row["prompt"])
        if max_length is not None and len(prompt) >= max_length:
            found = f"expected fewer than max_length={max_length} tokens, found {len(prompt)}"
            raise DataError(f"row {number}, prompt: {found}")
        room = None if max_length is None else max_length - len(prompt)
        places: dict[tuple[int, ...], int] = {}
        index = []
        for completion in row["completions"]:
            ids = tuple(completion_ids(tokenizer, completion)[:room])
            index.append(places.setdefault(ids, len(places)))
        rewards = [float(reward) for reward in row["rewards"]]
        sequences = [list(ids) for ids in places]
        groups.append({"prompt_ids": prompt, "sequences": sequences, "index": index, "rewards": rewards})
    return groups


def check_group(number: int, row: dict[str, Any], smallest: int) -> None:
    """Raise DataError naming row and column unless `row` is a prompt, completions and their rewards."""
    for column in ("prompt", "completions", "rewards"):
        if row.get(column) is None:
            found = ", ".join(name for name, value in row.items() if value is not None) or "none"
            raise DataError(f"row {number}: expected a column '{column}', found {found}")
    completions, rewards = row["completions"], row["rewards"]
    if len(completions) != len(rewards):
        found = f"{len(completions)} completions and {len(rewards)} rewards"
        raise DataError(f"row {number}: expected a reward per completion, found {found}")
    if len(completions) < smallest:
        raise DataError(f"row {number}, completions: expected at least {smallest}, found {len(completions)}")
    for place, (completion, reward) in enumerate(zip(completions, rewards, strict=True)):
        if not isinstance(completion, str) or not completion.strip():
            raise DataError(f"row {number}, completions[{place}]: expected text, found {completion!r}")
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise DataError(f"row {number}, rewards[{place}]: expected a finite number, found {reward!r}")
