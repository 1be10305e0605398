"""Completions of chat templates that open a thought by themselves.

DeepSeek-R1-Distill's template ends every prompt with `<think>` and a newline, so that its models write from inside
their thought. Everywhere else a completion is `<think>...</think>` and an answer. So the tag is put back before what
was generated (`restore_think`), and left out of what is trained on (`strip_open_think`). Templates that open no
thought change nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "<think>", "</think>"
# What Qwen3's template writes where thinking is switched off, and R1 itself where it does not think.
NO_THOUGHT = "\n</think>\n\n"


def rendered(tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]) -> str:
    """The text that the answer to `conversation` follows, by the tokenizer's chat template."""
    prompt = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert isinstance(prompt, str)  # the other types are of token ids
    return prompt


def opening(prompt: str) -> str:
    """The end of a rendered prompt that leaves a thought open: the tag and the white space after it; else nothing."""
    match = re.search(rf"{OPEN}\s*\Z", prompt)
    return match[0] if match else ""


def restore_think(prompt: str, generated: str) -> str:
    """The completion of a model that wrote `generated` after the rendered `prompt`."""
    return opening(prompt) + generated


def strip_open_think(prompt: str, completion: str) -> str:
    """What follows the rendered `prompt` in a `completion`: the inverse of `restore_think`.

    After a prompt that opens a thought, the completion's opening tag is left out. A completion without a thought first
    closes it. One that closes a thought without opening it already follows such a prompt.
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
