"""Thoughts that a chat template opens by itself, and completions that are whole all the same.

DeepSeek-R1-Distill's template ends every prompt with `<think>` and a newline, so that its models write from inside
their thought. Everywhere else a completion is `<think>...</think>` and an answer: the tag is put back to what was
generated (`whole`), and left out of what is trained on (`behind`). Templates that open nothing change nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "<think>", "</think>"
# As Qwen3's template writes it where thinking is switched off, and R1 itself where it does not think.
NO_THOUGHT = "\n</think>\n\n"


def rendered(tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]) -> str:
    """The text that an answer to `conversation` is written behind, by the tokenizer's chat template."""
    prompt = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert isinstance(prompt, str)  # the other types are of token ids
    return prompt


def opening(prompt: str) -> str:
    """How a rendered prompt ends that leaves a thought open: the tag and the white space behind it; else nothing."""
    found = re.search(rf"{OPEN}\s*\Z", prompt)
    return found[0] if found else ""


def restore_think(prompt: str, generated: str) -> str:
    """The completion that a model has given by writing `generated` behind the rendered `prompt`."""
    return opening(prompt) + generated


def strip_open_think(prompt: str, completion: str) -> str:
    """What of a whole `completion` stands behind the rendered `prompt`: the inverse of `whole`.

    Behind an open thought its opening tag is left out, and a completion that has no thought first closes it. One that
    closes a thought without opening it stands behind such a prompt already.
    """
    opened, text = opening(prompt), completion.lstrip()
    if not opened:
        return completion
    if text.startswith(OPEN):
        return text.removeprefix(opened) if text.startswith(opened) else text.removeprefix(OPEN).lstrip()
    thought, closed, _ = completion.partition(CLOSE)
    return completion if closed and OPEN not in thought else NO_THOUGHT + completion


def skip_thinking(prompt: str) -> str:
    """The rendered `prompt` up to where an answer without a thought begins."""
    return prompt + NO_THOUGHT if opening(prompt) else prompt
