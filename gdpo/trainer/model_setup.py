"""The policy as GDPOTrainer takes it: loaded, adapted, without dropout, and how its forward passes are packed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.logprobs import is_adapted, share_faithfully
from gdpo.trainer.packing import Packing, attention_tokens

logger = logging.get_logger(__name__)


def load_policy(model: str | PreTrainedModel, args: GDPOConfig, peft_config: Any) -> PreTrainedModel:
    """The model to train: loaded if it is a name, adapted if there is an adapter, without dropout if so asked."""
    if isinstance(model, str):
        given = {"dtype": torch.float32, "trust_remote_code": False, **(args.model_init_kwargs or {})}
        policy: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, **given)
    else:
        policy = model
        if args.model_init_kwargs:
            logger.warning("model_init_kwargs are for a model given by name, and ignored for one already loaded")
    if peft_config is not None:
        from peft import get_peft_model

        if is_adapted(policy):
            raise ValueError("peft_config: expected a model without an adapter, found a PeftModel; merge it first")
        policy = get_peft_model(policy, peft_config)
    if getattr(getattr(policy, "active_peft_config", None), "is_prompt_learning", False):
        raise ValueError("peft_config: expected an adapter of weights such as LoRA, found prompt learning")
    if args.disable_dropout:
        disable_dropout(policy)
    return policy


def packing(model: PreTrainedModel, args: GDPOConfig, tokenizer: PreTrainedTokenizerBase) -> Packing:
    """How the policy's forward passes are cut. Raises ValueError where `args` ask for what its attention cannot do."""
    config = model.config.get_text_config()
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name)
    share, window = args.share_prompts, getattr(config, "sliding_window", None)
    # What a short trial cannot show: layers that see less of a long row than the mask allows.
    local = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    shareable = local <= {"sliding_attention"} and (window is not None or not local)
    if args.padding_free and "flash" not in config._attn_implementation:
        found = f"found {config._attn_implementation}; load the model with attn_implementation='flash_attention_2'"
        raise ValueError(f"padding_free: expected a flash attention implementation, {found}")
    if share != "never" and not args.padding_free and not (shareable and share_faithfully(model, pad)):
        if share == "always":
            raise ValueError(
                f"share_prompts: expected a model whose attention takes a mask of its own, found {config.model_type} "
                f"with {config._attn_implementation} attention; use 'auto' or 'never'"
            )
        share = "never"
    return Packing(
        pad_token_id=pad,
        max_tokens=args.max_forward_tokens,
        share=share,
        attention_tokens=attention_tokens(config, body),
        window=window,
        bucket=args.bucket_by_length,
        padding_free=args.padding_free,
    )


def disable_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):  # attention has its rate as a number
                setattr(module, name, 0.0)
