"""Watching a run changes nothing but what is written down; a gradient's noise by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from gdpo.config.layout import Layout
from gdpo.config.layout import Run as Named
from gdpo.config.loader import load_scale
from gdpo.core.files import read_json, write_jsonl
from gdpo.students import first_completions, steps
from gdpo.students.common import TrainingRun
from gdpo.students.noise import gradients, interval, noise
from gdpo.students.watch import ValidationReward, split_log
from gdpo.trainer.dataset import DataError
from tests.refusal import refused
from tests.students.test_students import method, reward_even, train


def watch(student, groups, every: int = 1) -> ValidationReward:
    tokenizer = AutoTokenizer.from_pretrained(student)
    prompts = [tokenizer.apply_chat_template(g.prompt, tokenize=False, add_generation_prompt=True) for g in groups]
    asked = []

    def reward(texts, lengths, at):
        asked.append((at, len(texts)))
        assert all(length == len(text.split()) for length, text in zip(lengths, texts, strict=True))
        return [float(at + place) for place in range(len(texts))]

    made = ValidationReward(tokenizer, prompts, reward, every=every, max_new_tokens=4, batch_size=3)
    made.asked = asked
    return made


@pytest.mark.parametrize("trainer", ["grpo", "gdpo"])
def test_validation_reward_does_not_change_training(trainer, student, groups, tmp_path):
    plain, weights = train(student, groups, tmp_path, method(trainer))
    looked = watch(student, groups, every=3)
    metrics, same = train(student, groups, tmp_path, method(trainer), "watched", watch=looked)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert [entry["loss"] for entry in plain["log"]] == [entry["loss"] for entry in metrics["log"]]
    assert "watch" not in plain
    assert [entry["step"] for entry in metrics["watch"]] == [0, 3, 4]  # 8 or 7 groups in batches of 4, twice
    assert {entry["reward"] for entry in metrics["watch"]} == {3.5}  # the mean place of eight prompts
    assert looked.asked == [(0, 3), (3, 3), (6, 2)] * 3
    seconds = [entry["seconds"] for entry in metrics["watch"]]
    assert seconds == sorted(seconds)
    sampled = 2 * 8 * 4 if trainer == "grpo" else 0  # two epochs of 8 prompts, as many rollouts as a group has
    assert metrics["completions"] == metrics["watch"][-1]["completions"] == sampled
    assert metrics["memory_mb"]["peak"] >= metrics["memory_mb"]["before"] > 0


def test_validation_reward_stops_the_clock(student, groups, tmp_path, monkeypatch):
    """Looking takes 100 of the test's seconds each time; a step takes 1."""
    clock = [0.0]
    monkeypatch.setattr("gdpo.students.watch.time.perf_counter", lambda: clock[0])
    looked = watch(student, groups)
    monkeypatch.setattr(looked, "_mean_reward", lambda model: clock.__setitem__(0, clock[0] + 100) or 0.0)

    state = SimpleNamespace(log_history=[], global_step=0, max_steps=9)
    looked.on_train_begin(None, state, None)
    for state.global_step in (1, 2):
        clock[0] += 1
        looked.on_step_end(None, state, None)
    assert [entry["watch_seconds"] for entry in state.log_history] == [0, 1, 2]
    assert looked.paused == 300
    prepared = watch(student, groups)
    monkeypatch.setattr(prepared, "_mean_reward", lambda model: 0.0)
    prepared.start_clock()
    clock[0] += 5
    prepared.on_train_begin(None, SimpleNamespace(log_history=(log := []), global_step=0, max_steps=9), None)
    assert log[0]["watch_seconds"] == 5
    resumed = watch(student, groups)
    monkeypatch.setattr(resumed, "_mean_reward", lambda model: 0.0)
    resumed.rollouts = lambda: 7
    state.log_history[-1]["watch_completions"] = 5
    resumed.on_train_begin(None, state, None)
    clock[0] += 1
    state.global_step = 3
    resumed.on_step_end(None, state, None)
    assert (state.log_history[-1]["watch_seconds"], state.log_history[-1]["watch_completions"]) == (3, 12)


