"""What a method's settings become: batches that are exact however they are cut, and forward passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gdpo.config.models import Forward, Method, Objective
from gdpo.core import process_group
from gdpo.students import common
from tests.refusal import refused

OBJECTIVE = Objective(beta=0.1, pairs="adjacent", link="sigmoid", advantage="shifted", length="sum")


def method(**changes) -> Method:
    settings = {
        "display": "GDPO",
        "trainer": "gdpo",
        "learning_rate": 1e-3,
        "epochs": 1,
        "batch_size": 8,
        "micro_batch_size": 8,
        "warmup_ratio": 0.0,
        "max_length": 16,
        "objective": OBJECTIVE,
    }
    return Method(**settings | changes)


def cut(items: int = 100, sequences: int = 1, **changes) -> tuple[int, int]:
    """(how many at once, how often) of one step and process."""
    run = common.TrainingRun(Path("base"), method(**changes), [], Path("work"), 0, "float32", None, None)
    given = common.arguments(run, items, sequences)
    return given["per_device_train_batch_size"], given["gradient_accumulation_steps"]


def test_a_step_takes_batch_size_exactly():
    """8 by at most 3 is 2 four times, not 3 twice; few items make the last step smaller, not the step."""
    assert cut() == (8, 1)
    assert cut(micro_batch_size=3) == (2, 4)
    assert cut(micro_batch_size=5) == (4, 2)
    assert cut(micro_batch_size=100) == (8, 1)
    assert cut(items=5, micro_batch_size=4) == (4, 2)
    assert cut(batch_size=7, micro_batch_size=3) == (1, 7)


def test_rollouts_fit_the_data():
    """TRL would leave out a batch of rollouts that is not full; each of 5 prompts has 4 rollouts."""
    assert cut(items=5, sequences=4) == (5 * 4, 1)


def test_a_process_that_sees_several_gpus_is_refused(monkeypatch):
    """Trainer would take them all, and so many batches at once."""
    monkeypatch.setattr(common.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(common.torch.cuda, "device_count", lambda: 2)
    with refused(key="GDPO", found="2 GPUs for one process"):
        cut()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cut() == (4, 1)


def test_barrier_sets_the_timeout_of_all_exchanges(monkeypatch):
    """The first call makes the group of processes, whose patience nothing changes afterwards."""
    asked = []

    class Group:
        def __init__(self, **given):
            asked.append(given)

        def wait_for_everyone(self):
            asked.append("waited")

    monkeypatch.setattr("accelerate.PartialState", Group)
    process_group.barrier()
    assert asked == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    process_group.barrier()
    assert asked == [
        {"cpu": not common.torch.cuda.is_available(), "timeout": process_group.DISTRIBUTED_TIMEOUT},
        "waited",
    ]


def test_processes_share_a_step(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cut() == (4, 1)
    assert cut(micro_batch_size=3) == (2, 2)
    assert cut(items=5) == (4, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with refused(key="GDPO", found=8, expected="a batch_size that is a multiple of the 3 processes"):
        cut()


def test_rollouts_are_shared_evenly(monkeypatch):
    """Of five prompts two processes take two each at once; one process would take all five."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cut(items=5, sequences=4) == (2 * 4, 1)


@pytest.mark.parametrize("step", ["model", "noise"])
def test_step_refuses_several_processes(step, monkeypatch):
    from gdpo.students import steps

    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused(key=step, found="2 processes", expected="one"):
        getattr(steps, step)(None, None)


def test_forward_settings_belong_to_trainer_gdpo():
    with pytest.raises(ValidationError, match="'forward' belongs to trainer gdpo"):
        method(trainer="sft", objective=None, forward=Forward(max_logits=1))


def test_forward_settings_are_named_as_in_gdpo_config():
    from gdpo.trainer.gdpo_trainer import GDPOConfig

    assert set(Forward.model_fields) <= set(GDPOConfig.__dataclass_fields__)
    assert all(value is None for value in Forward().model_dump().values())  # so that GDPOConfig's defaults hold


def test_forward_settings_reach_the_trainer(student, groups, tmp_path, monkeypatch):
    from gdpo.students import gdpo

    seen = []
    monkeypatch.setattr(gdpo, "fit", lambda trainer, run: seen.append(trainer))
    forward = {"max_forward_tokens": 64, "max_logits": 5, "share_prompts": "never", "bucket_by_length": False}
    run = common.TrainingRun(student, method(forward=forward), groups, tmp_path, 0, "float64", None, None)
    gdpo.train(run)
    packing, args = seen[0].data_collator.packing, seen[0].args
    assert (packing.max_tokens, packing.share, packing.bucket, args.max_logits) == (64, "never", False, 5)
    assert args.max_activation_tokens is None and args.precompute_ref_log_probs
    assert str(seen[0].model.dtype) == "torch.float64"
