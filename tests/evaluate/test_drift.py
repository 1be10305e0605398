"""KL to the reference by hand, and along answers whatever the batches."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from gdpo.evaluate import drift
from gdpo.evaluate.drift import Drift, kl


def test_kl_by_hand():
    """From (1/2, 1/2) to (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 0.1438; to itself 0."""
    policy = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    reference = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert kl(policy, reference).tolist() == pytest.approx([expected, 0.0], abs=1e-7)


@pytest.fixture
def moved(student, tmp_path):
    """The student with its weights changed a little."""
    for file in student.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(student / "model.safetensors")
    torch.manual_seed(1)
    shaken = {name: weight + 0.1 * torch.randn_like(weight) for name, weight in weights.items()}
    save_file(shaken, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


ANSWERED = [([{"role": "user", "content": "1 + 2"}], "3"), ([{"role": "user", "content": "1 + 2 + 3"}], "= 6 6")]


def test_drift_is_zero_from_oneself_and_the_same_in_any_batches(student, moved, monkeypatch):
    measure = Drift(student, "float32")
    assert measure.measure(student, ANSWERED)["kl"] == 0.0
    found = measure.measure(moved, ANSWERED)
    assert found["tokens"] == 2 + 4  # each answer's own and the closing one
    assert found["kl"] > 0
    assert found["kl_sequence"] == pytest.approx(found["kl"] * 6 / 2)
    monkeypatch.setattr(drift, "MAX_TOKENS", 1)
    alone = measure.measure(moved, ANSWERED)
    assert alone["kl"] == pytest.approx(found["kl"], rel=1e-5)
    single = measure.measure(moved, ANSWERED[:1])
    assert single["kl_sequence"] != pytest.approx(found["kl_sequence"], rel=1e-3)
