"""Rewards from functions and models, called as TRL's GRPOTrainer calls them: `reward_funcs` and what belongs to them.

GRPOTrainer calls them on what it samples, in every step. Here the completions are given, so that each function is
called once for each group, before training.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerState,
)

from gdpo.core.device import to_device
from gdpo.trainer import compat
from gdpo.trainer.dataset import (
    Completion,
    DataError,
    Prompt,
    UnfitRows,
    at_row,
    check_completions,
    completion_ids,
    template_kwargs,
)
from gdpo.trainer.loading import load_pretrained

RewardFunc: TypeAlias = Callable[..., Any]
Reward: TypeAlias = RewardFunc | nn.Module | str | os.PathLike[str]
Tokenizer: TypeAlias = PreTrainedTokenizerBase | str | os.PathLike[str] | None
CONTEXT = ("trainer_state", "log_extra", "log_metric")  # what GRPOTrainer gives beside the columns


@dataclass(frozen=True)
class Scorer:
    """One of `reward_funcs`: a function, or a reward model with its tokenizer."""

    name: str
    function: RewardFunc | nn.Module
    tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def is_async(self) -> bool:
        """Whether calling the function gives a coroutine, which a partial or an object's `__call__` may too."""
        function = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


@dataclass
class RewardLog:
    """What functions say of a data set's rewards: each one's values, `log_metric`'s, and `log_extra`'s columns."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    scalars: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def context(self, state: TrainerState | None) -> dict[str, Any]:
        """The arguments beside the columns: `trainer_state`, `log_extra(column, values)`, `log_metric(name, value)`."""

        def log_extra(column: str, values: Sequence[Any]) -> None:
            self.columns[column].extend(values)

        def log_metric(name: str, value: float) -> None:
            self.scalars[name].append(float(value))

        return dict(zip(CONTEXT, (state or TrainerState(), log_extra, log_metric), strict=True))

    def means(self) -> dict[str, float]:
        """What is logged: `rewards/NAME/mean` and `/std` of each function, and the means of `log_metric`'s values."""
        logged = {name: sum(values) / len(values) for name, values in self.scalars.items()}
        for name, values in self.values.items():
            rewards = torch.tensor(values, dtype=torch.float64)
            logged[f"rewards/{name}/mean"] = rewards.mean().item()
            logged[f"rewards/{name}/std"] = rewards.std(unbiased=False).item()
        return logged


def scorers(
    given: Reward | Sequence[Reward] | None, tokenizers: Tokenizer | Sequence[Tokenizer] = None
) -> list[Scorer]:
    """One reward function or model, several or none, as a list; a model given by path is loaded in float32.

    `tokenizers` has one for each, None for a function; a model's own is loaded where there is none. Raises DataError
    where counts differ and where something is neither; ArgumentError where a model or its tokenizer cannot be loaded.
    """
    rewards = _listed(given)
    many = [None] * len(rewards) if tokenizers is None else _listed(tokenizers)
    if len(many) != len(rewards):
        expected = f"{len(rewards)}, one per reward function, None for a function"
        raise DataError(key="reward_processing_classes", found=len(many), expected=expected)
    return [
        _scorer(place, reward, tokenizer) for place, (reward, tokenizer) in enumerate(zip(rewards, many, strict=True))
    ]


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [] if given is None else [given]


def _scorer(place: int, reward: Any, tokenizer: Any) -> Scorer:
    key = f"reward_funcs[{place}]"
    if isinstance(reward, str | os.PathLike):
        options = {"num_labels": 1, "dtype": torch.float32, "use_safetensors": True}
        reward = load_pretrained(key, reward, AutoModelForSequenceClassification, "a reward model", **options)
    if isinstance(reward, nn.Module):
        config: Any = getattr(reward, "config", None)  # a compiled model has it as well
        path = "" if config is None else compat.loaded_from(reward)
        tokenizer = path if tokenizer is None else tokenizer
        if isinstance(tokenizer, str | os.PathLike):
            what = "a reward model's tokenizer"
            tokenizer = load_pretrained("reward_processing_classes", tokenizer, AutoTokenizer, what)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if config is not None:  # the model finds a text's last token by what pads it
            config.get_text_config().pad_token_id = tokenizer.pad_token_id
        return Scorer(path.rstrip("/").split("/")[-1] or type(reward).__name__, reward, tokenizer)
    if not callable(reward):
        raise DataError(key=key, found=repr(reward), expected="a function, a reward model or its path")
    return Scorer(_name(reward), reward)


def _name(function: RewardFunc) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def apply_reward_funcs(
    rows: Iterable[dict[str, Any]],
    reward_funcs: Sequence[Scorer | RewardFunc],
    tokenizer: PreTrainedTokenizerBase,
    weights: Sequence[float] | None = None,
    *,
    state: TrainerState | None = None,
    log: RewardLog | None = None,
    device: str | torch.device = "cpu",
    unfit: UnfitRows | None = None,
) -> list[dict[str, Any]]:
    """Rows with `rewards` from functions and models that are called as TRL's GRPOTrainer calls them.

    A function takes by keyword, with one entry per completion: `prompts`; `completions`, as the row has them, but a
    text that answers messages as one assistant message; `completion_ids`; and every other column of the row. Beside
    these come `trainer_state`, `log_extra` and `log_metric` (`RewardLog.context`), unless its signature leaves them no
    room. It returns one number per completion, or None where it does not apply, or a coroutine of these; coroutines of
    one group run together. A model (`scorers`) scores prompt and completion as one text, on `device`. A reward is the
    sum over functions of weight times number; absent, weights are 1.

    `unfit` says whether a completion may be empty. Raises DataError where a function returns another count, or where
    none applies to a completion.
    """
    made = [f if isinstance(f, Scorer) else _scorer(place, f, None) for place, f in enumerate(reward_funcs)]
    weights = [1.0] * len(made) if weights is None else list(weights)
    if len(weights) != len(made):
        expected = f"{len(made)}, one per function"
        raise DataError(key="reward_weights", found=len(weights), expected=expected)
    log = log or RewardLog()
    context = log.context(state)
    scored = []
    with _placed(made, device), _event_loop(made) as together:
        for number, row in enumerate(rows):
            arguments = _arguments(number, row, tokenizer, unfit)
            totals: list[float | None] = [None] * len(arguments["completions"])
            values = _call(made, arguments, context, row, together)
            for scorer, weight, found in zip(made, weights, values, strict=True):
                _add(number, scorer, weight, found, totals, log)
            for place, total in enumerate(totals):
                if total is None:
                    raise DataError("no reward function gave a reward", key=f"row {number}, completions[{place}]")
            scored.append({**row, "rewards": totals})
    return scored


