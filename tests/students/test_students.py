"""Every method trains the student through `train_run`, sees the same ids, and repeats itself from a seed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.config.models import Lora, Method, Objective
from gdpo.core.records import Group, Parts
from gdpo.students import right_completions, sft, shuffled_rewards, train_run
from gdpo.students.common import TrainingRun, fit
from tests.refusal import refused

OBJECTIVE = Objective(beta=0.1, pairs="adjacent", link="sigmoid", advantage="shifted", length="sum")


def method(trainer: str, **changes) -> Method:
    settings = {
        "display": trainer,
        "trainer": trainer,
        "learning_rate": 1e-2,
        "epochs": 2,
        "batch_size": 4,
        "micro_batch_size": 2,
        "warmup_ratio": 0.1,
        "max_length": 16,
        "beta": 0.1 if trainer in ("dpo", "grpo") else None,
        "objective": OBJECTIVE if trainer == "gdpo" else None,
    }
    return Method(**settings | changes)


def reward_even(prompts, completions, id, **_):
    """A reward that any student can move: how many of a completion's words are even digits."""
    assert id[0].startswith("q")
    return [sum(word in "02468" for word in messages[0]["content"].split()) / 10 for messages in completions]


def train(student, groups, tmp_path, chosen: Method, name: str = "out", seed: int = 0, **changes):
    out = tmp_path / name
    given = {"base": student, "method": chosen, "groups": groups, "out": out, "work": tmp_path / "work"}
    metrics = train_run(**given | {"seed": seed, "reward_fn": reward_even} | changes)
    return metrics, load_file(out / "model.safetensors")


