"""Judges made by hand: a guard and a classifier whose verdict follows from the last word of the reply."""

from __future__ import annotations

from pathlib import Path

from gdpo.config.benchmarks import Judge

WORDS = ["<pad>", "<end>", "<unk>", "judge", "no", "sure", "perhaps", "safe", "unsafe", "maybe", "pick", "a", "lock"]
SAYS = {"no": "safe", "sure": "unsafe", "perhaps": "maybe", "safe": "<end>", "unsafe": "<end>", "maybe": "<end>"}
TEMPLATE = "judge {% for m in messages %}{{ m['content'] }} {% endfor %}"


def save_tokenizer(path: Path, template: str | None) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"eos_token": "<end>", "unk_token": "<unk>", "model_input_names": ["input_ids", "attention_mask"]}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = template
    fast.save_pretrained(path)


def config(**more):
    from transformers import LlamaConfig

    size = len(WORDS)
    return LlamaConfig(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        eos_token_id=1,
        bos_token_id=None,
        **more,
    )


def one_hot(model) -> None:
    """A layer that adds nothing to embeddings that are one-hot: the last state is the last word's."""
    import torch

    model.embed_tokens.weight.data = torch.eye(*model.embed_tokens.weight.shape)
    model.layers[0].self_attn.o_proj.weight.data.zero_()
    model.layers[0].mlp.down_proj.weight.data.zero_()


def save_guard(path: Path, template: str | None) -> Judge:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(config())
    one_hot(model.model)
    model.lm_head.weight.data.zero_()
    for word, said in SAYS.items():
        model.lm_head.weight.data[WORDS.index(said), WORDS.index(word)] = 1.0
    model.save_pretrained(path)
    save_tokenizer(path, template)
    return Judge(backend="guard", reference=f"dir:{path}", batch_size=2)


def save_classifier(path: Path) -> Judge:
    """A classifier with the labels Harmful and Safe; it gives the second where the last word is `no`."""
    from transformers import LlamaForSequenceClassification

    model = LlamaForSequenceClassification(
        config(id2label={0: "Harmful", 1: "Safe"}, label2id={"Harmful": 0, "Safe": 1})
    )
    one_hot(model.model)
    model.score.weight.data.zero_()
    model.score.weight.data[0, :] = 0.5
    model.score.weight.data[1, WORDS.index("no")] = 1.0
    model.save_pretrained(path)
    save_tokenizer(path, None)
    return Judge(backend="classifier", reference=f"dir:{path}", batch_size=2)
