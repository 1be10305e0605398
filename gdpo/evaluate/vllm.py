"""The student in vLLM as lm-eval's model: the prompts, choices and thoughts of gdpo.evaluate.model, by another engine.

lm-eval's own vLLM model asks all requests that it is given at once, and vLLM batches them; it is given some at a time,
whose answers are kept before the next ones are asked. Answers are not those of
transformers to the last token, so the engine is part of a score's settings.

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

from gdpo.config.benchmarks import Benchmark
from gdpo.config.models import Dtype
from gdpo.core.files import resumable_batches
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Question, chat, read_records
from gdpo.evaluate.model import kept_in, shown
from gdpo.models.dtypes import weights_dtype
from gdpo.trainer.chat_template import rendered, restore_think, skip_thinking

# ours: requests between two savings; a card holds some 256 at a time, and runs empty at the end of each such batch
KEPT_BATCH = 1024
DECODED = {"skip_special_tokens": True, "spaces_between_special_tokens": True}  # as transformers decodes


class VllmStudent(VLLM):
    """A checkpoint in lm-eval, over `gpus` GPUs, with room for what `asked` needs (see `room`).

    `seeds`: of each sampled column, what the seed of each of its samples is drawn from. What is finished is kept in the
    directory `kept`, as by gdpo.evaluate.model.
    """

    def __init__(
        self,
        path: Path,
        dtype: Dtype,
        gpus: int,
        seeds: Mapping[str, int],
        asked: Mapping[str, tuple[Benchmark, Path]],
        kept: Path | None = None,
    ):
        super().__init__(
            pretrained=str(path),
            dtype=weights_dtype(dtype),
            tensor_parallel_size=gpus,
            max_model_len=room(path, asked),
            # What a template renders is whole: a tokenizer that begins every text with BOS would add a second one.
            add_bos_token=False,
        )
        self.seeds, self.kept = seeds, kept

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The whole completion of each request, in order; a sample's seed is its column's, its item's and its own."""
        asked: Counter[tuple[str, str]] = Counter()
        told = []
        for request in requests:
            prompt, settings = request.args
            settings = settings | DECODED
            if request.task_name in self.seeds:
                item = (request.task_name, request.doc["id"])
                drawn = fingerprint([self.seeds[request.task_name], request.doc["id"], asked[item]])
                settings |= {"seed": int(drawn, 16) % 2**31}
                asked[item] += 1
            told.append(replace(request, arguments=(prompt, settings)))

        def answered(done: int) -> Iterator[tuple[list[int], list[str]]]:
            for batch in shown(_batches(len(told)), done, "answers", disable_tqdm):
                yield batch, super(VllmStudent, self).generate_until([told[i] for i in batch], disable_tqdm)

        kept = kept_in(self.kept, "answers", [request.args for request in told])
        found = resumable_batches(kept, "answers", len(told), answered)
        return [restore_think(request.args[0], text) for request, text in zip(requests, found, strict=True)]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """As in lm-eval: the log-likelihood of each choice, and whether it is what greedy decoding would say."""

        def scored(done: int) -> Iterator[tuple[list[int], list[tuple[float, bool]]]]:
            for batch in shown(_batches(len(requests)), done, "choices", disable_tqdm):
                yield batch, super(VllmStudent, self)._loglikelihood_tokens([requests[i] for i in batch], disable_tqdm)

        kept = kept_in(self.kept, "choices", [pair for pair, _, _ in requests])
        return [(value, greedy) for value, greedy in resumable_batches(kept, "choices", len(requests), scored)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """A choice is an answer: where the prompt opens a thought, it stands behind an empty one."""
        pair: tuple[list[int], list[int]] = super()._encode_pair(skip_thinking(context), continuation)
        return pair

    def close(self) -> None:
        """Give back the GPUs, which vLLM fills: a guard that judges, and the next run, need them."""
        self.model.llm_engine.engine_core.shutdown()


def _batches(count: int) -> list[list[int]]:
    return [list(range(start, min(start + KEPT_BATCH, count))) for start in range(0, count, KEPT_BATCH)]


def room(path: Path, asked: Mapping[str, tuple[Benchmark, Path]]) -> int:
    """Tokens of the longest prompt with its answer or choice, and one more; the model's window at most.

    Keys and values for the whole window, of which vLLM makes sure beforehand, may not fit into memory.
    """
    tokenizer = AutoTokenizer.from_pretrained(path)
    longest = 0
    for benchmark, items in asked.values():
        for question in read_records(items, Question):
            chosen = benchmark.kind == "choose"
            conversation = [{"role": "user", "content": question.question}] if chosen else chat(question)
            prompt = rendered(tokenizer, conversation)
            texts = [skip_thinking(prompt) + choice for choice in question.choices] if chosen else [prompt]
            lengths = map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
            longest = max(longest, max(lengths) + (0 if chosen else benchmark.max_new_tokens))
    window: int = resolve_max_length(AutoConfig.from_pretrained(path), tokenizer)
    return min(longest + 1, window)
