"""Many completions from a model: batches of conversations in, completions out, resumable batch by batch.

Each batch draws from its own generator seed, so a resumed call gives what an uninterrupted one would have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdpo.config import fingerprint
from gdpo.files import write_text


@dataclass(frozen=True)
class Sampling:
    """`samples` completions a prompt; temperature 0 is greedy. `batch_size` counts completions."""

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class Generator:
    """A causal language model with its tokenizer, ready to complete conversations."""

    def __init__(self, path: Path, dtype: str):
        self.tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), use_safetensors=True)
        self.model = model.to(device()).eval()
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def prompts(self, conversations: list[list[dict[str, str]]]) -> list[str]:
        render = self.tokenizer.apply_chat_template
        return [render(c, tokenize=False, add_generation_prompt=True) for c in conversations]

    def complete(
        self, conversations: list[list[dict[str, str]]], sampling: Sampling, done: int = 0
    ) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Yield, batch after batch, (indices into `conversations`, their completions); skip the first `done` batches.

        Prompts are batched by length, longest first, so that padding is small and memory peaks at once.
        """
        prompts = self.prompts(conversations)
        lengths = [len(ids) for ids in self.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        order = sorted(range(len(prompts)), key=lambda i: (-lengths[i], i))
        size = max(1, sampling.batch_size // sampling.samples)
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        for number in tqdm(range(done, len(batches)), initial=done, total=len(batches), unit="batch"):
            indices = batches[number]
            torch.manual_seed(int(fingerprint([sampling.seed, number]), 16) % 2**63)
            yield indices, self._batch([prompts[i] for i in indices], sampling)

    @torch.inference_mode()
    def _batch(self, prompts: list[str], sampling: Sampling) -> list[list[str]]:
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = {key: inputs[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        sampled = {"do_sample": False}
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
        texts = [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]
        return [texts[i : i + sampling.samples] for i in range(0, len(texts), sampling.samples)]


def complete_all(
    path: Path, dtype: str, conversations: list[list[dict[str, str]]], sampling: Sampling, cache: Path
) -> list[list[str]]:
    """Completions of every conversation, in order; batches already in `cache` are not generated again.

    `cache` is a JSON Lines file of finished batches, appended to as they finish. The caller keys its name by
    everything that the completions depend on.
    """
    finished = _finished_batches(cache)
    completions: dict[int, list[str]] = {}
    for batch in finished:
        completions.update(zip(batch["indices"], batch["completions"], strict=True))
    if len(completions) < len(conversations):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.open("a", encoding="utf-8") as file:
            for indices, texts in Generator(path, dtype).complete(conversations, sampling, len(finished)):
                completions.update(zip(indices, texts, strict=True))
                file.write(json.dumps({"indices": indices, "completions": texts}, ensure_ascii=False) + "\n")
                file.flush()
    return [completions[i] for i in range(len(conversations))]


def _finished_batches(cache: Path) -> list[dict]:
    """The whole lines of `cache`; a line cut off by a kill is removed, so that appending stays safe."""
    if not cache.exists():
        return []
    whole = [line for line in cache.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    write_text(cache, "".join(whole))
    return [json.loads(line) for line in whole]
