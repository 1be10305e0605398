"""How far a trained policy has moved from its reference: KL along its own greedy answers (ours, shown with forgetting).

The exact KL of the two next-token distributions at every token of an answer, the closing one included; no sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from gdpo.config.fields import Dtype
from gdpo.core.device import default_device, to_device
from gdpo.models.checkpoints import tokenizer_of
from gdpo.models.dtypes import weights_dtype
from gdpo.trainer.chat_template import rendered, strip_open_think
from gdpo.trainer.packing import batch_by_length

MAX_TOKENS = 4096  # of a forward pass, padding included

AnsweredConversation = tuple[list[dict[str, str]], str]  # and the answer to it


def kl(policy: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) in nats at each position, (T,), from next-token logits, both (T, V)."""
    log_p, log_q = policy.float().log_softmax(-1), reference.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class Drift:
    """The drift of policies from one reference, which is loaded once."""

    def __init__(self, reference: Path, dtype: Dtype):
        self.dtype = getattr(torch, weights_dtype(dtype))
        self.tokenizer = tokenizer_of(reference)
        self.reference = self._load(reference)

    def _load(self, path: Path) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=self.dtype, use_safetensors=True)
        model.eval()
        return to_device(model, default_device())

    @torch.inference_mode()
    def measure(self, policy: Path, answered: Sequence[AnsweredConversation]) -> dict[str, float]:
        """The mean KL in nats per token (`kl`) and per answer (`kl_sequence`), and how many `tokens` were counted."""
        model = self._load(policy)
        total, tokens = 0.0, 0
        for ids, starts in self._batches(answered):
            attention = torch.zeros_like(ids)
            for row, (_, end) in enumerate(starts):
                attention[row, :end] = 1
            given = {"input_ids": ids.to(model.device), "attention_mask": attention.to(model.device)}
            divergence = kl(model(**given).logits.flatten(0, 1), self.reference(**given).logits.flatten(0, 1))
            divergence = divergence.view(ids.shape).cpu()
            for row, (start, end) in enumerate(starts):
                total += float(divergence[row, start - 1 : end - 1].double().sum())
                tokens += end - start
        return {"kl": total / tokens, "kl_sequence": total / len(answered), "tokens": tokens}

    def _batches(self, answered: Sequence[AnsweredConversation]) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
        """Padded ids, (B, T), and where each row's answer starts and ends. Rows of like length share a batch."""
        tokenized = []
        for conversation, answer in answered:
            before = rendered(self.tokenizer, conversation)
            start = self.tokenizer(before, add_special_tokens=False)["input_ids"]
            closing = [self.tokenizer.eos_token_id]
            reply = self.tokenizer(strip_open_think(before, answer), add_special_tokens=False)["input_ids"]
            tokenized.append((start, reply + closing))
        tokenized.reverse()  # of equal lengths the last comes first: sums of floats depend on the order
        lengths = [len(prompt) + len(answer) for prompt, answer in tokenized]
        for indices in batch_by_length(lengths, lambda longest: max(1, MAX_TOKENS // longest)):
            batch = [tokenized[index] for index in indices]
            width = lengths[indices[0]]
            ids = torch.full((len(batch), width), self.tokenizer.eos_token_id)
            for row, (prompt, answer) in enumerate(batch):
                ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            yield ids, [(len(prompt), len(prompt) + len(answer)) for prompt, answer in batch]
