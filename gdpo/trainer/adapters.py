"""Adapters that GDPOTrainer and the other methods train in place of all weights. peft is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(r: int, alpha: int, dropout: float = 0.0) -> LoraConfig:
    """An adapter of rank `r` on every linear layer but the head, scaled by `alpha` / `r`."""
    from peft import LoraConfig

    return LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )  # fmt: skip
