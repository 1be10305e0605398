"""What GDPOTrainer logs: sums over the batches since the last log, as means, and that training has not diverged."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput

from gdpo.trainer.distributed import Parallel
from gdpo.trainer.divergence import DivergenceWatch
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.group_reader import GroupReader
from gdpo.trainer.metrics import batch_sums, means


class LoggedTrainer(Parallel):
    """A trainer that logs what its batches say of groups, and stops where its loss or its weights are no numbers.

    Attributes:
        groups: reads data sets of groups, and keeps what their reward functions log.
    """

    args: GDPOConfig
    model: PreTrainedModel
    groups: GroupReader
    _sums: dict[str, dict[str, Any]]  # by mode, "train" or "eval"
    _since: float | None  # when the training that is not logged yet began
    _uncounted: int
    _eval_prefix: str
    _watch: DivergenceWatch

    def _reset_log(self) -> None:
        """Forget what a training that is over has not logged, and watch a new one."""
        self._since, self._uncounted, self._eval_prefix = None, 0, "eval"
        self._sums = {"train": {}, "eval": {}}
        self._watch = DivergenceWatch(self.accelerator)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `transformers.Trainer` does. Raises DivergedError where loss or weights are no finite numbers."""
        self._reset_log()
        output: TrainOutput = super().train(*args, **kwargs)
        self._watch.check(self.model, self.state.global_step)
        return output._replace(training_loss=output.metrics["train_loss"])

    def before_save(self) -> None:
        self._watch.check(self.model, self.state.global_step)
        self._update_token_count()
        self.keep_loss()

    def _measure(self, loss: Tensor, log_ratios: Tensor, rewards: Tensor, mask: Tensor, tokens: dict[str, int]) -> None:
        """Add the batch to the sums that `log` divides."""
        mode = "train" if self.model.training else "eval"
        sums = self._sums[mode]
        added = batch_sums(log_ratios, rewards, mask, tokens, beta=self.args.beta, pairs=self.args.pairs)
        for name, value in added.items():
            sums[name] = sums.get(name, 0) + value
        if mode == "train":
            self._uncounted += tokens["real"]
            self._watch.see(loss, self.state.global_step + 1)

    def _update_token_count(self) -> None:
        """Add the tokens since the last call to the state's number, before it is logged or saved."""
        real = torch.tensor(self._uncounted, device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.reduce(real, "sum"))
        self._uncounted = 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            self._watch.check_loss()
        if "train_loss" in logs:
            logs["train_loss"] = self.loss_of_all_steps(logs["train_loss"])
        if self._sums[mode]:
            values = torch.tensor([float(value) for value in self._sums[mode].values()], dtype=torch.float64)
            if self.accelerator.num_processes > 1:
                values = self.accelerator.reduce(values.to(self.args.device), "sum")
            sums = dict(zip(self._sums[mode], values.tolist(), strict=True))
            self._sums[mode].clear()
            logged = means(sums)
            if mode == "train" and self._since is not None:
                now = time.perf_counter()
                logged["useful_tokens_per_second"] = sums["useful"] / (now - self._since)
                self._since = now
            logs |= self._named(mode, logged)
        if mode == "train":
            self._update_token_count()
            logs["num_tokens"] = self.state.num_input_tokens_seen
        if means_of := self.groups.reward_means.pop("train" if mode == "train" else self._eval_prefix, None):
            logs |= self._named(mode, means_of)  # once, since the rewards stay what they are
        super().log(logs, start_time)

    def _named(self, mode: str, values: dict[str, float]) -> dict[str, float]:
        """`values` under the names that they are logged by."""
        return values if mode == "train" else {f"{self._eval_prefix}_{name}": value for name, value in values.items()}
