"""Reward functions and models are called as TRL's GRPOTrainer calls them, and what they log is logged."""

from __future__ import annotations

import asyncio
import functools
import math

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainerState,
)

from gdpo.core.errors import ArgumentError
from gdpo.trainer.dataset import DataError, UnfitRows, tokenize_groups
from gdpo.trainer.reward_funcs import RewardLog, apply_reward_funcs, scorers
from tests.refusal import refused

CHAT = [{"role": "user", "content": "2 + 2"}]
TEXT_ROW = {"prompt": "1 +", "completions": ["2", "3 4"], "rewards": [1.0, 0.0]}


@pytest.fixture(scope="module")
def tokenizer(student):
    return AutoTokenizer.from_pretrained(student)


@pytest.fixture(scope="module")
def judge(tokenizer, tmp_path_factory):
    """The path of a reward model of one number with the student's words, saved with its tokenizer."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, num_attention_heads=2, num_labels=1, bos_token_id=None, eos_token_id=1)
    path = tmp_path_factory.mktemp("models") / "judge"
    LlamaForSequenceClassification(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_a_reward_function_is_called_as_trl_calls_it(tokenizer):
    """By keyword, an entry per completion; a text that answers messages comes as one assistant message."""
    calls = []

    def reward(prompts, completions, completion_ids, answer, **kwargs):
        calls.append((prompts, completions, completion_ids, answer, kwargs))
        assert {kwargs.pop(name) is not None for name in ("trainer_state", "log_extra", "log_metric")} == {True}
        return [float(len(ids)) for ids in completion_ids]

    rows = [{"prompt": "1 +", "completions": ["2", "3 4"], "answer": "2", "id": 7}]
    rows += [{"prompt": CHAT, "completions": ["4", answer("5 5")], "answer": "4", "id": 8}]
    scored = apply_reward_funcs(rows, [reward], tokenizer)
    assert calls[0] == (["1 +"] * 2, ["2", "3 4"], [[9, 1], [10, 11, 1]], ["2"] * 2, {"id": [7, 7]})
    assert calls[1] == ([CHAT] * 2, [answer("4"), answer("5 5")], [[11, 1], [12, 12, 1]], ["4"] * 2, {"id": [8, 8]})
    assert [row["rewards"] for row in scored] == [[2.0, 3.0], [2.0, 3.0]]
    assert "rewards" not in rows[0]  # the user's rows stay as they are


def test_several_functions_add_up_where_they_apply(tokenizer):
    """2 x first + 0.5 x second, the second alone where the first has None: (2 + 5, 5), as in TRL's nansum."""

    def first(completions, **_):
        return [1, None]

    def second(completions, **_):
        return [10, 10.0]

    row = {"prompt": "1", "completions": ["2", "3"]}
    assert apply_reward_funcs([row], [first, second], tokenizer, [2.0, 0.5])[0]["rewards"] == [7.0, 5.0]
    assert apply_reward_funcs([row], [first, second], tokenizer)[0]["rewards"] == [11.0, 10.0]


def few(completions, **_):
    return [1.0]


def silent(completions, **_):
    return [1.0, None]


class Scorer:
    """A reward function may be an object, which has no name of its own."""

    def __call__(self, completions, **_):
        return [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("functions", "weights", "key", "fields"),
    [
        ([few], None, "row 0, reward function few", {"found": 1, "expected": "2 rewards"}),
        ([Scorer()], None, "row 0, reward function Scorer", {"found": 3, "expected": "2 rewards"}),
        ([silent], None, "row 0, completions[1]", {"problem": "no reward function gave a reward"}),
        ([few], [1.0, 1.0], "reward_weights", {"found": 2, "expected": "1, one per function"}),
    ],
)
def test_bad_reward_functions(functions, weights, key, fields, tokenizer):
    with refused(DataError, key=key, **fields):
        apply_reward_funcs([{"prompt": "1", "completions": ["2", "3"]}], functions, tokenizer, weights)


def test_a_nan_from_a_function_is_a_nan_reward(tokenizer):
    scored = apply_reward_funcs([TEXT_ROW], [lambda completions, **_: [1.0, math.nan]], tokenizer)
    with refused(DataError, key="row 0, rewards[1]", found="nan", expected="a finite number"):
        tokenize_groups(scored, tokenizer)


async def slow(completions, **_):
    await asyncio.sleep(0)
    return [float(len(c)) for c in completions]


class AsyncObject:
    async def __call__(self, completions, **_):
        return [1.0] * len(completions)


@pytest.mark.parametrize("within_a_loop", [False, True])
def test_async_reward_functions(within_a_loop, tokenizer):
    """A coroutine, a partial of one, and an object whose call is one; also where a loop runs, as in a notebook."""
    functions = [
        slow,
        functools.partial(slow, scale=2),
        AsyncObject(),
        lambda completions, **_: [0.5] * len(completions),
    ]
    rows = [{"prompt": "1 +", "completions": ["2", "3 4"]}, {"prompt": "1 +", "completions": ["2 3 4"]}]

    async def inside():
        return apply_reward_funcs(rows, functions, tokenizer)

    scored = asyncio.run(inside()) if within_a_loop else apply_reward_funcs(rows, functions, tokenizer)
    assert [row["rewards"] for row in scored] == [[3.5, 7.5], [11.5]]


