"""Completions sampled by transformers. Each batch has its own seed: a resumed call gives the same completions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig

from gdpo.config.fields import Dtype
from gdpo.core.device import default_device, to_device
from gdpo.core.hashing import fingerprint
from gdpo.models.checkpoints import check_whole, tokenizer_of
from gdpo.models.dtypes import weights_dtype
from gdpo.models.sampling_types import Batches, Completer, Conversation, Sampling
from gdpo.trainer.chat_template import restore_think
from gdpo.trainer.packing import batch_by_length

# ours: tokens of a prompt in a full batch, padding included; one of 6,000 characters made 32 rows as long
PROMPT_TOKENS = 256


def neutral_generation_config(model: Any) -> GenerationConfig:
    """A model's generation config with its end and padding tokens alone.

    The checkpoint's other generation defaults (a penalty, beams, words to suppress) are ignored: transformers would
    apply them to calls that do not ask for them, even to greedy decoding.
    """
    shipped = model.generation_config
    return GenerationConfig(eos_token_id=shipped.eos_token_id, pad_token_id=shipped.pad_token_id)


@contextmanager
def ignored_generation_defaults(model: Any) -> Iterator[None]:
    """Within, `model` generates without its checkpoint's generation defaults, which are put back afterwards."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # below an adapter
    shipped, inner.generation_config = inner.generation_config, neutral_generation_config(inner)
    try:
        yield
    finally:
        inner.generation_config = shipped


class Generator(Completer):
    """A causal language model with its tokenizer in transformers, ready to complete conversations."""

    def __init__(self, path: Path, dtype: Dtype):
        check_whole(path)
        self.tokenizer = tokenizer_of(path, padding_side="left")
        weights = getattr(torch, weights_dtype(dtype))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=weights, use_safetensors=True)
        self.model = to_device(model, default_device()).eval()
        self.model.generation_config = neutral_generation_config(self.model)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """See Completer. Prompts are batched by length, longest first: padding is small, memory peaks first."""
        prompts = self.prompts(conversations)
        lengths = [len(ids) for ids in self.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        batches = prompt_batches(lengths, sampling.batch_size, sampling.samples)
        for number in tqdm(range(done, len(batches)), initial=done, total=len(batches), unit="batch"):
            indices = batches[number]
            torch.manual_seed(int(fingerprint([sampling.seed, number]), 16) % 2**63)
            yield indices, self._batch([prompts[i] for i in indices], sampling)

    @torch.inference_mode()
    def _batch(self, prompts: list[str], sampling: Sampling) -> list[list[str]]:
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = {key: inputs[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        sampled: dict[str, bool | int | float] = {"do_sample": False}
        if sampling.temperature > 0:
            sampled = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": 0,
            }
        output = self.model.generate(
            **inputs,
            **sampled,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=sampling.samples,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = iter(self.tokenizer.batch_decode(new, skip_special_tokens=True))
        return [[restore_think(prompt, next(texts)).strip() for _ in range(sampling.samples)] for prompt in prompts]


def prompt_batches(lengths: list[int], batch_size: int, samples: int) -> list[list[int]]:
    """Prompts in batches by their `lengths` in tokens, longest first: up to `batch_size` completions a batch.

    Each prompt has `samples` completions. The rows of a batch, all as long as its longest prompt, hold up to
    PROMPT_TOKENS * batch_size tokens; a prompt that is longer than that is a batch of its own.
    """

    def prompts(longest: int) -> int:
        room = PROMPT_TOKENS * batch_size // max(1, longest)
        return max(1, min(batch_size, room) // samples)

    return batch_by_length(lengths, prompts)
