"""What would end in a bare traceback is refused in one sentence: settings, arguments, columns, data sets, tensors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import IterableDataset
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from gdpo.core.errors import ArgumentError, DescribedError
from gdpo.trainer.dataset import DataError
from gdpo.trainer.gdpo_trainer import GDPOTrainer
from gdpo.trainer.objective import gdpo_loss
from gdpo.trainer.reward_funcs import apply_reward_funcs, scorers
from tests.refusal import refused
from tests.trainer.test_checks import CHAT, ROW, config, make

NAN = float("nan")
HUGE = 10**5000  # beyond a float, and beyond what Python writes


@pytest.fixture(scope="module")
def tokenizer(student):
    return AutoTokenizer.from_pretrained(student)


def by_place(completions, **_):
    return [float(place) for place, _ in enumerate(completions)]


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"num_train_epochs": 0}, {"expected": "a number above 0", "hint": "evaluate() needs no training"}),
        ({"num_train_epochs": -1}, {"expected": "a number above 0"}),
        ({"num_train_epochs": NAN}, {"expected": "a number above 0"}),
        ({"max_steps": 0}, {"expected": "-1 for the steps of num_train_epochs"}),
        ({"max_steps": -3}, {"expected": "above 0, or -1"}),
        ({"beta": HUGE}, {"found": "a huge int"}),
        ({"max_grad_norm": NAN}, {"found": "nan"}),
        ({"data_seed": 2**50}, {"expected": "from 0 to 4294967295"}),
        ({"seed": -1}, {"expected": "from 0 to 4294967295"}),
        ({"dataloader_num_workers": "2"}, {"found": "'2'", "expected": "a whole number"}),
        ({"dataloader_num_workers": -1}, {"expected": "a whole number from 0"}),
        ({"save_total_limit": "1"}, {"expected": "a whole number or None"}),
        ({"warmup_steps": "a"}, {"expected": "a number"}),
        ({"log_level": "loud"}, {"found": "'loud'", "hint": "known: critical, debug"}),
        ({"log_level_replica": 5}, {"found": "5", "hint": "known: critical, debug"}),
        ({"include_for_metrics": ["inputs"]}, {"expected": "[] by GDPOTrainer"}),
        ({"optim_args": 5}, {"expected": "text or None"}),
        ({"lr_scheduler_kwargs": 5}, {"expected": "a mapping"}),
    ],
    ids=lambda value: "-".join(value),
)
def test_setting_is_refused(settings, fields, tmp_path):
    with refused(ArgumentError, key=next(iter(settings)), **fields):
        config(tmp_path, **settings)


@pytest.mark.parametrize("given", [{"dispatch_batches": True}, {"nope": 1}, "nowhere.json"])
def test_accelerator_config_is_refused(given, tmp_path):
    with refused(ArgumentError):
        config(tmp_path, accelerator_config=given)


def test_epochs_count_for_nothing_beside_steps(tmp_path):
    assert config(tmp_path, num_train_epochs=-1, max_steps=1).max_steps == 1


LORA = {"r": 2, "target_modules": ["q_proj"]}
ARGUMENTS = {
    "callbacks": [5, "x", [5], [GDPOTrainer]],
    "optimizers": [None, 5, (1,), (1, 2), (torch.optim.SGD, None)],
    "compute_metrics": [5],
    "reward_processing_classes": [5],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ARGUMENTS.items() for value in values])
def test_argument_is_refused(key, value, student, tmp_path):
    functions = {"reward_funcs": by_place} if key == "reward_processing_classes" else {}
    with refused(ArgumentError, key=key, expected=""):
        make(student, tmp_path, **functions, **{key: value})


def test_reward_weights_without_reward_functions_are_refused(student, tmp_path):
    args = config(tmp_path, reward_weights=[1.0], precompute_ref_log_probs=False)
    with refused(ArgumentError, key="reward_weights", found="[1.0]", expected="None without reward_funcs"):
        make(student, tmp_path, args=args)
    assert make(student, tmp_path, args=args, reward_funcs=by_place).skipped_groups == 0


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"r": 10**9}, "the rank 1000000000"),
        ({"r": HUGE}, "a huge int"),
        ({"r": 0}, "positive integer"),
        ({"r": 2.5}, "from peft"),
        ({"lora_alpha": HUGE}, "too large for a float"),
        ({"lora_alpha": "x"}, "from peft"),
        ({"target_modules": ["nope"]}, "not found in the base model"),
    ],
    ids=["rank", "huge rank", "no rank", "half rank", "huge alpha", "alpha", "modules"],
)
def test_adapter_that_does_not_fit_is_refused(changes, found, student, tmp_path):
    with refused(ArgumentError, key="peft_config", found=found):
        make(student, tmp_path, peft_config=LoraConfig(**LORA | changes))


@pytest.mark.parametrize("key", ["model", "ref_model"])
def test_model_on_the_device_meta_is_refused(key, student, tmp_path):
    with refused(ArgumentError, key=key, found="on the device meta", expected="a model that is loaded"):
        make(student, tmp_path, **{key: AutoModelForCausalLM.from_pretrained(student).to("meta")})


# Reward functions and models


@pytest.mark.parametrize("name", ["prompts", "completion_ids", "trainer_state", "log_extra", "log_metric", 5])
def test_column_that_a_function_cannot_be_given_is_refused(name, tokenizer):
    with refused(DataError, key="row 0", found=f"a column {name!r}", expected="none as the arguments prompts"):
        apply_reward_funcs([ROW | {name: "x"}], [by_place], tokenizer)


def test_row_of_unnamed_columns_is_refused(student, tmp_path):
    with refused(DataError, key="row 0", found="5", expected="a column 'prompt'"):
        make(student, tmp_path, [{5: 1}])


def test_column_that_cannot_be_copied_is_refused_where_a_function_takes_it(tokenizer):
    row = ROW | {"source": (line for line in "ab")}
    with refused(DataError, key="row 0, reward function by_place", found="'source', of which Python makes no copy"):
        apply_reward_funcs([row], [by_place], tokenizer)
    (scored,) = apply_reward_funcs([row], [lambda completions: [1.0, 0.0]], tokenizer)
    assert scored["rewards"] == [1.0, 0.0]


def test_function_that_asks_for_what_a_row_lacks_is_refused(tokenizer):
    with refused(DataError, key="row 0, reward function", found="'answer'", expected="prompts, completions"):
        apply_reward_funcs([ROW], [lambda completions, answer: [1.0, 0.0]], tokenizer)


def test_coroutine_of_a_plain_function_is_waited_for(tokenizer):
    async def later():
        return [1.0, 0.0]

    (scored,) = apply_reward_funcs([ROW], [lambda completions, **_: later()], tokenizer)
    assert scored["rewards"] == [1.0, 0.0]


def test_huge_reward_of_a_function_is_refused(tokenizer):
    with refused(DataError, key="row 0, reward function", found="completions[0]"):
        apply_reward_funcs([ROW], [lambda **_: [HUGE, 0]], tokenizer)


@pytest.mark.parametrize("kind", [AutoModelForCausalLM, AutoModel, None], ids=["causal", "body", "linear"])
def test_reward_model_without_a_head_for_classes_is_refused(kind, student, tokenizer):
    model = torch.nn.Linear(1, 1) if kind is None else kind.from_pretrained(student)
    with refused(DataError, key="row 0, reward function", expected="a model for sequence classification"):
        apply_reward_funcs([ROW], scorers(model, tokenizer), tokenizer)


def test_checkpoint_without_a_head_for_classes_is_refused(student):
    """Its head would be drawn at random, and its rewards with it."""
    with refused(ArgumentError, key="reward_funcs[0]", found="no weights for score.weight"):
        scorers(str(student))


# Rows and data sets


@pytest.mark.parametrize(
    "name", ["tokenize", "return_dict", "conversation", "tokenizer", "messages", "prompt", "add_generation_prompt", 5]
)
def test_name_that_is_no_variable_of_a_template_is_refused(name, student, tmp_path):
    with refused(DataError, key="row 0, chat_template_kwargs", found=f"the name {name!r}"):
        make(student, tmp_path, [CHAT | {"chat_template_kwargs": {name: True}}])


def test_tools_given_twice_are_refused(student, tmp_path):
    tool = {"type": "function", "function": {"name": "x"}}
    with refused(DataError, key="row 0, chat_template_kwargs", found="the name 'tools'"):
        make(student, tmp_path, [CHAT | {"tools": [tool], "chat_template_kwargs": {"tools": [tool]}}])


@pytest.mark.parametrize("given", [np.zeros(3), np.zeros((2, 2)), torch.zeros(2), "x.png"], ids=repr)
def test_images_of_any_type_are_refused(given, student, tmp_path):
    with refused(DataError, key="row 0, images", found="images"):
        make(student, tmp_path, [ROW | {"images": given}])


@pytest.mark.parametrize("given", [None, [], ()], ids=repr)
def test_no_images_are_none(given, student, tmp_path):
    assert make(student, tmp_path, [ROW | {"images": given}]).skipped_groups == 0


@pytest.mark.parametrize("reward", [HUGE, -HUGE, Fraction(HUGE), 1e-45], ids=["huge", "low", "fraction", "denormal"])
def test_reward_that_float32_does_not_hold_is_refused(reward, student, tmp_path):
    with refused(DataError, key="rewards"):
        make(student, tmp_path, [ROW | {"rewards": [reward, 0]}])


class Stream(IterableDataset):
    def __len__(self):
        return 1

    def __iter__(self):
        yield ROW


NO_DATA = {
    "pandas": (pd.DataFrame([ROW]), "DataFrame", "datasets.Dataset.from_pandas"),
    "class": (Dataset, "the class Dataset", None),
    "class of a stream": (Stream, "the class Stream", None),
    "function": (lambda: [ROW], "function", None),
}


@pytest.mark.parametrize(("given", "found", "hint"), NO_DATA.values(), ids=NO_DATA)
@pytest.mark.parametrize("key", ["train_dataset", "eval_dataset"])
def test_data_set_that_is_none_is_refused(key, given, found, hint, student, tmp_path):
    args = config(tmp_path, precompute_ref_log_probs=False)
    with refused(DataError, key=key, found=found, hint=hint, expected="a list or a datasets.Dataset of groups"):
        GDPOTrainer(str(student), args=args, **{"train_dataset": [ROW], key: given})


def test_stream_with_a_length_is_read(student, tmp_path):
    args = config(tmp_path, precompute_ref_log_probs=False)
    assert len(GDPOTrainer(str(student), args=args, train_dataset=Stream()).train_dataset) == 1


@pytest.mark.parametrize("name", [1, ("a",), None])
def test_evaluation_set_named_by_no_text_is_refused(name, student, tmp_path):
    with refused(DataError, key="eval_dataset", found=f"the name {name!r}"):
        make(student, tmp_path, eval_dataset={name: [ROW]})


@pytest.mark.parametrize("sets", [None, [ROW], {"known": [ROW]}], ids=["none", "one", "several"])
def test_unknown_evaluation_set_is_refused(sets, student, tmp_path):
    made = make(student, tmp_path, eval_dataset=sets)
    with refused(DataError, key="eval_dataset", found="'unknown'", hint="known: "):
        made.evaluate("unknown")


# The loss

ZEROS, REWARDS = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("log_ratios", "rewards", "key", "found"),
    [
        ([[0.0, 0.0]], REWARDS, "log_ratios", "list"),
        (ZEROS, [[1.0, 0.0]], "rewards", "list"),
        (ZEROS.numpy(), REWARDS, "log_ratios", "ndarray"),
        (ZEROS, REWARDS.numpy(), "rewards", "ndarray"),
        (ZEROS, REWARDS.to(torch.complex64), "rewards", "torch.complex64"),
        (ZEROS[:0], REWARDS[:0], "log_ratios", "shape (0, 2)"),
        (ZEROS[:, :0], REWARDS[:, :0], "log_ratios", "shape (1, 0)"),
        (torch.tensor(0.0), torch.tensor(1.0), "log_ratios", "shape ()"),
    ],
)
def test_loss_of_no_tensors_is_refused(log_ratios, rewards, key, found):
    with refused(ArgumentError, key=key, found=found, expected="(B, G)"):
        gdpo_loss(log_ratios, rewards)


def test_mask_that_is_no_tensor_is_refused():
    with refused(ArgumentError, key="mask", found="list"):
        gdpo_loss(ZEROS, REWARDS, [[True, True]])


@pytest.mark.parametrize("beta", [NAN, float("inf"), "0.1", None, HUGE], ids=["nan", "inf", "text", "none", "huge"])
def test_loss_of_no_finite_beta_is_refused(beta):
    with refused(ArgumentError, key="beta", expected="a finite number"):
        gdpo_loss(ZEROS, REWARDS, beta=beta)


def test_sentences_have_one_line(student, tmp_path):
    for given in ({"callbacks": 5}, {"peft_config": LoraConfig(**LORA | {"target_modules": ["nope"]})}):
        with pytest.raises(DescribedError) as caught:
            make(student, tmp_path, **given)
        assert "\n" not in str(caught.value)
