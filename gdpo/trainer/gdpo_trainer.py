"""GDPOTrainer: offline group preference optimization in TRL's style (paper, section GDPO).

    trainer = GDPOTrainer("Qwen/Qwen3-0.6B", args=GDPOConfig("out"), train_dataset=groups)
    trainer.train()

A row of `train_dataset` is a group: `prompt` (text or messages), `completions`, `rewards` (numbers). Each distinct
completion is scored once per step by the policy, and once before training by the reference.
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
from gdpo.trainer.dataset import DataError, RewardFunc, apply_reward_funcs, drop_tied_groups, tokenize_groups
from gdpo.trainer.distributed import Parallel, recompute_plan, run_in_wrapped_forward
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.logprobs import completion_log_probs, is_adapted
from gdpo.trainer.model_setup import disable_dropout, load_policy, packing
from gdpo.trainer.objective import gdpo_loss, pair_weights
from gdpo.trainer.packing import GroupCollator, batch_by_tokens
from gdpo.trainer.reference_cache import cache_key, reference_log_probs, reference_parameters
from gdpo.trainer.samplers import Shuffle, append_dummy_group

logger = logging.get_logger(__name__)

__all__ = ["DataError", "GDPOConfig", "GDPOTrainer"]

Rows: TypeAlias = Dataset | Sequence[dict[str, Any]]


class GDPOTrainer(Parallel):
    """Trains `model` by the GDPO loss on offline groups.

    Args:
        model: the policy, or the path or Hub name to load it from. A `PeftModel` trains its adapter.
        ref_model: the reference; absent, the policy as it starts (a `PeftModel` with its adapter disabled).
        args: absent, `GDPOConfig("gdpo")`.
        train_dataset: rows with `prompt`, `completions`, `rewards`: a `datasets.Dataset` or a list. A group
            whose rewards are all equal has no pair, and is left out (`skipped_groups` counts them).
        eval_dataset: the same, for `evaluate`.
        processing_class: the tokenizer; absent, the policy's own.
        reward_funcs: one or several functions in TRL's style that give the rewards instead of a `rewards` column.
            They are called once per group, before training (`gdpo.trainer.dataset.apply_reward_funcs`).
        callbacks, optimizers: as `transformers.Trainer` takes them.
        peft_config: wraps `model` in this adapter.

    Logs, beside the loss, `rewards/accuracies` and `rewards/margins` (over the loss's pairs, as DPO has them),
    `log_ratios/best` and `log_ratios/worst` of each group, `kl` (half the squared log-ratio, Schulman's k2, on the
    groups' completions and so off-policy: a trend rather than a level), `padding_share` of the tokens processed,
    `useful_tokens_per_second` (completion tokens scored) and `num_tokens` (all but padding, over the whole training).
    Raises DataError, a ValueError of one sentence, on rows that do not fit.
    """

    args: GDPOConfig
    model: PreTrainedModel
    ref_model: PreTrainedModel | None
    processing_class: PreTrainedTokenizerBase
    loss_is_scaled_for_ga = True  # by the groups of the whole step: parts of any size add up to it
    gathered_in = None  # autocast computes in bfloat16, as in the reference's pass before sharding: ratios start at 0

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
            raise ValueError("ref_model: expected another object than model; leave it out to keep model's start")
        set_seed(args.seed)  # an adapter starts at random
        model = load_policy(model, args, peft_config)
        if processing_class is None:
            processing_class = AutoTokenizer.from_pretrained(model.config._name_or_path)
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("model: expected weights to train, found none; load an adapter with is_trainable=True")
        self._reward_funcs = (
            [reward_funcs] if callable(reward_funcs) or isinstance(reward_funcs, str) else list(reward_funcs or [])
        )
        for function in self._reward_funcs:
            if not callable(function):
                raise DataError(f"reward_funcs: expected functions, found {function!r}")
        self.skipped_groups = 0
        train_rows = self._prepared("train_dataset", train_dataset, processing_class, args)
        eval_rows = None
        if eval_dataset is not None:
            eval_rows = self._prepared("eval_dataset", eval_dataset, processing_class, args)
        if args.disable_dropout and ref_model is not None:
            disable_dropout(ref_model)
        super().__init__(
            model=model,
            args=args,
            data_collator=GroupCollator(
                packing(model, args, processing_class),
                torch.float64 if model.dtype == torch.float64 else torch.float32,
            ),
            train_dataset=Dataset.from_list(train_rows),
            eval_dataset=Dataset.from_list(eval_rows) if eval_rows else None,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self._sums: dict[str, dict[str, Any]] = {"train": {}, "eval": {}}
        self._since: float | None = None
        self._uncounted = 0
        self.ref_model = None if ref_model is None else to_device(ref_model, self.args.device).eval()
        if self.is_fsdp_enabled:
            to_device(self.model, self.args.device)  # weights that are yet to be dealt out score the reference before
        if self.args.n_gpu > 1:
            raise ValueError("GDPOTrainer: found several GPUs in one process; expected one each, by accelerate launch")
        if args.precompute_ref_log_probs:
            self.train_dataset = self._with_reference(self.train_dataset)
            self.eval_dataset = self.eval_dataset and self._with_reference(self.eval_dataset)
            self.ref_model = None
        elif ref_model is None and is_adapted(self.model):
            if any(p.requires_grad for _, p in reference_parameters(self.model)):
                raise ValueError(
                    "precompute_ref_log_probs: expected True, or a ref_model: weights below the adapter are trained too"
                )
        elif ref_model is None:
            self.ref_model = copy.deepcopy(self.model).eval().requires_grad_(False)
        if self.accelerator.num_processes > 1:
            self.train_dataset = append_dummy_group(self.train_dataset)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.accelerator.num_processes > 1 or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        return self._order(len(self.train_dataset))

    def _order(self, items: int) -> Shuffle:
        return Shuffle(items, self.args.seed if self.args.data_seed is None else self.args.data_seed)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_renamed(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        assert self.state.best_model_checkpoint is not None  # Trainer calls this where there is one
        self._load_renamed(self.state.best_model_checkpoint)

    def _load_renamed(self, checkpoint: str, model: nn.Module | None = None) -> None:
        policy = self.accelerator.unwrap_model(model or self.model)
        if isinstance(policy, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            # Trainer loads by name, and leaves at its start what transformers saves under another name than the model
            # has for it: GPT-NeoX's head, the experts of mixtures.
            saved = type(policy).from_pretrained(checkpoint, dtype=policy.dtype, use_safetensors=True)
            policy.load_state_dict(saved.state_dict())

    def _prepared(self, name: str, rows: Rows | None, tokenizer: PreTrainedTokenizerBase, args: GDPOConfig) -> Any:
        if not isinstance(rows, Dataset | list | tuple):
            found = "none" if rows is None else type(rows).__name__
            raise DataError(f"{name}: expected a list or a datasets.Dataset of groups, found {found}")
        if self._reward_funcs:
            rows = apply_reward_funcs(rows, self._reward_funcs, tokenizer, args.reward_weights)
        rows = rows.with_format(None) if isinstance(rows, Dataset) else rows
        tokenized = tokenize_groups(rows, tokenizer, args.max_length)
        cut = sum(group.pop("cut") for group in tokenized)
        if cut:
            whole = sum(len(group["index"]) for group in tokenized)
            logger.warning(f"{name}: {cut} of {whole} completions are cut at max_length={args.max_length} tokens")
        kept = drop_tied_groups(tokenized)
        if name == "train_dataset":
            self.skipped_groups = len(tokenized) - len(kept)
        return kept

    # The reference

    def _with_reference(self, dataset: Dataset) -> Dataset:
        groups = dataset.to_list()
        model = self.ref_model or self.model
        config = model.config.to_diff_dict()
        settings = {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version")}
        precision = [self.args.bf16, self.args.fp16, str(model.dtype)]
        key = cache_key(reference_parameters(model, aside=self.ref_model is None), [settings, precision], groups)
        assert self.args.output_dir is not None  # TrainingArguments names one where none is given
        cache = Path(self.args.ref_cache_dir or Path(self.args.output_dir) / "reference")

        def score(shard: Sequence[dict[str, Any]]) -> Tensor:
            batches = map(self.data_collator, batch_by_tokens(shard, self.args.max_forward_tokens))
            return torch.cat([self._ref_log_probs(self._prepare_inputs(batch)) for batch in batches])

        column = reference_log_probs(
            groups,
            score,
            cache / key,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            wait=self.accelerator.wait_for_everyone,
        )
        return dataset.add_column("ref_log_probs", column)

    def _scored_apart(self, rows: Rows) -> Dataset:
        """Groups that come after construction, ready to evaluate. Raises DataError where their reference is gone."""
        if self.args.precompute_ref_log_probs and not is_adapted(self.model):
            raise DataError(
                "eval_dataset: the reference is gone after its pass; "
                "expected these groups at the trainer's eval_dataset, or precompute_ref_log_probs=False"
            )
        made = Dataset.from_list(self._prepared("eval_dataset", rows, self.processing_class, self.args))
        return self._with_reference(made) if self.args.precompute_ref_log_probs else made

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
        if adapted:  # leaving the context makes every weight of the adapter trainable
            model.requires_grad_(False)
            for p in trained:
                p.requires_grad_(True)
        model.train(training)
        return log_probs

    # The loss

    def _log_probs(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """log pi of the batch's distinct completions, (C,): the sum over tokens.

        What exceeds `max_activation_tokens` keeps no activations and is computed again in the backward pass. The
        gradient through a completion's log-probability is the same either way.
        """
        forwards = batch["forwards"]
        sizes = [forward["input_ids"].numel() for forward in forwards]
        others = gather_object if isinstance(model, FSDPModule) else list
        plan = recompute_plan(sizes, self.args.max_activation_tokens or math.inf, lambda mine: others([mine]))
        for place, again in enumerate(plan):
            forward = forwards[min(place, len(forwards) - 1)]
            again = again and torch.is_grad_enabled()
            given = (model, forward, self.args.max_logits)
            with self.accelerator.autocast():
                tokens = (
                    checkpoint(completion_log_probs, *given, use_reentrant=False)
                    if again
                    else completion_log_probs(*given)
                )
            if place == 0:
                total = tokens.new_zeros(len(batch["lengths"]))
            # A pass beyond its own is one that a process makes for the others: they gather their weights with it.
            total = total.index_add(0, forward["owners"], tokens if place < len(forwards) else 0.0 * tokens)
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
        objective = {name: getattr(self.args, name) for name in ("beta", "pairs", "link", "advantage")}
        loss = gdpo_loss(log_ratios, rewards, mask, **objective)
        self._measure(log_ratios.detach(), rewards, mask, inputs)
        if num_items_in_batch is not None:
            # Processes' gradients are averaged, a step's parts summed: each group counts one in the step's total.
            # In this order, since whole numbers divide to a float32.
            loss = loss * (len(rewards) * self.accelerator.num_processes) / num_items_in_batch
        return (loss, {"log_ratios": log_ratios}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """The groups of one optimizer step, over its parts and all processes."""
        groups = torch.tensor(sum(int(batch["mask"].any(-1).sum()) for batch in batch_samples), device=device)
        everywhere: Tensor = self.accelerator.reduce(groups, "sum")
        return everywhere

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self._since, self._uncounted = None, 0
        self._sums["train"].clear()
        return super().train(*args, **kwargs)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        if eval_dataset is not None and "sequences" not in getattr(eval_dataset, "column_names", ()):
            eval_dataset = self._scored_apart(eval_dataset)
        self._sums["eval"].clear()
        began = time.perf_counter()
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        if self._since is not None:
            self._since += time.perf_counter() - began  # it is no time of training
        return metrics

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            loss = self.compute_loss(model, inputs)
        assert isinstance(loss, Tensor)  # no outputs were asked for
        return loss.detach(), None, None

    # The log

    @torch.no_grad()
    def _measure(self, log_ratios: Tensor, rewards: Tensor, mask: Tensor, inputs: dict[str, Any]) -> None:
        """Add the batch to the sums that `log` divides; nothing waits for the device here."""
        mode = "train" if self.model.training else "eval"
        log_ratios = log_ratios.masked_fill(~mask, 0.0)
        weights = pair_weights(rewards, mask, self.args.pairs)
        gaps = log_ratios.unsqueeze(-1) - log_ratios.unsqueeze(-2)
        best = rewards.masked_fill(~mask, -math.inf).argmax(-1, keepdim=True)
        worst = rewards.masked_fill(~mask, math.inf).argmin(-1, keepdim=True)
        added = {
            "rewards/accuracies": (weights * (gaps > 0)).sum(),
            "rewards/margins": self.args.beta * (weights * gaps).sum(),
            "log_ratios/best": log_ratios.gather(-1, best).sum(),
            "log_ratios/worst": log_ratios.gather(-1, worst).sum(),
            "kl": (0.5 * log_ratios.square() * mask).sum(),
            "completions": mask.sum(),
            "groups": mask.any(-1).sum(),
            **inputs["tokens"],
        }
        if mode == "train":
            self._uncounted += inputs["tokens"]["real"]
        sums = self._sums[mode]
        for name, value in added.items():
            sums[name] = sums.get(name, 0) + value

    def _count(self) -> None:
        """Bring the state's number of tokens up to date, before it is logged or saved."""
        real = torch.tensor(self._uncounted, device=self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.reduce(real, "sum"))
        self._uncounted = 0

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._count()
        super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        if self._sums[mode]:
            values = torch.tensor([float(value) for value in self._sums[mode].values()], dtype=torch.float64)
            if self.accelerator.num_processes > 1:
                values = self.accelerator.reduce(values.to(self.args.device), "sum")
            sums = dict(zip(self._sums[mode], values.tolist(), strict=True))
            self._sums[mode].clear()
            means = {name: sums[name] / sums["groups"] for name in sums if "/" in name}
            means["kl"] = sums["kl"] / sums["completions"]
            means["padding_share"] = 1 - sums["real"] / sums["processed"]
            if mode == "train" and self._since is not None:
                now = time.perf_counter()
                means["useful_tokens_per_second"] = sums["useful"] / (now - self._since)
                self._since = now
            logs |= means if mode == "train" else {f"eval_{name}": value for name, value in means.items()}
        if mode == "train":
            self._count()
            logs["num_tokens"] = self.state.num_input_tokens_seen
        super().log(logs, start_time)
