"""How far a trained policy has moved from its reference: KL along its own greedy answers (ours; beside forgetting).

The exact KL of the two next-token distributions at every token of an answer, the closing one included; no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.generate import device
from gdpo.precision import weights_dtype
from gdpo.schema import Dtype
from gdpo.thinking import behind

TOKENS = 4096  # a forward pass


def kl(policy: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) in nats at each position, (T,), from next-token logits, both (T, V)."""
    ours, theirs = policy.float().log_softmax(-1), reference.float().log_softmax(-1)
    return (ours.exp() * (ours - theirs)).sum(-1)


class Drift:
    """The reference, loaded once, and what is measured against it."""

    def __init__(self, reference: Path, dtype: Dtype):
        self.dtype = getattr(torch, weights_dtype(dtype))
        self.tokenizer = AutoTokenizer.from_pretrained(reference)
        self.reference = self._load(reference)

    def _load(self, path: Path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=self.dtype, use_safetensors=True)
        return model.to(device()).eval()

    @torch.inference_mode()
    def of(self, policy: Path, answered: Sequence[tuple[list[dict[str, str]], str]]) -> dict[str, float]:
        """Mean KL per token and per answer of a policy over (conversation, its answer), and the tokens counted."""
        model = self._load(policy)
        total, tokens = 0.0, 0
        for ids, starts in self._batches(answered):
            attention = torch.zeros_like(ids)
            for row, (_, end) in enumerate(starts):
                attention[row, :end] = 1
            given = {"input_ids": ids.to(model.device), "attention_mask": attention.to(model.device)}
            moved = kl(model(**given).logits.flatten(0, 1), self.reference(**given).logits.flatten(0, 1))
            moved = moved.view(ids.shape).cpu()
            for row, (start, end) in enumerate(starts):
                total += float(moved[row, start - 1 : end - 1].double().sum())
                tokens += end - start
        return {"kl": total / tokens, "kl_sequence": total / len(answered), "tokens": tokens}

    def _batches(self, answered):
        """Padded ids, (B, T), and where each row's answer starts and ends; rows of like length together."""
        rendered = []
        for conversation, answer in answered:
            prompt = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
            start = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            closing = [self.tokenizer.eos_token_id]
            reply = self.tokenizer(behind(prompt, answer), add_special_tokens=False)["input_ids"]
            rendered.append((start, reply + closing))
        rendered.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        while rendered:
            width = len(rendered[-1][0]) + len(rendered[-1][1])
            batch = [rendered.pop() for _ in range(min(len(rendered), max(1, TOKENS // width)))]
            ids = torch.full((len(batch), width), self.tokenizer.eos_token_id)
            for row, (prompt, answer) in enumerate(batch):
                ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            yield ids, [(len(prompt), len(prompt) + len(answer)) for prompt, answer in batch]
