"""Groups as GDPOTrainer takes them: checked, rewarded, tokenized. Plain rows in, token ids out; no model.

A row is a group: `prompt` (text or messages), `completions` (texts, or message lists), `rewards` (numbers). Groups may
differ in size. Functions in TRL's style may give the rewards instead of the column (`apply_reward_funcs`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from gdpo.core.errors import ArgumentError
from gdpo.trainer.chat_template import strip_open_think

Messages = list[dict[str, str]]
Prompt = str | Messages
Completion = str | Messages
RewardFunc = Callable[..., list[float | None]]

LARGEST_REWARD = torch.finfo(torch.float32).max
SHOWN = 80  # characters of a value in an error


class DataError(ArgumentError):
    """Training data that no group can be made of; `key` names the row and the column. A ValueError."""


def tokenize_groups(
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    smallest: int = 2,
) -> list[dict[str, Any]]:
    """Check groups of at least `smallest` completions and tokenize them.

    Returns a mapping for each group. `prompt_ids` are the prompt's ids. `sequences` are the ids of its distinct
    completions, cut so that prompt and completion fit in `max_length`. `index` is each completion's place among them.
    `rewards` has one per completion; completions of the same tokens share the mean of theirs. `cut` counts the
    completions that did not fit. The columns `tools` and `chat_template_kwargs`, where a row has them, go to the chat
    template. Raises DataError naming the row.
    """
    groups = []
    for number, row in enumerate(rows):
        check_group(number, row, smallest)
        template = template_kwargs(row)
        prompt = prompt_ids(tokenizer, row["prompt"], **template)
        if max_length is not None and len(prompt) >= max_length:
            expected = f"fewer than max_length={max_length} tokens"
            raise DataError(key=f"row {number}, prompt", found=len(prompt), expected=expected)
        if not prompt:
            raise DataError(key=f"row {number}, prompt", found=repr(row["prompt"]), expected="at least one token")
        room = None if max_length is None else max_length - len(prompt)
        tokenize = partial(completion_ids, tokenizer, prompt=row["prompt"], **template)
        sequences = _tokenize_distinct(row["completions"], tokenize)
        numbers_of: dict[tuple[int, ...], int] = {}
        index = [numbers_of.setdefault(tuple(ids[:room]), len(numbers_of)) for ids in sequences]
        group = {
            "prompt_ids": prompt,
            "sequences": [list(ids) for ids in numbers_of],
            "index": index,
            "rewards": _shared_rewards(index, [float(reward) for reward in row["rewards"]]),
            "cut": sum(room is not None and len(ids) > room for ids in sequences),
        }
        groups.append(group)
    return groups


def _tokenize_distinct(
    completions: Sequence[Completion], tokenize: Callable[[Completion], list[int]]
) -> list[list[int]]:
    """The ids of each completion. A text that a group has more than once, as most groups do, is tokenized once."""
    ids_of = {text: tokenize(text) for text in dict.fromkeys(c for c in completions if isinstance(c, str))}
    return [ids_of[c] if isinstance(c, str) else tokenize(c) for c in completions]


def template_kwargs(row: dict[str, Any]) -> dict[str, Any]:
    """The chat template's arguments that a row has, in TRL's columns: `tools` and `chat_template_kwargs`."""
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    return {**tools, **{k: v for k, v in (row.get("chat_template_kwargs") or {}).items() if v is not None}}


def apply_reward_funcs(
    rows: Iterable[dict[str, Any]],
    reward_funcs: Sequence[RewardFunc],
    tokenizer: PreTrainedTokenizerBase,
    weights: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Rows with `rewards` from functions that are called as TRL's GRPOTrainer calls them.

    A function takes by keyword, with one entry per completion: `prompts`; `completions`, as the row has them, but a
    text that answers messages as one assistant message; `completion_ids`; and every other column of the row. It
    returns one number per completion, or None where it does not apply. A reward is the sum over functions of weight
    times number; absent, weights are 1. Raises DataError where a function returns another count, or where none
    applies to a completion.
    """
    weights = [1.0] * len(reward_funcs) if weights is None else list(weights)
    if len(weights) != len(reward_funcs):
        expected = f"{len(reward_funcs)}, one per function"
        raise DataError(key="reward_weights", found=len(weights), expected=expected)
    scored = []
    for number, row in enumerate(rows):
        _check_completions(number, row)
        completions = [_as_message(completion, row["prompt"]) for completion in row["completions"]]
        size = len(completions)
        columns = {name: [value] * size for name, value in row.items() if name not in ("prompt", "completions")}
        template = template_kwargs(row)
        ids = [completion_ids(tokenizer, completion, row["prompt"], **template) for completion in row["completions"]]
        arguments = {"prompts": [row["prompt"]] * size, "completions": completions, "completion_ids": ids, **columns}
        totals: list[float | None] = [None] * size
        for function, weight in zip(reward_funcs, weights, strict=True):
            values = function(**arguments)
            if values is None or len(values) != size:
                key = f"row {number}, reward function {getattr(function, '__name__', type(function).__name__)}"
                raise DataError(key=key, found="None" if values is None else len(values), expected=f"{size} rewards")
            for place, value in enumerate(values):
                if value is not None:
                    totals[place] = (totals[place] or 0.0) + weight * float(value)
        for place, total in enumerate(totals):
            if total is None:
                raise DataError("no reward function gave a reward", key=f"row {number}, completions[{place}]")
        scored.append({**row, "rewards": totals})
    return scored


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, **template: Any) -> list[int]:
    """A prompt's token ids: text as the tokenizer takes it, messages by the chat template up to the reply.

    A last message of the assistant is the beginning of the reply, which the completion continues.
    """
    if isinstance(prompt, str):
        ids: list[int] = tokenizer(prompt)["input_ids"]
        return ids
    return _render_ids(tokenizer, prompt, **_generation_arguments(prompt), **template)


