"""The architectures that TRL's own DPO tests train, in miniature: each starts at its reference and learns."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer

ROWS = [
    {"prompt": "1 +", "completions": ["2", "3 4", "2"], "rewards": [1.0, 0.0, 1.0]},
    {"prompt": [{"role": "user", "content": "2 + 2"}], "completions": ["4", "5 5 5 5"], "rewards": [2, 1]},
]
SHAPE = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
CONFIGS = {
    "cohere2": {"sliding_window": 8},
    "glm4_moe": {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
                 "first_k_dense_replace": 1},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "qwen2": {},
    "qwen3_moe": EXPERTS,
    "nemotron_h": {"layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "mamba_head_dim": 8,
                   "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8},
    "olmo3": {"sliding_window": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
}  # fmt: skip


def built(name: str, words: int):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, vocab_size=words, **SHAPE | CONFIGS[name]))


def trainer(model, student, path, **given) -> GDPOTrainer:
    settings = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "num_train_epochs": 3, "logging_steps": 1}
    fixed = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    tokenizer = AutoTokenizer.from_pretrained(student)
    args = GDPOConfig(str(path), **settings | fixed)
    return GDPOTrainer(model, args=args, train_dataset=ROWS, processing_class=tokenizer, **given)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_architecture_starts_at_its_reference_and_learns(name, student, tmp_path):
    """The first loss is -sigmoid(0), and afterwards the better completions have gained on the worse ones."""
    made = trainer(built(name, len(AutoTokenizer.from_pretrained(student))), student, tmp_path)
    made.train()
    first, last = made.state.log_history[0], made.state.log_history[-2]
    assert first["loss"] == pytest.approx(-0.5, abs=1e-4)
    assert last["rewards/margins"] > 0 and math.isfinite(last["loss"])


@pytest.mark.parametrize("given", ["peft_config", "peft_model"])
def test_adapter_on_the_experts_of_a_mixture(given, student, tmp_path):
    """LoRA on the experts' parameters (`target_parameters`): they learn, and what is below them stays."""
    from peft import LoraConfig, get_peft_model

    model = built("gpt_oss", len(AutoTokenizer.from_pretrained(student)))
    lora = LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.down_proj", "mlp.experts.gate_up_proj"])
    made = (
        trainer(model, student, tmp_path, peft_config=lora)
        if given == "peft_config"
        else trainer(get_peft_model(model, lora), student, tmp_path)
    )
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.train()
    for name, p in made.model.named_parameters():
        assert torch.equal(p, before[name]) == ("lora_" not in name), name
    assert made.state.log_history[0]["loss"] == pytest.approx(-0.5, abs=1e-4)
