"""GDPOConfig: the settings of GDPOTrainer, each with its help and, where the paper fixes it, its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from transformers import TrainingArguments

from gdpo.core.errors import ArgumentError, suggest
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
}
# TrainingArguments that would be ignored, or fail with an error that does not name them.
FIXED = {"remove_unused_columns": False, "torch_compile": False, "label_smoothing_factor": 0.0}


@dataclass
class GDPOConfig(TrainingArguments):
    """`transformers.TrainingArguments` and GDPO's own. A batch size counts groups, not completions."""

    # Defaults that differ from TrainingArguments
    learning_rate: float = field(
        default=2e-6, metadata={"help": "AdamW's initial learning rate. Paper, appendix: 2e-6."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks its columns."})

    # The model
    model_init_kwargs: dict[str, Any] | None = field(
        default=None, metadata={"help": "Keywords for `from_pretrained` where the model is given by name."}
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
            "twice, so a group too large for memory is split, with the same gradient. Absent, all are stored."
        },
    )
    max_logits: int = field(
        default=MAX_LOGITS, metadata={"help": "Logits in memory at once: tokens times vocabulary. 2^26 are 256 MiB."}
    )
    bucket_by_length: bool = field(
        default=True,
        metadata={"help": "Sequences of like length share a forward pass, so that at most 5% of it is padding."},
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
        super().__post_init__()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ArgumentError(key=name, found=repr(value), hint=suggest(str(value), choices))
        for name, only in FIXED.items():
            if getattr(self, name) != only:
                raise ArgumentError(key=name, found=repr(getattr(self, name)), expected=f"{only!r} by GDPOTrainer")
        for name in ("beta", "max_forward_tokens", "max_activation_tokens", "max_logits"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(key=name, found=repr(value), expected="a number above 0")