@pytest.mark.parametrize("trainer", ["sft", "dpo", "grpo", "gdpo"])
def test_trains_and_repeats(trainer, student, groups, tmp_path):
    start = load_file(student / "model.safetensors")
    metrics, weights = train(student, groups, tmp_path, method(trainer))
    again, same = train(student, groups, tmp_path, method(trainer), "again")
    _, other = train(student, groups, tmp_path, method(trainer), "other", seed=1)
    assert weights.keys() == start.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    assert any(not torch.equal(weights[name], start[name]) for name in weights)
    assert metrics["train_loss"] == again["train_loss"]
    # 8 groups in batches of 4 for 2 epochs; the tied group leaves 7, whose last batch is of 3.
    assert metrics["steps"] == 4
    assert metrics["skipped_groups"] == (1 if trainer in ("dpo", "gdpo") else 0)
    assert metrics["groups"] + metrics["skipped_groups"] == 8
    assert len(metrics["log"]) == 4 and metrics["tokens"] > 0
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("trainer", ["sft", "dpo", "gdpo"])
def test_lora_is_merged(trainer, student, groups, tmp_path):
    start = load_file(student / "model.safetensors")
    _, weights = train(student, groups, tmp_path, method(trainer, lora=Lora(r=2, alpha=4)))
    assert weights.keys() == start.keys()
    moved = {name for name in weights if not torch.equal(weights[name], start[name])}
    assert moved and all("proj" in name for name in moved)
    train(student, groups, tmp_path, method(trainer, lora=Lora(r=2, alpha=4)), "again")
    same = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_checkpoint_is_ordinary(student, groups, tmp_path):
    train(student, groups, tmp_path, method("dpo"), dtype="bfloat16")
    out = tmp_path / "out"
    before, after = (json.loads((path / "config.json").read_text()) for path in (student, out))
    assert after.pop("dtype") == "bfloat16" and before.pop("dtype") == "float32"
    assert after == before
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out / name).read_text() == (student / name).read_text()
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16
    prompt = [{"role": "user", "content": "1 + 2"}]
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (student, out)]
    ids = [t.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"] for t in tokenizers]
    assert ids[0] == ids[1]


def test_methods_see_the_same_ids(student, groups, tmp_path, monkeypatch):
    """The best completion of the first group, as each trainer's collator hands it to the model."""
    from transformers import Trainer

    seen = {}

    def of_groups(collator, row):
        apart = replace(collator, packing=replace(collator.packing, share="never"))
        for forward in apart([row])["forwards"]:
            labels = torch.full(forward["input_ids"].shape, -100)
            labels.view(-1)[forward["sources"] + 1] = forward["targets"]
            for ids, scored in zip(forward["input_ids"].tolist(), labels.tolist(), strict=True):
                used = max(i for i, label in enumerate(scored) if label != -100) + 1
                yield tuple(ids[:used]), tuple(scored[:used])

    def of_sequences(collator, row):
        batch = collator([row])
        labels = batch.get("labels")
        if labels is None:
            labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        padding = batch["attention_mask"] == 0 if "attention_mask" in batch else batch["input_ids"] == 0
        for ids, scored, pad in zip(batch["input_ids"], labels, padding, strict=True):
            yield tuple(ids[~pad].tolist()), tuple(scored[~pad].tolist())

    def peek(trainer, *_, **__):
        name = type(trainer).__name__
        read = of_groups if name == "GDPOTrainer" else of_sequences
        seen[name] = set(read(trainer.data_collator, trainer.train_dataset[0]))
        raise InterruptedError

    monkeypatch.setattr(Trainer, "train", peek)
    for trainer in ("sft", "dpo", "gdpo"):
        with pytest.raises(InterruptedError):
            train(student, groups, tmp_path, method(trainer))
    tokenizer = AutoTokenizer.from_pretrained(student)
    text = tokenizer.apply_chat_template(groups[0].prompt, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text)["input_ids"]
    reply = tokenizer(groups[0].completions[0])["input_ids"] + [tokenizer.eos_token_id]
    best = (tuple(prompt + reply), tuple([-100] * len(prompt) + reply))
    assert seen["ExampleTrainer"] == {best}
    assert best in seen["PairTrainer"] and len(seen["PairTrainer"]) == 2
    assert seen["PairTrainer"] < seen["GDPOTrainer"] and len(seen["GDPOTrainer"]) == 4


def test_a_remedy_may_change_groups_and_freeze_weights_before_sft_begins(student, groups, tmp_path):
    run = TrainingRun(student, method("sft"), groups, tmp_path / "work", 0, "float32", None, None)
    trainer, used = sft.build(replace(run, groups=groups[:3]), sft.ExampleTrainer)
    for name, weight in trainer.model.named_parameters():
        weight.requires_grad_("mlp" in name)
    fit(trainer, run)
    start, weights = load_file(student / "model.safetensors"), trainer.model.state_dict()
    moved = {name for name in start if not torch.equal(weights[name].cpu(), start[name])}
    assert used == 3 and moved == {name for name in start if "mlp" in name}


def test_blank_completions_are_left_out(student, groups, tmp_path):
    blank = groups[0].model_copy(update={"completions": ["", " ", "", "3"]})
    metrics, _ = train(student, [blank, *groups[1:]], tmp_path, method("gdpo"))
    assert metrics["skipped_groups"] == 2


@pytest.mark.parametrize("trainer", ["dpo", "gdpo"])
def test_groups_without_a_pair_are_refused(trainer, student, groups, tmp_path):
    with refused(key=trainer, found="none", expected="two different rewards"):
        train(student, groups[-1:], tmp_path, method(trainer))


@pytest.mark.parametrize("trainer", ["sft", "dpo", "grpo", "gdpo"])
def test_a_prompt_too_long_is_left_out_and_counted(trainer, student, groups, tmp_path):
    """A prompt of 16 tokens leaves no room in 16: as if its group were not there. Of 5 tokens none fits into 4."""
    words = " ".join("1" * 14)  # and the user's and the assistant's mark
    long = groups[0].model_copy(update={"id": "q-long", "prompt": [{"role": "user", "content": words}]})
    metrics, weights = train(student, [long, *groups], tmp_path, method(trainer))
    whole, same = train(student, groups, tmp_path, method(trainer), "without")
    assert metrics["too_long"] == 1 and whole["too_long"] == 0
    assert all(metrics[key] == whole[key] for key in ("groups", "skipped_groups", "steps", "tokens"))
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    with refused(key=trainer, found="prompts of 5 or more tokens", expected="max_length=4"):
        train(student, groups, tmp_path, method(trainer, max_length=4))


def test_dpo_and_gdpo_skip_the_same_groups(student, groups, tmp_path):
    """Room for two tokens of each answer: "1 2 3" and "1 2 4" are then the same, and their group has no pair."""
    same = {"completions": ["1 2 3", "1 2 4"], "rewards": [1.0, 0.0], "parts": [], "id": "q-same"}
    chosen = [*groups, groups[0].model_copy(update=same)]
    counts = {}
    for trainer in ("sft", "dpo", "gdpo"):
        metrics, _ = train(student, chosen, tmp_path, method(trainer, max_length=7))
        counts[trainer] = [metrics[key] for key in ("groups", "skipped_groups", "too_long")]
    assert counts == {"sft": [9, 0, 0], "dpo": [7, 2, 0], "gdpo": [7, 2, 0]}


@pytest.mark.parametrize("trainer", ["sft", "gdpo"])
def test_mixed_on_a_cpu_is_float32(trainer, student, groups, tmp_path):
    for name, dtype in (("whole", "float32"), ("mixed", "mixed")):
        metrics, _ = train(student, groups, tmp_path, method(trainer), name, dtype=dtype)
        assert metrics["device"] == "cpu"
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "mixed" / file.name).read_bytes()


