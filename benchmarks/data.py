"""What the benchmarks train: a random Llama, a word-level tokenizer, groups of random words. All of it seeded."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 0
GROUP_SIZE = 10
PAD, EOS, UNKNOWN = range(3)
FIRST_WORD = 3


@dataclass(frozen=True)
class Size:
    """A Llama, with as many key-value heads as heads and one embedding for input and output unless told otherwise."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    kv_heads: int | None = None
    tied: bool = True


@dataclass(frozen=True)
class Shape:
    """Groups of one kind. Lengths are tokens, a completion's with its end-of-sequence token.

    Completion lengths are uniform in [shortest, longest], or lognormal around `median` and cut to that range.
    """

    name: str
    prompt: int
    shortest: int
    longest: int
    groups: int
    groups_per_step: int
    median: int | None = None


def build_model(size: Size, device: str = "cpu") -> LlamaForCausalLM:
    """A model of random float32 weights, drawn on `device`: billions of them take minutes on a CPU."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=size.tied,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    with torch.device(device):
        return LlamaForCausalLM(config)


def build_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word, so that text and ids are exact images of each other: the word of id 7 is `w7`."""
    words = ["<pad>", "<eos>", "<unk>", *(f"w{token}" for token in range(FIRST_WORD, vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def make_groups(shape: Shape, vocabulary: int, seed: int = SEED) -> list[dict[str, Any]]:
    """Groups of GROUP_SIZE distinct completions with distinct rewards, as token ids.

    Each has `prompt_ids`, `completion_ids` (lists that end in EOS) and `rewards`.
    """
    draw = random.Random(seed)
    groups = []
    for _ in range(shape.groups):
        completions: set[tuple[int, ...]] = set()
        while len(completions) < GROUP_SIZE:
            completions.add((*_words(draw, _length(draw, shape) - 1, vocabulary), EOS))
        prompt = draw.randint(math.ceil(0.8 * shape.prompt), math.floor(1.2 * shape.prompt))
        groups.append(
            {
                "prompt_ids": _words(draw, prompt, vocabulary),
                "completion_ids": [list(ids) for ids in draw.sample(sorted(completions), GROUP_SIZE)],
                "rewards": [rank / GROUP_SIZE for rank in draw.sample(range(GROUP_SIZE), GROUP_SIZE)],
            }
        )
    return groups


def as_rows(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """GDPOTrainer's rows: text, without the end-of-sequence token that the trainer adds."""
    return [
        {
            "prompt": _text(group["prompt_ids"]),
            "completions": [_text(ids[:-1]) for ids in group["completion_ids"]],
            "rewards": group["rewards"],
        }
        for group in groups
    ]


def as_pairs(groups: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """DPOTrainer's tokenized rows.

    "chain": each completion of a group against the next lower one in reward, G - 1 pairs.
    "disjoint": every second of these, G / 2 pairs in which each completion stands once.
    """
    rows = []
    for group in groups:
        ranked = [ids for _, ids in sorted(zip(group["rewards"], group["completion_ids"], strict=True), reverse=True)]
        neighbours = list(pairwise(ranked))
        for chosen, rejected in neighbours if kind == "chain" else neighbours[::2]:
            length = len(group["prompt_ids"]) + max(len(chosen), len(rejected))
            rows.append(
                {
                    "prompt_ids": group["prompt_ids"],
                    "chosen_ids": chosen,
                    "rejected_ids": rejected,
                    "length": length,
                }
            )
    return rows


def useful_tokens(groups: list[dict[str, Any]]) -> int:
    """Tokens of the distinct completions, each counted once, whatever a method makes of them."""
    return sum(len(ids) for group in groups for ids in group["completion_ids"])


def sequence_lengths(groups: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(prompt, completion) lengths of every completion."""
    return [(len(group["prompt_ids"]), len(ids)) for group in groups for ids in group["completion_ids"]]


def _length(draw: random.Random, shape: Shape) -> int:
    if shape.median is None:
        return draw.randint(shape.shortest, shape.longest)
    length = round(draw.lognormvariate(math.log(shape.median), 0.6))
    return min(max(length, shape.shortest), shape.longest)


def _words(draw: random.Random, count: int, vocabulary: int) -> list[int]:
    return [draw.randrange(FIRST_WORD, vocabulary) for _ in range(count)]


def _text(ids: list[int]) -> str:
    return " ".join(f"w{token}" for token in ids)
