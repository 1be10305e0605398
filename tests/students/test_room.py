"""Before a run trains on a GPU: what it cannot hold is refused, and what it may not hold is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gdpo.config.layout import Run
from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from gdpo.models.shapes import GIB
from gdpo.students import steps


@pytest.fixture
def scale(monkeypatch):
    """Scale paper, in as many processes as it says, on GPUs of 80 GB."""
    scale = load_scale("paper")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=79.3 * GIB))
    monkeypatch.setattr(steps.process_group, "processes", lambda: scale.launch.processes)
    return scale


def test_run_that_no_sequence_makes_fit_is_refused(scale) -> None:
    with pytest.raises(UserError) as refused:
        steps.check_memory(scale, Run("qwen3-8b", "metakl", "grpo", 0), 10)
    assert "GiB of weights and what belongs to them in a GPU of 79.3" in str(refused.value)
    assert "launch.processes more" in str(refused.value)


def test_run_that_fits_is_begun_in_silence(scale, capsys) -> None:
    for method in ("sft", "dpo", "gdpo"):
        steps.check_memory(scale, Run("qwen3-8b", "metakl", method, 0), 10)
    assert capsys.readouterr() == ("", "")


def test_run_that_may_not_fit_is_begun_and_said(scale, capsys, monkeypatch) -> None:
    monkeypatch.setattr(steps.process_group, "processes", lambda: 4)
    steps.check_memory(scale, Run("qwen3-8b", "metakl", "grpo", 0), 10)
    assert "at its longest sequences it takes 86.8 GiB of a GPU of 79.3" in "".join(capsys.readouterr())


def test_nothing_is_checked_without_a_gpu(scale, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    steps.check_memory(scale, Run("qwen3-8b", "metakl", "grpo", 0), 10)
