"""The tiny tokenizer and pretraining: round trips, TRL's prefix property, response-only loss, determinism."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from gdpo.config.loader import load_scale
from gdpo.config.models import Pretrain
from gdpo.tiny.pretrain import IGNORED, encode, pack, pretrain, response_loss, shuffled_batches
from gdpo.tiny.tokenizer import build_tokenizer
from gdpo.tiny.world import pool_questions, pretraining_examples


@pytest.fixture(scope="module")
def world():
    return load_scale("tiny").world


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_world_text_round_trips(world, tokenizer):
    for question in pool_questions(world)[::20]:
        for text in (question.question, question.solution):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_prompt_is_a_prefix_of_prompt_and_completion(tokenizer):
    prompt = [{"role": "user", "content": "compute 3 add 4"}]
    completion = [{"role": "assistant", "content": "<think> add 4 = 7 </think> 7"}]
    for tokenize in (False, True):
        asked = tokenizer.apply_chat_template(prompt, tokenize=tokenize, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(prompt + completion, tokenize=tokenize, return_dict=False)
        assert whole[: len(asked)] == asked
    assert whole[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(whole[len(asked) :], skip_special_tokens=True) == completion[0]["content"]


def test_pretraining_renders_as_the_chat_template(world, tokenizer):
    examples = pretraining_examples(world, "small", 20, 0)
    for example, (prompt, response) in zip(examples, encode(examples, tokenizer), strict=True):
        messages = [
            {"role": "user", "content": example.question},
            {"role": "assistant", "content": example.response},
        ]
        assert prompt + response == tokenizer.apply_chat_template(messages, return_dict=False)
        assert prompt == tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)


def test_packed_by_hand():
    """Prompts 5 6 / 5, responses 7 8 / 9, width 4: two rows; in 1 + 1 and 1 + 1 the two share a row of 4."""
    packed = pack([([5, 6], [7, 8]), ([5], [9])], pad=0)
    assert packed.ids.tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert packed.labels.tolist() == [[IGNORED, 7, 8, IGNORED], [9, IGNORED, IGNORED, IGNORED]]
    shared = pack([([5, 6, 6], [7]), ([5], [9]), ([4], [3])], pad=0)
    assert shared.ids.tolist() == [[5, 6, 6, 7], [5, 9, 4, 3]]
    assert shared.positions.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]
    assert shared.attention[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_packing_leaves_the_loss_unchanged(world, tokenizer):
    """A packed batch has the mean loss of its examples run one at a time, weighted by response length."""
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    pairs = encode(pretraining_examples(world, "small", 12, 0), tokenizer)
    together = response_loss(network, pack(pairs, 0))
    alone = sum(response_loss(network, pack([pair], 0)) * len(pair[1]) for pair in pairs)
    torch.testing.assert_close(together, alone / sum(len(pair[1]) for pair in pairs), rtol=1e-5, atol=1e-6)


def test_batches_keep_every_example():
    encoded = [([1] * (n % 7 + 1), [2]) for n in range(50)]
    batches = shuffled_batches(encoded, 8, random.Random(0))
    assert sorted(map(str, encoded)) == sorted(str(pair) for batch in batches for pair in batch)


def test_pretraining_is_deterministic_and_loads(world, tmp_path):
    settings = Pretrain(
        hidden_size=16, layers=1, heads=2, examples=96, batch_size=16, muon_learning_rate=0.02,
        adamw_learning_rate=0.003, mix="small", seed=0,
    )  # fmt: skip
    for name in ("a", "b"):
        pretrain(settings, world, tmp_path / name)
    a, b = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("a", "b"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer.chat_template and a.generation_config.eos_token_id == tokenizer.eos_token_id
    assert a.generation_config.pad_token_id == tokenizer.pad_token_id
    assert not list((tmp_path / "a").glob("*.bin"))
