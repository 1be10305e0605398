"""Validation reward during training, with the clock stopped while it is measured (paper, table A3: convergence).

It is the same for every method, so that online and offline methods are compared by their students' answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gdpo.models.sampling_hf import ignored_generation_defaults
from gdpo.trainer.chat_template import restore_think

PREFIX = "watch_"


class GeneratingModel(Protocol):
    """A model that generates: one of transformers', or one with an adapter around it."""

    training: bool
    device: torch.device

    def train(self, mode: bool) -> object: ...

    def eval(self) -> object: ...

    def generate(self, **options: Any) -> Tensor: ...


@dataclass
class ValidationReward(TrainerCallback):
    """Logs the mean reward of greedy answers to fixed questions: before training, every `every` steps, at the end.

    `prompts` are rendered questions. `reward` gives each completion's reward from (texts, lengths in tokens, index of
    the first one's prompt). `rollouts` counts what the student has sampled to learn from so far. The entries are in the
    trainer's log, and so in its checkpoints: step, `watch_seconds` of training without these measurements,
    `watch_completions`, `watch_reward`.
    """

    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[str]
    reward: Callable[[list[str], list[int], int], list[float]]
    every: int
    max_new_tokens: int
    batch_size: int
    rollouts: Callable[[], int] = lambda: 0
    paused: float = field(default=0.0, init=False)
    started: float | None = field(default=None, init=False)

    def start_clock(self) -> None:
        """Start counting seconds. What a method prepares, such as its reference's pass, is part of its time."""
        self.started = time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        before = [entry for entry in state.log_history if f"{PREFIX}seconds" in entry]
        self._sampled, self._stopped = 0, 0.0
        if before:  # a resumed run continues the counts
            self._sampled = int(before[-1][f"{PREFIX}completions"])
            self.started = time.perf_counter() - before[-1][f"{PREFIX}seconds"]
        elif self.started is None:
            self.start_clock()
        if not before:
            self._measure(state, model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._measure(state, model)

    def _measure(self, state: TrainerState, model: GeneratingModel) -> None:
        assert self.started is not None  # since training began
        now = time.perf_counter()
        entry = {"step": state.global_step, f"{PREFIX}seconds": now - self.started - self._stopped}
        entry |= {f"{PREFIX}completions": self._sampled + self.rollouts(), f"{PREFIX}reward": self._mean_reward(model)}
        state.log_history.append(entry)
        spent = time.perf_counter() - now
        self._stopped += spent
        self.paused += spent

    @torch.no_grad()  # not inference_mode: sharded weights cannot be gathered into its tensors to train on
    def _mean_reward(self, model: GeneratingModel) -> float:
        training = model.training
        model.eval()
        rewards: list[float] = []
        for start in range(0, len(self.prompts), self.batch_size):
            texts = self._answers(model, list(self.prompts[start : start + self.batch_size]))
            lengths = [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]
            rewards += self.reward(texts, lengths, start)
        model.train(training)
        return sum(rewards) / len(rewards)

    def _answers(self, model: GeneratingModel, prompts: list[str]) -> list[str]:
        inputs = self.tokenizer(
            prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        ).to(model.device)
        with ignored_generation_defaults(model):
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                synced_gpus=isinstance(model, FSDPModule),  # every process must make as many passes
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [restore_think(prompt, text).strip() for prompt, text in zip(prompts, texts, strict=True)]


def split_log(log: list[dict]) -> tuple[list[dict], list[dict]]:
    """A trainer's log without validation rewards, and these by themselves: step, seconds, completions, reward."""
    watched = [entry for entry in log if f"{PREFIX}seconds" in entry]
    rest = [entry for entry in log if f"{PREFIX}seconds" not in entry]
    return rest, [{key.removeprefix(PREFIX): value for key, value in entry.items()} for entry in watched]
