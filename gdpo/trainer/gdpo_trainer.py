"""GDPOTrainer: offline group preference optimization in TRL's style (paper, section GDPO).

    trainer = GDPOTrainer("Qwen/Qwen3-0.6B", args=GDPOConfig("out"), train_dataset=groups)
    trainer.train()

A row of `train_dataset` is a group: `prompt` (text or messages), `completions`, `rewards` (numbers). The policy scores
each distinct completion once per step (where activations are recomputed, its forward pass runs twice). The reference
scores it once before training, or in each step with `precompute_ref_log_probs=False`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.trainer_utils import EvalPrediction, PredictionOutput, TrainOutput
from transformers.utils import logging

from gdpo.core.errors import ArgumentError, suggest
from gdpo.trainer.checks import (
    Limits,
    check_arguments,
    check_causal,
    check_choices,
    check_reference,
    warn_of_low_precision,
)
from gdpo.trainer.dataset import DataError
from gdpo.trainer.distributed import backward_by_pass, passes_again, run_in_wrapped_forward
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.group_reader import GroupReader
from gdpo.trainer.logged_trainer import LoggedTrainer
from gdpo.trainer.logprobs import routed_log_probs
from gdpo.trainer.model_card import CardTrainer
from gdpo.trainer.model_setup import (
    ModelPath,
    check_trainable,
    choose_collator,
    load_policy,
    load_reference,
    load_tokenizer,
)
from gdpo.trainer.objective import gdpo_loss
from gdpo.trainer.reference_trainer import ReferenceTrainer
from gdpo.trainer.resuming import chosen_checkpoint
from gdpo.trainer.reward_funcs import Reward, Tokenizer, scorers
from gdpo.trainer.router_loss import RouterLoss
from gdpo.trainer.rows import Rows, RowSets
from gdpo.trainer.samplers import SeededShuffle, append_dummy_group

__all__ = ["DataError", "GDPOConfig", "GDPOTrainer"]

logger = logging.get_logger(__name__)

OBJECTIVE = ("beta", "pairs", "link", "advantage", "pushes")  # the settings that are arguments of `gdpo_loss`
# Autocast would keep its copies of all weights in bfloat16 for as long as a pass takes; each is used once.
UNCACHED = AutocastKwargs(cache_enabled=False)
ABSENT = -100  # what Trainer fills predictions up with, in groups that have fewer completions than another


class GDPOTrainer(LoggedTrainer, ReferenceTrainer, CardTrainer):
    """Trains `model` by the GDPO loss on offline groups.

    Args:
        model: the policy, or the path or Hub name to load it from. Of a `PeftModel` the adapter is trained.
        ref_model: the reference, or its path; absent, the policy as it starts (a `PeftModel` with its adapter
            disabled).
        args: the settings; absent, `GDPOConfig("gdpo")`.
        train_dataset: rows with `prompt`, `completions`, `rewards`: a `datasets.Dataset`, a list, or a stream, which is
            read once and kept in memory. A group whose rewards are all equal has no pair and is left out
            (`skipped_groups` counts these); DataError where all are.
        eval_dataset: the same, for `evaluate`; or several by name, a mapping or a `datasets.DatasetDict`.
        processing_class: the tokenizer, or its path; absent, the policy's own.
        reward_funcs: one or several functions, reward models or paths of these, as GRPOTrainer takes them, which give
            the rewards instead of a `rewards` column. They are called once per group, before training
            (`gdpo.trainer.reward_funcs.apply_reward_funcs`).
        callbacks, optimizers: as `transformers.Trainer` takes them.
        peft_config: wraps `model` in this adapter.
        reward_processing_classes: the tokenizers of `reward_funcs` that are models, None for a function; absent, their
            own.
        compute_metrics: as `transformers.Trainer` takes it. Its predictions are the log-ratios, its labels the
            rewards, (groups, largest group), -100 where a group has fewer completions.

    Logs, beside the loss: `rewards/accuracies` and `rewards/margins` over the loss's pairs, as DPO has them;
    the shares of groups in which the best completion falls or the worst rises, `log_ratios/best_falls` and
    `log_ratios/worst_rises` (docs/objective.md says what they mean), and `log_ratios/rest` of those between them;
    `log_ratios/best` and `log_ratios/worst` of each group; `kl`, half the squared log-ratio (Schulman's k2) on the
    groups' completions, which is off-policy and so a trend rather than a level; `padding_share` of the tokens
    processed; `useful_tokens_per_second`, completion tokens scored; and `num_tokens`, all but padding since training
    began. Once, in the first entry: `rewards/NAME/mean` and `/std` of each reward function, and what they gave to
    `log_metric`. `groups` has what is no number of a step: `dropped` counts the completions and groups that were
    empty or too long, `reward_columns` has what went to `log_extra`.

    Raises DataError on rows and ArgumentError on arguments that do not fit: ValueErrors of one sentence.

    Example:
        >>> from gdpo import GDPOConfig, GDPOTrainer
        >>> groups = [{"prompt": "2 + 3 =", "completions": ["5", "6", "7"], "rewards": [1.0, 0.5, 0.0]}]
        >>> args = GDPOConfig("out", num_train_epochs=1)
        >>> trainer = GDPOTrainer("Qwen/Qwen3-0.6B", args=args, train_dataset=groups)
        >>> trainer.train()
    """

    processing_class: PreTrainedTokenizerBase
    described = (*OBJECTIVE, "length")
    loss_is_scaled_for_ga = True  # `compute_loss` divides by the groups of the whole step
    gathered_in = None  # autocast computes in bfloat16, as it does when the reference scores: log-ratios start at 0

    def __init__(
        self,
        model: ModelPath | PreTrainedModel,
        ref_model: ModelPath | PreTrainedModel | None = None,
        args: GDPOConfig | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: RowSets | None = None,
        processing_class: ModelPath | PreTrainedTokenizerBase | None = None,
        reward_funcs: Reward | Sequence[Reward] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        reward_processing_classes: Tokenizer | Sequence[Tokenizer] = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
    ):
        args = GDPOConfig("gdpo") if args is None else args
        check_arguments(model, ref_model, args, processing_class, peft_config)
        if isinstance(ref_model, PreTrainedModel) and ref_model is model:
            expected = "another object than model; leave it out to keep model's start"
            raise ArgumentError(key="ref_model", found="model itself", expected=expected)
        set_seed(args.seed)  # an adapter starts at random
        check_choices(args, reward_funcs, callbacks, optimizers, compute_metrics)
        policy = load_policy(model, args, peft_config)
        check_trainable(policy)
        check_causal("model", policy)
        tokenizer = load_tokenizer(processing_class, policy, args)
        warn_of_low_precision(policy, args.learning_rate)
        limits = [Limits.of("model", policy)]
        reference = load_reference(ref_model, policy, args)
        if reference is not None:
            check_causal("ref_model", reference)
            check_reference(reference, policy)
            limits.append(Limits.of("ref_model", reference))
        self._router = RouterLoss.of(policy)
        self.groups = GroupReader(tokenizer, args, scorers(reward_funcs, reward_processing_classes), limits)
        super().__init__(
            model=policy,
            args=args,
            data_collator=choose_collator(policy, args, tokenizer),
            train_dataset=self.groups.read("train_dataset", train_dataset),
            eval_dataset=None if eval_dataset is None else self.groups.read_sets(eval_dataset),
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
            compute_metrics=compute_metrics,
        )
        self.model.add_model_tags(list(self.tag_names))
        self._reset_log()
        self._reference_freed = False
        self._place_models(reference)
        if args.precompute_ref_log_probs:
            self._precompute_reference()
        elif ref_model is None:
            self._keep_live_reference()
        if self.accelerator.num_processes > 1:
            self.train_dataset = append_dummy_group(self.train_dataset)

    @property
    def skipped_groups(self) -> int:
        """How many groups of `train_dataset` make no pair, since their rewards are all equal."""
        return self.groups.tied.get("train_dataset", 0)

    # What Trainer and Parallel call

    def train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.accelerator.num_processes > 1 or self.args.train_sampling_strategy != "random":
            return super().train_sampler(train_dataset)
        return self.order(len(self.train_dataset))

    def order(self, items: int) -> SeededShuffle:
        return SeededShuffle(items, self.args.seed if self.args.data_seed is None else self.args.data_seed)

    def after_load(self, checkpoint: str, model: nn.Module | None = None) -> None:
        policy = self.accelerator.unwrap_model(model or self.model)
        if isinstance(policy, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            # Trainer loads by name. It leaves at their start the weights that transformers saves under another name
            # than the model has for them: GPT-NeoX's head, the experts of mixtures.
            saved = type(policy).from_pretrained(checkpoint, dtype=policy.dtype, use_safetensors=True)
            policy.load_state_dict(saved.state_dict())

    def before_save(self) -> None:
        super().before_save()
        self.create_model_card()

    # The loss

    def _log_probs(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """log pi of the batch's distinct completions, (C,): the sum over tokens."""
        return self._routed_log_probs(model, batch, None)[0]

    def _routed_log_probs(
        self, model: nn.Module, batch: dict[str, Any], router: RouterLoss | None, only: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """`_log_probs`, and the sums of a mixture's auxiliary loss, which are empty without one.

        What exceeds `max_activation_tokens` stores no activations and is computed again in the backward pass. The
        gradient of a completion's log-probability is the same either way. With `only`, of that pass alone.
        """
        forwards = batch["forwards"]
        again = passes_again(model, forwards, self.args.max_activation_tokens) if only is None else [False] * (only + 1)
        counts = torch.zeros_like(batch["lengths"]).index_fill(0, batch["index"][batch["mask"]], 1)

        def score(forward: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            scored, logits = routed_log_probs(model, forward, self.args.max_logits, routers=router is not None)
            if router is None:
                return scored, scored.new_zeros(0)
            weights = counts[forward["owners"]].to(scored.dtype)
            return scored, router.sums(logits, forward["sources"], weights)

        first = only or 0
        for number, recompute in enumerate(again[first:], start=first):
            forward = forwards[min(number, len(forwards) - 1)]
            with self.accelerator.autocast(UNCACHED):
                token_log_probs, sums = (
                    checkpoint(score, forward, use_reentrant=False)
                    if recompute and torch.is_grad_enabled()
                    else score(forward)
                )
            if number == first:
                total, routed = token_log_probs.new_zeros(len(batch["lengths"])), torch.zeros_like(sums)
            # A pass beyond a process's own ones lets the other processes gather its weights, and counts nothing.
            own = 1.0 if number < len(forwards) else 0.0
            total = total.index_add(0, forward["owners"], own * token_log_probs)
            routed = routed + own * sums
        return total, routed

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        if self.model.training and self._since is None:
            self._since = time.perf_counter()
        policy = self.accelerator.unwrap_model(model)

        def score(only: int | None = None) -> tuple[Tensor, Tensor]:
            run = lambda: self._routed_log_probs(policy, inputs, self._router, only)  # noqa: E731
            return run_in_wrapped_forward(model, policy, run, inputs["rewards"])

        def loss_of(log_probs: Tensor, routed: Tensor) -> tuple[Tensor, Tensor]:
            reference = inputs["ref_log_probs"] if "ref_log_probs" in inputs else self._ref_log_probs(inputs)
            log_ratios = log_probs - reference.to(log_probs.dtype)
            if self.args.length == "mean":
                log_ratios = log_ratios / inputs["lengths"]
            log_ratios = log_ratios[inputs["index"]]
            rewards, mask = inputs["rewards"].to(log_probs.dtype), inputs["mask"]
            loss = gdpo_loss(log_ratios, rewards, mask, **{name: getattr(self.args, name) for name in OBJECTIVE})
            self._measure(loss, log_ratios.detach(), rewards, mask, inputs["tokens"])
            if num_items_in_batch is not None:
                # Gradients are averaged over processes and summed over a step's batches: each group counts one in the
                # step's total. In this order, since whole numbers divide to a float32.
                loss = loss * (len(rewards) * self.accelerator.num_processes) / num_items_in_batch
            if self._router is not None:
                loss = loss + self._auxiliary_loss(self._router, routed, mask.any(-1).sum(), num_items_in_batch)
            return loss, log_ratios

        passes = len(passes_again(policy, inputs["forwards"], self.args.max_activation_tokens))
        if passes > 1 and isinstance(policy, FSDPModule) and torch.is_grad_enabled():
            loss, log_ratios = backward_by_pass(passes, score, loss_of, self.accelerator.backward)
        else:
            loss, log_ratios = loss_of(*score())
        return (loss, {"log_ratios": log_ratios}) if return_outputs else loss

    def _auxiliary_loss(
        self, router: RouterLoss, routed: Tensor, groups: Tensor, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The coefficient times a mixture's auxiliary loss, weighted by a batch's groups as the loss is; logged."""
        loss = router.loss(routed)
        sums = self._sums["train" if self.model.training else "eval"]
        sums["aux_loss"] = sums.get("aux_loss", 0) + loss.detach() * groups
        if num_items_in_batch is not None:
            loss = loss * (groups * self.accelerator.num_processes) / num_items_in_batch
        return router.coefficient * loss

    def items_in_step(self, batches: list[Any], device: torch.device) -> Tensor:
        """The groups of one optimizer step, over its batches and all processes."""
        groups = torch.tensor(sum(int(batch["mask"].any(-1).sum()) for batch in batches), device=device)
        total: Tensor = self.accelerator.reduce(groups, "sum")
        return total

    def train(
        self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None, *args: Any, **kwargs: Any
    ) -> TrainOutput:
        """Train as `transformers.Trainer` does, from `resume_from_checkpoint` where it is given.

        Raises ArgumentError where that is no whole checkpoint; True takes the last whole one, and a warning says which
        later ones are none. Raises DivergedError, naming the step, where loss or weights are no finite numbers.
        """
        output_dir = Path(self.args.output_dir or "")
        checkpoint = chosen_checkpoint(resume_from_checkpoint, output_dir, self.is_fsdp_enabled, logger.warning)
        self._reference_freed = self._reference_freed or not self._start_stays()
        return super().train(checkpoint, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Losses and what is logged in training, with `eval_` before each name; for several sets `eval_NAME_`.

        Args:
            eval_dataset: other groups than the trainer's `eval_dataset`, in any of its forms, or the name of one of
                its sets. Other groups need the reference: one that is kept (`precompute_ref_log_probs=False`), the
                weights below an adapter, or the policy before `train` is called. Raises DataError where it is gone.
            ignore_keys: as `transformers.Trainer` takes it.
            metric_key_prefix: what stands for `eval` in the names.
        """
        self._check_name(eval_dataset)
        if not (eval_dataset is None or isinstance(eval_dataset, str) or self.groups.has_read(eval_dataset)):
            eval_dataset = self._late_groups(eval_dataset, metric_key_prefix)
        sets = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(sets, Mapping):
            metrics: dict[str, float] = {}
            for name in sets:
                chosen = name if eval_dataset is None else sets[name]
                metrics |= self.evaluate(chosen, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        self._sums["eval"].clear()
        self._eval_prefix = metric_key_prefix
        began = time.perf_counter()
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if self._since is not None:
            self._since += time.perf_counter() - began  # evaluation does not count as training time
        return metrics

    def _check_name(self, given: Any) -> None:
        """Raises DataError where `given` is text that names no set of the trainer's `eval_dataset`."""
        known = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {}
        if isinstance(given, str) and given not in known:
            raise DataError(key="eval_dataset", found=repr(given), hint=suggest(given, known))

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Log-ratios and rewards, (groups, G), and the loss, of one set of groups as `evaluate` takes them."""
        if isinstance(test_dataset, Mapping):
            raise DataError(key="test_dataset", found="several sets", expected="one, or evaluate for all of them")
        if not self.groups.has_read(test_dataset):
            test_dataset = self._late_groups(test_dataset, metric_key_prefix)
        output = super().predict(test_dataset, ignore_keys, metric_key_prefix)
        self._sums["eval"].clear()
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The loss; for `compute_metrics` also log-ratios and rewards, (B, G), -100 where a group has fewer."""
        inputs = self.on_device(inputs)
        with torch.no_grad():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        assert isinstance(outputs, dict)  # return_outputs
        if prediction_loss_only:
            return loss.detach(), None, None
        absent = ~inputs["mask"]
        log_ratios = outputs["log_ratios"].masked_fill(absent, ABSENT)
        return loss.detach(), log_ratios, inputs["rewards"].masked_fill(absent, ABSENT)
