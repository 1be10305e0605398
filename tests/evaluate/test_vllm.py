"""The student in vLLM: on a stand-in that computes by transformers; the pinned vLLM's signatures where it is installed.

The stand-in has lm-eval's own vLLM model above it, so that what is asked, and what is made of the answers, is real.
No vLLM has answered here: its wheel runs on GPUs alone.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import ClassVar

import pytest
import torch
from lm_eval.api.registry import model_registry
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.loader import load_scale
from gdpo.config.models import Model
from gdpo.core.records import write_records
from gdpo.evaluate import harness, steps
from tests.evaluate.spelling import TEMPLATE, WINDOW, speller
from tests.evaluate.test_harness import CHOSEN, GREEDY, SAMPLED, benchmark, files, question  # noqa: F401  (a fixture)
from tests.refusal import refused

INSTALLED = find_spec("vllm") is not None
# The arguments that gdpo and lm-eval give, by what takes them.
FIELDS = {
    "n", "temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "skip_special_tokens",
    "spaces_between_special_tokens", "prompt_logprobs", "detokenize",
}  # fmt: skip


class StandIn:
    """vLLM's LLM as far as it is used: greedy text and log-likelihoods of prompts by transformers; samples by seed."""

    made: ClassVar[list] = []

    def __init__(self, model, max_model_len, **settings):
        self.settings = {"model": model, "max_model_len": max_model_len, **settings}
        self.asked, self.open = [], True
        self.network = AutoModelForCausalLM.from_pretrained(model)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        core = types.SimpleNamespace(shutdown=lambda: setattr(self, "open", False))
        self.llm_engine = types.SimpleNamespace(engine_core=core, model_config=None)
        StandIn.made.append(self)

    def generate(self, prompts, sampling_params, use_tqdm, lora_request):
        assert self.open and lora_request is None
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._answer(prompt["prompt_token_ids"], params) for prompt, params in pairs]

    @torch.inference_mode()
    def _answer(self, ids, params):
        self.asked.append((ids, params))
        assert len(ids) + params.max_tokens <= self.settings["max_model_len"]
        if getattr(params, "prompt_logprobs", None):
            values = self.network(torch.tensor([ids])).logits[0].log_softmax(-1)
            told = [None, *({token: values[n, token].item()} for n, token in enumerate(ids[1:]))]
            return types.SimpleNamespace(prompt_logprobs=told)
        if params.temperature > 0:
            return self._said(f"{params.seed}")
        # As vLLM: a stop token ends the text and is not in it.
        new = self.network.generate(torch.tensor([ids]), max_new_tokens=params.max_tokens, do_sample=False)
        return self._said(self.tokenizer.decode(new[0, len(ids) :], skip_special_tokens=params.skip_special_tokens))

    @staticmethod
    def _said(text):
        return types.SimpleNamespace(outputs=[types.SimpleNamespace(text=text)])


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, wherever lm-eval looks for vLLM."""

    def module(name, **contents):
        made = types.ModuleType(name)
        made.__spec__ = ModuleSpec(name, None)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    class SamplingParams(types.SimpleNamespace):
        def __init__(self, **given):
            assert set(given) <= FIELDS, set(given) - FIELDS
            super().__init__(**given)

    def get_tokenizer(path, tokenizer_mode, trust_remote_code, revision, **given):
        return AutoTokenizer.from_pretrained(path, **given)

    module("vllm", LLM=StandIn, SamplingParams=SamplingParams, TokensPrompt=dict)
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=object)
    module("vllm.tokenizers", get_tokenizer=get_tokenizer)
    module("vllm.renderers")
    module("vllm.renderers.hf", resolve_chat_template=lambda tokenizer, **_: tokenizer.chat_template)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.32.0" if name == "vllm" else version(name))
    for name in ("lm_eval.models.vllm_causallms", "gdpo.evaluate.vllm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    # Where lm-eval's model of vLLM enters itself, once for all.
    monkeypatch.setattr(model_registry, "_objs", dict(model_registry._objs))
    StandIn.made.clear()
    yield StandIn
    for name in ("lm_eval.models.vllm_causallms", "gdpo.evaluate.vllm"):
        sys.modules.pop(name, None)  # they hold the stand-in


def by_vllm(path, asked, judged=lambda pairs: ["right"] * len(pairs)):
    return harness.evaluate(path, "float32", asked, 4, judged, engine="vllm", gpus=2)


@pytest.mark.parametrize("opened", ["", "<think>\n"])
def test_both_engines_ask_and_answer_alike(vllm, tmp_path, files, opened):  # noqa: F811
    """Prompts, choices, greedy answers, of a sure model; also behind a template that adds BOS and opens a thought."""
    path = speller(tmp_path, bos_in_template=bool(opened), adds_bos=True, scale=50)
    (path / "chat_template.jinja").write_text(("<bos>" if opened else "") + TEMPLATE + f"{{{{ {opened!r} }}}}")
    asked = {"sums": (GREEDY, files / "sums.jsonl"), "letters": (CHOSEN, files / "letters.jsonl")}
    found = by_vllm(path, asked)
    assert found == harness.evaluate(path, "float32", asked, 4, lambda pairs: ["right"] * len(pairs))
    assert all(row["output"].startswith(opened) for row in found["sums"])
    [engine] = vllm.made
    assert {ids.count(2) for ids, _ in engine.asked} == {int(bool(opened))}  # the template's BOS, and no other
    assert not engine.open


def test_vllm_gets_gpus_and_the_needed_window(vllm, tmp_path, files):  # noqa: F811
    """Room for the longest prompt, its answer and one more; the window where that is less."""
    path = speller(tmp_path)
    by_vllm(path, {"sums": (GREEDY, files / "sums.jsonl")})
    longest = max(len(ids) for ids, _ in vllm.made[0].asked)
    assert vllm.made[0].settings["max_model_len"] == longest + GREEDY.max_new_tokens + 1
    assert vllm.made[0].settings["tensor_parallel_size"] == 2
    assert vllm.made[0].settings["dtype"] == "float32"
    write_records(tmp_path / "long.jsonl", [question("q", "Think. " * WINDOW)])
    by_vllm(path, {"long": (GREEDY, tmp_path / "long.jsonl")})
    assert vllm.made[1].settings["max_model_len"] == WINDOW
    assert len(vllm.made[1].asked[0][0]) == WINDOW - GREEDY.max_new_tokens  # the prompt has lost its beginning


def test_every_sample_has_a_seed_of_its_own_whatever_else_is_asked(vllm, tmp_path, files):  # noqa: F811
    path, sums = speller(tmp_path), files / "sums.jsonl"
    alone = by_vllm(path, {"sampled": (SAMPLED, sums)})["sampled"]
    seeds = {int(text) for row in alone for text in row["outputs"]}
    assert len(seeds) == 6 * 3 and max(seeds) < 2**31
    both = by_vllm(
        path, {"greedy": (GREEDY, sums), "other": (SAMPLED, files / "others.jsonl"), "sampled": (SAMPLED, sums)}
    )
    assert both["sampled"] == alone
    told = [params for _, params in vllm.made[1].asked]
    assert [hasattr(params, "seed") for params in told].count(False) == 6  # the greedy ones
    assert {(p.temperature, p.top_p, p.top_k) for p in told if hasattr(p, "seed")} == {(1.0, 0.9, 0)}
    reseeded = {"sampled": (SAMPLED.model_copy(update={"seed": 6}), sums)}
    assert seeds.isdisjoint(int(text) for row in by_vllm(path, reseeded)["sampled"] for text in row["outputs"])


def test_vllm_is_closed_when_an_evaluation_fails(vllm, tmp_path, files):  # noqa: F811
    asked = {"long": (benchmark(max_new_tokens=WINDOW), files / "sums.jsonl")}
    with refused(key="benchmarks.long.max_new_tokens"):
        by_vllm(speller(tmp_path), asked)
    assert not vllm.made[0].open


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_one_sentence_says_so(tmp_path, files):  # noqa: F811
    with refused(key="engine vllm", found="no package vllm"):
        by_vllm(speller(tmp_path), {"sums": (GREEDY, files / "sums.jsonl")})


@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_a_step_evaluates_by_its_models_engine(tmp_path, monkeypatch, engine):
    """And says so in what the scores' hash is of: by transformers, what it was before there was another engine."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale("micro")
    student = scale.students[0]
    entry = scale.models[student].model_copy(update={"engine": engine, "gpus": 2 if engine == "vllm" else 1})
    scale = scale.model_copy(update={"models": scale.models | {student: entry}})
    [run], layout = origin(student), Layout(scale)
    layout.run(run).mkdir(parents=True)
    (layout.run(run) / "model.safetensors").touch()
    for name in scale.benchmarks:
        write_records(layout.benchmark(name, "test"), [])
    seen, told = [], []

    def evaluated(path, dtype, tasks, batch_size, judged, engine, gpus, kept):
        seen.append((engine, gpus))
        return {name: [{"id": "q", "output": "A", "verdict": "right"}] for name in tasks}

    recorded = steps.recorded
    monkeypatch.setattr(harness, "evaluate", evaluated)
    monkeypatch.setattr(
        steps, "recorded", lambda path, step, settings: told.append(settings) or recorded(path, step, settings)
    )
    steps.evaluate(scale, [Run(**run.__dict__)], "test")
    assert seen == [(engine, entry.gpus)]
    asked = {name: benchmark.model_dump() for name, benchmark in scale.benchmarks.items()}
    assert told == [[run.__dict__, asked] + ([] if engine == "hf" else ["vllm"])]


