"""Completions by transformers, by a stand-in of vLLM, and from an endpoint: the same contract, resumable."""

from __future__ import annotations

import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from gdpo.config.endpoint import Endpoint
from gdpo.config.models import Model
from gdpo.models import sampling_hf, sampling_vllm
from gdpo.models.sampling import complete
from gdpo.models.sampling_types import Sampling
from tests.refusal import refused

SAMPLING = Sampling(samples=2, temperature=0.7, top_p=0.9, max_new_tokens=4, batch_size=4, seed=3)
TALKS = [[{"role": "user", "content": "ab" * n}] for n in (1, 4, 2, 3, 5)]
LOCAL = Model(display="L", reference="dir:x")
VLLM = Model(display="V", reference="dir:x", engine="vllm", dtype="bfloat16", gpus=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random Llama of letters, whose tokenizer would put <s> before any text that is tokenised as such."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate("?abcdefgh:", start=2)}
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, "<s>": 1} | letters, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    template = "<s>{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(letters) + 2,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=0,
    )
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    ).save_pretrained(path)
    return path


def test_interrupted_sampling_resumes(model, tmp_path):
    whole = complete(LOCAL, model, TALKS, SAMPLING, tmp_path / "whole.jsonl")
    assert [len(texts) for texts in whole] == [2] * 5
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    # 4 completions a batch are 2 prompts: longest first
    assert [json.loads(line)["indices"] for line in lines] == [[4, 1], [3, 2], [0]]
    (tmp_path / "cut.jsonl").write_text(lines[0] + lines[1][:9])
    assert complete(LOCAL, model, TALKS, SAMPLING, tmp_path / "cut.jsonl") == whole
    assert (tmp_path / "cut.jsonl").read_text() == "".join(lines)


def test_long_prompts_come_in_smaller_batches():
    """Room for 256 tokens a completion, 1,024 in a batch of 4: two rows of 400, four of up to 256; 2,000 stand alone.

    With two samples of each prompt a batch of 4 has two prompts, or one where its rows would hold more.
    """
    assert sampling_hf.prompt_batches([5, 400, 2000, 256, 300, 5], 4, 1) == [[2], [1, 4], [3, 0, 5]]
    assert sampling_hf.prompt_batches([256] * 5, 4, 1) == [[0, 1, 2, 3], [4]]
    assert sampling_hf.prompt_batches([257] * 5, 4, 1) == [[0, 1, 2], [3, 4]]
    assert sampling_hf.prompt_batches([256, 257, 256], 4, 2) == [[1], [0, 2]]
    assert sampling_hf.prompt_batches([3, 2, 1], 2, 10) == [[0], [1], [2]]
    assert sampling_hf.prompt_batches([0, 0], 2, 1) == [[0, 1]]


def test_mixed_weights_are_float32(model):
    import torch

    assert sampling_hf.Generator(model, "mixed").model.dtype == torch.float32
    assert sampling_hf.Generator(model, "bfloat16").model.dtype == torch.bfloat16


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in of vLLM that writes down what it is given and answers each prompt by its length and seed."""
    said = types.SimpleNamespace(engines=[], calls=[])

    class LLM:
        def __init__(self, **settings):
            said.engines.append(settings)

        def generate(self, prompts, params):
            said.calls.append((prompts, params))
            answers = [
                [f" {len(prompt['prompt_token_ids'])}/{p.seed}/{n} " for n in range(p.n)]
                for prompt, p in zip(prompts, params, strict=True)
            ]
            return [types.SimpleNamespace(outputs=[types.SimpleNamespace(text=t) for t in texts]) for texts in answers]

    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(sampling_vllm, "VLLM_BATCH", 2)
    return said


def test_vllm_gets_the_sampling_settings(model, vllm, tmp_path):
    texts = complete(VLLM, model, TALKS, SAMPLING, tmp_path / "c.jsonl")
    # the longest prompt is <s>, 10 letters and a colon: 12 tokens, and 4 new ones
    sixteen = {"model": str(model), "dtype": "bfloat16", "max_model_len": 16}
    assert vllm.engines == [{**sixteen, "tensor_parallel_size": 2}]
    assert [len(prompts) for prompts, _ in vllm.calls] == [2, 2, 1]
    assert vllm.calls[0][0][0] == {"prompt_token_ids": [1, 3, 4, 11]}  # <s> once
    params = [vars(p) for _, called in vllm.calls for p in called]
    seeds = {p.pop("seed") for p in params}
    assert len(seeds) == 5
    assert max(seeds) < 2**31
    assert params == [{"n": 2, "temperature": 0.7, "top_p": 0.9, "max_tokens": 4}] * 5
    assert [[text.split("/")[::2] for text in pair] for pair in texts] == [
        [[str(length), "0"], [str(length), "1"]] for length in (4, 10, 6, 8, 12)
    ]


def test_interrupted_vllm_sampling_resumes(model, vllm, tmp_path):
    whole = complete(VLLM, model, TALKS, SAMPLING, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:2]))
    vllm.calls.clear()
    assert complete(VLLM, model, TALKS, SAMPLING, tmp_path / "cut.jsonl") == whole
    assert [len(prompts) for prompts, _ in vllm.calls] == [1]
    assert complete(VLLM, model, TALKS, replace(SAMPLING, seed=4), tmp_path / "other.jsonl") != whole


def test_think_tag_opened_by_the_template_is_restored(model, vllm, tmp_path):
    """By both engines, before each sample, white space and all; what the stand-in says begins with a space."""
    opened = tmp_path / "opened"
    shutil.copytree(model, opened)
    template = (opened / "chat_template.jinja").read_text()
    (opened / "chat_template.jinja").write_text(template.replace(":{% endif %}", "{{ ':<think>\\n' }}{% endif %}"))
    for engine in (LOCAL, VLLM):
        plain = complete(engine, model, TALKS, SAMPLING, tmp_path / f"plain-{engine.engine}.jsonl")
        texts = complete(engine, opened, TALKS, SAMPLING, tmp_path / f"opened-{engine.engine}.jsonl")
        assert all(text.startswith("<think>\n") for pair in texts for text in pair)
        assert not any("<think>" in text for pair in plain for text in pair)
    assert [pair[0].split("/")[0] for pair in texts] == [f"<think>\n {n}" for n in (12, 18, 14, 16, 20)]


def test_without_vllm_one_sentence_says_so(model, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)  # as if it were not installed
    with refused(key="engine vllm", found="no package vllm", expected="`make vllm`") as caught:
        complete(VLLM, model, TALKS, SAMPLING, tmp_path / "c.jsonl")
    assert "\n" not in str(caught.value)


def test_complete_asks_a_models_endpoint(monkeypatch, tmp_path):
    asked = []

    def complete_all_endpoint(*arguments):
        asked.append(arguments[:4])
        arguments[4]["endpoint"] = "what it took"
        return [["a", "b"]] * len(TALKS)

    monkeypatch.setattr("gdpo.models.sampling.complete_all_endpoint", complete_all_endpoint)
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1", model="m")
    extra = {}
    texts = complete(Model(display="E", endpoint=endpoint), None, TALKS, SAMPLING, tmp_path / "c.jsonl", extra)
    assert texts == [["a", "b"]] * 5
    assert asked == [(endpoint, TALKS, SAMPLING, tmp_path / "c.jsonl")]
    assert extra == {"endpoint": "what it took"}
