"""GDPOConfig: the settings of GDPOTrainer, each with its help and, where the paper fixes it, its source."""

from __future__ import annotations

import json
import math
import numbers
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, get_args, get_type_hints

from transformers import TrainingArguments
from transformers.training_args import trainer_log_levels

from gdpo.core.errors import ArgumentError, first_line, suggest
from gdpo.trainer.dataset import Unfit, shown
from gdpo.trainer.logprobs import MAX_LOGITS
from gdpo.trainer.objective import Advantage, Link, Pairs, Pushes
from gdpo.trainer.packing import Share

Length = Literal["sum", "mean"]
CHOICES = {
    "pairs": get_args(Pairs),
    "link": get_args(Link),
    "advantage": get_args(Advantage),
    "length": get_args(Length),
    "pushes": get_args(Pushes),
    "share_prompts": get_args(Share),
    "empty_completions": get_args(Unfit),
    "long_prompts": get_args(Unfit),
}
# TrainingArguments that would be ignored, or fail with an error that does not name them.
FIXED = {
    "remove_unused_columns": False, "torch_compile": False, "label_smoothing_factor": 0.0, "use_liger_kernel": False,
    "include_for_metrics": [],  # compute_metrics has log-ratios and rewards; a batch's inputs are no rows of a tensor
    "bf16_full_eval": False, "fp16_full_eval": False,  # log-ratios to a reference that was scored in another precision
}  # fmt: skip
SAMPLING = ("random", "sequential")  # transformers' others sort by one length, which a group of completions has not
NUMBER = {int, float, type(None)}  # types of the settings of TrainingArguments that are checked as our own ones are
KEYWORDS = ("optim_args", "lr_scheduler_kwargs")  # and these, which others fail at in the middle of a run
SEEDS = 2**32  # NumPy takes seeds below this
POSITIVE = (
    "beta", "max_length", "max_forward_tokens", "max_activation_tokens", "max_logits", "per_device_train_batch_size",
    "per_device_eval_batch_size", "gradient_accumulation_steps",
)  # fmt: skip
UNSAFE = {"trust_remote_code": True, "use_safetensors": False}  # keywords that would run a model's code


