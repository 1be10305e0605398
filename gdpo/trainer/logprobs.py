"""Log-probabilities of completions: only the tokens that count, each once, and never all logits at once.

A forward pass (`gdpo.trainer.packing.Packing.forwards`) names the positions whose hidden states predict a completion's
tokens. The model's body runs once. The head runs on those positions alone, in chunks of at most `max_logits` logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional
from transformers import PreTrainedModel

from gdpo.trainer import compat
from gdpo.trainer.packing import tree_mask

if TYPE_CHECKING:
    from peft import PeftModel

# ours: 2^26 float32 logits are 256 MiB, 441 tokens at a vocabulary of 151,936
MAX_LOGITS = 1 << 26


def completion_log_probs(model: nn.Module, forward: Mapping[str, Tensor], max_logits: int = MAX_LOGITS) -> Tensor:
    """log pi of each scored token, (K,), in the order of `forward["targets"]`."""
    return routed_log_probs(model, forward, max_logits, routers=False)[0]


def routed_log_probs(
    model: nn.Module, forward: Mapping[str, Tensor], max_logits: int = MAX_LOGITS, routers: bool = True
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`completion_log_probs`, and each layer's router logits, (N T, E), where `routers` asks a mixture for them."""
    given: dict[str, Any] = {"position_ids": forward["position_ids"]} if "position_ids" in forward else {}
    if "segments" in forward:
        given["attention_mask"] = tree_mask(forward["segments"])
    if routers or getattr(getattr(model, "config", None), "output_router_logits", False):
        given["output_router_logits"] = routers
    sources, targets = forward["sources"], forward["targets"]
    body, head = split_head(model)
    if head is None:
        output = model(input_ids=forward["input_ids"], use_cache=False, **given)
        scored = _plain(output.logits.flatten(0, 1)[sources], targets)
    else:
        output = body(input_ids=forward["input_ids"], use_cache=False, **given)
        hidden = output.last_hidden_state.flatten(0, 1)[sources]
        scored = _within(head, lambda: token_log_probs(hidden, head.weight, targets, head.bias, max_logits), hidden)
    return scored, tuple(output.router_logits) if routers else ()


def _within(head: nn.Module, score: Callable[[], Tensor], hidden: Tensor) -> Tensor:
    """`score()`, for a head whose weights are dealt out within its forward, whose hooks gather them."""
    if not isinstance(head, FSDPModule):
        return score()
    with compat.replaced_forward(head, score):
        scored: Tensor = head(hidden)
    return scored


def token_log_probs(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, max_logits: int = MAX_LOGITS
) -> Tensor:
    """log softmax(hidden weight^T + bias) at `targets`.

    Args:
        hidden: (K, d), the states that predict.
        weight, bias: the head, (V, d) and (V,).
        targets: (K,) token ids.
        max_logits: how many logits may be in memory at once. Where K V is more, they are computed chunk by chunk, and
            again in the backward pass. Memory then does not depend on K, nor that of the logits on V.

    Returns (K,), in float32, or in float64 where `hidden` is.
    """
    size = max(1, max_logits // weight.shape[0])
    if len(hidden) <= size:
        return _plain(functional.linear(hidden, weight, bias), targets)
    if torch.is_autocast_enabled(hidden.device.type):
        low = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight, bias = hidden.to(low), weight.to(low), None if bias is None else bias.to(low)
    scored: Tensor = _ChunkedLogProbs.apply(hidden, weight, bias, targets, size)
    return scored


def is_adapted(model: nn.Module) -> TypeGuard[PeftModel]:
    """Whether `model` has an adapter. Its method tells, so that peft is imported only to make an adapter."""
    return hasattr(model, "disable_adapter")


def split_head(model: nn.Module) -> tuple[nn.Module, nn.Linear | None]:
    """A causal language model's body, which gives hidden states, and its head; None for a head of another kind."""
    inner = model.get_base_model() if is_adapted(model) else model
    if not isinstance(inner, PreTrainedModel):
        return model, None
    head = inner.get_output_embeddings()
    scaled = any(getattr(inner.config.get_text_config(), name, None) not in (None, 1.0) for name in SCALED_LOGITS)
    if _kind(head) is not nn.Linear or scaled or inner.base_model is inner:
        return model, None
    return (inner.base_model, head) if _adjoins(inner, head) else (model, None)


def _kind(module: nn.Module) -> type[nn.Module]:
    """The class of `module`; of one whose weights are dealt out the class that `fully_shard` derived its own from."""
    kind: type[nn.Module] = type(module).__mro__[2] if isinstance(module, FSDPModule) else type(module)
    return kind


_ADJOINING: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _adjoins(model: PreTrainedModel, head: nn.Linear) -> bool:
    """Whether no layers are between body and head, as there are in ModernBERT's decoder; computed once for a model."""
    if model not in _ADJOINING:
        inside = {id(p) for part in (model.base_model, head) for p in part.parameters()}
        _ADJOINING[model] = all(id(p) in inside for p in model.parameters())
    return _ADJOINING[model]


# Settings by which a model changes its head's output; such a model runs its own forward pass instead.
SCALED_LOGITS = (
    "final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap", "logit_scale", "logits_scaling",
    "logits_mup_width_multiplier", "output_multiplier", "lm_head_multiplier",
)  # fmt: skip


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _plain(logits: Tensor, targets: Tensor) -> Tensor:
    return -functional.cross_entropy(_wide(logits), targets, reduction="none")


class _ChunkedLogProbs(torch.autograd.Function):
    """Logits of `size` tokens at a time. The backward pass computes them again, so that none are stored.

    With p = softmax(z), d log p_t / d z = onehot(t) - p.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, size: int) -> Tensor:
        scored, normalisers = [], []
        for part, target in zip(hidden.split(size), targets.split(size), strict=True):
            logits = _wide(functional.linear(part, weight, bias))
            normalisers.append(logits.logsumexp(-1))
            scored.append(logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - normalisers[-1])
        ctx.save_for_backward(hidden, weight, bias, targets, torch.cat(normalisers))
        ctx.size = size
        return torch.cat(scored)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normalisers = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = torch.zeros_like(weight, dtype=_wide(weight[:0]).dtype) if needs_weight else None
        to_bias = torch.zeros_like(bias, dtype=_wide(bias[:0]).dtype) if needs_bias else None
        for start in range(0, len(hidden), ctx.size):
            part = slice(start, start + ctx.size)
            logits = _wide(functional.linear(hidden[part], weight, bias))
            slope = logits.sub_(normalisers[part].unsqueeze(-1)).exp_().mul_(-upstream[part].unsqueeze(-1))
            slope.scatter_add_(-1, targets[part].unsqueeze(-1), upstream[part].unsqueeze(-1))
            if to_bias is not None:
                to_bias += slope.sum(0)
            slope = slope.to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(slope, weight, out=to_hidden[part])
            if to_weight is not None:
                _accumulate(to_weight, slope.t(), hidden[part])
        cast = [
            None if grad is None else grad.to(tensor.dtype)
            for grad, tensor in ((to_hidden, hidden), (to_weight, weight), (to_bias, bias))
        ]
        return *cast, None, None


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left right, products summed in total's precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    elif total.device.type == "cuda":
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))
