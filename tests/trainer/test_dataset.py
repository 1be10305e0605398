"""Groups as rows: tokens, and one clear sentence for what no group can be made of."""

from __future__ import annotations

import copy
import math

import pytest
from transformers import AutoTokenizer

from gdpo.core.errors import FIELDS
from gdpo.trainer import dataset
from gdpo.trainer.dataset import (
    DataError,
    completion_ids,
    prompt_ids,
    tokenize_groups,
)
from gdpo.trainer.ties import drop_tied_groups
from tests.refusal import refused

CHAT = [{"role": "user", "content": "2 + 2"}]
TEXT_ROW = {"prompt": "1 +", "completions": ["2", "3 4"], "rewards": [1.0, 0.0]}
CHAT_ROW = {"prompt": CHAT, "completions": ["4", "5 5"], "rewards": [1.0, 0.0]}


@pytest.fixture(scope="module")
def tokenizer(student):
    return AutoTokenizer.from_pretrained(student)


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


# Tokens


def test_tokenize_groups_of_text(tokenizer):
    """Digits are words 7 to 16, "+" is 5, the end is 1."""
    (group,) = tokenize_groups([TEXT_ROW], tokenizer)
    assert group == {
        "prompt_ids": [8, 5],
        "sequences": [[9, 1], [10, 11, 1]],
        "index": [0, 1],
        "cut": 0,
        "rewards": [1.0, 0.0],
    }


def test_completion_ids_end_with_one_eos(tokenizer):
    """A completion that already ends with the end token gets no second one, and its text stays verbatim."""
    end = tokenizer.eos_token_id
    assert completion_ids(tokenizer, "4 2") == [*tokenizer("4 2")["input_ids"], end]
    assert completion_ids(tokenizer, "4 2 <|end|>") == completion_ids(tokenizer, "4 2")


def test_messages_go_through_the_chat_template(tokenizer):
    """<|user|> is 2, <|assistant|> 3; a text and a message that answer messages are the same completion."""
    assert prompt_ids(tokenizer, CHAT) == [2, 9, 5, 9, 3]
    assert completion_ids(tokenizer, answer("4"), CHAT) == completion_ids(tokenizer, "4", CHAT) == [11, 1]
    rows = [CHAT_ROW, CHAT_ROW | {"completions": [answer("4"), answer("5 5")]}]
    assert tokenize_groups(rows[:1], tokenizer) == tokenize_groups(rows[1:], tokenizer)


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer, monkeypatch):
    template = "{{ messages | length }} {% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with refused(DataError, key="completions", found="does not render the prompt as a prefix"):
        completion_ids(tokenizer, answer("4"), CHAT)


def test_repeated_completions_share_a_sequence(tokenizer):
    """Two texts of the same tokens are one sequence, as are two that differ only in what is cut."""
    row = {"prompt": "1", "completions": ["2 3", "2  3", "2 3 4"], "rewards": [1, 2, 3]}
    (group,) = tokenize_groups([row], tokenizer)
    assert group["index"] == [0, 0, 1]
    (cut,) = tokenize_groups([row], tokenizer, max_length=3)
    assert cut["index"] == [0, 0, 0] and cut["sequences"] == [[9, 10]] and cut["cut"] == 3


def test_repeated_text_is_tokenized_once(tokenizer, monkeypatch):
    """Of six texts three are different; a message is made text of by its template, and is asked for each time."""
    asked = []
    once = dataset.completion_ids

    def counted(tokenizer, completion, prompt=None, **template):
        asked.append(completion)
        return once(tokenizer, completion, prompt, **template)

    monkeypatch.setattr(dataset, "completion_ids", counted)
    texts = ["2 3", "4", "2 3", "5", "4", "2 3"]
    row = {"prompt": CHAT, "completions": texts, "rewards": [1, 0, 1, 0, 0, 1]}
    (found,) = tokenize_groups([row], tokenizer)
    assert asked == ["2 3", "4", "5"]
    assert found["index"] == [0, 1, 0, 2, 1, 0]
    assert found["sequences"] == [once(tokenizer, text, CHAT) for text in ("2 3", "4", "5")]
    tokenize_groups([row, row | {"completions": [answer("4")] * 6}], tokenizer)
    assert len(asked) == 3 + 3 + 6


def test_completions_of_the_same_tokens_share_their_mean_reward(tokenizer):
    """Rewards 1 and 2 of one sequence become 1.5 each; cut to one sequence all three become 2, and nothing informs."""
    row = {"prompt": "1", "completions": ["2 3", "2  3", "2 3 4"], "rewards": [1, 2, 3]}
    assert tokenize_groups([row], tokenizer)[0]["rewards"] == [1.5, 1.5, 3.0]
    cut = tokenize_groups([row], tokenizer, max_length=3)
    assert cut[0]["rewards"] == [2.0, 2.0, 2.0]
    with refused(DataError, key="rewards", expected="two different rewards"):
        drop_tied_groups(cut)
    tied = {"prompt": "1", "completions": ["2"] * 3 + ["3"], "rewards": [0.1] * 3 + [0.2]}
    assert tokenize_groups([tied], tokenizer)[0]["rewards"] == [0.1, 0.1, 0.1, 0.2]


