"""Parameters, arithmetic and memory by hand-worked numbers, and against the counts that the models' makers state."""

from __future__ import annotations

import csv
from dataclasses import fields

import pytest

from gdpo.config.loader import load_scale
from gdpo.core.project import PROJECT
from gdpo.models.shapes import (
    FORWARD_TOKENS,
    GIB,
    LOGITS,
    TRL_TILE,
    Shape,
    adapter,
    published,
    sampling_memory,
    scoring_memory,
    shape_of,
    training_memory,
    worst_memory,
)

# Two layers of 4 wide, 2 heads of 2, one for keys and values, 8 between, 10 words.
SMALL = Shape(hidden=4, layers=2, heads=2, kv_heads=1, head=2, intermediate=8, vocabulary=10)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
    ],
)
def test_parameters_of_published_models(name: str, parameters: int) -> None:
    assert published()[name].parameters == parameters


def test_defaults_are_those_of_the_trainer() -> None:
    from gdpo.trainer.gdpo_config import GDPOConfig

    defaults = {field.name: field.default for field in fields(GDPOConfig)}
    assert (defaults["max_forward_tokens"], defaults["max_logits"]) == (FORWARD_TOKENS, LOGITS)


def test_every_model_of_scale_paper_has_a_shape() -> None:
    scale = load_scale("paper")
    assert all(shape_of(scale, name) for name, model in scale.models.items() if not model.endpoint)


def test_parameters_by_hand() -> None:
    """A layer: q and o 4*4 each, k and v 4*2 each: 48; MLP 3*4*8 = 96; norms 8: 152.

    Two of them 304, the last norm 4, embedding and head 40 each: 388; tied 348. Biases of q, k, v: 4 + 2 + 2 = 8 a
    layer; norms of heads: 2 + 2.
    """
    assert SMALL.layer == 152
    assert SMALL.parameters == 388
    assert Shape(**{**SMALL.__dict__, "tied": True}).parameters == 348
    assert Shape(**{**SMALL.__dict__, "biases": True}).parameters == 388 + 16
    assert Shape(**{**SMALL.__dict__, "head_norms": True}).parameters == 388 + 8


def test_shape_of_a_pretrained_model_has_its_parameters() -> None:
    from transformers import LlamaForCausalLM

    from gdpo.tiny.pretrain import _llama
    from gdpo.tiny.tokenizer import build_tokenizer

    scale, tokenizer = load_scale("micro"), build_tokenizer()
    made = LlamaForCausalLM(_llama(scale.model("tiny-s").pretrain, tokenizer))
    assert shape_of(scale, "tiny-s", len(tokenizer)).parameters == sum(p.numel() for p in made.parameters())


def test_operations_by_hand() -> None:
    """Multiplied: 304 of the layers and the head's 40: 344, so 688 a token; and 4 * 2 * 4 * 3 = 96 of context 3."""
    assert SMALL.forward(0) == 688
    assert SMALL.forward(3) == 784
    assert SMALL.training(6) == 3 * 784


def test_adapter_parameters_by_hand() -> None:
    """Rank 1 a layer: q 4+4, k and v 4+2 each, o 4+4, gate, up and down 12 each: 64; two layers, rank 3."""
    assert adapter(SMALL, 3) == 3 * 2 * 64


def test_memory_of_sampling_by_hand() -> None:
    """Two layers, keys and values, 2 numbers of 2 bytes: 16 a token; 388 parameters of 2 bytes, over two GPUs."""
    assert SMALL.cached() == 16
    assert sampling_memory(SMALL, rows=3, length=5, gpus=2) == {"weights": 388, "cache": 120}


def test_memory_of_training_by_hand() -> None:
    """Over two GPUs, 4 bytes a number: weights and gradients 776 each, the optimizer twice that."""
    gdpo = load_scale("paper").method("gdpo", "qwen3-8b", "metakl")
    parts = training_memory(SMALL, gdpo, group=10, shards=2, checkpointing=True)
    assert (parts["weights"], parts["gradients"], parts["optimizer"], parts["reference"]) == (776, 776, 1552, 0)
    # At the head: it and a layer in float32, 4*(40+152); the head once more in bfloat16, 2*40; its gradient, 6*40.
    assert parts["gathered"] == 768 + 80 + 240
    # One pass of 8,192 tokens at a time: its layers' inputs, 2 layers of 4 numbers of 4 bytes; and 16*4 at the head.
    assert parts["activations"] == 8192 * 32 + 8192 * 64
    assert parts["logits"] == 6 * 2**26


