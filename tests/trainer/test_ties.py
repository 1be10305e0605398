"""Equal rewards: one rule from the rows that are dropped to the pairs of the loss, and what is dropped is said."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gdpo.trainer.dataset import DataError
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.objective import Advantage, advantages, gdpo_loss, pair_weights, reward_levels
from gdpo.trainer.ties import OFFSET_HINT, best_and_worst, drop_tied_groups, levels
from tests.refusal import refused

# Float32's rounding of 1000 is 1.2e-4, and eight of them 9.5e-4; of 1e6 they are 0.95.
NEAR = [
    ([1000.0004, 1000.0], [0, 0]),
    ([1000.002, 1000.0], [1, 0]),
    ([1e6 + 0.5, 1e6, 1e6 + 0.25], [0, 0, 0]),
    ([1e6 + 2, 1e6, 1e6 + 0.25], [1, 0, 0]),
    ([-1000.0, 0.0004, 0.0], [0, 1, 1]),
    ([0.1 + 0.2, 0.3, 0.4], [0, 0, 1]),
    ([0.30000001192092896, 0.30000004172325134, 1.0], [0, 0, 1]),  # neighbours in float32
    ([1e-30, 2e-30], [0, 1]),
    ([1e-50, 2e-50], [0, 0]),  # 0 in float32
    ([3e38, -3e38], [1, 0]),
    ([16777217, 16777216], [0, 0]),
    ([2, 1, 2], [1, 0, 1]),
    ([], []),
]


def trainer(student, path, rewards, dtype=torch.float32, eval_rewards=None):
    from transformers import AutoModelForCausalLM

    def rows(given):
        return [{"prompt": "1", "completions": ["2", "3", "4"][: len(r)], "rewards": r} for r in given]

    return GDPOTrainer(
        AutoModelForCausalLM.from_pretrained(student, dtype=dtype),
        args=GDPOConfig(str(path), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True),
        train_dataset=rows(rewards),
        eval_dataset=eval_rewards and rows(eval_rewards),
        processing_class=AutoTokenizer.from_pretrained(student),
    )


@pytest.mark.parametrize(("rewards", "expected"), NEAR)
def test_levels_of_near_ties(rewards, expected):
    assert levels(rewards) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rewards", "expected"), NEAR)
def test_dropped_groups_are_those_without_a_pair_in_the_loss(rewards, expected, dtype):
    """A group is kept where the loss has a pair, in the policy's dtype, and where it has none nothing is lost."""
    kept = max(expected, default=0) > 0
    try:
        assert (len(drop_tied_groups([{"rewards": rewards}])) == 1) == kept
    except DataError:
        assert not kept
    if kept:
        given = torch.tensor([rewards], dtype=dtype)
        assert pair_weights(given, None, "adjacent").sum() == pytest.approx(1)
        assert advantages(given).abs().max() > 0
        assert gdpo_loss(torch.zeros_like(given), given) == pytest.approx(-0.5)


@given(st.lists(st.floats(-1e3, 1e3) | st.sampled_from([1.0, 1 + 9e-7, 1 + 1e-6, 1000.0, 1000.0009]), min_size=2))
@settings(max_examples=300, deadline=None)
def test_float64_rewards_have_the_levels_of_float32(rewards):
    """But for numbers so small that float32 holds few of their digits, which are no rewards' differences."""
    given = torch.tensor([rewards], dtype=torch.float64)
    given[given.abs() < 1e-30] = 0
    assert torch.equal(reward_levels(given), reward_levels(given.float()))


def test_drop_tied_groups():
    rows = [{"rewards": [1.0, 1.0]}, {"rewards": [1.0, 0.5]}, {"rewards": [2]}]
    assert drop_tied_groups(rows) == rows[1:2]
    with refused(DataError, key="rewards", found="none", expected="a group with two different rewards", hint=None):
        drop_tied_groups(rows[:1])


def test_near_ties_alone_are_refused_with_a_hint():
    with refused(DataError, key="rewards", found="none", hint=OFFSET_HINT):
        drop_tied_groups([{"rewards": [1000.0004, 1000.0]}])