def test_the_engine_changes_samples_and_no_weights():
    scale = load_scale("micro")
    student = scale.students[0]
    assert scale.sampled_by(student) == []
    other = scale.model_copy(
        update={"models": scale.models | {student: scale.models[student].model_copy(update={"engine": "vllm"})}}
    )
    assert other.model_settings(student) == scale.model_settings(student)
    assert Layout(other).weights_key(student) == [*Layout(scale).weights_key(student), "vllm"]
    assert "engine" not in Model(display="L", reference="dir:x").model_dump()


@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed; it has an environment of its own (make vllm)")
def test_vllm_signatures_accept_our_arguments():
    """Names and arguments alone: without a GPU its engine does not start."""
    from lm_eval.models.vllm_causallms import VLLM
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.core_client import EngineCoreClient

    from gdpo.evaluate.vllm import VllmStudent

    assert set(SamplingParams.__struct_fields__) >= FIELDS
    drawn = SamplingParams(n=2, temperature=0.6, top_p=0.95, top_k=0, max_tokens=4, seed=2**31 - 1, stop=["</s>"])
    assert (drawn.n, drawn.seed, drawn.top_k) == (2, 2**31 - 1, 0)
    assert {"model", "dtype", "tensor_parallel_size", "seed"} <= set(inspect.signature(LLM.__init__).parameters)
    assert "max_model_len" in inspect.signature(EngineArgs).parameters
    assert {"prompts", "sampling_params"} <= set(inspect.signature(LLM.generate).parameters)
    assert TokensPrompt(prompt_token_ids=[1]) == {"prompt_token_ids": [1]}
    given = {"pretrained", "dtype", "tensor_parallel_size", "max_model_len", "add_bos_token"}
    assert given <= set(inspect.signature(VLLM.__init__).parameters)
    assert callable(EngineCoreClient.shutdown)
    assert issubclass(VllmStudent, VLLM)
