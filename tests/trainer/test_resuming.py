"""Training resumes from whole checkpoints alone, and its loss is then that of all its steps."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import TrainerCallback

from gdpo.core.errors import ArgumentError
from gdpo.trainer.resuming import chosen_checkpoint, damage, last_checkpoint
from tests.refusal import refused
from tests.trainer.test_trl_conventions import trainer, weights

SAVING = {
    "per_device_train_batch_size": 1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2,
    "logging_steps": 5,
}  # fmt: skip


class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == 5


@pytest.fixture(scope="module")
def killed(student, tmp_path_factory):
    """The output of a training that ended after step 5 of 6, with checkpoints of steps 2, 4 and 5."""
    path = tmp_path_factory.mktemp("killed")
    trainer(student, path, given={"callbacks": [Kill()]}, **SAVING).train()
    shutil.rmtree(path / "checkpoint-5", ignore_errors=True)
    return path


@pytest.fixture
def output(killed, tmp_path):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NAMES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
CASES = [(name, harm) for name in NAMES for harm in ("missing", "cut off", "empty")]


def harm(path, kind):
    if kind == "missing":
        path.unlink()
    elif kind == "cut off":
        cut(path)
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_checkpoint_that_is_not_whole_is_refused_or_passed_over(name, kind, output):
    """By its path it is one sentence; the last whole one is the one before, and that it is, is said."""
    assert damage(output / "checkpoint-4") is None
    harm(output / "checkpoint-4" / name, kind)
    with refused(ArgumentError, path=str(output / "checkpoint-4"), key="resume_from_checkpoint", found="no "):
        chosen_checkpoint(output / "checkpoint-4", output, False, print)
    said = []
    assert last_checkpoint(output, tell=said.append) == output / "checkpoint-2"
    assert len(said) == 1 and "checkpoint-4 is not resumed from: found no " in said[0]
    shutil.rmtree(output / "checkpoint-2")
    with refused(ArgumentError, path=str(output), found="none", expected="a whole checkpoint"):
        chosen_checkpoint(True, output, False, said.append)
    assert last_checkpoint(output, tell=said.append) is None


def test_shard_of_weights_that_is_missing_is_seen(output):
    checkpoint = output / "checkpoint-4"
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert damage(checkpoint) == "no whole model-2.safetensors"
    (checkpoint / "model.safetensors.index.json").write_text("{")
    assert damage(checkpoint) == "no whole model.safetensors.index.json"


@pytest.mark.parametrize(("given", "found"), [(5, "int"), ("nowhere", "no directory")])
def test_what_is_no_checkpoint_is_refused(given, found, student, tmp_path):
    made = trainer(student, tmp_path)
    with refused(ArgumentError, key="resume_from_checkpoint", found=found):
        made.train(resume_from_checkpoint=given)


def test_training_falls_back_to_the_last_whole_checkpoint(output, student, tmp_path_factory, warnings):
    """It ends in the same weights, and its loss is that of all six steps, as if nothing had stopped it."""
    whole = trainer(student, tmp_path_factory.mktemp("whole"), **SAVING)
    whole_loss = whole.train().training_loss
    cut(output / "checkpoint-4" / "optimizer.pt")
    resumed = trainer(student, output, **SAVING)
    result = resumed.train(resume_from_checkpoint=True)
    assert [text for text in warnings if "checkpoint-4 is not resumed from: found no whole optimizer.pt" in text]
    other = weights(whole.model)
    assert all(torch.equal(value, other[name]) for name, value in weights(resumed.model).items())
    assert result.training_loss == pytest.approx(whole_loss, abs=1e-7)
    assert resumed.state.log_history[-1]["train_loss"] == result.metrics["train_loss"] == result.training_loss


def test_loss_of_a_training_that_is_resumed_twice_is_that_of_all_steps(killed, student, tmp_path):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoint-4")
    first = trainer(student, tmp_path, given={"callbacks": [Kill()]}, **SAVING)
    first.train(resume_from_checkpoint=True)
    shutil.rmtree(tmp_path / "checkpoint-5", ignore_errors=True)
    twice = trainer(student, tmp_path, **SAVING)
    whole = trainer(student, tmp_path / "whole", **SAVING)
    assert twice.train(resume_from_checkpoint=True).training_loss == pytest.approx(
        whole.train().training_loss, abs=1e-7
    )


def test_loss_after_a_checkpoint_that_kept_none_is_that_since_then(output, student):
    """As of the releases before: what is not known is not made up, in later checkpoints neither."""
    file = output / "checkpoint-4" / "trainer_state.json"
    state = json.loads(file.read_text())
    kept = state["stateful_callbacks"].pop("loss_of_all_steps")["attributes"]
    assert kept["step"] == 4 and kept["before"] == 0.0
    file.write_text(json.dumps(state))
    resumed = trainer(student, output, **SAVING)
    loss = resumed.train(resume_from_checkpoint=str(output / "checkpoint-4")).training_loss
    logged = [entry["loss"] for entry in resumed.state.log_history if entry["step"] > 4 and "loss" in entry]
    assert len(logged) == 1 and loss < kept["total"] / 4 and resumed.state.global_step == 6
    assert "loss_of_all_steps" not in resumed.state.stateful_callbacks
