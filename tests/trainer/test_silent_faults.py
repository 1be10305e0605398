"""What would train or score something else without a word, or end in a traceback, each refused or put right."""

from __future__ import annotations

import functools
import inspect
import json
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import KasaConfig, LoraConfig
from peft.tuners.lora import layer as lora_layer
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.core.errors import ArgumentError
from gdpo.trainer.dataset import DataError, prompt_ids, template_kwargs
from gdpo.trainer.gdpo_trainer import GDPOTrainer
from gdpo.trainer.model_setup import REWRITE_BASE
from gdpo.trainer.reward_funcs import apply_reward_funcs
from tests.refusal import refused
from tests.trainer.test_trl_conventions import ROWS, config, trainer, weights

CHAT = {"prompt": [{"role": "user", "content": "1 +"}], "completions": ["2", "3"]}


@pytest.mark.parametrize("own", [True, False], ids=["precomputed", "live"])
@pytest.mark.parametrize("precomputed", [True, False], ids=["from precomputed", "from live"])
def test_groups_that_another_trainer_read_are_refused(own, precomputed, student, tmp_path):
    """Their scores are another reference's, or there are none; a trainer's own are known in any selection."""
    torch.manual_seed(1)
    stranger = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(student).config)
    settings = {"args": config(tmp_path / "other", precompute_ref_log_probs=precomputed), "train_dataset": ROWS}
    other = GDPOTrainer(stranger, processing_class=str(student), **settings)
    made = trainer(student, tmp_path / "made", precompute_ref_log_probs=own)
    for groups in (other.train_dataset, concatenate_datasets([made.train_dataset, other.train_dataset])):
        with refused(DataError, found="groups that another trainer has read", expected="prompts, completions"):
            made.evaluate(groups)
        with refused(DataError, found="groups that another trainer has read"):
            made.predict(groups)
    made.train()
    assert made.evaluate(made.train_dataset.select([2, 0]))["eval_loss"] != -0.5


def test_own_columns_named_as_the_trainers_are_no_groups_that_it_has_read(student, tmp_path):
    """Nor is what they hold taken for a reference's scores."""
    made = trainer(student, tmp_path, precompute_ref_log_probs=False)
    columns = {"sequences": [[1]], "index": [0, 0], "prompt_ids": [1], "reader": "me", "ref_log_probs": [9.0]}
    own = Dataset.from_list([{**row, **columns} for row in ROWS])
    assert made.evaluate(own)["eval_loss"] == made.evaluate(Dataset.from_list(ROWS))["eval_loss"]
    with refused(DataError, found="groups that another trainer has read"):
        made.evaluate(own.remove_columns("prompt"))


def test_column_of_ones_own_named_sequences_is_no_tokenized_set(student, tmp_path):
    made = trainer(student, tmp_path, precompute_ref_log_probs=False)
    own = Dataset.from_list([{**row, "sequences": "mine"} for row in ROWS])
    assert made.evaluate(own)["eval_loss"] == made.evaluate(Dataset.from_list(ROWS))["eval_loss"]


def test_reference_of_no_finite_score_is_refused(student, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student)
    model.get_output_embeddings().weight.data[3] = torch.nan
    with refused(DataError, key="row 0", found="no finite number"):
        GDPOTrainer(model, args=config(tmp_path / "a"), train_dataset=ROWS)
    assert not list(tmp_path.rglob("*.npy"))


REWRITING = {start: {"init_lora_weights": start} for start in ("pissa", "PiSSA_niter_4", "olora", "corda", "lora_ga")}


@pytest.mark.parametrize("changes", [*REWRITING.values(), {"kasa_config": KasaConfig()}], ids=[*REWRITING, "kasa"])
def test_adapter_that_rewrites_its_base_is_refused(student, tmp_path, changes):
    """The reference is the model below the adapter, which would no longer be the one before training: nor is one that
    was loaded already rewritten."""
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **changes)
    model = AutoModelForCausalLM.from_pretrained(student)
    before = weights(model)
    with refused(ArgumentError, key="peft_config", found="rewrites the base"):
        GDPOTrainer(model, args=config(tmp_path), train_dataset=ROWS, peft_config=lora)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_every_start_that_peft_has_is_known_to_keep_its_base_or_not():
    """A release of peft may add one that rewrites it: it belongs into REWRITE_BASE then, or here."""
    keep = {"gaussian", "eva", "orthogonal", "mica"}  # eva sets the adapter's own weights, mica its B below an A of 0
    source = inspect.getsource(lora_layer)
    named = set(re.findall(r'init_lora_weights(?:\.lower\(\))? == "(\w+)"', source))
    named |= set(re.findall(r'init_lora_weights\.(?:lower\(\)\.)?startswith\("(\w+)"', source))
    assert named - keep <= REWRITE_BASE and {"pissa", "lora_ga"} <= named


@pytest.mark.parametrize("start", [True, "gaussian"])
def test_adapter_that_leaves_its_base_is_taken(student, tmp_path, start):
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=start)
    made = trainer(student, tmp_path, given={"peft_config": lora}, learning_rate=0.0)
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