TINIEST = {torch.float32: (1e-45, 1e-40, 5e-38), torch.float64: (5e-324, 1e-310, 1e-300)}


@pytest.mark.parametrize("advantage", get_args(Advantage))
@pytest.mark.parametrize("dtype", TINIEST)
def test_rewards_too_small_for_their_differences_to_have_digits_are_equal(dtype, advantage):
    """1e-45 less 0 rounds to 0 when it is halved, so that the group's range is 0: no pair, rather than weights of nan.
    A reward of the size that a difference needs is a pair, and so is a tiny one beside a large one."""
    for tiny in TINIEST[dtype]:
        given = torch.tensor([[tiny, 0.0, -tiny]], dtype=dtype)
        assert reward_levels(given).tolist() == [[0, 0, 0]] and advantages(given).abs().max() == 0
        assert gdpo_loss(torch.ones_like(given), given, advantage=advantage) == 0
    for rewards in ([[1e-35, 0.0]], [[1.0, TINIEST[dtype][0]]]):
        loss = gdpo_loss(torch.zeros(1, 2, dtype=dtype), torch.tensor(rewards, dtype=dtype), advantage=advantage)
        assert loss.item() == pytest.approx(-0.5)


def test_rewards_too_small_are_refused_with_a_hint(student, tmp_path):
    with refused(DataError, key="rewards", found="none", hint="by less than 1e-37"):
        trainer(student, tmp_path, [[1e-45, 0.0], [1e-320, 0.0]])


def test_huge_rewards_are_kept_for_the_check_that_refuses_them():
    """`check_group` names row and column. A filter before it must not drop them: both are infinite in float32."""
    rows = [{"rewards": [1e39, 2e39]}, {"rewards": [math.inf, 1.0]}, {"rewards": [math.nan, 1.0]}]
    assert drop_tied_groups(rows) == rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_near_tied_groups_are_skipped_counted_and_said(dtype, student, tmp_path, warnings):
    """Of five groups one is equal, two are nearly so; another loses one of its two steps."""
    rewards = [[1.0, 0.0], [1.0, 1.0], [1000.0004, 1000.0], [1e6 + 0.5, 1e6], [1000.0004, 1000.0, 0.0]]
    made = trainer(student, tmp_path, rewards, dtype, eval_rewards=rewards[:2])
    assert made.skipped_groups == 3 and len(made.train_dataset) == 2 and len(made.eval_dataset) == 1
    batch = made.data_collator(made.train_dataset.to_list())
    pairs = pair_weights(batch["rewards"], batch["mask"], "adjacent").sum((-2, -1))
    assert pairs.tolist() == pytest.approx([1, 1])  # no group of the batch dilutes the loss
    assert warnings == [
        f"3 of 5 groups: {OFFSET_HINT}",
        "train_dataset: 3 of 5 groups have no two different rewards, and are left out",
        "eval_dataset: 1 of 2 groups have no two different rewards, and are left out",
    ]


def test_sums_that_round_differently_are_no_near_tie(student, tmp_path, warnings):
    """0.1 + 0.2 and 0.3 are meant to be equal: nothing is said of them."""
    trainer(student, tmp_path, [[0.1 + 0.2, 0.3, 1.0]])
    assert warnings == []


def test_huge_rewards_are_refused_before_the_reference_is_scored(student, tmp_path, monkeypatch):
    monkeypatch.setattr(GDPOTrainer, "_ref_log_probs", lambda *_: pytest.fail("a pass was paid for"))
    with refused(DataError, key="row 1, rewards[0]", found="1e+39", expected="a number of up to 3.4e+38"):
        trainer(student, tmp_path, [[1.0, 0.0], [1e39, 0.0]])


def test_best_and_worst_are_the_first_of_their_level():
    assert best_and_worst([0.3, 2.0, 2.0, 0.1 + 0.2, 0.3]) == (1, 0)
    assert best_and_worst([0.1 + 0.2, 0.3]) is None
    assert best_and_worst([1000.0, 1000.0004, 0.0]) == (0, 2)