def completion_ids(
    tokenizer: PreTrainedTokenizerBase, completion: Completion, prompt: Prompt = "", **template: Any
) -> list[int]:
    """A completion's token ids.

    Text is taken verbatim and ended by one end-of-sequence token. It differs only after a thought that the chat
    template opens (gdpo.trainer.chat_template). It is tokenized without its prompt, as it was when a model generated
    it. Messages are what the chat template adds to the prompt. Raises DataError where there is no end-of-sequence
    token, and where the template renders the prompt differently once an answer follows it.
    """
    if isinstance(completion, str):
        if tokenizer.eos_token_id is None:
            hint = "set its eos_token"
            raise DataError(key="processing_class", found="none", expected="an end-of-sequence token", hint=hint)
        if not (isinstance(prompt, str) or _reply_begun(prompt)):
            text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True, **template)
            assert isinstance(text, str)  # the other types are of token ids
            completion = strip_open_think(text, completion)
        ids: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]
        return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]
    start = prompt_ids(tokenizer, prompt, **template)
    assert not isinstance(prompt, str)  # check_group: messages answer messages
    conversation = _render_ids(tokenizer, [*prompt, *completion], **template)
    if conversation[: len(start)] != start:
        raise DataError(
            key="completions",
            found="a chat template that does not render the prompt as a prefix of prompt and completion",
            expected="one that does, or completions as text",
        )
    return conversation[len(start) :]


def _reply_begun(prompt: Messages) -> bool:
    return prompt[-1]["role"] == "assistant"


def _generation_arguments(prompt: Messages) -> dict[str, Any]:
    return {"continue_final_message": True} if _reply_begun(prompt) else {"add_generation_prompt": True}


def _render_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, **settings: Any) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
    return list(ids)


def _shared_rewards(index: list[int], rewards: list[float]) -> list[float]:
    """Completions of the same tokens are one completion, and have the mean of their rewards."""
    shared: dict[int, list[float]] = {}
    for number, reward in zip(index, rewards, strict=True):
        shared.setdefault(number, []).append(reward)
    # The mean of equal numbers may differ from them by rounding.
    return [shared[i][0] if len(set(shared[i])) == 1 else math.fsum(shared[i]) / len(shared[i]) for i in index]


def check_group(number: int, row: dict[str, Any], smallest: int) -> None:
    """Raise DataError naming row and column unless `row` is a prompt, completions and their rewards."""
    _check_completions(number, row)
    if row.get("rewards") is None:
        raise DataError(key=f"row {number}", found=_columns(row), expected="a column 'rewards'")
    completions, rewards = row["completions"], row["rewards"]
    if not isinstance(rewards, list | tuple):
        raise DataError(key=f"row {number}, rewards", found=type(rewards).__name__, expected="a list")
    if len(completions) != len(rewards):
        found = f"{len(completions)} completions and {len(rewards)} rewards"
        raise DataError(key=f"row {number}", found=found, expected="a reward per completion")
    if len(completions) < smallest:
        raise DataError(key=f"row {number}, completions", found=len(completions), expected=f"at least {smallest}")
    for place, reward in enumerate(rewards):
        key = f"row {number}, rewards[{place}]"
        if not isinstance(reward, numbers.Real) or not abs(reward) < math.inf:  # nor NaN
            raise DataError(key=key, found=_short(reward), expected="a finite number")
        if abs(reward) > LARGEST_REWARD:
            expected = f"a number of up to {LARGEST_REWARD:.1e}, which float32 holds"
            raise DataError(key=key, found=_short(reward), expected=expected)


def _check_completions(number: int, row: dict[str, Any]) -> None:
    for column in ("prompt", "completions"):
        if row.get(column) is None:
            raise DataError(key=f"row {number}", found=_columns(row), expected=f"a column '{column}'")
    prompt, completions = row["prompt"], row["completions"]
    if not isinstance(prompt, str) and not _has_text(prompt):
        raise DataError(key=f"row {number}, prompt", found=repr(prompt), expected="text or messages")
    if not isinstance(completions, list | tuple):
        raise DataError(key=f"row {number}, completions", found=type(completions).__name__, expected="a list")
    for place, completion in enumerate(completions):
        key = f"row {number}, completions[{place}]"
        if not _has_text(completion):
            raise DataError(key=key, found=repr(completion), expected="text")
        if isinstance(prompt, str) and not isinstance(completion, str):
            raise DataError(key=key, found="messages", expected="text after a prompt of text")


def _has_text(completion: Any) -> bool:
    if isinstance(completion, list):
        return bool(completion) and all(isinstance(m, dict) and "content" in m for m in completion)
    return isinstance(completion, str) and bool(completion.strip())


def _as_message(completion: Completion, prompt: Prompt) -> Completion:
    if isinstance(completion, str) and not isinstance(prompt, str):
        return [{"role": "assistant", "content": completion}]
    return completion


def _short(value: Any) -> str:
    """`value` as it is written in code, its beginning where that is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _columns(row: dict[str, Any]) -> str:
    return ", ".join(name for name, value in row.items() if value is not None) or "none"
