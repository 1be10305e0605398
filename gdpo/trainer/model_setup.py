"""The policy as GDPOTrainer takes it: loaded, adapted, without dropout, and what makes its batches."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from gdpo.core.errors import ArgumentError, first_line
from gdpo.trainer import compat
from gdpo.trainer.checks import vocabulary
from gdpo.trainer.dataset import shown
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.loading import load_model, load_pretrained
from gdpo.trainer.logprobs import is_adapted
from gdpo.trainer.packing import GroupCollator
from gdpo.trainer.packing_choice import choose_packing

logger = logging.get_logger(__name__)


ModelPath = str | os.PathLike[str]
# Initializations of LoRA that change the weights below the adapter, which are the reference.
REWRITE_BASE = {"pissa", "olora", "corda", "loftq", "lora_ga"}


def load_policy(model: ModelPath | PreTrainedModel, args: GDPOConfig, peft_config: Any) -> PreTrainedModel:
    """The model to train: loaded if it is a name, adapted if there is an adapter, without dropout if `args` say so.

    Raises ArgumentError where an adapter is given to a model that has one, or is a learned prompt.
    """
    if isinstance(model, str | os.PathLike):
        policy = _load("model", model, {"dtype": torch.float32} | _given(args))
    else:
        policy = model
        if args.model_init_kwargs:
            logger.warning("model_init_kwargs are for a model given by name, and ignored for one already loaded")
    if peft_config is not None:
        if is_adapted(policy):
            expected = "a model without an adapter"
            raise ArgumentError(key="peft_config", found="a PeftModel", expected=expected, hint="merge it first")
        _check_base_stays([peft_config])
        policy = _adapted(policy, peft_config)
    elif is_adapted(policy):
        _check_base_stays(getattr(policy, "peft_config", {}).values())
    if compat.learns_prompt(policy):
        raise ArgumentError(key="peft_config", found="prompt learning", expected="an adapter of weights such as LoRA")
    if args.disable_dropout:
        disable_dropout(policy)
    return policy


def _load(key: str, path: ModelPath, options: dict[str, Any]) -> PreTrainedModel:
    what = "a causal language model without code of its own"
    model: PreTrainedModel = load_model(key, path, AutoModelForCausalLM, what, **options)
    return model


def _adapted(policy: PreTrainedModel, peft_config: Any) -> PreTrainedModel:
    """`policy` in the adapter of this configuration. Raises ArgumentError where it does not fit the model."""
    from peft import get_peft_model

    rank, largest = getattr(peft_config, "r", None), max(max(p.shape, default=1) for p in policy.parameters())
    if isinstance(rank, int) and rank > largest:
        expected = f"at most {largest}, the largest dimension of a weight"
        raise ArgumentError(key="peft_config", found=f"the rank {shown(rank)}", expected=expected)
    try:
        adapted: PreTrainedModel = get_peft_model(policy, peft_config)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        found, expected = f"'{first_line(error)}' from peft", "an adapter that fits the model"
        raise ArgumentError(key="peft_config", found=found, expected=expected) from error
    return adapted


def _check_base_stays(configs: Iterable[Any]) -> None:
    """Raises ArgumentError where an adapter of these configurations changes the weights below it when it is made."""
    for config in configs:
        begun = getattr(config, "init_lora_weights", None)
        rewrites = isinstance(begun, str) and begun.lower().partition("_niter")[0] in REWRITE_BASE
        cuts = getattr(config, "kasa_config", None) is not None  # KaSA: the base's smallest singular values
        if rewrites or cuts:
            found = f"init_lora_weights={begun!r}" if rewrites else "a kasa_config"
            raise ArgumentError(
                key="peft_config", found=f"{found}, which rewrites the base model",
                expected="an initialization that leaves the model as it was", hint="the reference is the model below",
            )  # fmt: skip


def load_reference(
    ref_model: ModelPath | PreTrainedModel | None, policy: PreTrainedModel, args: GDPOConfig
) -> PreTrainedModel | None:
    """The reference: loaded, in the policy's precision and attention, if it is a name; without dropout as the policy.

    Raises ArgumentError where it cannot be loaded.
    """
    if isinstance(ref_model, str | os.PathLike):
        alike = {"dtype": policy.dtype, "attn_implementation": compat.attention_implementation(policy.config)}
        given = {key: value for key, value in _given(args).items() if key != "revision"}  # the policy's alone
        ref_model = _load("ref_model", ref_model, alike | given)
    if args.disable_dropout and ref_model is not None:
        disable_dropout(ref_model)
    return ref_model


def load_tokenizer(
    processing_class: ModelPath | PreTrainedTokenizerBase | None, policy: PreTrainedModel, args: GDPOConfig
) -> PreTrainedTokenizerBase:
    """The tokenizer: given, loaded if it is a name, or else the policy's own.

    Raises ArgumentError where it cannot be loaded.
    """
    if processing_class is not None and not isinstance(processing_class, str | os.PathLike):
        return processing_class
    revision = {} if processing_class else {k: v for k, v in _given(args).items() if k == "revision"}
    path = processing_class or compat.loaded_from(policy)
    tokenizer: PreTrainedTokenizerBase = load_pretrained(
        "processing_class", path, AutoTokenizer, "a tokenizer", **revision
    )
    return tokenizer


def _given(args: GDPOConfig) -> dict[str, Any]:
    """`model_init_kwargs`, which GDPOConfig has made a mapping of, without what `load_pretrained` sets itself."""
    given = args.model_init_kwargs or {}
    assert isinstance(given, dict)
    return {key: value for key, value in given.items() if key not in ("trust_remote_code", "use_safetensors")}


def check_trainable(model: nn.Module) -> None:
    """Raises ArgumentError where `model` takes images, or has no weight to train."""
    if getattr(getattr(model, "config", None), "vision_config", None) is not None:
        expected = "a causal language model of text alone"
        raise ArgumentError(key="model", found=f"{type(model).__name__}, which takes images", expected=expected)
    if not any(p.requires_grad for p in model.parameters()):
        hint = "load an adapter with is_trainable=True"
        raise ArgumentError(key="model", found="none", expected="weights to train", hint=hint)


def choose_collator(model: PreTrainedModel, args: GDPOConfig, tokenizer: PreTrainedTokenizerBase) -> GroupCollator:
    """What makes a batch of groups, in forward passes cut as `args` say; rewards are float64 where the policy is.

    Raises ArgumentError where `args` ask for what the policy's attention cannot do.
    """
    # Padding is never attended to, so that any token does that the model knows, which an added pad token may not be.
    known = vocabulary(model)
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None and i < known)
    packing = choose_packing(
        model,
        pad,
        args.max_forward_tokens,
        args.share_prompts,
        bucket=args.bucket_by_length,
        padding_free=args.padding_free,
    )
    return GroupCollator(packing, torch.float64 if model.dtype == torch.float64 else torch.float32)


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout rate of `model` to 0, an adapter's too."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):  # attention has its rate as a number
                setattr(module, name, 0.0)
