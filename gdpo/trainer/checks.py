"""What GDPOTrainer refuses before a pass is paid for: arguments of a wrong type, models that do not predict the next
token, references that would move with the policy, and groups whose tokens or positions a model does not have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils import logging

from gdpo.core.errors import ArgumentError
from gdpo.trainer.dataset import DataError
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.logprobs import is_adapted

logger = logging.get_logger(__name__)

MODEL = "a causal language model of transformers, or the path or Hub name of one"
TOKENIZER = "a tokenizer of transformers, or the path or Hub name of one"


def check_arguments(model: Any, ref_model: Any, args: Any, processing_class: Any, peft_config: Any) -> None:
    """Raises ArgumentError where an argument of GDPOTrainer is of a type that it cannot be."""
    if not isinstance(args, GDPOConfig):
        hint = "GDPOConfig(**args) makes one of it" if isinstance(args, dict) else None
        raise ArgumentError(key="args", found=type(args).__name__, expected="a GDPOConfig", hint=hint)
    given: list[tuple[str, Any, type, str]] = [("model", model, PreTrainedModel, MODEL)]
    if ref_model is not None:
        given.append(("ref_model", ref_model, PreTrainedModel, MODEL))
    if processing_class is not None:
        given.append(("processing_class", processing_class, PreTrainedTokenizerBase, TOKENIZER))
    for key, value, kind, expected in given:
        if not isinstance(value, str | os.PathLike) and not isinstance(_unwrapped(value), kind):
            found = "none" if value is None else _kind(value)
            raise ArgumentError(key=key, found=found, expected=expected)
    if peft_config is not None:
        from peft import PeftConfig

        if not isinstance(peft_config, PeftConfig):
            expected = "a configuration of peft, such as LoraConfig"
            raise ArgumentError(key="peft_config", found=_kind(peft_config), expected=expected)


def check_choices(
    args: GDPOConfig, reward_funcs: Any, callbacks: Any, optimizers: Any, compute_metrics: Any = None
) -> None:
    """Raises ArgumentError where a callback, an optimizer or a function is none, or where reward functions lack."""
    if compute_metrics is not None and not callable(compute_metrics):
        raise ArgumentError(key="compute_metrics", found=_kind(compute_metrics), expected="a function, or None")
    if args.reward_weights is not None and (reward_funcs is None or reward_funcs in ([], ())):
        expected = "None without reward_funcs, whose rewards they weigh"
        raise ArgumentError(key="reward_weights", found=repr(args.reward_weights), expected=expected)
    expected = "a list of transformers.TrainerCallback"
    if not isinstance(callbacks, list | tuple | None):
        raise ArgumentError(key="callbacks", found=_kind(callbacks), expected=expected)
    for place, callback in enumerate(callbacks or ()):
        if not issubclass(callback if isinstance(callback, type) else type(callback), TrainerCallback):
            raise ArgumentError(key=f"callbacks[{place}]", found=_kind(callback), expected="a TrainerCallback")
    expected = "a pair of an optimizer and a scheduler of torch, or None for either"
    if not isinstance(optimizers, list | tuple) or len(optimizers) != 2:
        raise ArgumentError(key="optimizers", found=_kind(optimizers), expected=expected)
    for given, wanted in zip(optimizers, ("zero_grad", "get_last_lr"), strict=True):
        if given is not None and (isinstance(given, type) or not hasattr(given, wanted)):
            raise ArgumentError(key="optimizers", found=_kind(given), expected=expected)


def check_causal(key: str, model: PreTrainedModel) -> None:
    """Raises ArgumentError of the argument `key` where `model` is none that predicts each token from those before it.

    Two sequences that differ in their last token must have the same logits before it.
    """
    inner = _unwrapped(model)
    expected = "a causal language model"
    found = type(inner).__name__
    if inner.config.is_encoder_decoder:
        raise ArgumentError(key=key, found=f"{found}, an encoder-decoder", expected=expected)
    head = inner.get_output_embeddings()
    if head is None:
        raise ArgumentError(key=key, found=f"{found}, which has no language modelling head", expected=expected)
    if any(p.is_meta for p in inner.parameters()) and not hasattr(inner, "hf_device_map"):
        found = f"{found} on the device meta, where weights have no values"
        raise ArgumentError(key=key, found=found, expected="a model that is loaded")
    if any(p.is_meta or not p.numel() for p in inner.parameters()):
        return  # its weights are elsewhere
    first, second = _trial_logits(model, vocabulary(inner))
    # Low precision rounds by up to a hundredth; attention to what follows changes logits by far more.
    exact = model.dtype in (torch.float32, torch.float64)
    if (first - second).abs().max() > (1e-4 if exact else 0.05) * first.std():
        raise ArgumentError(key=key, found=f"{found}, which attends to the tokens that follow", expected=expected)


@torch.no_grad()
def _trial_logits(model: PreTrainedModel, tokens: int) -> tuple[Tensor, Tensor]:
    """The logits of two short sequences that differ in their last token alone, up to that token."""
    spread = max(1, tokens // 8)
    ids = [step * spread % tokens for step in range(1, 7)]
    training = model.training
    model.eval()
    logits = model(input_ids=torch.tensor([ids[:5], [*ids[:4], ids[5]]], device=model.device), use_cache=False).logits
    model.train(training)
    first, second = logits[:, :4].double()
    return first, second


def check_reference(reference: PreTrainedModel, policy: PreTrainedModel) -> None:
    """Raises ArgumentError where a weight of `reference` is one that training `policy` moves."""
    trained = {id(p) for p in policy.parameters() if p.requires_grad}
    if any(id(p) in trained for p in reference.parameters()):
        raise ArgumentError(
            key="ref_model",
            found="weights that are model's, and are trained",
            expected="a model of its own",
            hint="leave it out to keep model's start",
        )


def warn_of_low_precision(policy: PreTrainedModel, learning_rate: float) -> None:
    """Warn where weights that are trained are in half precision, in which small steps round away."""
    low = {str(p.dtype).removeprefix("torch.") for p in policy.parameters() if p.requires_grad and p.element_size() < 4}
    if low:
        logger.warning(
            f"model: weights in {' and '.join(sorted(low))} are trained, which rounds most steps of "
            f"learning_rate={learning_rate} away; load it in float32, and set bf16=True to compute in bfloat16"
        )


@dataclass(frozen=True)
class Limits:
    """What a model can read.

    Attributes:
        key: the argument that the model is.
        tokens: how many token ids it both reads and predicts.
        positions: how many positions it was made for; None where its configuration does not say.
        learned: whether it has a table of positions, which ends, rather than a formula for them.
    """

    key: str
    tokens: int
    positions: int | None
    learned: bool

    @classmethod
    def of(cls, key: str, model: PreTrainedModel) -> Limits:
        return cls(key, vocabulary(model), _positions(model), _learns_positions(model))


def check_groups(
    name: str, groups: Sequence[dict[str, Any]], limits: Sequence[Limits], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raises DataError, naming row and column, where groups have tokens or positions that a model has not.

    Positions beyond those that a model was made for are refused where it has learned them one by one. Elsewhere a
    warning counts the completions that have them.

    Args:
        name: of the data set.
        groups: as `gdpo.trainer.dataset.fitting_groups` gives them.
        limits: of the policy, and of a reference that was given.
        tokenizer: the one that made the groups, to show tokens.
    """
    for model in limits:
        beyond = 0
        for group in groups:
            for column, ids in _texts(group):
                key = f"row {group['row']}, {column}"
                if max(ids, default=0) >= model.tokens:
                    token = next(i for i in ids if i >= model.tokens)
                    raise DataError(
                        key=key,
                        found=f"token {token}, {tokenizer.convert_ids_to_tokens(token)!r}",
                        expected=f"tokens below {model.tokens}, which is all that {model.key} knows",
                        hint="use its own tokenizer, or resize_token_embeddings",
                    )
                length = len(ids) + (len(group["prompt_ids"]) if column != "prompt" else 0)
                if model.positions is not None and length > model.positions:
                    if model.learned:
                        expected = f"at most {model.positions}, the positions of {model.key}"
                        hint = f"max_length={model.positions} cuts completions"
                        raise DataError(key=key, found=f"{length} tokens", expected=expected, hint=hint)
                    beyond += column != "prompt"
        if beyond:
            made_for = f"{model.positions} positions that {model.key} was made for"
            logger.warning(f"{name}: {beyond} completions go beyond the {made_for}")