@dataclass
class GDPOConfig(TrainingArguments):
    """`transformers.TrainingArguments` and GDPO's own. A batch size counts groups, not completions.

    Each field's `help` says more, with the source or the reason of its default. A command line reads them by
    `transformers.HfArgumentParser` or `trl.TrlParser`.

    Args:
        model_init_kwargs: keywords for `from_pretrained`, a mapping or one as JSON.
        disable_dropout: whether dropout is off, as it is where a log-ratio is to start at 0.
        beta: the inverse temperature of a pair's score.
        pairs, link, advantage, pushes: the reading of the objective, as `gdpo_loss` has them.
        length: whether a completion's log-ratio is the sum over its tokens or the mean.
        reward_weights: the weight of each of `reward_funcs`.
        max_length: tokens of prompt and completion; None: no limit.
        empty_completions, long_prompts: whether what cannot be trained on is refused, or dropped and counted.
        precompute_ref_log_probs: whether the reference scores once, before training, or in every step.
        ref_cache_dir: where those scores are stored.
        max_forward_tokens, max_activation_tokens, max_logits: what is in memory at once.
        bucket_by_length, share_prompts, padding_free: how sequences share a forward pass.

    Raises ArgumentError, a ValueError of one sentence, on a value that does not fit.

    Example:
        >>> from gdpo import GDPOConfig
        >>> GDPOConfig("out", beta=0.1, advantage="unweighted", max_length=2048).length
        'sum'
    """

    # Defaults that differ from TrainingArguments
    learning_rate: float = field(
        default=2e-6, metadata={"help": "AdamW's initial learning rate. Paper, appendix: 2e-6."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Log a loss of nan as nan; transformers' filter shows it as 0."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks its columns."})

    # The model
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Keywords for `from_pretrained` where the model is given by name; on a command line as JSON. Its "
            "`revision` is the tokenizer's as well."
        },
    )
    disable_dropout: bool = field(
        default=True,
        metadata={"help": "Train without any dropout, an adapter's too, so that a log-ratio starts at 0."},
    )

    # The objective; see gdpo.trainer.objective
    beta: float = field(default=0.1, metadata={"help": "Inverse temperature. Paper: 'beta = 0.1'."})
    pairs: Pairs = field(
        default="adjacent", metadata={"help": "Eq. 13's pairs or eq. 12's.", "choices": CHOICES["pairs"]}
    )
    link: Link = field(
        default="sigmoid",
        metadata={"help": "The pair loss; the paper prints sigmoid.", "choices": CHOICES["link"]},
    )
    advantage: Advantage = field(
        default="shifted",
        metadata={
            "help": "How the advantage weighs a log-ratio: 'literal' divides by it as printed, 'unweighted' "
            "is GDPO-A, 'shifted' multiplies by A - min A + 1, 'reciprocal' divides by it, 'gap' weighs each pair "
            "by its difference of advantages.",
            "choices": CHOICES["advantage"],
        },
    )
    pushes: Pushes = field(
        default="both",
        metadata={
            "help": "Which completions of a pair a step moves: both, or the better one alone, a control.",
            "choices": CHOICES["pushes"],
        },
    )
    length: Length = field(
        default="sum",
        metadata={"help": "Log-ratio of a completion: sum or mean over its tokens.", "choices": CHOICES["length"]},
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each of `reward_funcs` in a reward; absent, 1 each."}
    )

    # The data
    max_length: int | None = field(
        default=1024, metadata={"help": "Tokens of prompt and completion; what exceeds it is cut at the end."}
    )
    empty_completions: Unfit = field(
        default="refuse",
        metadata={
            "help": "A completion without text: 'refuse' it, or 'drop' and count it. Refused unless asked for, since "
            "a model that ends at once is rarer than a column that lost its text.",
            "choices": CHOICES["empty_completions"],
        },
    )
    long_prompts: Unfit = field(
        default="refuse",
        metadata={
            "help": "A group whose prompt alone fills `max_length`: 'refuse' it, or 'drop' and count it, as TRL's "
            "DPOTrainer does. Refused unless asked for, since without the longest prompts the data are other ones.",
            "choices": CHOICES["long_prompts"],
        },
    )

    # The reference
    precompute_ref_log_probs: bool = field(
        default=True,
        metadata={"help": "Score the data by the reference once, before training, and free it; else in every step."},
    )
    ref_cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where precomputed log-probabilities are stored, by the hash of reference and data. Absent, "
            "`reference` in the output directory. In a directory that runs share, only the first one computes them."
        },
    )

    # The forward passes. None of this changes a result but by rounding.
    max_forward_tokens: int = field(
        default=16384,
        metadata={"help": "Tokens of one forward pass, padding included. A longer sequence is a pass of its own."},
    )
    max_activation_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens per batch whose activations are stored for the backward pass. What exceeds it is computed "
            "twice, so a group too large for memory is split, with the same gradient. Absent, all are stored. Under "
            "FSDP2 a batch of several passes stores one at a time, and computes each twice."
        },
    )
    max_logits: int = field(
        default=MAX_LOGITS, metadata={"help": "Logits in memory at once: tokens times vocabulary. 2^26 are 256 MiB."}
    )
    bucket_by_length: bool = field(
        default=True,
        metadata={
            "help": "Sequences of like length share a forward pass, so that at most a twentieth of it is padding."
        },
    )
    share_prompts: Share = field(
        default="auto",
        metadata={
            "help": "Compute a group's prompt once for several completions: where it is cheaper ('auto'), 'always', "
            "or 'never'. Needs sdpa attention.",
            "choices": CHOICES["share_prompts"],
        },
    )
    padding_free: bool = field(
        default=False,
        metadata={"help": "Lay sequences end to end without padding. Needs a flash attention implementation."},
    )

    def __post_init__(self) -> None:
        self.model_init_kwargs = _keywords(self.model_init_kwargs)
        _check_types(self)
        try:
            super().__post_init__()
        except (TypeError, KeyError, AttributeError, OSError) as error:  # its own ValueErrors are sentences
            raise ArgumentError(f"transformers refuses a setting: {first_line(error)}", key="GDPOConfig") from error
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ArgumentError(key=name, found=repr(value), hint=suggest(str(value), choices))
        for name, only in FIXED.items():
            if getattr(self, name) != only:
                raise ArgumentError(key=name, found=repr(getattr(self, name)), expected=f"{only!r} by GDPOTrainer")
        if self.train_sampling_strategy not in SAMPLING:
            found = repr(self.train_sampling_strategy)
            raise ArgumentError(
                key="train_sampling_strategy", found=found, hint=suggest(str(self.train_sampling_strategy), SAMPLING)
            )
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(key=name, found=repr(value), expected="a number above 0")
        if not 0 <= self.learning_rate < math.inf:
            raise ArgumentError(key="learning_rate", found=repr(self.learning_rate), expected="a number from 0")
        self._check_run()

    def _check_run(self) -> None:
        """Raises ArgumentError where the length of training, the seeds or the loading of data have no meaning."""
        if not (self.max_steps > 0 or self.max_steps == -1):
            expected = "a whole number above 0, or -1 for the steps of num_train_epochs"
            raise ArgumentError(key="max_steps", found=repr(self.max_steps), expected=expected)
        if self.max_steps == -1 and not 0 < self.num_train_epochs < math.inf:
            expected, hint = "a number above 0", "evaluate() needs no training"
            raise ArgumentError(key="num_train_epochs", found=repr(self.num_train_epochs), expected=expected, hint=hint)
        for item in fields(self):
            if isinstance(value := getattr(self, item.name), float) and math.isnan(value):
                raise ArgumentError(key=item.name, found="nan", expected="a number")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < SEEDS:
                expected = f"a whole number from 0 to {SEEDS - 1}"
                raise ArgumentError(key=name, found=repr(value), expected=expected)
        if self.dataloader_num_workers < 0:
            found = repr(self.dataloader_num_workers)
            raise ArgumentError(key="dataloader_num_workers", found=found, expected="a whole number from 0")
        for name in ("log_level", "log_level_replica"):
            if (value := getattr(self, name)) not in trainer_log_levels:
                raise ArgumentError(key=name, found=shown(value), hint=suggest(str(value), trainer_log_levels))
        if getattr(self.accelerator_config, "dispatch_batches", None):
            expected = "None or False by GDPOTrainer"
            raise ArgumentError(key="accelerator_config.dispatch_batches", found="True", expected=expected)


