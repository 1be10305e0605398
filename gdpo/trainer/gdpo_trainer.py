"""GDPOTrainer: offline group preference optimization in TRL's style (paper, section GDPO).

    trainer = GDPOTrainer("Qwen/Qwen3-0.6B", args=GDPOConfig("out"), train_dataset=groups)
    trainer.train()

A row of `train_dataset` is a group: `prompt` (text or messages), `completions`, `rewards` (numbers). The policy scores
each distinct completion once per step (where activations are recomputed, its forward pass runs twice). The reference
scores it once before training, or in each step with `precompute_ref_log_probs=False`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Sampler
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from gdpo.core.device import to_device
from gdpo.core.errors import ArgumentError
from gdpo.trainer import compat
from gdpo.trainer.dataset import DataError, RewardFunc, apply_reward_funcs, drop_tied_groups, tokenize_groups
from gdpo.trainer.distributed import Parallel, recompute_plan, run_in_wrapped_forward
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.logprobs import completion_log_probs, is_adapted
from gdpo.trainer.metrics import batch_sums, means
from gdpo.trainer.model_setup import check_trainable, choose_collator, disable_dropout, load_policy
from gdpo.trainer.objective import gdpo_loss
from gdpo.trainer.packing import batch_by_tokens
from gdpo.trainer.reference_cache import cache_key, reference_log_probs, reference_parameters
from gdpo.trainer.samplers import SeededShuffle, append_dummy_group

logger = logging.get_logger(__name__)

__all__ = ["DataError", "GDPOConfig", "GDPOTrainer"]

Rows: TypeAlias = Dataset | Sequence[dict[str, Any]]


class GDPOTrainer(Parallel):
    """Trains `model` by the GDPO loss on offline groups.

    Args:
        model: the policy, or the path or Hub name to load it from. Of a `PeftModel` the adapter is trained.
        ref_model: the reference; absent, the policy as it starts (a `PeftModel` with its adapter disabled).
        args: the settings; absent, `GDPOConfig("gdpo")`.
        train_dataset: rows with `prompt`, `completions`, `rewards`: a `datasets.Dataset` or a list. A group whose
            rewards are all equal has no pair and is left out (`skipped_groups` counts these); DataError where all are.
        eval_dataset: the same, for `evaluate`.
        processing_class: the tokenizer; absent, the policy's own.
        reward_funcs: one or several functions in TRL's style that give the rewards instead of a `rewards` column.
            They are called once per group, before training (`gdpo.trainer.dataset.apply_reward_funcs`).
        callbacks, optimizers: as `transformers.Trainer` takes them.
        peft_config: wraps `model` in this adapter.

    Logs, beside the loss: `rewards/accuracies` and `rewards/margins` over the loss's pairs, as DPO has them;
    `log_ratios/best` and `log_ratios/worst` of each group; `kl`, half the squared log-ratio (Schulman's k2) on the
    groups' completions, which is off-policy and so a trend rather than a level; `padding_share` of the tokens
    processed; `useful_tokens_per_second`, completion tokens scored; and `num_tokens`, all but padding since training
    began. Raises DataError on rows and ArgumentError on arguments that do not fit: ValueErrors of one sentence.
    """

    args: GDPOConfig
    model: PreTrainedModel
    ref_model: PreTrainedModel | None
    processing_class: PreTrainedTokenizerBase
    loss_is_scaled_for_ga = True  # `compute_loss` divides by the groups of the whole step
    gathered_in = None  # autocast computes in bfloat16, as it does when the reference scores: log-ratios start at 0

    def __init__(
        self,
        model: str | PreTrainedModel,
        ref_model: PreTrainedModel | None = None,
        args: GDPOConfig | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: Rows | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_funcs: RewardFunc | Sequence[RewardFunc] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
    ):
        args = args or GDPOConfig("gdpo")
        if ref_model is not None and ref_model is model:
            expected = "another object than model; leave it out to keep model's start"
            raise ArgumentError(key="ref_model", found="model itself", expected=expected)
        set_seed(args.seed)  # an adapter starts at random
        policy = load_policy(model, args, peft_config)
        if processing_class is None:
            processing_class = AutoTokenizer.from_pretrained(compat.loaded_from(policy))
        check_trainable(policy)
        self._reward_funcs = _functions(reward_funcs)
        self.skipped_groups = 0
        train_groups = self._read_groups("train_dataset", train_dataset, processing_class, args)
        eval_groups = None
        if eval_dataset is not None:
            eval_groups = self._read_groups("eval_dataset", eval_dataset, processing_class, args)
        if args.disable_dropout and ref_model is not None:
            disable_dropout(ref_model)
        super().__init__(
            model=policy,
            args=args,
            data_collator=choose_collator(policy, args, processing_class),
            train_dataset=Dataset.from_list(train_groups),
            eval_dataset=Dataset.from_list(eval_groups) if eval_groups else None,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self._sums: dict[str, dict[str, Any]] = {"train": {}, "eval": {}}
        self._since: float | None = None
        self._uncounted = 0
        self._place_models(ref_model)
        if args.precompute_ref_log_probs:
            self._precompute_reference()
        elif ref_model is None:
            self._keep_live_reference()
        if self.accelerator.num_processes > 1:
            self.train_dataset = append_dummy_group(self.train_dataset)

    # The steps of construction, in their order

    def _read_groups(self, name: str, rows: Rows | None, tokenizer: PreTrainedTokenizerBase, args: GDPOConfig) -> Any:
        """The groups of the data set `name` that make a pair: rewarded, checked and tokenized."""
        if not isinstance(rows, Dataset | list | tuple):
            found = "none" if rows is None else type(rows).__name__
            raise DataError(key=name, found=found, expected="a list or a datasets.Dataset of groups")
        if self._reward_funcs:
            rows = apply_reward_funcs(rows, self._reward_funcs, tokenizer, args.reward_weights)
        rows = rows.with_format(None) if isinstance(rows, Dataset) else rows
        groups = tokenize_groups(rows, tokenizer, args.max_length)
        cut = sum(group.pop("cut") for group in groups)
        if cut:
            total = sum(len(group["index"]) for group in groups)
            logger.warning(f"{name}: {cut} of {total} completions are cut at max_length={args.max_length} tokens")
        informative = drop_tied_groups(groups)
        if name == "train_dataset":
            self.skipped_groups = len(groups) - len(informative)
        return informative

    def _place_models(self, ref_model: PreTrainedModel | None) -> None:
        """Move the reference to the device, and the policy too where Trainer does not; refuse several GPUs at once."""
        self.ref_model = None if ref_model is None else to_device(ref_model, self.args.device).eval()
        if self.is_fsdp_enabled:
            to_device(self.model, self.args.device)  # whole weights score the reference before they are dealt out
        if self.args.n_gpu > 1:
            expected = "one GPU in each process, by accelerate launch"
            raise ArgumentError(key="GDPOTrainer", found="several GPUs in one process", expected=expected)

    def _precompute_reference(self) -> None:
        """Score the data by the reference, and free it."""
        self._reference_freed = self.ref_model is not None or not self._start_stays()
        self.train_dataset = self._with_reference(self.train_dataset)
        self.eval_dataset = self.eval_dataset and self._with_reference(self.eval_dataset)
        self.ref_model = None

    def _keep_live_reference(self) -> None:
        """Make the policy as it starts the reference of every step: below its adapter, or else a copy."""
        if not is_adapted(self.model):
            self.ref_model = copy.deepcopy(self.model).eval().requires_grad_(False)
        elif not self._start_stays():
            raise ArgumentError(
                key="precompute_ref_log_probs",
                found="False, and weights below the adapter that are trained too",
                expected="True, or a ref_model",
            )

    def _start_stays(self) -> bool:
        """Whether the policy as it starts stays there below its adapter, since no weight below it is trained."""
        return is_adapted(self.model) and not any(p.requires_grad for _, p in reference_parameters(self.model))

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
        self._update_token_count()

    # The reference

    def _with_reference(self, dataset: Dataset) -> Dataset:
        groups = dataset.to_list()
        model = self.ref_model or self.model
        settings = compat.model_settings(model.config)
        precision = [self.args.bf16, self.args.fp16, str(model.dtype)]
        key = cache_key(reference_parameters(model, aside=self.ref_model is None), [settings, precision], groups)
        assert self.args.output_dir is not None  # TrainingArguments names one where none is given
        cache = Path(self.args.ref_cache_dir or Path(self.args.output_dir) / "reference")

        def score(shard: Sequence[dict[str, Any]]) -> Tensor:
            batches = map(self.data_collator, batch_by_tokens(shard, self.args.max_forward_tokens))
            return torch.cat([self._ref_log_probs(self.on_device(batch)) for batch in batches])

        column = reference_log_probs(
            groups,
            score,
            cache / key,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            wait=self.accelerator.wait_for_everyone,
        )
        return dataset.add_column("ref_log_probs", column)

    def _late_groups(self, rows: Rows) -> Dataset:
        """Groups given after construction, ready to evaluate. Raises DataError where their reference is freed."""
        if self.args.precompute_ref_log_probs and self._reference_freed:
            raise DataError(
                "the reference is freed after its pass",
                key="eval_dataset",
                expected="these groups at the trainer's eval_dataset, or precompute_ref_log_probs=False",
            )
        groups = Dataset.from_list(self._read_groups("eval_dataset", rows, self.processing_class, self.args))
        return self._with_reference(groups) if self.args.precompute_ref_log_probs else groups

    @torch.no_grad()
    def _ref_log_probs(self, batch: dict[str, Any]) -> Tensor:
        """log pi_ref of the batch's distinct completions, (C,): the sum over tokens."""
        model: nn.Module = self.accelerator.unwrap_model(self.model) if self.ref_model is None else self.ref_model
        adapted = model if self.ref_model is None and is_adapted(model) else None
        training = model.training
        model.eval()
        trained = [p for p in model.parameters() if p.requires_grad]
        with adapted.disable_adapter() if adapted else contextlib.nullcontext():
            log_probs = run_in_wrapped_forward(model, model, lambda: self._log_probs(model, batch), batch["rewards"])
        if adapted:  # leaving the context has made every weight of the adapter trainable
            model.requires_grad_(False)
            for p in trained:
                p.requires_grad_(True)
        model.train(training)
        return log_probs

    # The loss

    def _log_probs(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """log pi of the batch's distinct completions, (C,): the sum over tokens.

        What exceeds `max_activation_tokens` stores no activations and is computed again in the backward pass. The
        gradient of a completion's log-probability is the same either way.
        """
        forwards = batch["forwards"]
        sizes = [forward["input_ids"].numel() for forward in forwards]
        gather = gather_object if isinstance(model, FSDPModule) else list
        plan = recompute_plan(sizes, self.args.max_activation_tokens or math.inf, lambda own: gather([own]))
        for number, recompute in enumerate(plan):
            forward = forwards[min(number, len(forwards) - 1)]
            arguments = (model, forward, self.args.max_logits)
            with self.accelerator.autocast():
                token_log_probs = (
                    checkpoint(completion_log_probs, *arguments, use_reentrant=False)
                    if recompute and torch.is_grad_enabled()
                    else completion_log_probs(*arguments)
                )
            if number == 0:
                total = token_log_probs.new_zeros(len(batch["lengths"]))
            # A pass beyond a process's own ones lets the other processes gather its weights, and counts nothing.
            counted = token_log_probs if number < len(forwards) else 0.0 * token_log_probs
            total = total.index_add(0, forward["owners"], counted)
        return total

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
        log_probs = run_in_wrapped_forward(model, policy, lambda: self._log_probs(policy, inputs), inputs["rewards"])
        reference = inputs["ref_log_probs"] if "ref_log_probs" in inputs else self._ref_log_probs(inputs)
        log_ratios = log_probs - reference.to(log_probs.dtype)
        if self.args.length == "mean":
            log_ratios = log_ratios / inputs["lengths"]
        log_ratios = log_ratios[inputs["index"]]
        rewards, mask = inputs["rewards"].to(log_probs.dtype), inputs["mask"]
        objective = {name: getattr(self.args, name) for name in ("beta", "pairs", "link", "advantage", "pushes")}
        loss = gdpo_loss(log_ratios, rewards, mask, **objective)
        self._measure(log_ratios.detach(), rewards, mask, inputs["tokens"])
        if num_items_in_batch is not None:
            # Gradients are averaged over processes and summed over a step's batches: each group counts one in the
            # step's total. In this order, since whole numbers divide to a float32.
            loss = loss * (len(rewards) * self.accelerator.num_processes) / num_items_in_batch
        return (loss, {"log_ratios": log_ratios}) if return_outputs else loss

    def items_in_step(self, batches: list[Any], device: torch.device) -> Tensor:
        """The groups of one optimizer step, over its batches and all processes."""
        groups = torch.tensor(sum(int(batch["mask"].any(-1).sum()) for batch in batches), device=device)
        total: Tensor = self.accelerator.reduce(groups, "sum")
        return total

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self._since, self._uncounted = None, 0
        self._sums["train"].clear()
        return super().train(*args, **kwargs)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        if eval_dataset is not None and "sequences" not in getattr(eval_dataset, "column_names", ()):
            eval_dataset = self._late_groups(eval_dataset)
        self._sums["eval"].clear()
        began = time.perf_counter()
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        if self._since is not None:
            self._since += time.perf_counter() - began  # evaluation does not count as training time
        return metrics

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        inputs = self.on_device(inputs)
        with torch.no_grad():
            loss = self.compute_loss(model, inputs)
        assert isinstance(loss, Tensor)  # return_outputs is False
        return loss.detach(), None, None

    # The log

    def _measure(self, log_ratios: Tensor, rewards: Tensor, mask: Tensor, tokens: dict[str, int]) -> None:
        """Add the batch to the sums that `log` divides."""
        mode = "train" if self.model.training else "eval"
        sums = self._sums[mode]
        added = batch_sums(log_ratios, rewards, mask, tokens, beta=self.args.beta, pairs=self.args.pairs)
        for name, value in added.items():
            sums[name] = sums.get(name, 0) + value
        if mode == "train":
            self._uncounted += tokens["real"]

    def _update_token_count(self) -> None:
        """Add the tokens since the last call to the state's number, before it is logged or saved."""
        real = torch.tensor(self._uncounted, device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.reduce(real, "sum"))
        self._uncounted = 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
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
            logs |= logged if mode == "train" else {f"eval_{name}": value for name, value in logged.items()}
        if mode == "train":
            self._update_token_count()
            logs["num_tokens"] = self.state.num_input_tokens_seen
        super().log(logs, start_time)


def _functions(reward_funcs: RewardFunc | Sequence[RewardFunc] | None) -> list[RewardFunc]:
    """One reward function, several or none, as a list. Raises DataError where one is no function, such as a name."""
    if callable(reward_funcs) or isinstance(reward_funcs, str):
        reward_funcs = [reward_funcs]
    functions = list(reward_funcs or [])
    for function in functions:
        if not callable(function):
            raise DataError(key="reward_funcs", found=repr(function), expected="functions")
    return functions
