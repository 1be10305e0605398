"""Sharded weights: the head under the class that FSDP2 gives it, and a backward pass after each forward pass."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

from gdpo.trainer.distributed import backward_by_pass, run_in_wrapped_forward
from gdpo.trainer.logprobs import completion_log_probs, split_head


@contextmanager
def fake_group(processes: int):
    """This process as the first of several, whose collectives do nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def sharded() -> LlamaForCausalLM:
    """A model dealt out as accelerate 1.15 does: layers, embedding, and the last norm and the head as one."""
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=32, tie_word_embeddings=False))
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model.model.embed_tokens)
    fully_shard([model.model.norm, model.lm_head], reshard_after_forward=False)
    return fully_shard(model)


def test_sharded_head_is_known_and_chunked(monkeypatch) -> None:
    """FSDP2 derives a class of its own from nn.Linear; logits of all tokens at once would take gigabytes."""
    with fake_group(1):
        model = sharded()
        body, head = split_head(model)
        assert head is model.lm_head and body is model.model
        monkeypatch.setattr("gdpo.trainer.logprobs._plain", lambda *_: pytest.fail("all logits at once"))
        ids = torch.arange(12).view(1, 12)
        forward = {"input_ids": ids, "sources": torch.arange(11), "targets": ids[0, 1:]}
        scored = run_in_wrapped_forward(model, model, lambda: completion_log_probs(model, forward, 64), ids)
        assert scored.shape == (11,) and scored.requires_grad
        scored.sum().backward()
        assert model.lm_head.weight.grad.to_local().abs().sum() > 0


def test_backward_by_pass_has_the_gradient_of_one_backward() -> None:
    """Three passes of a linear layer and a loss that is no sum over them: two backward calls, and the caller's own."""
    torch.manual_seed(0)
    layer, inputs = nn.Linear(4, 1, bias=False).double(), torch.randn(3, 4, dtype=torch.float64)
    calls = []

    def score(only: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        every = torch.zeros(3, dtype=torch.float64)
        for number in range(3) if only is None else [only]:
            every = every.index_add(0, torch.tensor([number]), layer(inputs[number]))
        return every, every[:0]

    def loss_of(scores: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return scores.softmax(0)[1].log() * scores.square().sum(), scores

    whole, ratios = loss_of(*score(None))
    whole.backward()
    expected, layer.weight.grad = layer.weight.grad, None

    def backward(part: torch.Tensor) -> None:
        calls.append(part)
        part.backward()

    loss, found = backward_by_pass(3, score, loss_of, backward)
    loss.backward()
    assert len(calls) == 2
    assert (loss.item(), found.tolist()) == (whole.item(), ratios.tolist())
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-12, atol=1e-12)
