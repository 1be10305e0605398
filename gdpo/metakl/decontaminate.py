"""The pool without questions that repeat a benchmark item, and a report by source and benchmark (paper, MetaKL).

The paper does not say how its pool was kept apart from its thirteen benchmarks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from gdpo.config.layout import Layout
from gdpo.core import progress
from gdpo.core.records import HeldoutItem, Question, Record, read_records
from gdpo.metakl.contamination import ItemIndex, Match, Spared
from gdpo.metakl.pool import BenchmarkItems

ALL = "all"
COLUMNS = ["source", "benchmark", "questions", "exact", "near", "dropped", "spared", "items", "caught"]


class Contaminated(Record):
    """A question of the pool that was dropped, and the benchmark items that it repeats."""

    id: str
    source: str
    matches: list[Match]


class SparedQuestion(Record):
    """A question of the pool that was kept although it shares a run of words with benchmark items, and why."""

    id: str
    source: str
    items: list[Spared]


@dataclass(frozen=True)
class Decontaminated:
    """Questions that repeat no item, in their order; those that do; and kept ones that share a run of words."""

    clean: list[Question]
    dropped: list[Contaminated]
    spared: list[SparedQuestion]


def heldout_items(layout: Layout, items: BenchmarkItems) -> list[HeldoutItem]:
    """The items that no training question may repeat, by benchmark.

    In a made-up world these are the items written, test and validation. Else they are every item of the benchmark's
    source, also those that are not scored, and every item of the sources in `decontaminate.protect`, under their own
    names.
    """
    scale = layout.scale
    if scale.world:
        paths = [(name, layout.benchmark(name, s)) for name in scale.benchmarks for s in ("test", "validation")]
        return [HeldoutItem(benchmark=name, item=item) for name, path in paths for item in read_records(path, Question)]
    sources = [(name, benchmark.source) for name, benchmark in scale.benchmarks.items()]
    scored = {source for _, source in sources}
    sources += [(name, name) for name in dict.fromkeys(scale.decontaminate.protect) if name not in scored]
    return [HeldoutItem(benchmark=name, item=item) for name, source in sources for item in items.source_items(source)]


def decontaminate(questions: Sequence[Question], index: ItemIndex) -> Decontaminated:
    """What of `questions` repeats a benchmark item, and what does not."""
    made = Decontaminated([], [], [])
    for number, question in enumerate(tqdm(questions, desc="decontaminate", unit="question", mininterval=2)):
        progress.report(number, len(questions), "questions")
        found = index.look_up(question)
        if found.matches:
            made.dropped.append(Contaminated(id=question.id, source=question.source, matches=found.matches))
            continue
        made.clean.append(question)
        if found.spared:
            made.spared.append(SparedQuestion(id=question.id, source=question.source, items=found.spared))
    return made


def report_rows(
    questions: Sequence[Question], found: Decontaminated, benchmarks: Mapping[str, Sequence[Question]]
) -> list[dict]:
    """A row of COLUMNS for each pair of source and benchmark that share a question, and the totals of either.

    `questions` counts the source's questions. `exact` counts those that repeat an item word for word, `near` those
    that are a near duplicate of one alone, `dropped` their sum. `spared` counts those that were kept although they
    share a run of words with an item. `caught` counts those of the benchmark's `items` that at least one repeats.
    """
    sources = Counter(question.source for question in questions)
    items = {name: len(of_benchmark) for name, of_benchmark in benchmarks.items()}
    question_counts = {ALL: len(questions), **sources}
    item_counts = {ALL: sum(items.values()), **items}
    rows = []
    for source, benchmark in [(s, b) for s in (*sources, ALL) for b in (*items, ALL)]:
        of_source = [entry for entry in found.dropped if source in (ALL, entry.source)]
        matched = [matches for entry in of_source if (matches := list(_of_benchmark(entry.matches, benchmark)))]
        spared = sum(
            source in (ALL, entry.source) and any(benchmark in (ALL, item.benchmark) for item in entry.items)
            for entry in found.spared
        )
        exact = sum(any(match.how == "exact" for match in matches) for matches in matched)
        if not matched and not spared and ALL not in (source, benchmark):
            continue
        rows.append(
            {
                "source": source,
                "benchmark": benchmark,
                "questions": question_counts[source],
                "exact": exact,
                "near": len(matched) - exact,
                "dropped": len(matched),
                "spared": spared,
                "items": item_counts[benchmark],
                "caught": len({(match.benchmark, match.item) for matches in matched for match in matches}),
            }
        )
    return rows


def _of_benchmark(matches: Iterable[Match], benchmark: str) -> Iterator[Match]:
    return (match for match in matches if benchmark in (ALL, match.benchmark))
