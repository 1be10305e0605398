"""The policy as it is taken: adapters, what of them trains and what refers, dropout in every form."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.core.errors import ArgumentError
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.model_setup import disable_dropout
from tests.refusal import refused

ROWS = [{"prompt": "9 =", "completions": ["9", "= 9", "8"], "rewards": [1.0, 0.5, 0.2]}]
LORA = {"r": 2, "target_modules": "all-linear"}


def adapted(student, **changes) -> PeftModel:
    return get_peft_model(AutoModelForCausalLM.from_pretrained(student), LoraConfig(**LORA, **changes))


def trainer(student, path, model, ref_model=None, peft_config=None, **changes) -> GDPOTrainer:
    return GDPOTrainer(
        model,
        ref_model,
        GDPOConfig(str(path), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, **changes),
        ROWS,
        processing_class=AutoTokenizer.from_pretrained(student),
        peft_config=peft_config,
    )


def scores(made) -> list[float]:
    return made.train_dataset[0]["ref_log_probs"]


def test_a_given_reference_is_scored_with_its_adapter(student, tmp_path):
    """Two references that differ in their adapters alone, in one cache, are told apart."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        reference = adapted(student, init_lora_weights=False)
        found.append(scores(trainer(student, tmp_path, str(student), reference)))
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_reference_of_an_adapted_policy_is_the_base_model(student, tmp_path):
    """The reference is the model below, whatever the adapter holds, and one cache serves both."""
    plain = scores(trainer(student, tmp_path, adapted(student)))
    assert scores(trainer(student, tmp_path, adapted(student, init_lora_weights=False))) == plain
    assert len(list((tmp_path / "reference").iterdir())) == 1


def test_frozen_adapter_weights_stay_frozen(student, tmp_path):
    """Scoring the reference leaves trainable what was trainable, whether the cache has it or not."""
    trainable = []
    for _ in ("scored", "from the cache"):
        model = adapted(student)
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad_(False)
        trainable.append({n for n, p in trainer(student, tmp_path, model).model.named_parameters() if p.requires_grad})
    assert trainable[0] == trainable[1] and all("lora_B" in name for name in trainable[0])


def test_two_adapters_are_refused(student, tmp_path):
    with refused(ArgumentError, key="peft_config", found="a PeftModel", expected="a model without an adapter"):
        trainer(student, tmp_path, adapted(student), peft_config=LoraConfig(**LORA))


def test_nothing_to_train_is_refused(student, tmp_path):
    with refused(ArgumentError, key="model", found="none", expected="weights to train"):
        trainer(student, tmp_path, adapted(student).requires_grad_(False))


def test_a_reference_that_would_move_is_refused(student, tmp_path):
    """`bias="all"` trains the biases below the adapter, which disabling it does not bring back."""
    model = adapted(student)
    model.base_model.model.lm_head.weight.requires_grad_(True)
    with refused(ArgumentError, found="weights below the adapter that are trained too", expected="or a ref_model"):
        trainer(student, tmp_path, model, precompute_ref_log_probs=False)


def test_dropout_is_disabled_as_module_and_as_number():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.attention_dropout, self.scale = nn.Dropout(0.3), 0.2, 0.5

    layer = Layer()
    disable_dropout(layer)
    assert (layer.drop.p, layer.attention_dropout, layer.scale) == (0.0, 0.0, 0.5)
