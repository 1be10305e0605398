"""Groups as GDPOTrainer takes them: checked and tokenized. Plain rows in, token ids out; no model.

A row is a group: `prompt` (text or messages), `completions` (texts, or message lists), `rewards` (numbers). Groups may
differ in size. Functions may give the rewards instead of the column (`gdpo.trainer.reward_funcs`).
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from gdpo.core.errors import ArgumentError, first_line
from gdpo.trainer.chat_template import strip_open_think

logger = logging.get_logger(__name__)

Messages = list[dict[str, Any]]
Prompt = str | Messages
Completion = str | Messages
Unfit = Literal["refuse", "drop"]

LARGEST_REWARD = torch.finfo(torch.float32).max
ORIGIN = ("row", "places")  # of a group, for errors
# What the trainer gives to the chat template itself, or what would make something else than token ids or text of it.
RESERVED = {
    "tokenizer", "messages", "prompt", "completion", "settings", "conversation", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs",
}  # fmt: skip
SHOWN = 80  # characters of a value in an error


class DataError(ArgumentError):
    """Training data that no group can be made of; `key` names the row and the column. A ValueError."""


@dataclass(frozen=True)
class UnfitRows:
    """What becomes of empty completions, and of groups whose prompt leaves no room for a completion."""

    empty_completions: Unfit = "refuse"
    long_prompts: Unfit = "refuse"


@dataclass
class Dropped:
    """How many completions and groups of a data set were left out, by reason."""

    empty_completions: int = 0
    small_groups: int = 0  # whose completions were empty, but for one at most
    long_prompts: int = 0


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
    groups, _ = fitting_groups(rows, tokenizer, max_length, smallest)
    return [{name: value for name, value in group.items() if name not in ORIGIN} for group in groups]


def fitting_groups(
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    smallest: int = 2,
    unfit: UnfitRows | None = None,
) -> tuple[list[dict[str, Any]], Dropped]:
    """The groups of `tokenize_groups`, and how many completions and groups `unfit` drops; absent, none is dropped.

    Each group has also the number of its `row`, and at which `places` of the row its completions are.

    A group is dropped that has fewer than `smallest` completions once its empty ones are. Raises DataError naming the
    row, with the setting that would drop it where `unfit` is given.
    """
    groups, dropped = [], Dropped()
    for number, row in enumerate(rows):
        check_group(number, row, smallest, unfit)
        places = [place for place, completion in enumerate(row["completions"]) if not _is_empty(completion)]
        dropped.empty_completions += len(row["completions"]) - len(places)
        if len(places) < smallest:
            dropped.small_groups += 1
            continue
        with at_row(number):
            prompt = prompt_ids(tokenizer, row["prompt"], **template_kwargs(row))
        if max_length is not None and len(prompt) >= max_length:
            if unfit and unfit.long_prompts == "drop":
                dropped.long_prompts += 1
                continue
            expected = f"fewer than max_length={max_length} tokens"
            hint = "long_prompts='drop' leaves such groups out" if unfit else None
            raise DataError(key=f"row {number}, prompt", found=len(prompt), expected=expected, hint=hint)
        if not prompt:
            raise DataError(key=f"row {number}, prompt", found=repr(row["prompt"]), expected="at least one token")
        with at_row(number):
            groups.append({"row": number, **_tokenize_group(row, places, prompt, tokenizer, max_length)})
    return groups, dropped


@contextmanager
def at_row(number: int) -> Iterator[None]:
    """Within the block, an error about a column names its row too."""
    try:
        yield
    except DataError as error:
        if error.key in ("prompt", "completions", "tools"):
            raise DataError(**{**error.fields, "key": f"row {number}, {error.key}"}) from error.__cause__
        raise


def _tokenize_group(
    row: dict[str, Any],
    places: Sequence[int],
    prompt: list[int],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
) -> dict[str, Any]:
    """The group of the completions at `places` in a row, after the `prompt` of these ids."""
    room = None if max_length is None else max_length - len(prompt)
    tokenize = partial(completion_ids, tokenizer, prompt=row["prompt"], **template_kwargs(row))
    sequences = _tokenize_distinct([row["completions"][place] for place in places], tokenize)
    numbers_of: dict[tuple[int, ...], int] = {}
    index = [numbers_of.setdefault(tuple(ids[:room]), len(numbers_of)) for ids in sequences]
    return {
        "prompt_ids": prompt,
        "sequences": [list(ids) for ids in numbers_of],
        "index": index,
        "places": list(places),
        "rewards": _shared_rewards(index, [float(row["rewards"][place]) for place in places]),
        "cut": sum(room is not None and len(ids) > room for ids in sequences),
    }


def _tokenize_distinct(
    completions: Sequence[Completion], tokenize: Callable[[Completion], list[int]]
) -> list[list[int]]:
    """The ids of each completion. A text that a group has more than once, as most groups do, is tokenized once."""
    ids_of = {text: tokenize(text) for text in dict.fromkeys(c for c in completions if isinstance(c, str))}
    return [ids_of[c] if isinstance(c, str) else tokenize(c) for c in completions]


def template_kwargs(row: dict[str, Any]) -> dict[str, Any]:
    """The chat template's arguments that a row has in TRL's columns: `tools`, which may be JSON, and
    `chat_template_kwargs`."""
    given = row.get("tools")
    try:
        tools = {"tools": json.loads(given) if isinstance(given, str) else _without_none(given)} if given else {}
    except ValueError:
        raise DataError(key="tools", found=shown(given), expected="a list, or one as JSON") from None
    return {**tools, **_without_none(row.get("chat_template_kwargs") or {})}


def _without_none(value: Any) -> Any:
    """`value` without None in its mappings, at any depth: a `datasets.Dataset` gives each row the keys of all."""
    if isinstance(value, Mapping):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    return [_without_none(entry) for entry in value] if isinstance(value, list | tuple) else value


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, **template: Any) -> list[int]:
    """A prompt's token ids: text as the tokenizer takes it, messages by the chat template up to the reply.

    A last message of the assistant is the beginning of the reply, which the completion continues. What a tokenizer
    appends to a text, as those do that end it, is left out: the completion goes on from the prompt.
    """
    if isinstance(prompt, str):
        ids: list[int] = tokenizer(prompt)["input_ids"]
        if ids and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id) and (extra := _appended(tokenizer)):
            shown = " ".join(tokenizer.convert_ids_to_tokens(ids[-extra:]))
            logger.warning_once(f"the tokenizer appends {shown} to a text: it is left out of prompts")
            return ids[:-extra]
        return ids
    return _render_ids(tokenizer, prompt, **_generation_arguments(prompt), **template)


def _appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens a tokenizer appends to what it encodes."""
    whole, plain = tokenizer("0")["input_ids"], tokenizer("0", add_special_tokens=False)["input_ids"]
    starts = range(len(whole) - len(plain) + 1)
    return next((len(whole) - len(plain) - i for i in starts if whole[i : i + len(plain)] == plain), 0)


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
            text = _apply_template(tokenizer, prompt, tokenize=False, add_generation_prompt=True, **template)
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
    return bool(prompt[-1]["role"] == "assistant")


