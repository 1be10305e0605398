"""A random student that spells: its tokens are bytes, so that it can be asked anything; and what it may be asked."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}<|assistant|>"
WINDOW = 1024

GSM8K = [
    {"question": f"Tom has {n} pens and buys 3 more. How many has he?", "answer": f"He has {n} + 3.\n#### {n + 3}"}
    for n in range(4)
]
ARC = [
    {
        "instruction": f"Please choose the correct answer to the question: Which is warm, {number}?\n\n"
        f"Answer1: {first} Answer2: {second}\n\nAnswer format: answer1/answer2",
        "input": "",
        "output": "the correct answer is answer2",
        "answer": "answer2",
    }
    for number, (first, second) in enumerate([("the sun", "a stone"), ("rain", "a long dry summer"), ("iron", "wood")])
]


def speller(path: Path, bos_in_template: bool = False, adds_bos: bool = False, scale: float = 1.0) -> Path:
    """Write a random Llama over bytes to `path`; its tokenizer may begin every text with `<bos>`, and so its template.

    `scale` multiplies its last layer: a model that is surer of itself has no near ties.
    """
    special = ["<pad>", "<eos>", "<bos>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        additional_special_tokens=special[3:],
        chat_template=("<bos>" if bos_in_template else "") + TEMPLATE,
    ).save_pretrained(path)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=WINDOW,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
        )
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    model.save_pretrained(path)
    return path
