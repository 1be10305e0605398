"""The parts of one streamed reply put together: text, reasoning, refusal, reason to end; and which are no reply.

The protocol is that of OpenAI's chat completions; the parts and reasons of other servers are those that they document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdpo.models.request_log import Entry

# Reasons to end, in lower case. Any other is taken for a whole reply: servers have names of their own for one.
# At the most tokens:
CUT_REASONS = (
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_length",
    "model_length",
    "token_limit",
)  # at the most tokens
FILTER_REASONS = (  # what a filter took away or cut off
    "content_filter", "content_filtered", "guardrail_intervened", "safety", "recitation", "blocklist",
    "prohibited_content", "spii", "sensitive",
)  # fmt: skip
BROKEN_REASONS = (
    "",
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "insufficient_system_resource",
    "network_error",
)
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")  # DeepSeek and vLLM; OpenRouter; the same in parts
TEXTS = ("text", "output_text")  # types of a part that is read; below, the field that holds it
THINKING = {"thinking": "thinking", "reasoning": "reasoning", "reasoning.text": "text", "reasoning.summary": "summary"}


class Unread(ValueError):
    """A piece of a reply that is no text, such as an image."""


class Pieces:
    """The pieces of a reply's one choice, as they come: `content`, `thought` and `refusal` are text."""

    def __init__(self) -> None:
        self.content = self.thought = self.refusal = self.finish = self.tool = ""

    def add(self, choice: Any) -> None:
        """Take a chunk's choice. Raises Unread where it holds what is no text, TypeError where it is no choice."""
        delta = choice.delta
        self._part(delta.content)
        for name in THOUGHTS:
            if found := getattr(delta, name, None):
                self._thought(found)
                break
        if isinstance(refusal := getattr(delta, "refusal", None), str):
            self.refusal += refusal
        for call in [*(getattr(delta, "tool_calls", None) or []), getattr(delta, "function_call", None)]:
            if call:
                self.tool = self.tool or str(_of(_of(call, "function") or call, "name") or "a tool")
        if choice.finish_reason is not None:
            if not isinstance(choice.finish_reason, str):
                raise TypeError("a reason to end that is no text")
            self.finish = choice.finish_reason or self.finish

    def _part(self, part: Any) -> None:
        """Text, a part by its type, or a list of these."""
        if part is None:
            return
        if isinstance(part, str):
            self.content += part
            return
        if isinstance(part, list | tuple):
            for one in part:
                self._part(one)
            return
        kind = _of(part, "type")
        if kind in TEXTS:
            self.content += _text(_of(part, "text"))
        elif kind == "refusal":
            self.refusal += _text(_of(part, "refusal"))
        elif kind in THINKING:
            self._thought(part)
        else:
            raise Unread(
                f"a part of type '{kind}', expected text" if isinstance(kind, str) else "a part that is no text"
            )

    def _thought(self, part: Any) -> None:
        if isinstance(part, list | tuple):
            for one in part:
                self._thought(one)
        elif isinstance(part, str):
            self.thought += part
        elif part is not None:
            found = _of(part, THINKING.get(str(_of(part, "type")), "text"))
            self._thought(_of(part, "text") if found is None else found)


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unread(f"a part of text that is {type(value).__name__}")
    return value


def is_cut(finish: str) -> bool:
    """Whether a reply ended because it had reached its most tokens."""
    return finish.lower() in CUT_REASONS


def is_broken(finish: str) -> bool:
    """Whether a reply ended because its server failed, or without a reason."""
    return finish.lower() in BROKEN_REASONS


def text_of(reply: Entry) -> str:
    """The text of a reply. A refusal, which has its own field, follows the text before it."""
    if not reply.refusal.strip():
        return reply.reply
    return f"{reply.reply.strip()}\n\n{reply.refusal.strip()}".strip()


def no_reply_reason(reply: Entry) -> str:
    """Why a reply that has ended is not the model's answer; empty where it is.

    Reasoning without text counts as a reply, whose answer is missing. What a filter cut off is no reply: nobody knows
    the rest of it.
    """
    declined = reply.refusal.strip() and not reply.reply.strip()
    if reply.finish.lower() in FILTER_REASONS and not declined:
        return f"a content filter of the endpoint ended it (finish_reason '{reply.finish}')"
    if reply.tool:
        return f"it calls {reply.tool}, and no tool was offered"
    if not text_of(reply).strip() and not reply.reasoning.strip():
        return f"it is empty (finish_reason '{reply.finish}')"
    return ""
