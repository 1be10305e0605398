"""How far a trained policy has moved from its reference: KL along its own greedy answers (ours, shown with forgetting).

The exact KL of the two next-token distributions at every token of an answer, the closing one included; no sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

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


class Compared:
    """Policies beside one reference, which is loaded once.

    Args:
        reference: The checkpoint that training began with; the tokenizer is its own.
        dtype: The dtype of the student's weights.
    """

    def __init__(self, reference: Path, dtype: Dtype):
        self.dtype = getattr(torch, weights_dtype(dtype))
        self.tokenizer = tokenizer_of(reference)
        self.reference = self.load(reference)

    def load(self, path: Path) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=self.dtype, use_safetensors=True)
        model.eval()
        return to_device(model, default_device())

    @torch.inference_mode()
    def summed_kl(
        self, of: PreTrainedModel, to: PreTrainedModel, answered: Sequence[AnsweredConversation]
    ) -> tuple[float, int]:
        """KL(of || to) in nats, summed over the tokens of all answers, and how many tokens these are."""
        total, tokens = 0.0, 0
        for batch in answer_batches(self.tokenizer, answered):
            given = batch.inputs(of.device)
            divergence = kl(of(**given).logits.flatten(0, 1), to(**given).logits.flatten(0, 1))
            divergence = divergence.view(batch.ids.shape).cpu()
            for row, (_, start, end) in enumerate(batch.answers):
                total += float(divergence[row, start - 1 : end - 1].double().sum())
                tokens += end - start
        return total, tokens


class Drift(Compared):
    """The drift of policies from one reference."""

    def measure(self, policy: Path, answered: Sequence[AnsweredConversation]) -> dict[str, float]:
        """The mean KL in nats per token (`kl`) and per answer (`kl_sequence`), and how many `tokens` were counted."""
        total, tokens = self.summed_kl(self.load(policy), self.reference, answered)
        return {"kl": total / tokens, "kl_sequence": total / len(answered), "tokens": tokens}


class AnswerBatch(NamedTuple):
    """Padded ids of prompts with answers, (B, T), and of each row the answer's index, its start and its end."""

    ids: Tensor
    answers: list[tuple[int, int, int]]

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What a model takes."""
        attention = torch.zeros_like(self.ids)
        for row, (_, _, end) in enumerate(self.answers):
            attention[row, :end] = 1
        return {"input_ids": self.ids.to(device), "attention_mask": attention.to(device)}


def answer_batches(
    tokenizer: PreTrainedTokenizerBase, answered: Sequence[AnsweredConversation]
) -> Iterator[AnswerBatch]:
    """The conversations with their answers, closed by the end of sequence. Rows of like length share a batch."""
    tokenized = []
    for conversation, text in answered:
        before = rendered(tokenizer, conversation)
        start = tokenizer(before, add_special_tokens=False)["input_ids"]
        reply = tokenizer(strip_open_think(before, text), add_special_tokens=False)["input_ids"]
        tokenized.append((start, [*reply, tokenizer.eos_token_id]))
    tokenized.reverse()  # of equal lengths the last comes first: sums of floats depend on the order
    lengths = [len(prompt) + len(answer) for prompt, answer in tokenized]
    for indices in batch_by_length(lengths, lambda longest: max(1, MAX_TOKENS // longest)):
        ids = torch.full((len(indices), lengths[indices[0]]), tokenizer.eos_token_id)
        answers = []
        for row, index in enumerate(indices):
            prompt, answer = tokenized[index]
            ids[row, : lengths[index]] = torch.tensor(prompt + answer)
            answers.append((len(tokenized) - 1 - index, len(prompt), lengths[index]))
        yield AnswerBatch(ids, answers)
