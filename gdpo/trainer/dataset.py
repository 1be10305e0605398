"""Groups as GDPOTrainer takes them: checked, rewarded, tokenized. Plain rows in, token ids out; no model.

A row is a group: `prompt` (text or messages), `completions` (texts, or message lists), `rewards` (numbers). Groups of
any size may stand side by side; their rewards may come from functions in TRL's style instead (`apply_reward_funcs`).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from gdpo.trainer.chat_template import strip_open_think

Messages = list[dict[str, str]]
Prompt = str | Messages
Completion = str | Messages
RewardFunc = Callable[..., list[float | None]]


class DataError(ValueError):
    """Training data that no group can be made of. The message names the row and the column."""


def tokenize_groups(
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    smallest: int = 2,
) -> list[dict[str, Any]]:
    """Check groups of at least `smallest` completions and tokenize them.

    Each gives `prompt_ids`; `sequences`, its distinct completions' ids, cut so that prompt and completion fit
    in `max_length`; `index`, each completion's place among them; `rewards`, completions of the same tokens sharing
    the mean of theirs; `cut`, how many did not fit. The columns `tools` and `chat_template_kwargs`, where a row has
    them, go to the chat template. Raises DataError naming the row.
    """
    groups = []
    for number, row in enumerate(rows):
        check_group(number, row, smallest)
        template = template_kwargs(row)
        prompt = prompt_ids(tokenizer, row["prompt"], **template)
        if max_length is not None and len(prompt) >= max_length:
            found = f"expected fewer than max_length={max_length} tokens, found {len(prompt)}"
            raise DataError(f"row {number}, prompt: {found}")
        if not prompt:
            raise DataError(f"row {number}, prompt: expected at least one token, found {row['prompt']!r}")
        room = None if max_length is None else max_length - len(prompt)
        ids_of = partial(completion_ids, tokenizer, prompt=row["prompt"], **template)
        whole = _each_once(row["completions"], ids_of)
        places: dict[tuple[int, ...], int] = {}
        index = [places.setdefault(tuple(ids[:room]), len(places)) for ids in whole]
        group = {
            "prompt_ids": prompt,
            "sequences": [list(ids) for ids in places],
            "index": index,
            "rewards": _shared_rewards(index, [float(reward) for reward in row["rewards"]]),
            "cut": sum(room is not None and len(ids) > room for ids in whole),
        }
        groups.append(group)
    return groups


def _each_once(completions: Sequence[Completion], ids_of: Callable[[Completion], list[int]]) -> list[list[int]]:
    """`ids_of` each completion; a text that a group has more than once, as most groups do, is tokenized once."""
    texts = {text: ids_of(text) for text in dict.fromkeys(c for c in completions if isinstance(c, str))}
    return [texts[c] if isinstance(c, str) else ids_of(c) for c in completions]


def template_kwargs(row: dict[str, Any]) -> dict[str, Any]:
    """What a row tells its chat template, in TRL's columns: `tools` and `chat_template_kwargs`."""
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    return {**tools, **{k: v for k, v in (row.get("chat_template_kwargs") or {}).items() if v is not None}}


def drop_tied_groups(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that make a pair: those with two different rewards. Raises DataError where there is none."""
    kept = [row for row in rows if len(set(row["rewards"])) > 1]
    if not kept:
        raise DataError("rewards: expected a group with two different rewards, found none")
    return kept


def apply_reward_funcs(
    rows: Iterable[dict[str, Any]],
    reward_funcs: Sequence[RewardFunc],
    tokenizer: PreTrainedTokenizerBase,
    weights: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Rows with `rewards` from functions that are called as TRL's GRPOTrainer calls them.

    A function takes, by keyword and one entry per completion, `prompts`, `completions` (as the row has them; a text
    that answers messages becomes one assistant message), `completion_ids` and every other column of the row; it gives
    a number each, or None where it does not apply. A reward is the sum over functions, `weights` times each (absent,
    1). Raises DataError where the functions' numbers do not fit or none applies.
    """
    weights = [1.0] * len(reward_funcs) if weights is None else list(weights)
    if len(weights) != len(reward_funcs):
        raise DataError(f"reward_weights: expected {len(reward_funcs)}, one per function, found {len(weights)}")
    scored = []
    for number, row in enumerate(rows):
        _check_completions(number, row)
        completions = [_as_answer(completion, row["prompt"]) for completion in row["completions"]]
        size = len(completions)
        columns = {name: [value] * size for name, value in row.items() if name not in ("prompt", "completions")}
        told = template_kwargs(row)
        ids = [completion_ids(tokenizer, completion, row["prompt"], **told) for completion in row["completions"]]
        given = {"prompts": [row["prompt"]] * size, "completions": completions, "completion_ids": ids, **columns}
        totals: list[float | None] = [None] * size
        for function, weight in zip(reward_funcs, weights, strict=True):
            values = function(**given)
            name = getattr(function, "__name__", type(function).__name__)
            if values is None or len(values) != size:
                found = "None" if values is None else len(values)
                raise DataError(f"row {number}, reward function {name}: expected {size} rewards, found {found}")
            for place, value in enumerate(values):
                if value is not None:
                    totals[place] = (totals[place] or 0.0) + weight * float(value)
        for place, total in enumerate(totals):
            if total is None:
                raise DataError(f"row {number}, completions[{place}]: no reward function gave a reward")
        scored.append({**row, "rewards": totals})
    return scored


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, **template: Any) -> list[int]:
    """A prompt's token ids: text as the tokenizer takes it, messages by the chat template up to the reply.

    A last message of the assistant is the reply's beginning, which the completion goes on with.
    """
    if isinstance(prompt, str):
        ids: list[int] = tokenizer(prompt)["input_ids"]
        return ids
    return _templated(tokenizer, prompt, **_turn(prompt), **template)


