"""The auxiliary loss that balances a mixture's experts (Switch Transformer, arXiv 2101.03961, eq. 4 to 6).

A model has it where its configuration sets `output_router_logits` and a coefficient. With f_e the mean number of times
that a token is sent to expert e, p_e the mean probability of that, and E experts it is E sum_e f_e p_e. The means are
over layers and over the positions whose hidden states predict a completion's tokens. So it does not depend on how a
batch is cut into forward passes, and neither padding nor a dummy group counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdpo.core.errors import ArgumentError


@dataclass(frozen=True)
class RouterLoss:
    """The loss of a model whose tokens each go to `top_k` experts; the objective adds `coefficient` times it."""

    coefficient: float
    top_k: int

    @classmethod
    def of(cls, model: Any) -> RouterLoss | None:
        """The loss that a model's configuration asks for; None without one.

        Raises ArgumentError where it asks for one and does not say how many experts a token goes to.
        """
        inner = model.get_base_model() if hasattr(model, "disable_adapter") else model
        config = inner.config.get_text_config()
        if not getattr(config, "output_router_logits", False):
            return None
        places = ((inner, "router_aux_loss_coef"), (config, "router_aux_loss_coef"), (config, "aux_loss_coef"))
        coefficient = next((getattr(place, name) for place, name in places if hasattr(place, name)), 0.0)
        if not coefficient:
            return None
        top_k = getattr(config, "num_experts_per_tok", None)
        if not isinstance(top_k, int):
            found = f"output_router_logits of {type(inner).__name__}, without num_experts_per_tok"
            raise ArgumentError(key="model", found=found, expected="both", hint="set output_router_logits=False")
        return cls(float(coefficient), top_k)

    def sums(self, router_logits: Sequence[Tensor], sources: Tensor, weights: Tensor) -> Tensor:
        """What `loss` needs of a forward pass, (2 E + 1,): it adds up over passes.

        Args:
            router_logits: of each layer, (N T, E).
            sources: (K,), the positions that count.
            weights: (K,), how much each counts.
        """
        experts = router_logits[0].shape[-1]
        total = weights.new_zeros(2 * experts + 1)
        for logits in router_logits:
            probabilities = logits[sources].to(weights.dtype).softmax(-1)
            chosen = probabilities.topk(self.top_k, dim=-1).indices
            sent = weights.new_zeros(experts).index_add(0, chosen.flatten(), weights.repeat_interleave(self.top_k))
            meant = (probabilities * weights.unsqueeze(-1)).sum(0)
            total = total + torch.cat([sent, meant, weights.sum().unsqueeze(0)])
        return total

    def loss(self, sums: Tensor) -> Tensor:
        """E sum_e f_e p_e, a scalar; 0 where nothing counts."""
        experts = len(sums) // 2
        sent, meant = sums[:-1].view(2, experts) / sums[-1].clamp(min=1)
        loss: Tensor = experts * (sent * meant).sum()
        return loss
