"""The student in vLLM as lm-eval's model: the prompts, choices and thoughts of gdpo.evaluate.model, by another engine.

lm-eval's own vLLM model asks all requests that it is given at once, and vLLM batches them. It is given KEPT_BATCH at a
time, whose answers are kept before the next ones are asked. Answers differ from those of transformers in some tokens,
so the engine is part of a score's settings.

Tested against a stand-in of vLLM, and its calls against the signatures of the pinned vLLM; run on no GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.models.utils import resolve_max_length
from lm_eval.models.vllm_causallms import VLLM
from transformers import AutoConfig, AutoTokenizer

from gdpo.config.fields import Dtype
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Question, chat, read_records
from gdpo.evaluate.model import batches_file, with_progress
from gdpo.evaluate.tasks import Tasks
from gdpo.models.dtypes import weights_dtype
from gdpo.trainer.chat_template import rendered, restore_think, skip_thinking

# ours: requests between two savings; a card holds some 256 at a time, and runs empty at the end of each such batch
KEPT_BATCH = 1024
DECODED = {"skip_special_tokens": True, "spaces_between_special_tokens": True}  # as transformers decodes


class VllmStudent(VLLM):
    """A checkpoint in lm-eval, over `gpus` GPUs, with a window that the prompts of `tasks` need (`needed_window`).

    `seeds`: sampled benchmark -> what the seed of each of its samples is drawn from. `work_dir`: where finished batches
    are kept, as in gdpo.evaluate.model.
    """

    def __init__(
        self,
        path: Path,
        dtype: Dtype,
        gpus: int,
        seeds: Mapping[str, int],
        tasks: Tasks,
        work_dir: Path | None = None,
    ):
        super().__init__(
            pretrained=str(path),
            dtype=weights_dtype(dtype),
            tensor_parallel_size=gpus,
            max_model_len=needed_window(path, tasks),
            # A rendered template is complete: a tokenizer that begins every text with BOS would add a second one.
            add_bos_token=False,
        )
        self.seeds, self.work_dir = seeds, work_dir

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The whole completion of each request, in order. Each sample has a seed of its benchmark, item and number."""
        samples: Counter[tuple[str, str]] = Counter()  # how many of each item have a request already
        seeded = []
        for request in requests:
            prompt, settings = request.args
            settings = settings | DECODED
            if request.task_name in self.seeds:
                item = (request.task_name, request.doc["id"])
                drawn = fingerprint([self.seeds[request.task_name], request.doc["id"], samples[item]])
                settings |= {"seed": int(drawn, 16) % 2**31}
                samples[item] += 1
            seeded.append(replace(request, arguments=(prompt, settings)))

        def answered(done: int) -> Iterator[tuple[list[int], list[str]]]:
            for batch in with_progress(_batches(len(seeded)), done, "answers", disable_tqdm):
                yield batch, super(VllmStudent, self).generate_until([seeded[i] for i in batch], disable_tqdm)

        path = batches_file(self.work_dir, "answers", [request.args for request in seeded])
        answers = resumable_batches(path, "answers", len(seeded), answered)
        return [restore_think(request.args[0], text) for request, text in zip(requests, answers, strict=True)]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """As in lm-eval: the log-likelihood of each choice, and whether greedy decoding would give it."""

        def scored(done: int) -> Iterator[tuple[list[int], list[tuple[float, bool]]]]:
            for batch in with_progress(_batches(len(requests)), done, "choices", disable_tqdm):
                yield batch, super(VllmStudent, self)._loglikelihood_tokens([requests[i] for i in batch], disable_tqdm)

        path = batches_file(self.work_dir, "choices", [pair for pair, _, _ in requests])
        return [(value, greedy) for value, greedy in resumable_batches(path, "choices", len(requests), scored)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A choice is an answer: where the prompt opens a thought, the choice follows an empty one."""
        pair: tuple[list[int], list[int]] = super()._encode_pair(skip_thinking(context), continuation)
        return pair

    def close(self) -> None:
        """Free the GPUs, which vLLM fills: a guard model and the next run need them."""
        self.model.llm_engine.engine_core.shutdown()


def _batches(count: int) -> list[list[int]]:
    return [list(range(start, min(start + KEPT_BATCH, count))) for start in range(0, count, KEPT_BATCH)]


def needed_window(path: Path, tasks: Tasks) -> int:
    """Tokens of the longest prompt with its answer or choice, plus one; at most the model's window.

    vLLM reserves keys and values for the window before it starts: those for the model's whole one may not fit.
    """
    tokenizer = AutoTokenizer.from_pretrained(path)
    longest = 0
    for benchmark, items in tasks.values():
        for question in read_records(items, Question):
            chosen = benchmark.kind == "choose"
            conversation = [{"role": "user", "content": question.question}] if chosen else chat(question)
            prompt = rendered(tokenizer, conversation)
            texts = [skip_thinking(prompt) + choice for choice in question.choices] if chosen else [prompt]
            lengths = map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
            longest = max(longest, max(lengths) + (0 if chosen else benchmark.max_new_tokens))
    window: int = resolve_max_length(AutoConfig.from_pretrained(path), tokenizer)
    return min(longest + 1, window)
