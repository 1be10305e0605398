"""The auxiliary loss of mixtures: by transformers' own function, whatever the layout, in the loss and in the log."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoTokenizer,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from gdpo.core.errors import ArgumentError
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.router_loss import RouterLoss
from gdpo.trainer.samplers import append_dummy_group
from tests.refusal import refused

ROWS = [
    {"prompt": "1 + 2 =", "completions": ["3", "4 4 4", "3"], "rewards": [1.0, 0.0, 1.0]},
    {"prompt": "9", "completions": ["9", "= 9 8 7", "8", "7 7"], "rewards": [1.0, 0.5, 0.2, 0.1]},
]
SHAPE = {
    "vocab_size": 17, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": 1, "router_aux_loss_coef": 0.5,
}  # fmt: skip


def mixture(kind=MixtralForCausalLM, shape=MixtralConfig, **changes):
    torch.manual_seed(0)
    model = kind(shape(**SHAPE | {"output_router_logits": True} | changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate" in name or "router" in name:
                weight.normal_()  # so that some experts are chosen more often than others
    return model


def trainer(student, path, model=None, rows=ROWS, peft_config=None, **changes) -> GDPOTrainer:
    given = {
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "max_steps": 2,
        "optim": "sgd",
    }
    fixed = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    return GDPOTrainer(
        mixture() if model is None else model,
        args=GDPOConfig(str(path), **given | fixed | changes),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(student),
        peft_config=peft_config,
    )


def by_transformers(model, groups) -> torch.Tensor:
    """One sequence a row, through the whole model; what predicts a completion's tokens is not masked."""
    rows = [(group["prompt_ids"], ids) for group in groups for ids in group["sequences"]]
    width = max(len(prompt) + len(ids) for prompt, ids in rows)
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for number, (prompt, ids) in enumerate(rows):
        tokens[number, : len(prompt) + len(ids)] = torch.tensor(prompt + ids)
        mask[number, len(prompt) - 1 : len(prompt) + len(ids) - 1] = 1
    logits = model.model(input_ids=tokens, output_router_logits=True).router_logits
    return load_balancing_loss_func(logits, model.config.num_local_experts, model.config.num_experts_per_tok, mask)


LAYOUTS = [{}, {"share_prompts": "always"}, {"share_prompts": "never"}, {"max_forward_tokens": 1}]


@pytest.mark.parametrize("changes", [*LAYOUTS, {"max_activation_tokens": 1}])
def test_auxiliary_loss_is_that_of_transformers_in_every_layout(changes, student, tmp_path):
    """The loss and its gradient: -1/2 of the pairs, whose log-ratios are 0, and a half of the auxiliary loss."""
    made = trainer(student, tmp_path, **changes)
    inputs = made.on_device(made.data_collator(made.train_dataset.to_list()))
    loss = made.compute_loss(made.model.train(), inputs)
    expected = by_transformers(made.model, made.train_dataset)
    assert expected > 1.05  # 1 would be balanced
    assert loss.item() == pytest.approx(-0.5 + 0.5 * expected.item(), abs=1e-5)
    made.model.config.output_router_logits = False
    plain = trainer(student, tmp_path / "plain", model=made.model, **changes)
    alone = plain.compute_loss(plain.model.train(), inputs)
    router = made.model.model.layers[0].mlp.gate.weight
    (with_it,), (without,), (added,) = (
        torch.autograd.grad(value, router, retain_graph=True) for value in (loss, alone, expected)
    )
    assert torch.allclose(with_it - without, 0.5 * added, atol=1e-6) and added.abs().max() > 1e-3


def test_auxiliary_loss_is_logged_in_training_and_evaluation(student, tmp_path):
    made = trainer(student, tmp_path)
    expected = by_transformers(made.model, made.train_dataset).item()
    assert made.evaluate(ROWS)["eval_loss"] == pytest.approx(-0.5 + 0.5 * expected, rel=1e-5)
    assert made.state.log_history[-1]["eval_aux_loss"] == pytest.approx(expected, rel=1e-5)
    made.train()
    first, second = made.state.log_history[:2]
    assert first["aux_loss"] == pytest.approx(expected, rel=1e-5) and second["aux_loss"] < first["aux_loss"]
    assert first["loss"] == pytest.approx(-0.5 + 0.5 * expected, rel=1e-4)


def test_accumulated_batches_weigh_auxiliary_losses_by_their_groups(student, tmp_path):
    """Two batches of one group: the mean of their two auxiliary losses, and a dummy group's has no weight."""
    made = trainer(student, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2, max_steps=1)
    each = [by_transformers(made.model, [group]).item() for group in made.train_dataset]
    made.train()
    logged = made.state.log_history[0]
    assert logged["aux_loss"] == pytest.approx(sum(each) / 2, rel=1e-5)
    assert logged["loss"] == pytest.approx(-0.5 + 0.5 * sum(each) / 2, rel=1e-4)
    rows = made.train_dataset.to_list()
    dummy = append_dummy_group(made.train_dataset)[2]
    losses = []
    for batch in (rows, [*rows, dummy, dummy]):
        inputs = made.on_device(made.data_collator(batch))
        losses.append(made.compute_loss(made.model.train(), inputs, num_items_in_batch=torch.tensor(2)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("changes", [{"output_router_logits": False}, {"router_aux_loss_coef": 0.0}])
def test_no_auxiliary_loss_without_being_asked_for(changes, student, tmp_path):
    made = trainer(student, tmp_path, model=mixture(**changes), max_steps=1)
    made.train()
    logged = made.state.log_history[0]
    assert logged["loss"] == pytest.approx(-0.5, abs=1e-5) and "aux_loss" not in logged


def test_auxiliary_loss_of_an_adapter(student, tmp_path):
    from peft import LoraConfig

    made = trainer(student, tmp_path, peft_config=LoraConfig(r=2, target_modules=["q_proj"]), max_steps=1)
    made.train()
    assert made.state.log_history[0]["aux_loss"] > 1


def test_auxiliary_loss_of_a_model_that_scales_its_logits(student, tmp_path):
    """Such a model runs its own forward pass, whose count of tokens takes no mask of shared prompts."""
    model = mixture(GraniteMoeForCausalLM, GraniteMoeConfig, logits_scaling=2.0)
    made = trainer(student, tmp_path, model=model, max_steps=1)
    expected = by_transformers(model, made.train_dataset).item()
    made.train()
    assert made.state.log_history[0]["aux_loss"] == pytest.approx(expected, rel=1e-5)


def test_router_logits_without_a_number_of_experts_are_refused():
    """A configuration that a mixture of another library may have."""
    shape = {"vocab_size": 17, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape))
    model.config.output_router_logits, model.config.router_aux_loss_coef = True, 0.1
    with refused(ArgumentError, key="model", found="without num_experts_per_tok", hint="output_router_logits=False"):
        RouterLoss.of(model)
