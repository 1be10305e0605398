"""Log-probabilities: in chunks as at once, and of every kind of model as a forward pass of each sequence has them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertDecoderConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from gdpo.trainer.logprobs import completion_log_probs, split_head, token_log_probs
from gdpo.trainer.packing import Packing
from gdpo.trainer.packing_choice import share_faithfully

VOCABULARY, PAD = 60, 0
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.3,  # so that tokens tell apart, and a token that sees too much or too little is found out
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": 1,
}
SLIDING = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SMALL, attention_bias=True),
    "qwen3": Qwen3Config(**SMALL),
    "mistral, sliding": MistralConfig(**SMALL, sliding_window=12),
    "gemma3, sliding": Gemma3TextConfig(**SMALL, **SLIDING),
    "gemma2, soft-capped": Gemma2Config(**SMALL, **SLIDING, final_logit_softcapping=3.0, attn_logit_softcapping=None),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=1,
    ),
    "gpt-neox": GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")}),
    # Layers stand between its body and its head.
    "modernbert-decoder": ModernBertDecoderConfig(
        **{k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim", "bos_token_id")},
        bos_token_id=1, cls_token_id=1, sep_token_id=1,
    ),
}  # fmt: skip
SHARED = {"llama", "qwen2", "qwen3", "mistral, sliding", "gemma3, sliding", "gpt2", "gpt-neox", "modernbert-decoder"}


def build(name: str, attention: str = "sdpa", dtype=torch.float32):
    torch.manual_seed(0)
    attention = "eager" if name.startswith("gemma2") else attention  # which has no other
    return AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=attention).to(dtype).eval()


def drawn() -> list[tuple[list[int], list[list[int]]]]:
    draw = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(draw.randint(low, high))]

    return [(ids(1, 9), [ids(1, 9) for _ in range(draw.randint(1, 4))]) for _ in range(5)]


def packed(model, groups, max_logits=1 << 26, **changes):
    """Each completion's summed log-probability, in the order of the groups."""
    window = getattr(model.config, "sliding_window", None)
    packing = replace(Packing(PAD, max_tokens=120, window=window), **changes)
    total = torch.zeros(sum(len(sequences) for _, sequences in groups), dtype=torch.float64)
    for forward in packing.forwards(groups)[1]:
        total = total.index_add(0, forward["owners"], completion_log_probs(model, forward, max_logits).double())
    return total


def alone(model, groups):
    """The same by the model's own forward pass, one sequence at a time."""
    scores = []
    for prompt, sequences in groups:
        for sequence in sequences:
            logits = model(torch.tensor([prompt + sequence])).logits[0].double()
            steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            scores.append(steps.gather(-1, torch.tensor(sequence).unsqueeze(-1)).sum())
    return torch.stack(scores)


LAYOUTS = {
    "padded": {"share": "never", "bucket": False},
    "bucketed": {"share": "never"},
    "shared": {"share": "always"},
    "one a forward": {"share": "never", "max_tokens": 1},
    "packed": {"padding_free": True},
    "in chunks": {"share": "never", "max_logits": 3 * VOCABULARY},
}


@pytest.mark.parametrize(("name", "layout"), [(n, o) for n in CONFIGS for o in LAYOUTS if o != "shared" or n in SHARED])
@torch.no_grad()
def test_each_completion_scores_as_it_does_alone(name, layout):
    """In float32, on models that tell tokens apart by several nats. Under sdpa a model makes the mask of packed rows
    from their restarting positions."""
    model, groups = build(name), drawn()
    assert torch.allclose(packed(model, groups, **LAYOUTS[layout]), alone(model, groups), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layout", ["shared", "packed", "in chunks"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox"])
def test_gradients_are_those_of_each_completion_alone(name, layout):
    model, groups = build(name).double(), drawn()
    upstream = torch.randn(sum(len(sequences) for _, sequences in groups), dtype=torch.float64)
    gradients = []
    for scores in (packed(model, groups, **LAYOUTS[layout]), alone(model, groups)):
        model.zero_grad()
        (upstream * scores).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    # Norms and rotations compute in float32 whatever the weights are.
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[1].norm() > 0


def test_bfloat16_log_probs_are_close_to_float32():
    """Within a few of bfloat16's roundings, 2^-8, of what float32 says of the same weights."""
    model, groups = build("llama", dtype=torch.bfloat16), drawn()
    with torch.no_grad():
        exact = alone(build("llama", dtype=torch.bfloat16).float(), groups)
        for layout in LAYOUTS.values():
            assert torch.allclose(packed(model, groups, **layout), exact, rtol=0.02, atol=0.15)