def _check_types(settings: GDPOConfig) -> None:
    """Raises ArgumentError where a setting is of another type than its own, such as '0.1' or 'false' from a file."""
    hints = get_type_hints(GDPOConfig)
    for name in (item.name for item in fields(GDPOConfig)):
        kinds = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        if not (name in GDPOConfig.__annotations__ or name in KEYWORDS or NUMBER.issuperset(kinds)):
            continue
        known = [TYPES[kind] for kind in kinds if kind in TYPES]
        value = getattr(settings, name)
        if known and not any(fits(value) for _, fits in known):
            expected = " or ".join(words for words, _ in known)
            raise ArgumentError(key=name, found=shown(value), expected=expected)


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float holds, if only as nan or infinite."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    return not sys.float_info.max < abs(value) < math.inf  # type: ignore[operator]


# Of each type that a setting may have, its name in an error and what is taken for it.
TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, numbers.Integral) and _is_number(value)),
    float: ("a number", _is_number),
    str: ("text", lambda value: isinstance(value, str | os.PathLike)),
    dict: ("a mapping", lambda value: isinstance(value, dict)),
    dict[str, Any]: ("a mapping", lambda value: isinstance(value, dict)),
    list[float]: ("a list of numbers", lambda value: isinstance(value, list | tuple) and all(map(_is_number, value))),
    type(None): ("None", lambda value: value is None),
}


def _keywords(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """`model_init_kwargs` as a mapping; a command line gives it as JSON. Raises ArgumentError where it is none."""
    expected = "a mapping, or one as JSON"
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise ArgumentError(
                key="model_init_kwargs", found=repr(given), expected=expected, hint=str(error)
            ) from None
    if given is not None and not isinstance(given, dict):
        raise ArgumentError(key="model_init_kwargs", found=repr(given), expected=expected)
    for name, unsafe in UNSAFE.items():
        if given and given.get(name, not unsafe) == unsafe:
            hint = "load such a model yourself and give it to GDPOTrainer"
            expected = "weights as safetensors, and no code from a model"
            raise ArgumentError(key="model_init_kwargs", found=f"{name}={unsafe}", expected=expected, hint=hint)
    return given
