"""The reference of GDPOTrainer: the policy as it starts, or a model of its own, scored once or in every step.

DPO's reference, kept as TRL keeps it (paper, section GDPO: pi_ref is the model before training).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel

from gdpo.core.device import to_device
from gdpo.core.errors import ArgumentError
from gdpo.trainer import compat
from gdpo.trainer.dataset import DataError
from gdpo.trainer.distributed import Parallel, run_in_wrapped_forward
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.group_reader import GroupReader
from gdpo.trainer.logprobs import is_adapted
from gdpo.trainer.packing import batch_by_tokens
from gdpo.trainer.reference_cache import cache_key, reference_log_probs, reference_parameters
from gdpo.trainer.rows import RowSets


class ReferenceTrainer(Parallel):
    """A trainer with a reference model: it is placed and scored here, and freed where the scores are kept.

    Attributes:
        ref_model: the reference where it is a model of its own and still needed.
        groups: reads data sets of groups.
    """

    args: GDPOConfig
    model: PreTrainedModel
    ref_model: PreTrainedModel | None
    groups: GroupReader
    _reference_freed: bool

    def _log_probs(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """log pi of the batch's distinct completions, (C,): the sum over tokens."""
        raise NotImplementedError

    def _place_models(self, ref_model: PreTrainedModel | None) -> None:
        """Move the reference to the device, and the policy too where Trainer does not; refuse several GPUs at once."""
        self.ref_model = None if ref_model is None else to_device(ref_model, self.args.device).eval()
        if self.is_fsdp_enabled:
            to_device(self.model, self.args.device)  # whole weights score the reference before they are dealt out
        if self.args.n_gpu > 1:
            expected = "one GPU in each process, by accelerate launch"
            raise ArgumentError(key="GDPOTrainer", found="several GPUs in one process", expected=expected)

    def _precompute_reference(self) -> None:
        """Score the data by the reference, and free a given one; without one the policy is it until it trains."""
        self.train_dataset = self._with_reference(self.train_dataset)
        self.eval_dataset = self.eval_dataset and self._each(self._with_reference, self.eval_dataset)
        self._reference_freed = self.ref_model is not None
        self.ref_model = None

    @staticmethod
    def _each(function: Callable[[Dataset], Dataset], given: Any) -> Any:
        """`function` of a data set, or of each of several by name."""
        if isinstance(given, Mapping):
            return {name: function(dataset) for name, dataset in given.items()}
        return function(given)

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

    def _late_groups(self, given: RowSets, prefix: str) -> Dataset | dict[str, Dataset]:
        """Groups given after construction, ready to evaluate. Raises DataError where their reference is gone."""
        if self.args.precompute_ref_log_probs and self._reference_freed:
            raise DataError(
                "the reference is freed after its pass, and the policy is it only until it trains",
                key="eval_dataset",
                expected="these groups at the trainer's eval_dataset, or precompute_ref_log_probs=False",
            )
        groups = self.groups.read_sets(given, self.state, prefix)
        return self._each(self._with_reference, groups) if self.args.precompute_ref_log_probs else groups

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
