"""The question pool and the benchmark items, from the tiny world or from real sources (paper, MetaKL step 1).

Pool questions that a benchmark asks are still there: gdpo.metakl.decontaminate drops them.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from gdpo.config.layout import Split
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.progress import report
from gdpo.core.records import Question, chat, normalised
from gdpo.core.terminal import say


class Items:
    """The benchmarks' items, and those of the sources that are guarded with them; each source is read once.

    `unavailable` holds by source why one that is gated has none; `revisions` what was read of the others.
    """

    def __init__(self, scale: Scale, mirror: Path | None) -> None:
        self.scale, self.mirror = scale, mirror
        self.unavailable: dict[str, str] = {}
        self.revisions: dict[str, str] = {}
        self._read: dict[str, list[Question]] = {}

    def of_source(self, name: str) -> list[Question]:
        """Every item of a real source; none where it is gated and not to be had."""
        from gdpo.metakl.sources import Unavailable, read

        if name not in self._read:
            self._read[name] = []
            try:
                found = read(name, self.scale.sources[name], self.mirror)
                self._read[name], self.revisions[name] = found.questions, found.revision
            except Unavailable as error:
                self.unavailable[name] = error.reason
                say(f"sources.{name}: left empty, since {error.reason}")
        return self._read[name]

    def of_benchmark(self, name: str, split: Split) -> list[Question]:
        """`items` (or `validation_items`) of a benchmark, in the source's order: the first, or those its seed draws."""
        benchmark = self.scale.benchmark(name)
        wanted = benchmark.items if split == "test" else benchmark.validation_items
        if wanted == 0:
            return []
        if self.scale.world:
            from gdpo.tiny.world import benchmark_questions

            if wanted is None:
                expected = "how many items the made-up world is to give"
                raise UserError(key=f"benchmarks.{name}.items", found="none", expected=expected)
            return benchmark_questions(self.scale.world, benchmark.source, split, wanted)
        if split == "validation":
            expected = "0 (real sources have no split)"
            raise UserError(key=f"benchmarks.{name}.validation_items", found=wanted, expected=expected)
        return drawn(self.of_source(benchmark.source), wanted, benchmark.items_seed)

    def read_of(self, name: str) -> dict[str, str]:
        """For the provenance of a benchmark of a real source: what was read, or why nothing could be."""
        source = self.scale.benchmark(name).source
        known = {"revision": self.revisions, "unavailable": self.unavailable}
        return {key: entries[source] for key, entries in known.items() if source in entries}


def drawn(questions: list[Question], wanted: int | None, seed: int | None) -> list[Question]:
    """The first `wanted` questions, or as many drawn by `seed`, in their order; None: all.

    What fewer draw is among what more draw, so that a smaller scale asks nothing new.
    """
    if wanted is None or seed is None:
        return questions[:wanted]
    order = sorted(range(len(questions)), key=lambda i: sha256(f"{seed} {questions[i].id}".encode()).digest())
    return [questions[i] for i in sorted(order[:wanted])]


def pool(scale: Scale, mirror: Path | None) -> tuple[list[Question], dict[str, dict]]:
    """Every source's questions, each once, and what was read of each source.

    Of questions with the same text and choices the first is kept. The second value is by source: `rows` gone through,
    `unusable` ones without a question, `duplicates` dropped, and the `revision` that was read.
    """
    if scale.world:
        from gdpo.tiny.world import pool_questions

        return _unique(pool_questions(scale.world)), {}
    from gdpo.metakl.sources import Read, read

    pooled = {name: source for name, source in scale.sources.items() if source.pool}
    with tqdm(pooled.items(), desc="sources", unit="source") as progress:  # closed where a source does not fit
        found: dict[str, Read] = {}
        for name, source in progress:
            report(len(found), len(pooled), "sources")
            found[name] = read(name, source, mirror)
    kept = _unique([question for source in found.values() for question in source.questions])
    left = Counter(question.source for question in kept)
    counts = {
        name: {
            "rows": source.rows,
            "unusable": source.unusable,
            "duplicates": len(source.questions) - left[name],
            "revision": source.revision,
        }
        for name, source in found.items()
    }
    return kept, counts


def _unique(questions: list[Question]) -> list[Question]:
    texts = [normalised(chat(question)[0]["content"]) for question in questions]
    first = {text: number for number, text in reversed(list(enumerate(texts)))}
    return [question for number, question in enumerate(questions) if first[texts[number]] == number]