def _generation_arguments(prompt: Messages) -> dict[str, Any]:
    return {"continue_final_message": True} if _reply_begun(prompt) else {"add_generation_prompt": True}


def _render_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, **settings: Any) -> list[int]:
    # A `datasets.Dataset` gives every message the keys of all, None where it has none, which templates do not expect.
    messages = [_without_none(message) for message in messages]
    ids: Any = _apply_template(tokenizer, messages, tokenize=True, return_dict=False, **settings)
    return list(ids)


def _apply_template(tokenizer: PreTrainedTokenizerBase, messages: Messages, **settings: Any) -> Any:
    """What the chat template makes of `messages`. Raises DataError where there is none, or where it fails."""
    if tokenizer.chat_template is None:
        hint = "set its chat_template, or give prompts as text"
        raise DataError(key="processing_class", found="none", expected="a chat template", hint=hint)
    try:
        return tokenizer.apply_chat_template(messages, **settings)
    except Exception as error:  # a template is a program, which may fail in any way
        found = f"'{first_line(error)}' from the chat template"
        raise DataError(key="prompt", found=found, expected="messages that it renders") from error


def _shared_rewards(index: list[int], rewards: list[float]) -> list[float]:
    """Completions of the same tokens are one completion, and have the mean of their rewards."""
    shared: dict[int, list[float]] = {}
    for number, reward in zip(index, rewards, strict=True):
        shared.setdefault(number, []).append(reward)
    # The mean of equal numbers may differ from them by rounding.
    return [shared[i][0] if len(set(shared[i])) == 1 else math.fsum(shared[i]) / len(shared[i]) for i in index]


def check_group(number: int, row: dict[str, Any], smallest: int, unfit: UnfitRows | None = None) -> None:
    """Raise DataError naming row and column unless `row` is a prompt, completions and their rewards."""
    check_completions(number, row, unfit)
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
        if not isinstance(reward, numbers.Real) or not abs(reward) < math.inf:  # type: ignore[operator]  # nor NaN
            raise DataError(key=key, found=shown(reward), expected="a finite number")
        if abs(reward) > LARGEST_REWARD:  # type: ignore[operator]
            expected = f"a number of up to {LARGEST_REWARD:.1e}, which float32 holds"
            raise DataError(key=key, found=shown(reward), expected=expected)


