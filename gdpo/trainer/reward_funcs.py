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
from gdpo.core.errors import first_line
from gdpo.trainer import compat
from gdpo.trainer.dataset import (
    Completion,
    DataError,
    Prompt,
    UnfitRows,
    at_row,
    check_completions,
    completion_ids,
    shown,
    template_kwargs,
)
from gdpo.trainer.loading import load_model, load_pretrained

RewardFunc: TypeAlias = Callable[..., Any]
Reward: TypeAlias = RewardFunc | nn.Module | str | os.PathLike[str]
Tokenizer: TypeAlias = PreTrainedTokenizerBase | str | os.PathLike[str] | None
CONTEXT = ("trainer_state", "log_extra", "log_metric")  # what GRPOTrainer gives beside the columns
GIVEN = ("prompts", "completion_ids", *CONTEXT)  # arguments that a column of the same name would take the place of
COLUMNS = ("prompt", "completions")  # which functions are given as `prompts` and `completions`


@dataclass(frozen=True)
class Scorer:
    """One of `reward_funcs`: a function, or a reward model with its tokenizer."""

    name: str
    function: RewardFunc | nn.Module
    tokenizer: PreTrainedTokenizerBase | None = None


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
    for place, tokenizer in enumerate(many):
        if not isinstance(tokenizer, PreTrainedTokenizerBase | str | os.PathLike | None):
            key, found = f"reward_processing_classes[{place}]", f"a {type(tokenizer).__name__}"
            raise DataError(key=key, found=found, expected="a tokenizer, its path, or None for a function")
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
        options = {"num_labels": 1, "dtype": torch.float32}
        reward = load_model(key, reward, AutoModelForSequenceClassification, "a reward model", **options)
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
    with _placed(made, device), _event_loop() as together:
        for number, row in enumerate(rows):
            arguments = _arguments(number, row, tokenizer, unfit)
            totals: list[float | None] = [None] * len(arguments["completions"])
            values = _call(number, made, arguments, context, template_kwargs(row), together)
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
    for name in row:
        if not isinstance(name, str) or name in GIVEN:
            raise DataError(
                key=f"row {number}", found=f"a column {shown(name)}",
                expected=f"columns named by text, and none as the arguments {', '.join(GIVEN)}",
            )  # fmt: skip
    prompt, size = row["prompt"], len(row["completions"])
    with at_row(number):
        template = template_kwargs(row)
        ids = [completion_ids(tokenizer, completion, prompt, **template) for completion in row["completions"]]
    columns = {name: [value] * size for name, value in row.items() if name not in COLUMNS}
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
    number: int,
    made: Sequence[Scorer],
    arguments: dict[str, Any],
    context: dict[str, Any],
    template: dict[str, Any],
    together: Callable[[list[Coroutine[Any, Any, Any]]], list[Any]],
) -> list[Any]:
    """What each function or model says of a group; coroutines are waited for last, and all at once, as in
    GRPOTrainer."""
    values: list[Any] = [
        _score(number, scorer, arguments, template)
        if isinstance(scorer.function, nn.Module)
        else scorer.function(**_accepted(number, scorer, arguments, context))
        for scorer in made
    ]
    waiting = [place for place, value in enumerate(values) if inspect.iscoroutine(value)]
    for place, found in zip(waiting, together([values[place] for place in waiting]), strict=True):
        values[place] = found
    return values


def _accepted(number: int, scorer: Scorer, arguments: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """What a function is called with: the arguments and the context that its signature has room for.

    The arguments are copied, since what a function changes is neither to be trained on nor seen by the next one.
    Raises DataError where a column cannot be copied, and where the function asks for what the row has not.
    """
    key = f"row {number}, reward function {scorer.name}"
    try:
        signature = inspect.signature(scorer.function)
    except (TypeError, ValueError):  # a function in C may have none
        signature = inspect.signature(lambda **_: None)
    parameters = signature.parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    copied, memo = {}, {}  # type: dict[str, Any], dict[int, Any]
    for name, value in arguments.items():
        if takes_all or name in named:
            try:
                copied[name] = copy.deepcopy(value, memo)
            except Exception as error:  # an object says in its own way that it cannot be copied
                found, expected = f"the column {name!r}, of which Python makes no copy", "plain values"
                raise DataError(key=key, found=found, expected=expected, hint=first_line(error)) from error
    given = copied | {name: value for name, value in context.items() if takes_all or name in named}
    try:
        signature.bind(**given)
    except TypeError as error:
        expected = f"arguments among {', '.join([*arguments, *context])}"
        raise DataError(key=key, found=f"'{first_line(error)}'", expected=expected) from None
    return given


def _score(number: int, scorer: Scorer, arguments: dict[str, Any], template: dict[str, Any]) -> list[float]:
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
    device = _device(model)
    key, expected = f"row {number}, reward function {scorer.name}", "a model for sequence classification"
    try:
        with torch.inference_mode():
            output = model(**{name: tensor.to(device) for name, tensor in given.items()})
    except TypeError as error:
        raise DataError(key=key, found=f"'{first_line(error)}'", expected=expected) from error
    logits = getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise DataError(key=key, found=f"{type(model).__name__}, without such a head", expected=expected)
    scores: list[float] = logits[:, 0].double().tolist()
    return scores


def _device(model: nn.Module) -> torch.device:
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


@contextmanager
def _placed(made: Sequence[Scorer], device: str | torch.device) -> Iterator[None]:
    """Within the block reward models are on `device` and do not train; then back where they were."""
    models = [scorer.function for scorer in made if isinstance(scorer.function, nn.Module)]
    before = [(model, _device(model), model.training) for model in models]
    try:
        for model in models:
            to_device(model, device).eval()
        yield
    finally:
        for model, was, training in before:
            to_device(model, was).train(training)


@contextmanager
def _event_loop() -> Iterator[Callable[[list[Coroutine[Any, Any, Any]]], list[Any]]]:
    """Within the block, what runs coroutines together, all in one loop; in a thread, since a notebook has its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="reward functions", daemon=True)

    async def gathered(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        return list(await asyncio.gather(*coroutines))

    def together(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        if not coroutines:
            return []
        if not thread.is_alive():
            thread.start()
        return asyncio.run_coroutine_threadsafe(gathered(coroutines), loop).result()

    try:
        yield together
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        loop.close()


def _as_message(completion: Completion, prompt: Prompt) -> Completion:
    if isinstance(completion, str) and not isinstance(prompt, str):
        return [{"role": "assistant", "content": completion}]
    return completion
