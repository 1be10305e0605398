"""The question pool and the benchmark items, from the tiny world or from real sources (paper, MetaKL step 1).

No benchmark item is ever in the pool: the tiny world's splits are disjoint by construction, which is checked
here; questions of real sources that a benchmark also asks are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gdpo.config import Scale
from gdpo.errors import UserError
from gdpo.layout import Split
from gdpo.overlap import Asked
from gdpo.records import Question, normalised


def benchmark_items(scale: Scale, name: str, split: Split, mirror: Path | None) -> list[Question]:
    """The first `items` (or `validation_items`) of a benchmark, in the source's order."""
    benchmark = scale.benchmark(name)
    wanted = benchmark.items if split == "test" else benchmark.validation_items
    if wanted == 0:
        return []
    if scale.world:
        from gdpo.tiny.world import benchmark_questions

        return benchmark_questions(scale.world, benchmark.source, split, wanted)
    if split == "validation":
        raise UserError(f"benchmarks.{name}.validation_items: found {wanted}, expected 0 (real sources have no split)")
    from gdpo.metakl.sources import read_source

    return read_source(benchmark.source, scale.sources[benchmark.source], mirror)[:wanted]


def pool(scale: Scale, items: list[Question], mirror: Path | None) -> tuple[list[Question], dict[str, int]]:
    """The pool without any of the benchmark `items`, and how many questions of each source were dropped.

    Raises UserError if a tiny world would train on a test item.
    """
    tested = Asked((item.question for item in items), (source.instruction for source in scale.sources.values()))
    questions = _all_questions(scale, mirror)
    asked = [question in tested for question in questions]
    kept = [question for question, drop in zip(questions, asked, strict=True) if not drop]
    dropped = Counter(question.source for question, drop in zip(questions, asked, strict=True) if drop)
    if scale.world and dropped:
        raise UserError(f"world: {sum(dropped.values())} pool questions are benchmark items; expected none")
    return _unique(kept), dict(dropped)


def _all_questions(scale: Scale, mirror: Path | None) -> list[Question]:
    if scale.world:
        from gdpo.tiny.world import pool_questions

        return pool_questions(scale.world)
    from gdpo.metakl.sources import read_source

    named = [(name, source) for name, source in scale.sources.items() if source.pool]
    return [question for name, source in named for question in read_source(name, source, mirror)]


def _unique(questions: list[Question]) -> list[Question]:
    first = {normalised(q.question): q for q in reversed(questions)}
    return [q for q in questions if first[normalised(q.question)] is q]


def knowledge_units(questions: list[Question]) -> dict[str, dict]:
    """unit -> {count, members}: how many questions need each unit, and which raw skills it merges.

    Units are what the source says of itself; every question must have at least one.
    Raises UserError naming the question that has none.
    """
    bare = next((q.id for q in questions if not q.units), None)
    if bare is not None:
        raise UserError(f"pool question {bare}: found no knowledge units, expected at least one")
    counts = Counter(unit for question in questions for unit in set(question.units))
    return {unit: {"count": counts[unit], "members": [unit]} for unit in sorted(counts)}