def vocabulary(model: PreTrainedModel) -> int:
    """How many token ids a model both reads and predicts."""
    inner = _unwrapped(model)
    sizes = [int(part.weight.shape[0]) for part in (inner.get_input_embeddings(), inner.get_output_embeddings())]
    return min(sizes)


def _texts(group: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """The column and the ids of a group's prompt and of its distinct completions."""
    yield "prompt", group["prompt_ids"]
    for number, ids in enumerate(group["sequences"]):
        yield f"completions[{group['places'][group['index'].index(number)]}]", ids


def _positions(model: PreTrainedModel) -> int | None:
    """How many positions a model was made for; None where its configuration does not say."""
    config: PreTrainedConfig = model.config.get_text_config()
    value = getattr(config, "max_position_embeddings", None)
    return value if isinstance(value, int) and value > 0 else None


def _learns_positions(model: nn.Module) -> bool:
    """Whether a model has a table of positions, which ends, rather than a formula for them."""
    tables = [name for name, part in model.named_modules() if isinstance(part, nn.Embedding)]
    tables += [name for name, _ in model.named_buffers()]  # GPT-J's sines
    return any("pos" in name.rpartition(".")[2] or name.endswith("wpe") for name in tables)


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if is_adapted(model) and hasattr(model, "get_base_model") else model


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