# What may share a prompt


@pytest.mark.parametrize("name", CONFIGS)
def test_share_faithfully(name):
    """Models under sdpa attention, which is tried out; nobody under eager attention, Gemma 2's only one."""
    model = build(name)
    assert share_faithfully(model, 3) == (name in SHARED)
    assert not share_faithfully(build(name, "eager"), 3)


def test_share_faithfully_detects_an_ignored_mask(monkeypatch):
    model = build("llama")
    forward = type(model.model).forward
    monkeypatch.setattr(
        type(model.model), "forward", lambda self, *args, attention_mask=None, **given: forward(self, *args, **given)
    )
    assert not share_faithfully(model, 3)


def test_share_faithfully_detects_ignored_positions(monkeypatch):
    model = build("gpt2")
    forward = type(model.transformer).forward
    monkeypatch.setattr(
        type(model.transformer),
        "forward",
        lambda self, *args, position_ids=None, **given: forward(self, *args, **given),
    )
    assert not share_faithfully(model, 3)


# The head


def test_the_head_is_split_off_where_it_is_plain():
    for name in CONFIGS:
        model = build(name)
        body, head = split_head(model)
        if "capped" in name or "decoder" in name:
            assert head is None and body is model
        else:
            assert head is model.get_output_embeddings() and body is model.base_model


def test_adapted_head_is_not_split_off():
    """A head that an adapter wraps is no plain linear layer."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(build("qwen2"), LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    assert split_head(model) == (model, None)
    plain = get_peft_model(build("qwen2"), LoraConfig(r=2, target_modules=["q_proj"]))
    assert split_head(plain)[1] is plain.get_output_embeddings()


def head(bias: bool, dtype=torch.float64):
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 4, dtype=dtype), torch.randn(11, 4, dtype=dtype)
    given = [hidden, weight, torch.randn(11, dtype=dtype) if bias else None]
    return [None if tensor is None else tensor.requires_grad_() for tensor in given], torch.randint(11, (7,))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 3, 7])
def test_chunked_log_probs_and_gradients_equal_plain_ones(tokens, bias):
    """At most 1, 3 or 7 tokens' logits at a time (11 each): values and gradients to the last digits of float64."""
    (hidden, weight, shift), targets = head(bias)
    inputs = [tensor for tensor in (hidden, weight, shift) if tensor is not None]
    upstream = torch.randn(7, dtype=torch.float64)
    results = []
    for most in (11 * tokens, 1 << 20):
        scores = token_log_probs(hidden, weight, targets, shift, most)
        results.append([scores, *torch.autograd.grad((upstream * scores).sum(), inputs)])
    for chunked, plain in zip(*results, strict=True):
        assert torch.allclose(chunked, plain, rtol=1e-12, atol=1e-13)
    expected = torch.nn.functional.linear(hidden, weight, shift).log_softmax(-1)
    assert torch.allclose(results[0][0], expected[torch.arange(7), targets])


@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(bias):
    (hidden, weight, shift), targets = head(bias)
    if bias:
        assert torch.autograd.gradcheck(lambda h, w, b: token_log_probs(h, w, targets, b, 22), (hidden, weight, shift))
    else:
        assert torch.autograd.gradcheck(lambda h, w: token_log_probs(h, w, targets, None, 22), (hidden, weight))


def test_only_what_is_trained_gets_a_gradient():
    (hidden, weight, _), targets = head(False)
    token_log_probs(hidden, weight.detach(), targets, None, 22).sum().backward()
    assert hidden.grad is not None and weight.grad is None
    hidden.grad = None
    token_log_probs(hidden.detach(), weight, targets, None, 22).sum().backward()
    assert hidden.grad is None and weight.grad is not None


def test_half_precision_sums_in_float32():
    """bfloat16 states and head, chunked: within bfloat16's rounding of float64, and as close as unchunked."""
    (hidden, weight, _), targets = head(False, torch.bfloat16)
    exact = token_log_probs(hidden.double(), weight.double(), targets)
    scores = token_log_probs(hidden, weight, targets, None, 22)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores.double(), exact, atol=0.05)
    scores.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16


def test_autocast_reaches_the_chunks():
    (hidden, weight, _), targets = head(False, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        plain = token_log_probs(hidden, weight, targets)
        chunked = token_log_probs(hidden, weight, targets, None, 22)
    assert torch.allclose(plain, chunked, atol=1e-6)
    assert not torch.allclose(chunked, token_log_probs(hidden, weight, targets), atol=1e-6)
    chunked.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
