"""The types of sampling, common to all engines: conversations, settings, batches of completions. Without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gdpo.trainer.chat_template import rendered

Conversation = list[dict[str, str]]
Batches = Iterator[tuple[list[int], list[list[str]]]]  # indices into the conversations, and their completions


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled.

    Args:
        samples: Completions a prompt.
        temperature: 0 is greedy.
        top_p: The share of probability that is sampled from.
        max_new_tokens: Tokens of a completion at most.
        batch_size: Completions a batch; fewer where prompts have more than PROMPT_TOKENS (gdpo.models.sampling_hf).
        seed: What all draws follow from.
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int


class Completer(Protocol):
    """A model that completes conversations."""

    tokenizer: Any

    def prompts(self, conversations: list[Conversation]) -> list[str]:
        """The text that each conversation is completed from."""
        return [rendered(self.tokenizer, conversation) for conversation in conversations]

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """Yield, batch after batch, (indices into `conversations`, their completions); skip the first `done` batches.

        A completion is whole: a thought that the prompt opens begins with its tag (gdpo.trainer.chat_template).
        Which conversations make a batch, and what is sampled for them, depends on the arguments but not on `done`.
        """
        ...