def _arguments(
    number: int, row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, unfit: UnfitRows | None
) -> dict[str, Any]:
    """A row's columns, an entry per completion."""
    check_completions(number, row, unfit)
    prompt, size = row["prompt"], len(row["completions"])
    with at_row(number):
        template = template_kwargs(row)
        ids = [completion_ids(tokenizer, completion, prompt, **template) for completion in row["completions"]]
    columns = {name: [value] * size for name, value in row.items() if name not in ("prompt", "completions")}
    completions = [_as_message(completion, prompt) for completion in row["completions"]]
    return {"prompts": [prompt] * size, "completions": completions, "completion_ids": ids, **columns}


def _add(number: int, scorer: Scorer, weight: float, values: Any, totals: list[float | None], log: RewardLog) -> None:
    """Add what a function returned for a group, times its weight, to the group's totals."""
    key, expected = f"row {number}, reward function {scorer.name}", f"a list of {len(totals)} rewards"
    if isinstance(values, torch.Tensor | np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise DataError(key=key, found="None" if values is None else type(values).__name__, expected=expected)
    if len(values) != len(totals):
        raise DataError(key=key, found=len(values), expected=expected)
    for place, value in enumerate(values):
        if value is None:
            continue
        try:
            reward = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            found = f"{type(value).__name__} for completions[{place}]"
            raise DataError(key=key, found=found, expected="a number, or None") from None
        totals[place] = (totals[place] or 0.0) + weight * reward
        log.values[scorer.name].append(reward)


def _call(
    made: Sequence[Scorer],
    arguments: dict[str, Any],
    context: dict[str, Any],
    row: dict[str, Any],
    together: Callable[[list[Coroutine[Any, Any, Any]]], list[Any]],
) -> list[Any]:
    """What each function or model says of a group; coroutines last, and all at once, as in GRPOTrainer."""
    values: list[Any] = [None] * len(made)
    waiting = []
    for place, scorer in enumerate(made):
        if isinstance(scorer.function, nn.Module):
            values[place] = _score(scorer, arguments, template_kwargs(row))
        elif scorer.is_async:
            waiting.append(place)
        else:
            # A copy for each: what a function changes is neither trained on nor seen by the next one.
            values[place] = scorer.function(**copy.deepcopy(arguments), **_accepted(scorer.function, context))
    coroutines = [
        made[place].function(**copy.deepcopy(arguments), **_accepted(made[place].function, context))
        for place in waiting
    ]
    for place, found in zip(waiting, together(coroutines), strict=True):
        values[place] = found
    return values


def _accepted(function: RewardFunc, context: dict[str, Any]) -> dict[str, Any]:
    """Of `context` what a function's signature has room for: all of it where it takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function in C may have none
        return context
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return context
    return {name: value for name, value in context.items() if name in parameters}


def _score(scorer: Scorer, arguments: dict[str, Any], template: dict[str, Any]) -> list[float]:
    """A reward model's score of each completion after its prompt: the first logit, as GRPOTrainer takes it."""
    model, tokenizer = scorer.function, scorer.tokenizer
    assert isinstance(model, nn.Module) and tokenizer is not None  # _scorer
    answered = zip(arguments["prompts"], arguments["completions"], strict=True)
    texts = [
        prompt + completion
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template([*prompt, *completion], tokenize=False, **template)
        for prompt, completion in answered
    ]
    given = tokenizer(text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(**{name: tensor.to(device) for name, tensor in given.items()}).logits
    scores: list[float] = logits[:, 0].double().tolist()
    return scores


@contextmanager
def _placed(made: Sequence[Scorer], device: str | torch.device) -> Iterator[None]:
    """Within the block reward models are on `device` and do not train; then back where they were."""
    models = [scorer.function for scorer in made if isinstance(scorer.function, nn.Module)]
    before = [(model, next(model.parameters()).device, model.training) for model in models]
    try:
        for model in models:
            to_device(model, device).eval()
        yield
    finally:
        for model, was, training in before:
            to_device(model, was).train(training)


@contextmanager
def _event_loop(made: Sequence[Scorer]) -> Iterator[Callable[[list[Coroutine[Any, Any, Any]]], list[Any]]]:
    """Within the block, what runs coroutines together, all in one loop; in a thread, since a notebook has its own."""
    if not any(scorer.is_async for scorer in made):
        yield lambda coroutines: []
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="reward functions", daemon=True)
    thread.start()

    async def gathered(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        return list(await asyncio.gather(*coroutines))

    try:
        yield lambda coroutines: asyncio.run_coroutine_threadsafe(gathered(coroutines), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _as_message(completion: Completion, prompt: Prompt) -> Completion:
    if isinstance(completion, str) and not isinstance(prompt, str):
        return [{"role": "assistant", "content": completion}]
    return completion
