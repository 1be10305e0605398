"""docs/from-dpo-trainer.md: its function makes valid groups, its defaults are true, and on pairs the loss is DPO's."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from gdpo import GDPOConfig, gdpo_loss
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "from-dpo-trainer.md"


def test_pairs_become_groups():
    (code,) = (block.text for block in blocks(PAGE) if block.language == "python")
    names: dict = {}
    exec(code, names)
    assert names["groups"] == [
        {"prompt": "3 + 4 =", "completions": ["7", "8", "12"], "rewards": [1.0, 0.0, 0.0]},
        {"prompt": "2 + 2 =", "completions": ["4", "5"], "rewards": [1.0, 0.0]},
    ]


def test_loss_of_pairs_is_that_of_dpo():
    """Log-ratios 0.5, -1.5 at beta 0.1: -log sigmoid(0.1 * 2) is 0.598139; 0 and 3: -log sigmoid(-0.3) is 0.854355."""
    log_ratios = torch.tensor([[0.5, -1.5], [0.0, 3.0]])
    rewards = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    loss = gdpo_loss(log_ratios, rewards, mask, beta=0.1, link="logsigmoid", advantage="unweighted")
    assert loss.item() == pytest.approx((0.598139 + 0.854355) / 2, abs=1e-5)


def test_defaults_that_differ_are_as_the_page_says():
    trl = pytest.importorskip("trl")
    theirs, ours = ({f.name: f.default for f in dataclasses.fields(kind)} for kind in (trl.DPOConfig, GDPOConfig))
    assert (theirs["learning_rate"], ours["learning_rate"]) == (1e-6, 2e-6)
    assert (theirs["precompute_ref_log_probs"], ours["precompute_ref_log_probs"]) == (False, True)
    assert theirs["gradient_checkpointing"] and not ours["gradient_checkpointing"]
    assert (theirs["disable_dropout"], ours["disable_dropout"]) == (True, True)


def test_arguments_of_the_same_name_are_there():
    trl = pytest.importorskip("trl")
    (sentence,) = re.findall(
        r"Arguments with the same name and meaning: (.*?)\. Everything", PAGE.read_text(), re.DOTALL
    )
    from inspect import signature

    from gdpo import GDPOTrainer

    for name in re.findall(r"`(\w+)`", sentence):
        for trainer, config in ((trl.DPOTrainer, trl.DPOConfig), (GDPOTrainer, GDPOConfig)):
            assert name in signature(trainer.__init__).parameters or name in {
                f.name for f in dataclasses.fields(config)
            }
