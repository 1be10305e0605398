"""Many completions from a model: conversations in, completions out, resumable batch by batch.

A model is sampled here by transformers or by vLLM, or asked at its endpoint. What is sampled here draws from seeds of
its own batch or conversation, so a resumed call gives what an uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig

from gdpo.config import fingerprint
from gdpo.errors import UserError
from gdpo.files import resumed
from gdpo.memory import placed
from gdpo.precision import weights_dtype
from gdpo.schema import Dtype, Model
from gdpo.thinking import rendered, whole
from gdpo.weights import check_whole, tokenizer_of

Conversation = list[dict[str, str]]
Batches = Iterator[tuple[list[int], list[list[str]]]]  # indices into the conversations, and their completions

VLLM_BATCH = 256  # ours: conversations between two savings; vLLM fills the card with fewer
PROMPT_TOKENS = 256  # ours: of a batch's mean prompt, padding included; one of 6,000 characters made 32 rows as long


@dataclass(frozen=True)
class Sampling:
    """`samples` completions a prompt; temperature 0 is greedy.

    `batch_size` counts completions, of prompts of up to `PROMPT_TOKENS`; of longer ones a batch has fewer.
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def unadvised(model: Any) -> GenerationConfig:
    """A model's generation defaults without its checkpoint's advice: which tokens end a text, and which one pads it.

    Anything else that a checkpoint may ship (a penalty, beams, words to suppress) would be applied to what is asked for
    without it, by transformers even to greedy decoding.
    """
    advised = model.generation_config
    return GenerationConfig(eos_token_id=advised.eos_token_id, pad_token_id=advised.pad_token_id)


@contextmanager
def without_advice(model: Any) -> Iterator[None]:
    """Within, `model` generates without its checkpoint's advice; it keeps it, to be saved with."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # below an adapter
    advised, inner.generation_config = inner.generation_config, unadvised(inner)
    try:
        yield
    finally:
        inner.generation_config = advised


class Completer(Protocol):
    tokenizer: Any

    def prompts(self, conversations: list[Conversation]) -> list[str]:
        """The text that each conversation is completed from."""
        return [rendered(self.tokenizer, conversation) for conversation in conversations]

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """Yield, batch after batch, (indices into `conversations`, their completions); skip the first `done` batches.

        A completion is whole: a thought that the prompt opens begins with its tag (gdpo.thinking).
        Which conversations make a batch, and what is sampled for them, depends on the arguments but not on `done`.
        """
        ...


class Generator(Completer):
    """A causal language model with its tokenizer in transformers, ready to complete conversations."""

    def __init__(self, path: Path, dtype: Dtype):
        check_whole(path)
        self.tokenizer = tokenizer_of(path, padding_side="left")
        weights = getattr(torch, weights_dtype(dtype))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=weights, use_safetensors=True)
        self.model = placed(model, device()).eval()
        self.model.generation_config = unadvised(self.model)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """See Completer. Prompts are batched by length, longest first: padding is small and memory peaks at once."""
        prompts = self.prompts(conversations)
        lengths = [len(ids) for ids in self.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        batches = by_length(lengths, sampling.batch_size, sampling.samples)
        for number in tqdm(range(done, len(batches)), initial=done, total=len(batches), unit="batch"):
            indices = batches[number]
            torch.manual_seed(int(fingerprint([sampling.seed, number]), 16) % 2**63)
            yield indices, self._batch([prompts[i] for i in indices], sampling)

    @torch.inference_mode()
    def _batch(self, prompts: list[str], sampling: Sampling) -> list[list[str]]:
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = {key: inputs[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        sampled: dict[str, bool | int | float] = {"do_sample": False}
        if sampling.temperature > 0:
            sampled = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": 0,
            }
        output = self.model.generate(
            **inputs,
            **sampled,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=sampling.samples,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = iter(self.tokenizer.batch_decode(new, skip_special_tokens=True))
        return [[whole(prompt, next(texts)).strip() for _ in range(sampling.samples)] for prompt in prompts]


def by_length(lengths: list[int], batch_size: int, samples: int) -> list[list[int]]:
    """Prompts of so many tokens in batches, longest first: up to `batch_size` completions, `samples` of each prompt.

    The rows of a batch, all as long as its longest prompt, hold up to `PROMPT_TOKENS` times `batch_size` tokens; a
    prompt of any length is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches = []
    while order:
        room = PROMPT_TOKENS * batch_size // max(1, lengths[order[0]])
        size = max(1, min(batch_size, room) // samples)
        batches.append(order[:size])
        order = order[size:]
    return batches


def vllm_package() -> Any:
    """The package vllm, or a UserError that says where to find one."""
    try:
        import vllm
    except ImportError as error:
        expected = "expected vLLM's environment, which `make vllm` makes (docs/environments.md)"
        raise UserError(f"engine vllm: found no package vllm ({error}), {expected}") from None
    return vllm


class VllmGenerator(Completer):
    """A causal language model in vLLM, which batches by itself: many conversations are handed over at once.

    Tested against a stand-in of vLLM, and its calls against the signatures of the pinned vLLM; run on no GPU.
    """

    def __init__(self, path: Path, dtype: Dtype, gpus: int = 1):
        self.vllm, self.path, self.dtype, self.gpus = vllm_package(), path, weights_dtype(dtype), gpus
        self.tokenizer = tokenizer_of(path)

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """See Completer. Each conversation has its own seed: with one for all, their samples would go hand in hand."""
        # Token ids, since vLLM would put a second beginning-of-sequence token before a rendered template.
        texts = self.prompts(conversations)
        prompts = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        # Room for what is asked: keys and values for a model's whole context may not fit into memory.
        engine = self.vllm.LLM(
            model=str(self.path), dtype=self.dtype, max_model_len=longest, tensor_parallel_size=self.gpus
        )
        for start in range(done * VLLM_BATCH, len(prompts), VLLM_BATCH):
            indices = list(range(start, min(start + VLLM_BATCH, len(prompts))))
            outputs = engine.generate(
                [{"prompt_token_ids": prompts[i]} for i in indices], [self._params(sampling, i) for i in indices]
            )
            pairs = zip(indices, outputs, strict=True)
            yield indices, [[whole(texts[i], s.text).strip() for s in output.outputs] for i, output in pairs]

    def _params(self, sampling: Sampling, index: int) -> Any:
        return self.vllm.SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=int(fingerprint([sampling.seed, index]), 16) % 2**31,
        )


def complete(
    model: Model,
    path: Path | None,
    conversations: list[Conversation],
    sampling: Sampling,
    cache: Path,
    extra: dict | None = None,
) -> list[list[str]]:
    """Completions of every conversation, in order, from the model's endpoint or by its engine from `path`.

    `cache` keeps what is finished, so that nothing is sampled or paid for twice. Of a local model the caller keys its
    name by everything that the completions depend on; an endpoint has one journal, `Layout.endpoint`, and its requests
    are told apart within it. What they took so far in requests, tokens and money goes into `extra`.
    """
    if model.endpoint is not None:
        from gdpo.endpoint import complete_all_endpoint

        return complete_all_endpoint(model.endpoint, conversations, sampling, cache, extra)

    def engine() -> Completer:
        assert path is not None  # only a model at an endpoint has none
        return VllmGenerator(path, model.dtype, model.gpus) if model.engine == "vllm" else Generator(path, model.dtype)

    return resumed(
        cache,
        "completions",
        len(conversations),
        lambda done: engine().complete(conversations, sampling, done),
    )
