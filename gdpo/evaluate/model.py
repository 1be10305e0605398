"""The student as lm-eval's model: its own template untouched, long rows in small batches, samples from a seed a column.

Batches hold `batch_size` rows, as lm-eval makes them, wherever these fit into the bounds below; a batch never depends
on how many other columns are sampled. Each is kept as it finishes, with where the random numbers stand.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator
from tqdm import tqdm

from gdpo.config.models import Dtype
from gdpo.core.device import default_device
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.models.choice_likelihood import Choices, in_batches
from gdpo.models.dtypes import weights_dtype
from gdpo.models.sampling_hf import unadvised
from gdpo.trainer.chat_template import restore_think, skip_thinking

ROW_TOKENS = 1024  # ours: what a row of a full batch may take, prompt and answer; keys and values of longer ones add up

T = TypeVar("T")


class Draws:
    """The random numbers of the device that samples, as the state of gdpo.core.files.resumable_batches."""

    def save(self) -> str:
        state = torch.cuda.get_rng_state() if default_device() == "cuda" else torch.get_rng_state()
        return base64.b64encode(state.numpy().tobytes()).decode()

    def load(self, saved: str) -> None:
        state = torch.frombuffer(bytearray(base64.b64decode(saved, validate=True)), dtype=torch.uint8)
        if default_device() == "cuda":
            torch.cuda.set_rng_state(state)
        else:
            torch.set_rng_state(state)


def kept_in(directory: Path | None, what: str, asked: object) -> Path | None:
    """The file of `directory` that keeps `what` was found for the requests `asked`; None where nothing is kept."""
    return None if directory is None else directory / f"{what}-{fingerprint(asked)}.jsonl"


class Student(HFLM):
    """A checkpoint in lm-eval. `seeds`: of each sampled column, what its samples are drawn from.

    What a batch gave is kept in the directory `kept`, if there is one, and is not asked again. The caller names it by
    everything that the model, its batches and its samples depend on.
    """

    def __init__(self, path: Path, dtype: Dtype, batch_size: int, seeds: Mapping[str, int], kept: Path | None = None):
        super().__init__(
            pretrained=str(path),
            dtype=weights_dtype(dtype),
            batch_size=batch_size,
            device=default_device(),
            use_safetensors=True,
        )
        # What a template renders is whole: a tokenizer that begins every text with BOS would add a second one.
        self.add_bos_token = False
        self.model.generation_config = unadvised(self.model)
        self.rows = batch_size
        self.seeds, self.kept = seeds, kept

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The whole completion of each request, in order; each sampled column by itself, the greedy ones together."""
        columns: dict[str | None, list[int]] = {}
        for index, request in enumerate(requests):
            sampled = request.task_name if request.task_name in self.seeds else None
            columns.setdefault(sampled, []).append(index)
        plan: list[tuple[list[int], int | None]] = []  # of each batch its requests and, of a column's first, its seed
        for column, indices in columns.items():
            seed = None if column is None else self.seeds[column]
            for batch in self._batches(requests, indices):
                plan.append((batch, seed))
                seed = None
        found = resumable_batches(
            kept_in(self.kept, "answers", [request.args for request in requests]),
            "answers",
            len(requests),
            lambda done: self._answers(requests, plan, done, disable_tqdm),
            Draws() if self.seeds else None,
        )
        return [restore_think(request.args[0], text) for request, text in zip(requests, found, strict=True)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A choice is an answer: where the prompt opens a thought, it stands behind an empty one."""
        pair: tuple[list[int], list[int]] = super()._encode_pair(skip_thinking(context), continuation)
        return pair

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each choice behind its prompt, which is computed once for all of its choices.

        A prompt too long for the model loses its beginning, as in lm-eval. The second values, whether a choice is what
        greedy decoding would say, are all False: no column asks.
        """
        asked: dict[tuple[int, ...], list[int]] = {}
        for index, (_, before, _) in enumerate(requests):
            asked.setdefault(tuple(before), []).append(index)
        encoded = []
        for prompt, indices in asked.items():
            room = self.max_length - max(len(requests[i][2]) for i in indices)
            encoded.append([(list(prompt[-room:]), requests[i][2]) for i in indices])
        places = list(asked.values())
        batches = in_batches(encoded, self.rows)

        def scored(done: int) -> Iterator[tuple[list[int], list[float]]]:
            choices = Choices(self.model, self.tokenizer.eos_token_id or 0)
            for batch in shown(batches, done, "choices", disable_tqdm):
                values = choices.batch([encoded[n] for n in batch])
                yield [index for n in batch for index in places[n]], [value for row in values for value in row]

        kept = kept_in(self.kept, "choices", [pair for pair, _, _ in requests])
        return [(value, False) for value in resumable_batches(kept, "choices", len(requests), scored)]

    def _batches(self, requests: Sequence[Instance], indices: Sequence[int]) -> Iterator[list[int]]:
        """The requests that `indices` name in lm-eval's batches, as large as fit: alike in settings, by length."""
        sizes: dict[int, list[tuple[str, dict, int, int]]] = {}
        for index in indices:
            prompt, settings = requests[index].args
            length = len(self.tok_encode(prompt))
            size = fitting(self.rows, length + settings["max_gen_toks"], self.rows * ROW_TOKENS)
            sizes.setdefault(size, []).append((prompt, settings, length, index))
        for size, asked in sorted(sizes.items()):
            ordered = Collator(asked, sort_fn=lambda x: (-x[2], x[0]), group_fn=lambda x: x[1], group_by="gen_kwargs")
            for batch in ordered.get_batched(n=size):
                yield [index for *_, index in batch]

    def _answers(
        self, requests: Sequence[Instance], plan: Sequence[tuple[list[int], int | None]], done: int, quiet: bool
    ) -> Iterator[tuple[list[int], list[str]]]:
        """The answers to each batch of `plan` but the first `done`, a batch being one call of lm-eval."""
        for indices, seed in shown(plan, done, "answers", quiet):
            if seed is not None:
                torch.manual_seed(seed)
            yield indices, super().generate_until([requests[i] for i in indices], disable_tqdm=True)


def shown(batches: Sequence[T], done: int, what: str, quiet: bool) -> Iterator[T]:
    """All `batches` but the first `done`, with a bar that shows how far `what` are."""
    return iter(tqdm(batches[done:], initial=done, total=len(batches), desc=what, unit="batch", disable=quiet))


def fitting(rows: int, row: int, bound: int) -> int:
    """`rows`, halved until so many rows of size `row` are within `bound`, or one is left."""
    while rows > 1 and rows * row > bound:
        rows //= 2
    return rows
