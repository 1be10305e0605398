"""All that gdpo uses of transformers, accelerate, peft and TRL beyond their documented interfaces.

A release of one of them may move a private method, an attribute or the order of calls. This module is where the rest of
gdpo meets them, and `tests/trainer/test_compat.py` names every signature and attribute used here; each that has moved
fails with one sentence. The libraries are imported inside functions: the trainer does without TRL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from transformers import PretrainedConfig, Trainer
    from trl import DPOTrainer
else:
    Trainer = DPOTrainer = object

# transformers

LOSS = "loss_of_all_steps"  # its entry among a state's callbacks, which Trainer saves and loads


class TrainerHooks(Trainer):
    """The private methods of a `transformers.Trainer`, as hooks under names of our own.

    Mixed in before a Trainer: `class Mine(TrainerHooks, Trainer)`. A subclass overrides the hooks and calls `super()`.
    """

    def accelerator_created(self) -> None:
        """Called once the accelerator exists, and with it `is_fsdp_enabled`; the model is not wrapped yet."""

    def train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """The order of the training items; None where the data set has no length."""
        return super()._get_train_sampler(train_dataset)

    def items_in_step(self, batches: list[Any], device: Any) -> Tensor | int | None:
        """What the losses of an optimizer step's batches are divided by (`num_items_in_batch`); None: by nothing."""
        return super()._get_num_items_in_batch(batches, device)

    def before_save(self) -> None:
        """Called before a checkpoint is written."""

    def after_load(self, checkpoint: str, model: nn.Module | None = None) -> None:
        """Called after Trainer has loaded `checkpoint` into `model`, or into its own one."""

    @property
    def batch_size_per_process(self) -> int:
        """Items of one batch of a process in training, which `auto_find_batch_size` may have made smaller."""
        return int(self._train_batch_size)

    def keep_loss(self) -> None:
        """Keep the sum of the losses of all steps so far in the state, which a checkpoint holds."""
        before = self._loss_before if self._initial_global_step else 0.0
        if before is None:
            return  # as the checkpoint that was resumed from kept none
        total = before + self._total_loss_scalar + self._tr_loss.item()
        kept = {"step": self.state.global_step, "total": total, "before": before}
        self._kept_states()[LOSS] = {"args": {}, "attributes": kept}

    def loss_of_all_steps(self, mean: float) -> float:
        """The mean loss of all steps of a training, of which `mean` is that since it was resumed.

        It stays `mean` where the checkpoint was of a training that did not keep its loss.
        """
        first, last = self._initial_global_step, self.state.global_step
        if not first or self._loss_before is None:
            return mean
        return (self._loss_before + mean * (last - first)) / last

    @property
    def _loss_before(self) -> float | None:
        """The sum of the losses of all steps before training was resumed; None where no checkpoint kept it."""
        kept = self._kept_states().get(LOSS)
        if kept is None:
            return None
        values = kept["attributes"]
        return float(values["total"] if values["step"] == self._initial_global_step else values["before"])

    def _kept_states(self) -> dict[str, Any]:
        """What a checkpoint keeps of callbacks, by their names."""
        states: Any = self.state.stateful_callbacks  # a mapping once the state is made, whatever its type says
        kept: dict[str, Any] = states
        return kept

    def on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """`batch` with its tensors moved to the device that trains."""
        return self._prepare_inputs(batch)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator_created()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        return self.train_sampler(train_dataset)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor | int | None:
        return self.items_in_step(batch_samples, device)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.before_save()
        super()._save_checkpoint(*args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.after_load(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        assert self.state.best_model_checkpoint is not None  # Trainer calls this where there is one
        self.after_load(self.state.best_model_checkpoint)


def attention_implementation(config: PretrainedConfig) -> str:
    """The name of the attention that a model with this configuration computes by, such as `sdpa`."""
    return str(config._attn_implementation)


def loaded_from(model: Any) -> str:
    """The path or Hub name that a model was loaded from."""
    return str(model.config._name_or_path)


def model_settings(config: PretrainedConfig) -> dict[str, Any]:
    """What a configuration says of the model itself: neither where it was loaded from nor which release wrote it."""
    settings: dict[str, Any] = config.to_diff_dict()
    return {key: value for key, value in settings.items() if key not in ("_name_or_path", "transformers_version")}


@contextmanager
def replaced_forward(model: nn.Module, function: Callable[[], Any]) -> Iterator[None]:
    """Within the block, the next forward of `model` is `function`, which may call the model itself.

    torch calls the attribute `forward` of a module from within the hooks of its wrapper (DDP, FSDP2).
    """
    forward = model.forward

    def once(_: Tensor) -> Any:
        model.forward = forward
        return function()

    model.forward = once
    try:
        yield
    finally:
        model.forward = forward


def load_conversion_patterns() -> None:
    """Compile the patterns by which transformers renames weights, for all architectures, as its first model does."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")


# accelerate


def fsdp_requested() -> bool:
    """Whether `accelerate launch` was told to shard weights."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def only_first_process_loads() -> bool:
    """Whether accelerate was told to load weights in the first process alone (`fsdp_cpu_ram_efficient_loading`)."""
    return os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false").lower() in ("true", "1")


def set_fsdp_precision(accelerator: Accelerator, policy: MixedPrecisionPolicy) -> None:
    """Let FSDP2 gather weights and sum gradients by `policy`, in place of accelerate's own."""
    accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def is_sharded_checkpoint(checkpoint: Path) -> bool:
    """Whether a Trainer's checkpoint holds each process's share of the weights."""
    return any(checkpoint.glob("pytorch_model_fsdp_*"))


def seedable_sampler(items: int, seed: int | None) -> Any:
    """accelerate's random order of `items` items, the same in every process; without `seed`, from torch's."""
    from accelerate.data_loader import SeedableRandomSampler

    return SeedableRandomSampler(range(items), data_seed=seed)


def show_sampler_to_accelerate(loader: DataLoader) -> DataLoader:
    """`loader`, a process's part of the batches as accelerate has prepared it, with the sampler where it is looked for.

    For a sampler that fills up the last batches itself, so that accelerate repeats nothing.
    """
    shard: Any = loader.batch_sampler  # accelerate's, which has no types
    if hasattr(shard, "batch_sampler"):
        # accelerate looks for the sampler here when an epoch is resumed midway. Where it finds none, the epoch takes
        # the order of the first one.
        shard.sampler = shard.batch_sampler.sampler
        # TRL gathers what it logs by accelerate, which cuts off the last batch what a data set of this length repeats
        # in it. Nothing is repeated.
        dataset: Any = loader.dataset
        dataset.total_dataset_length = len(shard.sampler)
    return loader


def launch(arguments: Sequence[str]) -> None:
    """`accelerate launch` with these arguments, within this process."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    launch_command(launch_command_parser().parse_args(list(arguments)))


# peft


def adapter_name_parts(model: Any) -> tuple[str, str]:
    """What the names of an adapter's own parameters contain, and those of the modules it trains as a whole."""
    return str(model.base_model.prefix), "modules_to_save"


def learns_prompt(model: Any) -> bool:
    """Whether a model's active adapter is a learned prompt rather than weights; False without an adapter."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


# TRL


class DPOHooks(DPOTrainer):
    """The private methods of TRL's DPOTrainer, on pairs that are tokenized already; mixed in before it."""

    def before_reference(self) -> None:
        """Called before the reference scores a data set."""

    def scale_last_logged(self, names: Sequence[str], factor: float) -> None:
        """Multiply the values that the last batch of training has added to these means of the log."""
        for name in names:
            self._metrics["train"][name][-1] *= factor

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, *given: Any) -> Dataset:
        self.before_reference()
        return super()._precompute_ref_logps(*given)