def test_mixed_computes_in_bfloat16_on_a_gpu(student, groups, tmp_path, monkeypatch):
    from gdpo.students import common

    found = {}
    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        for dtype in ("float32", "bfloat16", "mixed"):
            run = common.TrainingRun(student, method("sft"), groups, tmp_path, 0, dtype, None, None)
            found[cuda, dtype] = common.arguments(run, 8)["bf16"]
    assert found == {
        (False, "float32"): False, (False, "bfloat16"): True, (False, "mixed"): False,
        (True, "float32"): False, (True, "bfloat16"): True, (True, "mixed"): True,
    }  # fmt: skip


@pytest.mark.parametrize("lora", [None, Lora(r=2, alpha=4)])
def test_killed_run_resumes_from_its_checkpoint(lora, student, groups, tmp_path, monkeypatch):
    """A run killed at step 3 of 4 and started again ends where an uninterrupted one does."""
    from transformers import TrainerCallback

    from gdpo.students import common

    monkeypatch.setattr(common, "CHECKPOINT_STEPS", 2)
    chosen = method("gdpo", lora=lora)
    _, whole = train(student, groups, tmp_path, chosen)

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 3:
                raise KeyboardInterrupt

    fit = common.fit
    from gdpo.students import gdpo

    monkeypatch.setattr(gdpo, "fit", lambda trainer, run: (trainer.add_callback(Kill()), fit(trainer, run)))
    with pytest.raises(KeyboardInterrupt):
        train(student, groups, tmp_path, chosen, "resumed")
    assert [path.name for path in (tmp_path / "work").glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.setattr(gdpo, "fit", fit)
    metrics, resumed = train(student, groups, tmp_path, chosen, "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert metrics["steps"] == 4 and len(metrics["log"]) == 4


def test_training_reports_its_steps(student, groups, tmp_path, monkeypatch):
    """8 groups in batches of 4 for 2 epochs are 4 steps."""
    told = []
    monkeypatch.setattr("gdpo.trainer.resuming.report", lambda *given: told.append(given))
    train(student, groups, tmp_path, method("sft"))
    assert told == [(step, 4, "steps") for step in range(5)]


@pytest.mark.parametrize("trainer", ["sft", "gdpo"])
def test_steps_repeat_the_data_until_so_many_are_made(trainer, student, groups, tmp_path):
    metrics, _ = train(student, groups, tmp_path, method(trainer, steps=7))
    assert metrics["steps"] == 7


def test_only_right_completions_are_kept_and_shuffled_rewards_stay_the_same_ones():
    parts = [Parts(verdict=v, correctness=0, format=0, length=0, total=0) for v in ("right", "wrong", "right")]
    group = Group(id="q", domain="math", prompt=[], completions=["a", "b", "c"], rewards=[2.0, 0.0, 1.0], parts=parts)
    right = right_completions(group)
    assert (right.completions, right.rewards, len(right.parts)) == (["a", "c"], [2.0, 1.0], 2)
    dealt = [shuffled_rewards(group, seed).rewards for seed in range(20)]
    assert all(sorted(rewards) == [0.0, 1.0, 2.0] for rewards in dealt)
    assert len({tuple(rewards) for rewards in dealt}) > 1
    assert shuffled_rewards(group, 3) == shuffled_rewards(group, 3)


def test_a_kept_change_of_half_lies_half_way(student, groups, tmp_path):
    start = load_file(student / "model.safetensors")
    _, whole = train(student, groups, tmp_path, method("sft"))
    _, half = train(student, groups, tmp_path, method("sft", kept_change=0.5), "half")
    for name, weight in half.items():
        torch.testing.assert_close(weight, (start[name] + whole[name]) / 2)