def test_row_passes_tools_and_template_kwargs_to_the_template(tokenizer, monkeypatch):
    """`tools` and `chat_template_kwargs` are TRL's columns; without them the prompt is 1, with them 2 1 and 3 1."""
    template = "{% if tools %}2 {% endif %}{% if loud %}3 {% endif %}{{ messages[0]['content'] }}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    row = {"prompt": [{"role": "user", "content": "1"}], "completions": ["4", "5"], "rewards": [1, 0]}
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    prompts = [
        tokenize_groups([row | told], tokenizer)[0]["prompt_ids"]
        for told in ({}, {"tools": [tool]}, {"chat_template_kwargs": {"loud": True, "unset": None}}, {"tools": None})
    ]
    assert prompts == [[8], [9, 8], [10, 8], [8]]


def test_a_thought_that_the_template_opens_is_opened_once(tokenizer):
    """<think> becomes 17, </think> 18. A thought, none, and one that was cut off, behind "2 <think>"."""
    thinker = copy.deepcopy(tokenizer)
    thinker.add_tokens(["<think>", "</think>"])
    thinker.chat_template = "{{ messages[0]['content'] }}{{ ' <think>\\n' if add_generation_prompt }}"
    texts = ["<think>\n3 </think> 4", "4", "<think>\n3"]
    row = {"prompt": [{"role": "user", "content": "2"}], "completions": texts, "rewards": [2, 1, 0]}
    (group,) = tokenize_groups([row], thinker)
    assert group["prompt_ids"] == [9, 17]
    assert group["sequences"] == [[10, 18, 11, 1], [18, 11, 1], [10, 1]]
    (asked,) = tokenize_groups([row | {"prompt": "2 <think>"}], thinker)  # text is what its writer made of it
    assert asked["prompt_ids"] == [9, 17] and asked["sequences"][0] == [17, 10, 18, 11, 1]


def test_prompt_continues_a_begun_reply(tokenizer):
    """No end and no second header between the reply's beginning and its completion."""
    begun = [*CHAT, *answer("=")]
    assert prompt_ids(tokenizer, begun)[: len(prompt_ids(tokenizer, CHAT))] == prompt_ids(tokenizer, CHAT)
    assert tokenizer.eos_token_id not in prompt_ids(tokenizer, begun)


def test_tokenizer_without_eos_is_refused(tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with refused(DataError, key="processing_class", found="none", expected="an end-of-sequence token"):
        tokenize_groups([TEXT_ROW], endless)


# Bad rows

BAD = [
    ({"prompt": None}, "row 1", "completions, rewards", "a column 'prompt'"),
    ({"completions": None}, "row 1", "prompt, rewards", "a column 'completions'"),
    ({"rewards": None}, "row 1", "prompt, completions", "a column 'rewards'"),
    ({"rewards": [1.0]}, "row 1", "2 completions and 1 rewards", "a reward per completion"),
    ({"rewards": [1.0, math.nan]}, "row 1, rewards[1]", "nan", "a finite number"),
    ({"rewards": [math.inf, 0]}, "row 1, rewards[0]", "inf", "a finite number"),
    ({"rewards": [1e39, 0.0]}, "row 1, rewards[0]", "1e+39", "a number of up to 3.4e+38, which float32 holds"),
    (
        {"rewards": [0, -(10**400)]},
        "row 1, rewards[1]",
        f"-1{'0' * 78}...",
        "a number of up to 3.4e+38, which float32 holds",
    ),
    ({"rewards": [1.0, "0"]}, "row 1, rewards[1]", "'0'", "a finite number"),
    ({"rewards": [1.0, None]}, "row 1, rewards[1]", "None", "a finite number"),
    ({"rewards": 1.0}, "row 1, rewards", "float", "a list"),
    ({"completions": ["4", " "]}, "row 1, completions[1]", "' '", "text"),
    ({"completions": ["4", []]}, "row 1, completions[1]", "[]", "text"),
    ({"completions": ["4", 5]}, "row 1, completions[1]", "5", "text"),
    ({"completions": "4 5"}, "row 1, completions", "str", "a list"),
    ({"completions": ["4"], "rewards": [1.0]}, "row 1, completions", 1, "at least 2"),
    ({"completions": [], "rewards": []}, "row 1, completions", 0, "at least 2"),
    ({"prompt": 5}, "row 1, prompt", "5", "text or messages"),
    ({"prompt": []}, "row 1, prompt", "[]", "text or messages"),
    ({"prompt": ""}, "row 1, prompt", "''", "at least one token"),
    ({"prompt": "1 " * 40}, "row 1, prompt", 40, "fewer than max_length=32 tokens"),
    (
        {"prompt": "1", "completions": [answer("4"), answer("5")]},
        "row 1, completions[0]",
        "messages",
        "text after a prompt of text",
    ),
]


@pytest.mark.parametrize(("change", "key", "found", "expected"), BAD)
def test_bad_rows(change, key, found, expected, tokenizer):
    """The error is a ValueError, as a user of the trainer expects it."""
    with refused(DataError) as caught:
        tokenize_groups([TEXT_ROW, CHAT_ROW | change], tokenizer, max_length=32)
    assert caught.value.fields == dict.fromkeys(FIELDS) | {"key": key, "found": found, "expected": expected}
    assert isinstance(caught.value, ValueError)


def test_numbers_of_any_kind_are_rewards(tokenizer):
    numpy = pytest.importorskip("numpy")
    row = TEXT_ROW | {"rewards": [numpy.float32(0.5), True]}
    assert tokenize_groups([row], tokenizer)[0]["rewards"] == [0.5, 1.0]
