"""The question pool and the benchmark items, from the tiny world or from real sources (paper, MetaKL step 1).

The pool may still hold questions that repeat a benchmark item: gdpo.metakl.decontaminate drops them.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from gdpo.config.layout import Split
from gdpo.config.models import TrainSet
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.progress import report
from gdpo.core.records import Question, chat, normalised
from gdpo.core.terminal import say


def pretraining_questions(scale: Scale, trainset: TrainSet) -> list[Question]:
    """Examples of what a world's base models learn from, with their gold responses: for continued pretraining, replay.

    `trainset` says how many, of which mix, and by which seed, which is none that a base model was pretrained by.
    """
    from gdpo.tiny.world import pretraining_questions

    assert scale.world is not None and trainset.mix is not None and trainset.seed is not None  # gdpo.config.validation
    return pretraining_questions(scale.world, trainset.mix, trainset.size, trainset.seed)


class BenchmarkItems:
    """The items of benchmarks and of protected sources. Each source is read once.

    `unavailable` maps a gated source without items to the reason; `revisions` maps every other source to what was read.
    """

    def __init__(self, scale: Scale, mirror: Path | None) -> None:
        self.scale, self.mirror = scale, mirror
        self.unavailable: dict[str, str] = {}
        self.revisions: dict[str, str] = {}
        self._read: dict[str, list[Question]] = {}

    def source_items(self, name: str) -> list[Question]:
        """Every item of a real source; none where it is gated and cannot be downloaded."""
        from gdpo.metakl.sources import Unavailable, load_source

        if name not in self._read:
            self._read[name] = []
            try:
                source = load_source(name, self.scale.sources[name], self.mirror)
                self._read[name], self.revisions[name] = source.questions, source.revision
            except Unavailable as error:
                self.unavailable[name] = error.reason
                say(f"sources.{name}: left empty, since {error.reason}")
        return self._read[name]

    def benchmark_items(self, name: str, split: Split) -> list[Question]:
        """The `items` or `validation_items` of a benchmark, in the source's order: the first, or drawn by its seed."""
        benchmark = self.scale.benchmark(name)
        count = benchmark.items if split == "test" else benchmark.validation_items
        if count == 0:
            return []
        if self.scale.world:
            from gdpo.tiny.world import benchmark_questions

            if count is None:
                expected = "how many items the made-up world is to give"
                raise UserError(key=f"benchmarks.{name}.items", found="none", expected=expected)
            return benchmark_questions(self.scale.world, benchmark.source, split, count)
        if split == "validation":
            expected = "0 (real sources have no split)"
            raise UserError(key=f"benchmarks.{name}.validation_items", found=count, expected=expected)
        return draw_items(self.source_items(benchmark.source), count, benchmark.items_seed)

    def provenance_of(self, name: str) -> dict[str, str]:
        """What the provenance of a real benchmark holds: the revision that was read, or why it is unavailable."""
        source = self.scale.benchmark(name).source
        known = {"revision": self.revisions, "unavailable": self.unavailable}
        return {key: entries[source] for key, entries in known.items() if source in entries}


def draw_items(questions: list[Question], count: int | None, seed: int | None) -> list[Question]:
    """The first `count` questions, or as many drawn by `seed`, in their order; None: all.

    A smaller draw is part of a larger one, so that a smaller scale scores no other items.
    """
    if count is None or seed is None:
        return questions[:count]
    order = sorted(range(len(questions)), key=lambda i: sha256(f"{seed} {questions[i].id}".encode()).digest())
    return [questions[i] for i in sorted(order[:count])]


def read_pool(scale: Scale, mirror: Path | None) -> tuple[list[Question], dict[str, dict]]:
    """Every source's questions, each once, and what was read of each source.

    Of questions with the same text and choices the first is kept. The second value maps a source to the `rows` read,
    the `unusable` ones without a question, the `duplicates` dropped, and the `revision` that was read.
    """
    if scale.world:
        from gdpo.tiny.world import pool_questions

        return _unique(pool_questions(scale.world)), {}
    from gdpo.metakl.sources import LoadedSource, load_source

    pooled = {name: source for name, source in scale.sources.items() if source.pool}
    with tqdm(pooled.items(), desc="sources", unit="source") as progress:  # closed where a source is invalid
        loaded: dict[str, LoadedSource] = {}
        for name, source in progress:
            report(len(loaded), len(pooled), "sources")
            loaded[name] = load_source(name, source, mirror)
    questions = _unique([question for source in loaded.values() for question in source.questions])
    remaining = Counter(question.source for question in questions)
    counts = {
        name: {
            "rows": source.rows,
            "unusable": source.unusable,
            "duplicates": len(source.questions) - remaining[name],
            "revision": source.revision,
        }
        for name, source in loaded.items()
    }
    return questions, counts


def _unique(questions: list[Question]) -> list[Question]:
    texts = [normalised(chat(question)[0]["content"]) for question in questions]
    first = {text: number for number, text in reversed(list(enumerate(texts)))}
    return [question for number, question in enumerate(questions) if first[texts[number]] == number]
