"""The log-likelihoods of a question's choices after its chat prompt, resumable batch by batch.

A choice is cut into tokens as in lm-eval's `loglikelihood`, whose scores gdpo.evaluate uses. The prompt is computed
once for all of its choices where the model's attention allows it (gdpo.trainer.packing).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

from gdpo.config.fields import Dtype
from gdpo.core.device import default_device, to_device
from gdpo.core.files import resumable_batches
from gdpo.models.checkpoints import check_whole, tokenizer_of
from gdpo.models.dtypes import weights_dtype
from gdpo.models.sampling_types import Conversation
from gdpo.trainer.chat_template import rendered, skip_thinking
from gdpo.trainer.logprobs import completion_log_probs
from gdpo.trainer.packing import batch_by_size, longest_first
from gdpo.trainer.packing_choice import choose_packing

MAX_TOKENS = 4096  # ours: of one forward pass, padding included
# ours: choices that at least as many questions share are labels; the mean of fewer says little
MIN_LABELLED = 20

ChoiceQuestion = tuple[Conversation, Sequence[str]]  # a conversation and the choices that could follow it


class Choices:
    """A causal language model that scores choices given as tokens; `pad` fills rows up to the longest."""

    def __init__(self, model: PreTrainedModel, pad: int):
        self.model = model
        self.packing = choose_packing(model, pad, MAX_TOKENS, windows=False)

    @torch.inference_mode()
    def batch(self, encoded: list[list[tuple[list[int], list[int]]]]) -> list[list[float]]:
        """The log-likelihood of each choice; minus infinity where it adds no token to its prompt."""
        values = [[float("-inf")] * len(pairs) for pairs in encoded]
        groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}  # prompt -> (question, choice) of its choices
        for number, pairs in enumerate(encoded):
            for choice, (before, ids) in enumerate(pairs):
                if ids:
                    groups.setdefault(tuple(before), []).append((number, choice))
        places = [place for together in groups.values() for place in together]
        given = [(list(before), [encoded[n][c][1] for n, c in together]) for before, together in groups.items()]
        total = torch.zeros(len(places), dtype=torch.float64)
        for forward in self.packing.forwards(given)[1]:
            placed = {name: tensor.to(self.model.device) for name, tensor in forward.items()}
            total.index_add_(0, forward["owners"], completion_log_probs(self.model, placed).double().cpu())
        for (number, choice), value in zip(places, total.tolist(), strict=True):
            values[number][choice] = value
        return values


class Scorer:
    """A causal language model with its tokenizer, which scores choices given as text."""

    def __init__(self, path: Path, dtype: Dtype):
        check_whole(path)
        self.tokenizer = tokenizer_of(path)
        weights = getattr(torch, weights_dtype(dtype))
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=weights, use_safetensors=True)
        self.choices = Choices(to_device(model, default_device()).eval(), self.tokenizer.eos_token_id or 0)

    def encode(self, question: ChoiceQuestion) -> list[tuple[list[int], list[int]]]:
        """The token ids before each choice and of it.

        White space that ends the prompt is scored with the choice, and both are cut into tokens together. A choice is
        an answer: where the prompt opens a thought, the choice follows an empty one.
        """
        conversation, choices = question
        prompt = skip_thinking(rendered(self.tokenizer, conversation))
        texts = [prompt.rstrip(), *(prompt + choice for choice in choices)]
        stem, *whole = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [(ids[: len(stem)], ids[len(stem) :]) for ids in whole]

    def score(
        self, questions: Sequence[ChoiceQuestion], batch_size: int, done: int = 0
    ) -> Iterator[tuple[list[int], list[list[float]]]]:
        """Yield, batch after batch, (indices into `questions`, their choices' log-likelihoods); skip the first `done`.

        A batch holds up to `batch_size` choices, of questions of like length, longest first.
        """
        encoded = [self.encode(entry) for entry in questions]
        batches = question_batches(encoded, batch_size)
        for number in tqdm(range(done, len(batches)), initial=done, total=len(batches), unit="batch"):
            yield batches[number], self.choices.batch([encoded[i] for i in batches[number]])


def question_batches(encoded: Sequence[Sequence[tuple[list[int], list[int]]]], batch_size: int) -> list[list[int]]:
    """Questions in batches of up to `batch_size` choices, those of like length together, longest first."""
    order = longest_first([max(len(before) + len(ids) for before, ids in pairs) for pairs in encoded])
    return list(batch_by_size(order, lambda i: len(encoded[i]), batch_size))


def log_likelihoods(
    path: Path, dtype: Dtype, questions: Sequence[ChoiceQuestion], batch_size: int, cache: Path
) -> list[list[float]]:
    """The log-likelihood, in nats, of every choice of each of `questions`, in order.

    `cache` is a JSON Lines file of finished batches, appended to as they finish; what it holds is not scored again. The
    caller keys its name by everything that the log-likelihoods depend on, `batch_size` included.
    """
    return resumable_batches(
        cache, "log_likelihoods", len(questions), lambda done: Scorer(path, dtype).score(questions, batch_size, done)
    )


def likeliest(log_likelihoods: Sequence[Sequence[float]], choices: Sequence[Sequence[str]]) -> list[int]:
    """Each question's most likely choice, from the log-likelihoods of its choices.

    Choices are compared by the character, as in `most_likely`. Labels such as yes and no, which `MIN_LABELLED`
    questions or more have in common, differ in how likely they are of themselves (by the character every answer
    is "yes"). From each label its mean over these questions is subtracted first (batch calibration, Zhou et al. 2024,
    in log space).
    """
    common = Counter(map(tuple, choices))
    labels: dict[tuple[str, ...], list[int]] = {}
    for question, options in enumerate(map(tuple, choices)):
        if common[options] >= MIN_LABELLED:
            labels.setdefault(options, []).append(question)
    best = [most_likely(row, options) for row, options in zip(log_likelihoods, choices, strict=True)]
    for options, questions in labels.items():
        means = [sum(log_likelihoods[q][i] for q in questions) / len(questions) for i in range(len(options))]
        for q in questions:
            above = [value - mean for value, mean in zip(log_likelihoods[q], means, strict=True)]
            best[q] = above.index(max(above))
    return best


def most_likely(log_likelihoods: Sequence[float], choices: Sequence[str]) -> int:
    """The choice with the highest log-likelihood per character, the first of equals; never an empty one."""
    scores = [value / len(c) if c else float("-inf") for value, c in zip(log_likelihoods, choices, strict=True)]
    return scores.index(max(scores))
