"""What sampling takes and gives, whatever engine does it: conversations, settings, batches of completions. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gdpo.trainer.chat_template import rendered

Conversation = list[dict[str, str]]
Batches = Iterator[tuple[list[int], list[list[str]]]]  # indices into the conversations, and their completions


@dataclass(frozen=True)
class Sampling:
    """`samples` completions a prompt; temperature 0 is greedy.

    `batch_size` counts completions, of prompts of up to `PROMPT_TOKENS` (gdpo.models.sampling_hf); of longer ones a
    batch has fewer.
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int


class Completer(Protocol):
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
