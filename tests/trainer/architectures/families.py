"""The paper's five students in miniature: their architectures with random weights, their published chat templates.

The templates are TRL's copies (`trl/chat_templates`; its README says of which checkpoints they are). Everything else
that a published checkpoint says of itself - the tokenizer's class, which tokens are special, what ends a text, the
advice on sampling - is written from memory and unchecked. Tokenizers are byte-level BPE of a few merges.
"""

# ruff: noqa: RUF001 (DeepSeek's own bars)

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, PreTrainedModel, Qwen2Config, Qwen3Config
from transformers import LlamaForCausalLM as Llama
from transformers import Qwen2ForCausalLM as Qwen2
from transformers import Qwen3ForCausalLM as Qwen3

LINES = ["What is 2 + 2? The answer is 4.", "Okay, so I have to add the numbers.\n\nThe sum of them is the answer."]
# How Qwen's tokenizers part a text before merging; Llama's differ in digits.
PARTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
R1_ADVICE = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}


@dataclass(frozen=True)
class Family:
    """A published checkpoint: `marks` are its added tokens, those of `plain` kept by decoding; `ends` stop generation.

    The first of `ends` is the tokenizer's end of sequence. `adds_bos`: whether the tokenizer begins every text with
    `bos` by itself, beside the template, which does.
    """

    template: str
    tokenizer_class: str
    model: type[PreTrainedModel]
    marks: tuple[str, ...]
    plain: tuple[str, ...]
    ends: tuple[str, ...]
    pad: str | None
    bos: str | None = None
    adds_bos: bool = False
    tied: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    advice: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its chat template."""
        return (files("trl") / "chat_templates" / f"{self.template}.jinja").read_text(encoding="utf-8")


QWEN3 = Family(
    "qwen3", "Qwen2Tokenizer", Qwen3,
    marks=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"), plain=("<think>", "</think>"),
    ends=("<|im_end|>", "<|endoftext|>"), pad="<|endoftext|>",
    config={"head_dim": 16}, advice={"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
)  # fmt: skip
QWEN25 = Family(
    "qwen2_5", "Qwen2Tokenizer", Qwen2,
    marks=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), plain=(),
    ends=("<|im_end|>", "<|endoftext|>"), pad="<|endoftext|>",
    advice={"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
)  # fmt: skip
LLAMA31 = Family(
    "llama3_1", "PreTrainedTokenizerFast", Llama,
    marks=(
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    ),
    plain=(), ends=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"), pad=None, bos="<|begin_of_text|>", adds_bos=True,
    config={"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }},
    advice={"do_sample": True, "temperature": 0.6, "top_p": 0.9},
)  # fmt: skip
R1_QWEN = Family(
    "deepseek_r1_distill", "LlamaTokenizerFast", Qwen2,
    marks=("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<think>", "</think>"),
    plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ends=("<｜end▁of▁sentence｜>",), pad="<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>", adds_bos=True,
    advice=R1_ADVICE,
)  # fmt: skip
R1_LLAMA = Family(**{**R1_QWEN.__dict__, "model": Llama, "config": LLAMA31.config})
FAMILIES = {
    "qwen3-8b": QWEN3,
    "r1-qwen-7b": R1_QWEN,
    "r1-llama-8b": R1_LLAMA,
    "qwen2.5-7b-instruct": QWEN25,
    "llama-3.1-8b-instruct": LLAMA31,
    "qwen3-tied": Family(**{**QWEN3.__dict__, "tied": True}),  # as Qwen3 below 8B
    "qwen2.5-tied": Family(**{**QWEN25.__dict__, "tied": True}),  # as Qwen2.5 below 7B
}
CONFIGS = {Qwen3: Qwen3Config, Qwen2: Qwen2Config, Llama: LlamaConfig}


def write(family: Family, path: Path, hidden: int | None = None) -> PreTrainedModel:
    """Write a checkpoint of `family` to `path`, of `hidden` units where that is given; its model."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family)
    tokenizer.save(str(path / "tokenizer.json"))
    # By hand, as published: what transformers itself would save names another class and needs no such care.
    named = {"bos_token": family.bos, "eos_token": family.ends[0], "pad_token": family.pad}
    settings = {"tokenizer_class": family.tokenizer_class, "chat_template": family.text} | named
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ids = {name: token and tokenizer.token_to_id(token) for name, token in named.items()}
    ends = [tokenizer.token_to_id(token) for token in family.ends]
    torch.manual_seed(0)
    config = CONFIGS[family.model](
        vocab_size=tokenizer.get_vocab_size() + 3,  # rows without a token, as Qwen has them
        tie_word_embeddings=family.tied,
        **{"bos_token_id": ids["bos_token"], "eos_token_id": ends[0], "pad_token_id": None},
        **SIZES | family.config | ({"hidden_size": hidden} if hidden else {}),
    )
    model = family.model(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith("bias"):  # which start at zero, where a lost one would not be missed
                values.normal_(std=0.1)
    model.generation_config = GenerationConfig(
        bos_token_id=ids["bos_token"], eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=ids["pad_token"], **family.advice,
    )  # fmt: skip
    model.save_pretrained(path)
    return model


def _tokenizer(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PARTS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    for mark in family.marks:
        plain = mark in family.plain
        (tokenizer.add_tokens if plain else tokenizer.add_special_tokens)([AddedToken(mark, normalized=False)])
    if family.adds_bos:
        begins = (family.bos, tokenizer.token_to_id(family.bos))
        tokenizer.post_processor = processors.TemplateProcessing(f"{family.bos} $A", special_tokens=[begins])
    return tokenizer


def scripted(family: Family, path: Path, script: dict[str, str]) -> None:
    """Write a checkpoint that writes behind each token of `script` the token it stands for there, whatever came before.

    Its embeddings are one-hot and its layers add nothing, so that the head alone decides. Behind any other token it
    writes the first of the family's ends; `Ċ`, a newline, stands for several in a row as well.
    """
    tokenizer = _tokenizer(family)
    size = -(-(tokenizer.get_vocab_size() + 3) // 8) * 8
    model = write(family, path, hidden=size)
    newlines = {token: script["Ċ"] for token in tokenizer.get_vocab() if set(token) == {"Ċ"}}
    after = {tokenizer.token_to_id(token): tokenizer.token_to_id(then) for token, then in (script | newlines).items()}
    assert None not in after and None not in after.values()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                values.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(*model.model.embed_tokens.weight.shape))
        model.lm_head.weight.zero_()
        end = tokenizer.token_to_id(family.ends[0])
        for token in range(model.config.vocab_size):
            model.lm_head.weight[after.get(token, end), token] = 1.0
    model.save_pretrained(path)
