"""What a checkpoint advises about sampling is read nowhere: every field of GenerationConfig, by every sampler."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from gdpo.models.sampling_hf import Generator, ignored_generation_defaults, neutral_generation_config
from gdpo.models.sampling_types import Sampling
from gdpo.students.watch import ValidationReward

READ = {"eos_token_id", "pad_token_id"}
FIELDS = sorted(GenerationConfig().to_dict())
# What each field could say to change an answer; 3 where nothing else is known of it.
ODD = {
    "do_sample": True, "temperature": 9.0, "top_p": 0.1, "top_k": 1, "min_p": 0.9, "top_h": 0.1, "typical_p": 0.1,
    "epsilon_cutoff": 0.5, "eta_cutoff": 0.5, "repetition_penalty": 5.0, "encoder_repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1, "num_beams": 2, "length_penalty": 3.0,
    "early_stopping": True, "num_beam_groups": 2, "diversity_penalty": 0.5, "bad_words_ids": [[7], [8], [9]],
    "suppress_tokens": [7, 8, 9, 10], "begin_suppress_tokens": [7, 8, 9, 10], "forced_bos_token_id": 9,
    "forced_eos_token_id": 9, "sequence_bias": [[[9], 50.0]], "exponential_decay_length_penalty": [1, 5.0],
    "guidance_scale": 3.0, "renormalize_logits": True, "remove_invalid_values": True, "stop_strings": ["1", "2", "3"],
    "max_length": 9, "max_new_tokens": 1, "min_length": 40, "min_new_tokens": 40, "max_time": 1e-9, "use_cache": False,
    "watermarking_config": {"greenlist_ratio": 0.1, "bias": 20.0}, "prompt_lookup_num_tokens": 2, "token_healing": True,
    "penalty_alpha": 0.9, "dola_layers": "low", "num_return_sequences": 2, "cache_implementation": "static",
    "return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": False,
    "output_hidden_states": False, "constraints": None, "force_words_ids": None, "cache_config": None,
    "compile_config": None, "continuous_batching_config": None, "assistant_early_exit": None, "use_mtp": None,
    "low_memory": True, "transformers_version": "4.0.0", "_from_model_config": True, "speculation_type": None,
    "bos_token_id": 9, "disable_compile": True, "is_assistant": True, "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.9, "assistant_ensemble_weight": 0.5, "decoder_start_token_id": 9,
}  # fmt: skip
TALKS = [[{"role": "user", "content": text}] for text in ("1 + 2", "3 + 4 + 5", "7")]


@pytest.fixture(scope="module")
def advised(student, tmp_path_factory):
    """A copy of the student whose generation_config.json holds `advice` beside the two ids that are read."""
    path = tmp_path_factory.mktemp("advised") / "model"
    shutil.copytree(student, path)

    def of(advice):
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 0} | advice))
        return path

    return of


def sampled(path, temperature):
    sampling = Sampling(samples=2, temperature=temperature, top_p=0.9, max_new_tokens=12, batch_size=8, seed=3)
    if temperature == 0:
        sampling = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=12, batch_size=8, seed=3)
    return list(Generator(path, "float32").complete(TALKS, sampling))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_no_field_of_a_generation_config_changes_what_is_sampled(advised, temperature):
    """As `respond`, `answer` and a guard sample; each field alone."""
    without = sampled(advised({}), temperature)
    for field in set(FIELDS) - READ:
        advice = {field: ODD.get(field, 3)} | ({"do_sample": True} if field == "num_return_sequences" else {})
        assert sampled(advised(advice), temperature) == without, field


def test_end_and_padding_tokens_are_kept(advised):
    """A model whose every digit ends the text says nothing more than one token."""
    (_, texts), *_ = sampled(advised({"eos_token_id": list(range(1, 17))}), 0.0)
    assert all(len(text.split()) <= 1 for texts_of in texts for text in texts_of)


def test_other_generation_defaults_are_dropped(student):
    model = AutoModelForCausalLM.from_pretrained(student)
    model.generation_config = GenerationConfig()
    for field in FIELDS:
        setattr(model.generation_config, field, ODD.get(field, 3))
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = [1, 2], 0
    model.generation_config.of_its_own = 3
    given = neutral_generation_config(model).to_dict()
    assert given.pop("eos_token_id") == [1, 2] and given.pop("pad_token_id") == 0
    plain = GenerationConfig().to_dict()
    assert given == {key: value for key, value in plain.items() if key not in READ}


ACTIVE = {
    "no_repeat_ngram_size": 1,
    "num_beams": 4,
    "suppress_tokens": [7, 8, 9],
    "min_new_tokens": 40,
    "max_time": 1e-9,
}


@pytest.mark.parametrize("advice", ACTIVE)
def test_evaluation_ignores_generation_defaults(advised, advice):
    from lm_eval.api.instance import Instance

    from gdpo.evaluate.model import Student

    def answers(path):
        asked = [("1 + 2", {"until": ["<|end|>"], "max_gen_toks": 9, **drawn}) for drawn in ({}, SAMPLED)]
        requests = [Instance("generate_until", {"id": str(n)}, one, n, ("t", str(n), 1)) for n, one in enumerate(asked)]
        torch.manual_seed(0)
        return Student(path, "float32", 2, {}).generate_until(requests, disable_tqdm=True)

    assert answers(advised({advice: ACTIVE[advice]})) == answers(advised({}))


SAMPLED = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 0}


@pytest.mark.parametrize("adapter", [False, True])
def test_validation_reward_ignores_and_restores_generation_defaults(advised, adapter):
    path = advised({})
    tokenizer = AutoTokenizer.from_pretrained(path)
    watch = ValidationReward(tokenizer, ["<|user|> 1 + 2 <|assistant|>"], lambda texts, lengths, start: [0.0], 1, 12, 1)
    model = AutoModelForCausalLM.from_pretrained(path)
    without = watch._answers(model, watch.prompts)
    model.generation_config.no_repeat_ngram_size = 1
    if adapter:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))  # which changes nothing as it starts
    assert watch._answers(model, watch.prompts) == without
    assert model.generation_config.no_repeat_ngram_size == 1
    with pytest.raises(RuntimeError), ignored_generation_defaults(model):
        raise RuntimeError
    assert model.generation_config.no_repeat_ngram_size == 1


def test_vllm_is_told_every_setting_and_asked_for_no_default(monkeypatch, student):
    """vLLM takes a checkpoint's advice only where it is given no parameters; to those it adds the ends of a text."""
    from types import SimpleNamespace

    from gdpo.models.sampling_vllm import VllmGenerator

    told = []

    class Engine:
        def __init__(self, **settings):
            assert settings.keys() == {"model", "dtype", "max_model_len", "tensor_parallel_size"}

        def generate(self, prompts, params):
            told.extend(params)
            return [SimpleNamespace(outputs=[SimpleNamespace(text="1")]) for _ in prompts]

    package = SimpleNamespace(LLM=Engine, SamplingParams=lambda **given: given)
    monkeypatch.setattr("gdpo.models.sampling_vllm.vllm_package", lambda: package)
    sampling = Sampling(samples=1, temperature=0.7, top_p=0.9, max_new_tokens=4, batch_size=8, seed=3)
    list(VllmGenerator(student, "float32").complete(TALKS, sampling))
    assert len(told) == len(TALKS)
    assert all(params.keys() == {"n", "temperature", "top_p", "max_tokens", "seed"} for params in told)