def test_async_reward_functions_wait_for_each_other(tokenizer):
    """The functions of one group run together: each of two waits for the other one, which alone would never end."""
    met: list[str] = []

    def meeting(name):
        async def function(completions, **_):
            met.append(name)
            while len(met) < 2:
                await asyncio.sleep(0)
            return [1.0] * len(completions)

        return function

    apply_reward_funcs([TEXT_ROW], [meeting("a"), meeting("b")], tokenizer)
    assert met == ["a", "b"]


def test_an_async_function_with_too_few_rewards_is_refused(tokenizer):
    async def few(completions, **_):
        return [1.0]

    with refused(DataError, key="row 0, reward function few", found=1, expected="2 rewards"):
        apply_reward_funcs([TEXT_ROW], [few], tokenizer)


def test_reward_function_logs_extra_columns_and_metrics(tokenizer):
    """`log_metric` is averaged over groups: (1 + 3) / 2. A function's mean and deviation are over completions: of
    1, 2, 1 they are 4/3 and sqrt(2)/3."""

    def words(prompts, completions, trainer_state, log_extra, log_metric, **_):
        assert trainer_state.global_step == 7
        counts = [len(c.split()) for c in completions]
        log_extra("words", counts)
        log_metric("total", sum(counts) if len(counts) == 2 else 1)
        return counts

    log = RewardLog()
    rows = [{"prompt": "1", "completions": ["2", "3 4"]}, {"prompt": "1", "completions": ["5"]}]
    apply_reward_funcs(rows, [words], tokenizer, state=TrainerState(global_step=7), log=log)
    assert log.columns == {"words": [1, 2, 1]}
    assert log.means() == {
        "total": 2.0,
        "rewards/words/mean": pytest.approx(4 / 3),
        "rewards/words/std": pytest.approx(math.sqrt(2) / 3),
    }


def test_a_function_of_columns_alone_gets_no_more(tokenizer):
    """GRPOTrainer would fail here; a function that names what it takes is given that."""

    def plain(prompts, completions, completion_ids, log_metric):
        log_metric("seen", 1.0)
        return [1.0] * len(completions)

    log = RewardLog()
    apply_reward_funcs([{"prompt": "1", "completions": ["2"]}], [plain], tokenizer, log=log)
    assert log.scalars == {"seen": [1.0]}


@pytest.mark.parametrize("given", ["path", "module", "module and tokenizer"])
@pytest.mark.parametrize("prompt", ["1 +", CHAT], ids=["text", "messages"])
def test_reward_models(given, prompt, judge, tokenizer):
    """A reward model scores prompt and completion as one text: the first logit, as it has it for each text alone."""
    model = LlamaForSequenceClassification.from_pretrained(judge)
    reward = str(judge) if given == "path" else model
    made = scorers(reward, [tokenizer] if given == "module and tokenizer" else None)
    rows = [{"prompt": prompt, "completions": ["2", "3 4 5"]}]
    (scored,) = apply_reward_funcs(rows, made, tokenizer)
    for completion, found in zip(rows[0]["completions"], scored["rewards"], strict=True):
        if isinstance(prompt, str):
            text = prompt + completion
        else:
            text = tokenizer.apply_chat_template([*prompt, *answer(completion)], tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            assert found == pytest.approx(model.eval()(input_ids=ids).logits[0, 0].item(), abs=1e-5)
    assert scored["rewards"][0] != scored["rewards"][1] and made[0].name == "judge"


def test_a_reward_model_beside_a_function(judge, tokenizer):
    """A tokenizer for the model alone; the model trains on as before, since it was left as it was found."""
    model = LlamaForSequenceClassification.from_pretrained(judge).train()
    made = scorers([model, lambda completions, **_: [100.0] * len(completions)], [str(judge), None])
    (scored,) = apply_reward_funcs([{"prompt": "1", "completions": ["2", "3"]}], made, tokenizer)
    assert all(abs(reward - 100) < 50 for reward in scored["rewards"]) and model.training


@pytest.mark.parametrize(
    ("rewards", "tokenizers", "key", "found"),
    [
        (["nowhere/to be found"], None, "reward_funcs[0]", "'nowhere/to be found'"),
        ([few, 5], None, "reward_funcs[1]", "5"),
        ([few], ["a", "b"], "reward_processing_classes", "2"),
        (torch.nn.Linear(1, 1), None, "reward_processing_classes", "''"),
    ],
)
def test_bad_reward_models(rewards, tokenizers, key, found):
    with refused(ArgumentError, key=key) as caught:
        scorers(rewards, tokenizers)
    assert str(caught.value.found) == found


def test_empty_completions_are_scored_where_they_are_dropped_later(tokenizer):
    row = {"prompt": "1", "completions": ["2", "", "3"]}
    with refused(DataError, key="row 0, completions[1]"):
        apply_reward_funcs([row], [lambda completions, **_: [1.0, 2.0, 3.0]], tokenizer)
    (scored,) = apply_reward_funcs(
        [row], [lambda completions, **_: [1.0, 2.0, 3.0]], tokenizer, unfit=UnfitRows(empty_completions="drop")
    )
    assert scored["rewards"] == [1.0, 2.0, 3.0]
