"""What would train or score something else without a word, or end in a traceback, each refused or put right."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.core.errors import ArgumentError
from gdpo.trainer.dataset import DataError, prompt_ids, template_kwargs
from gdpo.trainer.gdpo_trainer import GDPOTrainer
from gdpo.trainer.reward_funcs import apply_reward_funcs
from tests.refusal import refused
from tests.trainer.test_trl_conventions import ROWS, trainer

CHAT = {"prompt": [{"role": "user", "content": "1 +"}], "completions": ["2", "3"]}


def test_groups_that_another_trainer_read_are_not_scored_by_the_trained_policy(student, tmp_path):
    """They lack this reference's scores: once it is freed they are refused, as unread groups are."""
    live = trainer(student, tmp_path / "live", precompute_ref_log_probs=False)
    made = trainer(student, tmp_path / "made")
    made.train()
    with refused(DataError, problem="the reference is freed"):
        made.evaluate(live.train_dataset)
    assert made.evaluate(made.train_dataset)["eval_loss"] != -0.5


def test_column_of_ones_own_named_sequences_is_no_tokenized_set(student, tmp_path):
    made = trainer(student, tmp_path, precompute_ref_log_probs=False)
    own = Dataset.from_list([{**row, "sequences": "mine"} for row in ROWS])
    assert made.evaluate(own)["eval_loss"] == made.evaluate(Dataset.from_list(ROWS))["eval_loss"]


def test_reference_of_no_finite_score_is_refused(student, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student)
    model.get_output_embeddings().weight.data[3] = torch.nan
    with refused(DataError, found="no finite number"):
        GDPOTrainer(model, args=trainer(student, tmp_path / "a").args, train_dataset=ROWS)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_adapter_that_rewrites_its_base_is_refused(student, tmp_path, start):
    """The reference is the model below the adapter, which would no longer be the one before training."""
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=start)
    with refused(ArgumentError, found="rewrites the base"):
        trainer(student, tmp_path, given={"peft_config": config})


@pytest.mark.parametrize("start", [True, "gaussian"])
def test_adapter_that_leaves_its_base_is_taken(student, tmp_path, start):
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=start)
    made = trainer(student, tmp_path, given={"peft_config": config}, learning_rate=0.0)
    assert made.train().training_loss == pytest.approx(-0.5, abs=1e-6)


def test_none_that_a_data_set_adds_reaches_no_template(student):
    """Rows of a Dataset have the keys of all rows, at any depth; as a list of the same rows they are read alike."""
    tools = [{"name": name, "parameters": {name: {"type": "number"}}} for name in "xy"]
    rows = [{"prompt": CHAT["prompt"], "tools": [tool], "chat_template_kwargs": {"a": tool}} for tool in tools]
    assert [template_kwargs(row) for row in Dataset.from_list(rows)] == [template_kwargs(row) for row in rows]
    calls = [
        [{"role": "user", "content": "1"}, {"role": "tool", "content": "2", "tool_calls": [{"arguments": {n: 1}}]}]
        for n in "xy"
    ]
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}"
        "{% if m['tool_calls'] %} {{ m['tool_calls'] | tojson }}{% endif %}{% endfor %}"
    )
    stored = Dataset.from_list([{"prompt": messages} for messages in calls])
    assert [prompt_ids(tokenizer, row["prompt"]) for row in stored] == [prompt_ids(tokenizer, m) for m in calls]


WRONG_REWARDS = {
    "a number": 0.5, "a mapping": {0: 9, 1: 9}, "text": "12", "a set": {1.0, 2.0}, "a generator": (1.0 for _ in "ab"),
    "a scalar tensor": torch.tensor(1.0), "lists": [[1.0], [2.0]], "complex": [1j, 2], "huge": [10**400, 1],
    "words": ["good", 1],
}  # fmt: skip


@pytest.mark.parametrize("returned", WRONG_REWARDS.values(), ids=WRONG_REWARDS)
def test_rewards_that_are_no_list_of_numbers_are_refused(student, returned):
    tokenizer = AutoTokenizer.from_pretrained(student)
    with refused(DataError, key="row 0, reward function"):
        apply_reward_funcs([CHAT], [lambda **_: returned], tokenizer)


@pytest.mark.parametrize("returned", [[1, 0], (1.0, 0.0), np.array([1.0, 0.0]), torch.tensor([1.0, 0.0])],
                         ids=["list", "tuple", "array", "tensor"])  # fmt: skip
def test_rewards_may_be_a_list_an_array_or_a_tensor(student, returned):
    tokenizer = AutoTokenizer.from_pretrained(student)
    [row] = apply_reward_funcs([CHAT], [lambda **_: returned], tokenizer)
    assert row["rewards"] == [1.0, 0.0]


def test_what_a_reward_function_changes_is_not_trained_on(student):
    def changes(prompts, completions, **_):
        prompts[0][-1]["content"] = "changed"
        completions.clear()
        return [1.0, 0.0]

    def reads(prompts, completions, **_):
        assert prompts[0][-1]["content"] == "1 +" and len(completions) == 2
        return [0.0, 0.0]

    tokenizer = AutoTokenizer.from_pretrained(student)
    [row] = apply_reward_funcs([CHAT], [changes, reads], tokenizer)
    assert row["prompt"] == [{"role": "user", "content": "1 +"}]


@pytest.mark.parametrize("content", [b"", b"abc"], ids=["empty", "cut off"])
def test_broken_weights_are_one_sentence(student, tmp_path, content):
    for file in student.iterdir():
        (tmp_path / file.name).write_bytes(content if file.suffix == ".safetensors" else file.read_bytes())
    with refused(ArgumentError, found=str(tmp_path)):
        trainer(tmp_path, tmp_path / "out")


def test_shapes_that_do_not_fit_their_configuration_are_one_sentence(student, tmp_path):
    for file in student.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"intermediate_size": 8}))
    with refused(ArgumentError, found=str(tmp_path)):
        trainer(tmp_path, tmp_path / "out")


def test_loss_of_no_number_is_logged_as_it_is(student, tmp_path):
    """transformers' filter would show 0."""
    assert functools.reduce(getattr, ("args", "logging_nan_inf_filter"), trainer(student, tmp_path)) is False
