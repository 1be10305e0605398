"""The student as lm-eval's model: its own template untouched, long rows in small batches, samples from a seed a column.

Batches hold `batch_size` rows, as lm-eval makes them, wherever these fit into the bounds below; a batch never depends
on how many other columns are sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from gdpo.generate import UNADVISED, device
from gdpo.likelihood import Choices, in_batches
from gdpo.precision import weights_dtype
from gdpo.schema import Dtype
from gdpo.thinking import answering, whole

ROW_TOKENS = 1024  # ours: what a row of a full batch may take, prompt and answer; keys and values of longer ones add up


class Student(HFLM):
    """A checkpoint in lm-eval. `seeds`: of each sampled column, what its samples are drawn from."""

    def __init__(self, path: Path, dtype: Dtype, batch_size: int, seeds: Mapping[str, int]):
        super().__init__(
            pretrained=str(path),
            dtype=weights_dtype(dtype),
            batch_size=batch_size,
            device=device(),
            use_safetensors=True,
        )
        # What a template renders is whole: a tokenizer that begins every text with BOS would add a second one.
        self.add_bos_token = False
        self.model.generation_config.update(**UNADVISED)
        self.rows = batch_size
        self.seeds = seeds

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The whole completion of each request, in order; each sampled column by itself, the greedy ones together."""
        columns: dict[str | None, list[int]] = {}
        for index, request in enumerate(requests):
            sampled = request.task_name if request.task_name in self.seeds else None
            columns.setdefault(sampled, []).append(index)
        found: dict[int, str] = {}
        for column, indices in columns.items():
            if column is not None:
                torch.manual_seed(self.seeds[column])
            asked = [requests[i] for i in indices]
            found.update(zip(indices, self._answers(asked, disable_tqdm), strict=True))
        return [whole(request.args[0], found[index]) for index, request in enumerate(requests)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A choice is an answer: where the prompt opens a thought, it stands behind an empty one."""
        return super()._encode_pair(answering(context), continuation)

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
        for before, indices in asked.items():
            room = self.max_length - max(len(requests[i][2]) for i in indices)
            encoded.append([(list(before[-room:]), requests[i][2]) for i in indices])
        places = list(asked.values())
        choices = Choices(self.model, self.tokenizer.eos_token_id or 0)
        found: dict[int, float] = {}
        for batch in tqdm(in_batches(encoded, self.rows), disable=disable_tqdm, unit="batch"):
            for number, values in zip(batch, choices.batch([encoded[n] for n in batch]), strict=True):
                found.update(zip(places[number], values, strict=True))
        return [(found[index], False) for index in range(len(requests))]

    def _answers(self, requests: Sequence[Instance], disable_tqdm: bool) -> list[str]:
        """The answers, in order; requests of which as many fit into a batch go together."""
        sizes: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            prompt, settings = request.args
            row = len(self.tok_encode(prompt)) + settings["max_gen_toks"]
            sizes.setdefault(fitting(self.rows, row, self.rows * ROW_TOKENS), []).append(index)
        found: dict[int, str] = {}
        for size, indices in sorted(sizes.items()):
            self.batch_size_per_gpu = size
            found.update(
                zip(indices, super().generate_until([requests[i] for i in indices], disable_tqdm), strict=True)
            )
        self.batch_size_per_gpu = self.rows
        return [found[index] for index in range(len(requests))]


def fitting(rows: int, row: int, bound: int) -> int:
    """`rows`, halved until so many rows of size `row` are within `bound`, or one is left."""
    while rows > 1 and rows * row > bound:
        rows //= 2
    return rows