def test_split_log():
    log = [{"step": 0, "watch_seconds": 1.0, "watch_completions": 0, "watch_reward": 0.5}, {"step": 1, "loss": 2.0}]
    assert split_log(log) == ([log[1]], [{"step": 0, "seconds": 1.0, "completions": 0, "reward": 0.5}])


def test_noise_by_hand():
    """Gradients (1, 1), (1, -1): products 2 on the diagonal, 0 off it: nothing in common, noise 1.

    Gradients (3, 1), (3, -1): own 10, shared 8, variance 2: 2 / 10; of a mean of two 1 / 9.
    """
    apart, alike = torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[3.0, 1.0], [3.0, -1.0]])
    assert noise(apart @ apart.T) == pytest.approx(1.0)
    assert noise(alike @ alike.T) == pytest.approx(0.2)
    assert noise(alike @ alike.T, batches=2) == pytest.approx(1 / 9)
    same = torch.ones(4, 3)
    assert noise(same @ same.T) == 0.0
    assert interval(same @ same.T) == (0.0, 0.0)


def test_noise_of_drawn_gradients_is_the_true_one():
    """Mean m with |m|^2 = 4 and variance 0.5 in each of 40 weights: 20 / 24 of a squared gradient is noise."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.zeros(400, 40, dtype=torch.float64)
    rows[:, 0] = 2.0
    rows += 0.5**0.5 * torch.randn(rows.shape, generator=draw, dtype=torch.float64)
    low, high = interval(rows @ rows.T)
    assert low < 20 / 24 < high
    assert high - low < 0.1


@pytest.mark.parametrize("trainer", ["sft", "dpo", "grpo", "gdpo"])
def test_gradients_are_those_of_mini_batches_at_the_untrained_student(trainer, student, groups, tmp_path):
    run = TrainingRun(student, method(trainer), groups, tmp_path / "work", 0, "float32", reward_even, None)
    rows = gradients(run, batches=3, size=1)
    assert rows.shape[0] == 3
    assert not torch.equal(rows[0], rows[1])
    again = gradients(run, batches=3, size=1)
    assert torch.equal(rows, again)


def test_too_few_groups_for_noise_are_named(student, groups, tmp_path):
    run = TrainingRun(student, method("gdpo"), groups[:3], tmp_path / "work", 0, "float32", None, None)
    with refused(DataError, found=2, expected="groups for 4 mini-batches of 2"):
        gradients(run, batches=8, size=2)


def test_noise_step_without_enough_groups_writes_no_number(student, groups, tmp_path, monkeypatch):
    """The file is there, since the workflow waits for it, and says why it has no number."""
    monkeypatch.chdir(tmp_path)

    def none(run, *_):
        assert len(run.groups) == len(groups)  # without the one whose prompt is too long
        raise DataError("too few")

    monkeypatch.setattr("gdpo.students.noise.gradients", none)
    layout = Layout(load_scale("micro"))
    layout.model("tiny-s").parent.mkdir(parents=True)
    layout.model("tiny-s").symlink_to(student)
    words = " ".join("1" * layout.scale.methods["gdpo"].max_length)
    long = groups[0].model_copy(update={"id": "q-long", "prompt": [{"role": "user", "content": words}]})
    write_jsonl(layout.groups("metakl"), [group.model_dump() for group in [*groups, long]])
    steps.noise(layout.scale, [Named("tiny-s", "metakl", "gdpo", 0)])
    found = read_json(layout.noise("tiny-s", "metakl", "gdpo"))
    assert found == {"noise": None, "why": "too few"}


def test_group_size_trains_on_the_first_completions(student, groups, tmp_path):
    """Trained on the first two of four completions, as on groups of two; rollouts are another matter."""
    halved = [first_completions(group, 2) for group in groups]
    assert halved[1].completions == groups[1].completions[:2]
    _, whole = train(student, groups, tmp_path, method("gdpo"))
    _, part = train(student, groups, tmp_path, method("gdpo", group_size=2), "part")
    _, same = train(student, halved, tmp_path, method("gdpo"), "same")
    assert all(torch.equal(part[name], same[name]) for name in part)
    assert any(not torch.equal(part[name], whole[name]) for name in part)