def test_memory_at_the_last_layer_by_hand() -> None:
    """Where logits are few: two layers, 2*4*152, and the head's gradient, 4*40; 2*16 + 16 of inputs a token.

    A layer's backward: 6*2*8 of the MLP's width, (10*2 + 4*4)*4 of the hidden: 240.
    """
    gdpo = load_scale("paper").method("gdpo", "qwen3-8b", "metakl")
    few = gdpo.model_copy(update={"forward": gdpo.forward.model_copy(update={"max_logits": 1})})
    parts = training_memory(SMALL, few, group=10, shards=2, checkpointing=True)
    assert (parts["gathered"], parts["logits"]) == (1216 + 160, 0)
    assert parts["activations"] == 8192 * (32 + 16 + 240)


def test_memory_of_scoring_by_hand() -> None:
    """388 weights: whole in float32 for GDPO; for DPO two shares of four, and all of them twice in bfloat16.

    A token takes 2*(3*8 + 5*4) = 88 bytes; there are 8,192 of a pass, twice as many of a pair.
    """
    scale = load_scale("paper")
    assert scoring_memory(SMALL, scale.methods["gdpo"], 10, 4) == {"weights": 4 * 388, "activations": 8192 * 88}
    pair = {"weights": 388, "reference": 388, "gathered": 4 * 388, "activations": 2 * 8192 * 88}
    assert scoring_memory(SMALL, scale.methods["dpo"], 10, 4) == pair
    assert scoring_memory(SMALL, scale.methods["grpo"], 10, 4)["optimizer"] == 2 * 388
    assert scoring_memory(SMALL, scale.methods["sft"], 10, 4) == {}
    assert scoring_memory(SMALL, scale.methods["grpo"], 10, 1) == {}
    shape = published()["Qwen/Qwen2.5-32B-Instruct"]  # whose reference no card of 80 GB scores, however many there are
    assert all(sum(worst_memory(shape, scale.methods[n], 10, 64, True).values()) > 80e9 for n in ("dpo", "gdpo"))


def test_plan_lies_within_5_percent_of_what_was_tracked() -> None:
    """Every row of results/reference/memory/memory.csv, by the formula of today."""
    scale = load_scale("paper")
    with (PROJECT / "results/reference/memory/memory.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["ranks"]) for row in rows} == {
        (method, ranks) for method in ("sft", "dpo", "gdpo", "grpo") for ranks in ("2", "4", "8")
    }
    for row in rows:
        shape, method = published()[row["model"]], scale.methods[row["method"]]
        planned = sum(training_memory(shape, method, 10, int(row["ranks"]), checkpointing=True).values()) / GIB
        assert planned == pytest.approx(float(row["tracked_gib"]), rel=0.05), row
        assert planned == pytest.approx(float(row["plan_gib"]), abs=0.01), "`make memory` anew"


def test_memory_of_an_adapter_has_gradients_and_optimizer_of_the_adapter() -> None:
    lora = load_scale("paper").method("gdpo-lora", "qwen3-8b", "metakl")
    parts = training_memory(SMALL, lora, group=10, shards=1, checkpointing=True)
    own = adapter(SMALL, 16)
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (4 * (388 + own), 4 * own, 8 * own)
    assert "gathered" not in parts


def test_memory_of_trl_logits_by_hand() -> None:
    """A tile of 4096 x 32768 in bfloat16; head and layer in bfloat16, and the head's gradient, 6 bytes a number."""
    dpo = load_scale("paper").method("dpo", "qwen3-8b", "metakl")
    parts = training_memory(SMALL, dpo, group=10, shards=2, checkpointing=True)
    assert parts["logits"] == 2 * 4096 * 32768
    assert parts["gathered"] == 2 * (40 + 152) + 6 * 40
    assert parts["activations"] == 2 * 8192 * (2 * 4 * 2 + 16 * 4)


def test_tile_is_the_one_of_trl() -> None:
    """What `logits` counts on: the tile that TRL computes at once."""
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    assert TRL_TILE == TOKEN_CHUNK_SIZE * _CHUNKED_LOGPROB_CHUNK_SIZE


def test_methods_that_fit_two_cards_of_80_gb() -> None:
    """As docs/scale-paper.md has it: all but grpo on two; not gdpo in passes of 16,384 tokens, nor on one."""
    scale, shape = load_scale("paper"), published()["Qwen/Qwen3-8B"]
    room = scale.expected.card.memory_gib * GIB

    def held(name: str, shards: int, **changes) -> float:
        method = scale.method(name, "qwen3-8b", "metakl").model_copy(update=changes)
        return sum(training_memory(shape, method, 10, shards, checkpointing=True).values())

    assert max(held("sft", 2), held("dpo", 2), held("gdpo", 2)) < room
    assert held("grpo", 4) > room > held("grpo", 8)
    assert held("gdpo", 2, forward=None) > room
    assert held("gdpo", 1) > room
