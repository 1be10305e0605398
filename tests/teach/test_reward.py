"""The reward's parts, by hand-worked numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdpo.config.models import Reward
from gdpo.core.records import Question
from gdpo.grading.grade import final_answer, grade
from gdpo.teach.reward import format_score, length_score, reward, words_in_place

SETTINGS = Reward(correctness=1.0, format=0.5, length=0.5, knee=10, limit=20, think="optional")

TEXTS = st.lists(st.sampled_from(["<think>", "</think>", " ", "\n", "7", "so", "\\boxed{7}"]), max_size=8).map("".join)
VERDICTS = st.sampled_from(["right", "wrong", "ungradable"])


@st.composite
def settings(draw) -> Reward:
    correctness = draw(st.integers(0, 200))
    form = draw(st.integers(0, 200 - correctness))
    knee = draw(st.integers(1, 500))
    return Reward(
        correctness=correctness / 100,
        format=form / 100,
        length=(200 - correctness - form) / 100,
        knee=knee,
        limit=knee + draw(st.integers(1, 500)),
        think=draw(st.sampled_from(["optional", "required"])),
    )


@pytest.mark.parametrize(
    ("text", "optional", "required"),
    [
        ("<think> a </think> 7", 1, 1),
        ("7", 1, 0),
        ("<think> a </think>", 0, 0),
        ("<think> a", 0, 0),
        ("a </think> 7", 0, 0),
        ("</think> a <think> 7", 0, 0),
        ("<think> a </think> <think> b </think> 7", 0, 0),
        ("so <think> a </think> 7", 1, 0),
        ("", 0, 0),
    ],
)
def test_format_score_needs_one_think_block_then_an_answer(text, optional, required):
    assert format_score(text, "optional") == optional
    assert format_score(text, "required") == required


def test_length_score_falls_linearly_from_knee_to_limit():
    assert [length_score(n, 10, 20) for n in (0, 10, 12, 15, 20, 99)] == [1.0, 1.0, 0.8, 0.5, 0.0, 0.0]


def test_reward_parts_by_hand():
    """Right, well formed, 15 tokens: 1 + 0.5 + 0.5 * 0.5 = 1.75. Wrong: 0.75. No answer: nothing, however short."""
    assert reward("right", "<think> a </think> 7", 15, SETTINGS).total == 1.75
    assert reward("wrong", "<think> a </think> 8", 15, SETTINGS).total == 0.75
    assert reward("ungradable", "<think> a", 3, SETTINGS).total == 0.0


def test_rewards_span_zero_to_two():
    assert reward("right", "7", 1, SETTINGS).total == 2.0
    with pytest.raises(ValueError, match="= 2"):
        Reward(correctness=1.0, format=1.0, length=0.5, knee=10, limit=20, think="optional")


@given(VERDICTS, TEXTS, st.integers(0, 2000), settings())
def test_a_reward_is_the_sum_of_its_parts_each_within_its_weight(verdict, text, tokens, weights):
    parts = reward(verdict, text, tokens, weights)
    assert parts.verdict == verdict
    assert parts.total == parts.correctness + parts.format + parts.length
    assert 0.0 <= parts.total <= 2.0 + 1e-9
    assert parts.correctness == (weights.correctness if verdict == "right" else 0.0)
    assert parts.format in (0.0, weights.format)
    assert 0.0 <= parts.length <= weights.length


@given(VERDICTS, TEXTS, st.integers(0, 2000), st.integers(0, 2000), settings())
def test_longer_completions_never_earn_more(verdict, text, one, other, weights):
    short, long = sorted((one, other))
    earned, less = (reward(verdict, text, tokens, weights) for tokens in (short, long))
    assert less.length <= earned.length
    if weights.knee <= short < long <= weights.limit:
        assert length_score(long, weights.knee, weights.limit) < length_score(short, weights.knee, weights.limit)
    assert (less.correctness, less.format) == (earned.correctness, earned.format)


@given(TEXTS, st.integers(0, 2000), settings())
def test_right_earns_its_weight_more_and_ungradable_earns_nothing(text, tokens, weights):
    right, wrong, unreadable = (reward(v, text, tokens, weights) for v in ("right", "wrong", "ungradable"))
    assert right.total - wrong.total == pytest.approx(weights.correctness)
    assert (right.format, right.length) == (wrong.format, wrong.length)
    assert unreadable.total == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "First we add 12 and 30, then we",
        r"The answer is \boxed{4",
        "I do not know.",
        "<think> 6 times 7 </think> Well,",
    ],
)
def test_cut_off_or_declining_completion_earns_no_format(text):
    question = Question(id="q", domain="math", source="s", question="?", answer="42", grader="math")
    assert format_score(text, "optional") == 1.0
    assert reward(grade(question, text), text, 5, SETTINGS).total == 0.0


@given(TEXTS, st.sampled_from(["exact", "refusal"]))
def test_exact_and_refusal_are_ungradable_only_without_answer(text, grader):
    """So that where these two graders judge alone, an unreadable answer and no answer are the same thing."""
    question = Question(id="q", domain="general", source="s", question="?", answer="7", grader=grader)
    assert (grade(question, text) == "ungradable") == (not final_answer(text))


def test_partial_credit_is_the_share_of_the_gold_words_in_place():
    """Of "a b c d": "a b x d" has three of four in place, "a b" two of four, "a b c d e" four of five."""
    gold = "a b c d"
    shares = {text: words_in_place(text, gold) for text in ("a b c d", "a b x d", "a b", "a b c d e", "x")}
    assert shares == {"a b c d": 1.0, "a b x d": 0.75, "a b": 0.5, "a b c d e": 0.8, "x": 0.0}


def test_partial_credit_needs_an_answer_and_without_gold_is_all_or_nothing():
    weights = Reward(correctness=0.8, partial=0.6, format=0.3, length=0.3, knee=4, limit=40, think="optional")
    assert reward("wrong", "a b x d", 4, weights, "a b c d").partial == pytest.approx(0.45)
    assert reward("ungradable", "", 0, weights, "a b c d").total == 0.0
    assert [reward(v, "7", 1, weights).partial for v in ("right", "wrong")] == [0.6, 0.0]
    assert reward("right", "7", 1, weights, "7").total == pytest.approx(2.0)


def test_a_reward_without_partial_credit_is_stored_as_before():
    assert "partial" not in reward("right", "7", 1, SETTINGS, "8").model_dump()
