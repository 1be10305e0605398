"""A training whose loss or weights are no finite numbers stops with one sentence, and saves none of them."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, TrainerCallback

from gdpo.trainer.divergence import DivergedError, DivergenceWatch, has_finite_weights
from tests.refusal import refused
from tests.trainer.test_trl_conventions import trainer


class Breaks(TrainerCallback):
    """Makes a weight nan after a step, as an update that overflows does."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)


STEPS = {"per_device_train_batch_size": 1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize("every", [1, 100], ids=["logged", "unlogged"])
def test_no_checkpoint_of_diverged_weights_is_saved(every, student, tmp_path):
    """Those of the steps before are there, and can be resumed from."""
    broken = trainer(student, tmp_path, given={"callbacks": [Breaks(3)]}, logging_steps=every, **STEPS)
    with refused(DivergedError, found="after step 3: the training diverged", hint="a lower learning_rate"):
        broken.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    resumed = trainer(student, tmp_path, **STEPS)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6 and has_finite_weights(resumed.model)


@pytest.mark.parametrize(("every", "last"), [(1, 4), (3, 6), (100, 6)])
def test_step_of_the_first_loss_of_no_number_is_named(every, last, student, tmp_path):
    """The weights break after step 3; the loss of step 4 is seen when it is logged, at the end at the latest."""
    settings = STEPS | {"save_strategy": "no", "logging_steps": every}
    broken = trainer(student, tmp_path, given={"callbacks": [Breaks(3)]}, **settings)
    with refused(DivergedError, key="train", found="a loss of step 4", expected="a finite loss") as caught:
        broken.train()
    assert broken.state.global_step == last and isinstance(caught.value, FloatingPointError)
    assert all(math.isfinite(entry["loss"]) for entry in broken.state.log_history if "loss" in entry)


def test_weights_that_the_last_step_breaks_are_refused(student, tmp_path):
    broken = trainer(student, tmp_path, given={"callbacks": [Breaks(6)]}, **STEPS | {"save_strategy": "no"})
    with refused(DivergedError, found="weights that are no finite numbers after step 6"):
        broken.train()


def test_training_after_a_diverged_one_is_watched_anew(student, tmp_path):
    breaks = Breaks(1)
    made = trainer(student, tmp_path, given={"callbacks": [breaks]}, **STEPS | {"save_strategy": "no"})
    with refused(DivergedError):
        made.train()
    breaks.step, made.optimizer, made.lr_scheduler = 0, None, None
    made.model.load_state_dict(AutoModelForCausalLM.from_pretrained(student).state_dict())
    assert math.isfinite(made.train().training_loss)


def test_watch_remembers_the_first_step():
    watch = DivergenceWatch(Accelerator(cpu=True))
    for step, loss in ((1, 0.5), (2, math.inf), (3, math.nan), (4, 0.5)):
        watch.see(torch.tensor(loss), step)
    with refused(DivergedError, found="a loss of step 2"):
        watch.check_loss()


def test_weights_that_are_not_trained_are_not_looked_at():
    model = torch.nn.Linear(1, 1)
    model.bias.data.fill_(math.inf)
    assert not has_finite_weights(model)
    model.bias.requires_grad_(False)
    assert has_finite_weights(model)
