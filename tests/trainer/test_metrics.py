"""What GDPOTrainer logs of a batch, against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

from gdpo.trainer.metrics import batch_sums, means

TOKENS = {"real": 8, "processed": 10, "useful": 6}


def logged(log_ratios, rewards, mask=None):
    log_ratios, rewards = torch.tensor(log_ratios), torch.tensor(rewards)
    mask = torch.ones_like(rewards, dtype=torch.bool) if mask is None else torch.tensor(mask)
    sums = batch_sums(log_ratios, rewards, mask, TOKENS, beta=0.1, pairs="adjacent")
    return means({name: float(value) for name, value in sums.items()})


def test_levels_of_groups():
    """Best 2 and -1, worst -3 and 4: one best of two falls, one worst of two rises. Between them lie 1, -2 and 6."""
    found = logged(
        [[2.0, 1.0, -2.0, -3.0], [4.0, -1.0, 6.0, 99.0]],
        [[3.0, 2.0, 1.0, 0.0], [0.0, 2.0, 1.0, 5.0]],
        [[True] * 4, [True, True, True, False]],
    )
    assert found["log_ratios/best"] == pytest.approx(0.5) and found["log_ratios/worst"] == pytest.approx(0.5)
    assert found["log_ratios/best_falls"] == found["log_ratios/worst_rises"] == 0.5
    assert found["log_ratios/rest"] == pytest.approx((1 - 2 + 6) / 3)


def test_two_levels_have_no_rest():
    found = logged([[2.0, 1.0, -3.0]], [[1.0, 1.0, 0.0]])
    assert "log_ratios/rest" not in found
    assert found["log_ratios/best_falls"] == found["log_ratios/worst_rises"] == 0