def check_completions(number: int, row: dict[str, Any], unfit: UnfitRows | None = None) -> None:
    """Raise DataError naming row and column unless `row` has a prompt and completions of text."""
    if not isinstance(row, Mapping):
        raise DataError(key=f"row {number}", found=type(row).__name__, expected="a mapping with prompt and completions")
    for column in ("images", "image"):
        given = row.get(column)
        if given is not None and not (isinstance(given, list | tuple) and not given):
            raise DataError(key=f"row {number}, {column}", found="images", expected="groups of text alone")
    for column in ("prompt", "completions"):
        if row.get(column) is None:
            hint = "of a pair make completions=[chosen, rejected], rewards=[1, 0]" if "chosen" in row else None
            raise DataError(key=f"row {number}", found=_columns(row), expected=f"a column '{column}'", hint=hint)
    prompt, completions = row["prompt"], row["completions"]
    if not isinstance(prompt, str) and not _is_messages(prompt):
        raise DataError(key=f"row {number}, prompt", found=repr(prompt), expected="text or messages")
    if row.get("chat_template_kwargs") is not None and not isinstance(row["chat_template_kwargs"], Mapping):
        found = type(row["chat_template_kwargs"]).__name__
        raise DataError(key=f"row {number}, chat_template_kwargs", found=found, expected="a mapping")
    for name in row.get("chat_template_kwargs") or ():
        if not isinstance(name, str) or name in RESERVED or (name == "tools" and row.get("tools")):
            raise DataError(
                key=f"row {number}, chat_template_kwargs", found=f"the name {shown(name)}",
                expected="variables of the chat template, none that the trainer sets",
            )  # fmt: skip
    _check_text(f"row {number}, prompt", prompt)
    _refuse_images(f"row {number}, prompt", prompt)
    if not isinstance(completions, list | tuple):
        raise DataError(key=f"row {number}, completions", found=type(completions).__name__, expected="a list")
    for place, completion in enumerate(completions):
        key = f"row {number}, completions[{place}]"
        _check_text(key, completion)
        _refuse_images(key, completion)
        text = isinstance(completion, str) or _is_messages(completion)
        if not text or (_is_empty(completion) and (unfit is None or unfit.empty_completions == "refuse")):
            hint = "empty_completions='drop' leaves empty ones out" if text and unfit else None
            raise DataError(key=key, found=repr(completion), expected="text", hint=hint)
        if isinstance(prompt, str) and not isinstance(completion, str):
            raise DataError(key=key, found="messages", expected="text after a prompt of text")


def _is_messages(given: Any) -> bool:
    """Whether it is a list of messages, each with a content or, as TRL has them, with calls of tools alone."""
    return isinstance(given, list) and bool(given) and all(isinstance(m, dict) and _says(m) for m in given)


def _says(message: dict[str, Any]) -> bool:
    return message.get("content") is not None or bool(message.get("tool_calls"))


def _is_empty(completion: Completion) -> bool:
    """Whether there is nothing but white space in a text, or in the messages that it consists of."""
    if isinstance(completion, str):
        return not completion.strip()
    return not any(message.get("tool_calls") or _is_content(message.get("content")) for message in completion)


def _is_content(content: Any) -> bool:
    return bool(content.strip() if isinstance(content, str) else content)


def _check_text(key: str, given: Any) -> None:
    """Raise DataError where a message has no role, or where a text has half a character, which is no UTF-8."""
    for place, message in enumerate(given if isinstance(given, list) else []):
        if isinstance(message, dict) and not isinstance(message.get("role"), str):
            found = "no role" if message.get("role") is None else f"the role {shown(message['role'])}"
            raise DataError(key=f"{key}[{place}]", found=found, expected="a message with role and content")
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str, skipkeys=True)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        found = f"the lone surrogate {half!r}"
        raise DataError(key=key, found=found, expected="whole characters, which UTF-8 can encode") from None


def _refuse_images(key: str, messages: Any) -> None:
    """Raise DataError where the content of a message is in parts that are no text, such as an image."""
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind != "text":
                raise DataError(key=key, found=f"a part of type {kind}", expected="messages of text alone")


def shown(value: Any) -> str:
    """`value` as it is written in code, its beginning where that is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _columns(row: dict[str, Any]) -> str:
    return ", ".join(str(name) for name, value in row.items() if value is not None) or "none"
