"""The student as lm-eval's model: its own template unchanged, long rows in small batches, one seed a sampled benchmark.

Batches hold `batch_size` rows, as lm-eval makes them, wherever these fit into ROW_TOKENS. A batch never depends on how
many other benchmarks are sampled. Each batch is kept as it finishes, with the state of the random numbers.
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

from gdpo.config.fields import Dtype
from gdpo.core.device import default_device
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.models.choice_likelihood import Choices, question_batches
from gdpo.models.dtypes import weights_dtype
from gdpo.models.sampling_hf import neutral_generation_config
from gdpo.trainer.chat_template import restore_think, skip_thinking

# ours: tokens of a row of a full batch, prompt and answer; the keys and values of longer rows add up
ROW_TOKENS = 1024

T = TypeVar("T")


class RandomState:
    """The random state of the device that samples, for gdpo.core.files.resumable_batches."""

    def save(self) -> str:
        state = torch.cuda.get_rng_state() if default_device() == "cuda" else torch.get_rng_state()
        return base64.b64encode(state.numpy().tobytes()).decode()

    def load(self, saved: str) -> None:
        state = torch.frombuffer(bytearray(base64.b64decode(saved, validate=True)), dtype=torch.uint8)
        if default_device() == "cuda":
            torch.cuda.set_rng_state(state)
        else:
            torch.set_rng_state(state)


def batches_file(work_dir: Path | None, what: str, requests: object) -> Path | None:
    """The file in `work_dir` of the finished batches of `requests`; None where nothing is kept."""
    return None if work_dir is None else work_dir / f"{what}-{fingerprint(requests)}.jsonl"


class Student(HFLM):
    """A checkpoint in lm-eval.

    Args:
        path: The checkpoint.
        dtype: The dtype of its weights.
        batch_size: Rows of a full batch.
        seeds: Sampled benchmark -> the seed that its samples are drawn from.
        work_dir: Where finished batches are kept, which are not asked again. The caller names the directory by
            everything that the model, its batches and its samples depend on.
    """

    def __init__(
        self, path: Path, dtype: Dtype, batch_size: int, seeds: Mapping[str, int], work_dir: Path | None = None
    ):
        super().__init__(
            pretrained=str(path),
            dtype=weights_dtype(dtype),
            batch_size=batch_size,
            device=default_device(),
            use_safetensors=True,
        )
        # A rendered template is complete: a tokenizer that begins every text with BOS would add a second one.
        self.add_bos_token = False
        self.model.generation_config = neutral_generation_config(self.model)
        self.rows = batch_size
        self.seeds, self.work_dir = seeds, work_dir

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The whole completion of each request, in order. Greedy benchmarks share batches, sampled ones do not."""
        by_task: dict[str | None, list[int]] = {}  # sampled benchmark, or None, -> its requests
        for index, request in enumerate(requests):
            sampled = request.task_name if request.task_name in self.seeds else None
            by_task.setdefault(sampled, []).append(index)
        plan: list[tuple[list[int], int | None]] = []  # a batch's requests, and a seed where it is a benchmark's first
        for task, indices in by_task.items():
            seed = None if task is None else self.seeds[task]
            for batch in self._batches(requests, indices):
                plan.append((batch, seed))
                seed = None
        answers = resumable_batches(
            batches_file(self.work_dir, "answers", [request.args for request in requests]),
            "answers",
            len(requests),
            lambda done: self._answers(requests, plan, done, disable_tqdm),
            RandomState() if self.seeds else None,
        )
        return [restore_think(request.args[0], text) for request, text in zip(requests, answers, strict=True)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A choice is an answer: where the prompt opens a thought, the choice follows an empty one."""
        pair: tuple[list[int], list[int]] = super()._encode_pair(skip_thinking(context), continuation)
        return pair

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each choice behind its prompt, which is computed once for all of its choices.

        A prompt too long for the model loses its beginning, as in lm-eval. The second values, whether greedy decoding
        would give the choice, are all False: no benchmark uses them.
        """
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for index, (_, prompt_ids, _) in enumerate(requests):
            by_prompt.setdefault(tuple(prompt_ids), []).append(index)
        encoded = []
        for prompt, indices in by_prompt.items():
            room = self.max_length - max(len(requests[i][2]) for i in indices)
            encoded.append([(list(prompt[-room:]), requests[i][2]) for i in indices])
        places = list(by_prompt.values())
        batches = question_batches(encoded, self.rows)

        def scored(done: int) -> Iterator[tuple[list[int], list[float]]]:
            choices = Choices(self.model, self.tokenizer.eos_token_id or 0)
            for batch in with_progress(batches, done, "choices", disable_tqdm):
                values = choices.batch([encoded[n] for n in batch])
                yield [index for n in batch for index in places[n]], [value for row in values for value in row]

        path = batches_file(self.work_dir, "choices", [pair for pair, _, _ in requests])
        return [(value, False) for value in resumable_batches(path, "choices", len(requests), scored)]

    def _batches(self, requests: Sequence[Instance], indices: Sequence[int]) -> Iterator[list[int]]:
        """The requests `indices` in lm-eval's batches, as large as fit: of equal settings, by length."""
        sizes: dict[int, list[tuple[str, dict, int, int]]] = {}
        for index in indices:
            prompt, settings = requests[index].args
            length = len(self.tok_encode(prompt))
            size = rows_that_fit(self.rows, length + settings["max_gen_toks"], self.rows * ROW_TOKENS)
            sizes.setdefault(size, []).append((prompt, settings, length, index))
        for size, entries in sorted(sizes.items()):
            ordered = Collator(entries, sort_fn=lambda x: (-x[2], x[0]), group_fn=lambda x: x[1], group_by="gen_kwargs")
            for batch in ordered.get_batched(n=size):
                yield [index for *_, index in batch]

    def _answers(
        self, requests: Sequence[Instance], plan: Sequence[tuple[list[int], int | None]], done: int, quiet: bool
    ) -> Iterator[tuple[list[int], list[str]]]:
        """The answers to each batch of `plan` but the first `done`; each batch is one call of lm-eval."""
        for indices, seed in with_progress(plan, done, "answers", quiet):
            if seed is not None:
                torch.manual_seed(seed)
            yield indices, super().generate_until([requests[i] for i in indices], disable_tqdm=True)


def with_progress(batches: Sequence[T], done: int, what: str, quiet: bool) -> Iterator[T]:
    """All `batches` but the first `done`, with a progress bar."""
    return iter(tqdm(batches[done:], initial=done, total=len(batches), desc=what, unit="batch", disable=quiet))


def rows_that_fit(rows: int, row: int, bound: int) -> int:
    """`rows`, halved until that many rows of size `row` are within `bound`, or one is left."""
    while rows > 1 and rows * row > bound:
        rows //= 2
    return rows