def completion_ids(
    tokenizer: PreTrainedTokenizerBase, completion: Completion, prompt: Prompt = "", **template: Any
) -> list[int]:
    """A completion's token ids.

    Text is taken verbatim, but for what stands otherwise behind a thought that the chat template opens
    (gdpo.trainer.chat_template), and ended by one end-of-sequence token; it is tokenized apart from its prompt, as it
    was when a model generated it. Messages are what the chat template adds to the prompt. Raises DataError where there
    is no end-of-sequence token, and where the template renders the prompt differently once an answer follows it.
    """
    if isinstance(completion, str):
        if tokenizer.eos_token_id is None:
            raise DataError("processing_class: expected an end-of-sequence token, found none; set its eos_token")
        if not (isinstance(prompt, str) or _begun(prompt)):
            text = tokenizer.apply_chat_template(prompt, tokenize=False, **_turn(prompt), **template)
            assert isinstance(text, str)  # the other types are of token ids
            completion = strip_open_think(text, completion)
        ids: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]
        return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]
    start = prompt_ids(tokenizer, prompt, **template)
    assert not isinstance(prompt, str)  # check_group: messages answer messages
    whole = _templated(tokenizer, [*prompt, *completion], **template)
    if whole[: len(start)] != start:
        raise DataError(
            "completions: the chat template does not render the prompt as a prefix of prompt and completion; "
            "expected such a template, or completions as text"
        )
    return whole[len(start) :]


def _begun(prompt: Messages) -> bool:
    return prompt[-1]["role"] == "assistant"


def _turn(prompt: Messages) -> dict[str, Any]:
    return {"continue_final_message": True} if _begun(prompt) else {"add_generation_prompt": True}


def _templated(tokenizer: PreTrainedTokenizerBase, messages: Messages, **settings: Any) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
    return list(ids)


def _shared_rewards(index: list[int], rewards: list[float]) -> list[float]:
    """Completions of the same tokens are one completion, and have the mean of their rewards."""
    given: dict[int, list[float]] = {}
    for place, reward in zip(index, rewards, strict=True):
        given.setdefault(place, []).append(reward)
    # The mean of equal numbers may differ from them by rounding.
    return [given[i][0] if len(set(given[i])) == 1 else math.fsum(given[i]) / len(given[i]) for i in index]


def check_group(number: int, row: dict[str, Any], smallest: int) -> None:
    """Raise DataError naming row and column unless `row` is a prompt, completions and their rewards."""
    _check_completions(number, row)
    if row.get("rewards") is None:
        raise DataError(f"row {number}: expected a column 'rewards', found {_columns(row)}")
    completions, rewards = row["completions"], row["rewards"]
    if not isinstance(rewards, list | tuple):
        raise DataError(f"row {number}, rewards: expected a list, found {type(rewards).__name__}")
    if len(completions) != len(rewards):
        found = f"{len(completions)} completions and {len(rewards)} rewards"
        raise DataError(f"row {number}: expected a reward per completion, found {found}")
    if len(completions) < smallest:
        raise DataError(f"row {number}, completions: expected at least {smallest}, found {len(completions)}")
    for place, reward in enumerate(rewards):
        if not isinstance(reward, numbers.Real) or not math.isfinite(reward):
            raise DataError(f"row {number}, rewards[{place}]: expected a finite number, found {reward!r}")


def _check_completions(number: int, row: dict[str, Any]) -> None:
    for column in ("prompt", "completions"):
        if row.get(column) is None:
            raise DataError(f"row {number}: expected a column '{column}', found {_columns(row)}")
    prompt, completions = row["prompt"], row["completions"]
    if not isinstance(prompt, str) and not _written(prompt):
        raise DataError(f"row {number}, prompt: expected text or messages, found {prompt!r}")
    if not isinstance(completions, list | tuple):
        raise DataError(f"row {number}, completions: expected a list, found {type(completions).__name__}")
    for place, completion in enumerate(completions):
        if not _written(completion):
            raise DataError(f"row {number}, completions[{place}]: expected text, found {completion!r}")
        if isinstance(prompt, str) and not isinstance(completion, str):
            expected = "expected text behind a prompt of text"
            raise DataError(f"row {number}, completions[{place}]: {expected}, found messages")


def _written(completion: Any) -> bool:
    if isinstance(completion, list):
        return bool(completion) and all(isinstance(m, dict) and "content" in m for m in completion)
    return isinstance(completion, str) and bool(completion.strip())


def _as_answer(completion: Completion, prompt: Prompt) -> Completion:
    if isinstance(completion, str) and not isinstance(prompt, str):
        return [{"role": "assistant", "content": completion}]
    return completion


def _columns(row: dict[str, Any]) -> str:
    return ", ".join(name for name, value in row.items() if value is not None) or "none"
