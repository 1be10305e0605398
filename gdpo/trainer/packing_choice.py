"""How a model's sequences are packed: by what its attention can do, which a short trial finds out."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from gdpo.core.errors import ArgumentError
from gdpo.trainer import compat
from gdpo.trainer.logprobs import completion_log_probs, split_head
from gdpo.trainer.packing import Packing, Share, attention_tokens
from gdpo.trainer.router_loss import RouterLoss


def choose_packing(
    model: PreTrainedModel,
    pad: int,
    max_tokens: int,
    share: Share = "auto",
    *,
    windows: bool = True,
    bucket: bool = True,
    padding_free: bool = False,
) -> Packing:
    """The `Packing` of a model's forward passes.

    Args:
        model: the causal language model that scores.
        pad: the token id that fills rows.
        max_tokens, share, bucket, padding_free: as `Packing` has them. "auto" becomes "never" where `model` cannot
            share a prompt.
        windows: whether a model with a sliding window shares prompts too, in rows within its window.

    Raises ArgumentError where `share` is "always" or `padding_free` is set and the model's attention cannot do it.
    """
    config = model.config.get_text_config()
    attention = compat.attention_implementation(config)
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name)
    window = getattr(config, "sliding_window", None)
    if padding_free and "flash" not in attention:
        hint = "load the model with attn_implementation='flash_attention_2'"
        raise ArgumentError(key="padding_free", found=attention, expected="a flash attention implementation", hint=hint)
    # What a short trial cannot show: layers that see less of a long row than the mask allows.
    local = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if windows:
        shareable = local <= {"sliding_attention"} and (window is not None or not local)
    else:
        shareable = not local and window is None
    if RouterLoss.of(model) and split_head(model)[1] is None:
        shareable = False  # its own forward pass counts tokens by a mask of one row each
    if share != "never" and not padding_free and not (shareable and share_faithfully(model, pad)):
        if share == "always":
            raise ArgumentError(
                key="share_prompts",
                found=f"{config.model_type} with {attention} attention",
                expected="a model whose attention takes a mask of its own",
                hint="use 'auto' or 'never'",
            )
        share = "never"
    return Packing(
        pad_token_id=pad,
        max_tokens=max_tokens,
        share=share,
        attention_tokens=attention_tokens(config, body),
        window=window,
        bucket=bucket,
        padding_free=padding_free,
    )


@torch.no_grad()
def share_faithfully(model: PreTrainedModel, token: int) -> bool:
    """Whether two completions after one prompt score in `model` as each alone does.

    A model does not whose attention ignores the mask, or whose positions or layers depend on more than attention.
    `token` is any token id, from which the trial's ids are made.
    """
    config = model.config.get_text_config()
    if compat.attention_implementation(config) != "sdpa":
        return False
    spread = max(1, config.vocab_size // 8)
    ids = [(token + step * spread) % config.vocab_size for step in range(1, 8)]
    group = (ids[:3], [ids[3:5], ids[5:7] + ids[:1]])
    training = model.training
    model.eval()
    scores = []
    shares: tuple[Share, ...] = ("always", "never")
    for share in shares:
        _, forwards = Packing(token, max_tokens=64, share=share, bucket=False).forwards([group])
        moved = [{name: tensor.to(model.device) for name, tensor in forward.items()} for forward in forwards]
        scored = [(forward["owners"], completion_log_probs(model, forward)) for forward in moved]
        scores.append(torch.cat([s for _, s in scored])[torch.cat([o for o, _ in scored]).argsort(stable=True)])
    model.train(training)
    # Low precision rounds by up to a hundredth; a mask ignored changes log-probabilities by far more.
    exact = model.dtype in (torch.float32, torch.float64)
    return torch.allclose(scores[0], scores[1], rtol=1e-4 if exact else 0.02, atol=1e-4 if exact else 0.05)
