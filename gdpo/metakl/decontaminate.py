"""The pool without what a benchmark asks, and a report by source and benchmark (paper, MetaKL; ours: the paper does
not say how its pool was kept apart from its thirteen benchmarks)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tqdm import tqdm

from gdpo.config.layout import Layout
from gdpo.core import progress
from gdpo.core.records import Guarded, Question, Record, read_records
from gdpo.metakl.contamination import Match, Overlap
from gdpo.metakl.pool import Items

ALL = "all"
COLUMNS = ["source", "benchmark", "questions", "exact", "ngram", "dropped", "items", "caught"]


class Contaminated(Record):
    """A question of the pool that was dropped, and the benchmark items that it asks."""

    id: str
    source: str
    matches: list[Match]


def heldout_items(layout: Layout, items: Items) -> list[Guarded]:
    """The items that no training question may ask, by benchmark.

    In a made-up world the items written, test and validation; else every item of the benchmark's source, not the
    few that are scored alone, and every item of the sources in `decontaminate.protect`, by their own names.
    """
    scale = layout.scale
    if scale.world:
        paths = [(name, layout.benchmark(name, s)) for name in scale.benchmarks for s in ("test", "validation")]
        return [Guarded(benchmark=name, item=item) for name, path in paths for item in read_records(path, Question)]
    named = [(name, benchmark.source) for name, benchmark in scale.benchmarks.items()]
    tested = {source for _, source in named}
    named += [(name, name) for name in dict.fromkeys(scale.decontaminate.protect) if name not in tested]
    return [Guarded(benchmark=name, item=item) for name, source in named for item in items.of_source(source)]


def decontaminate(questions: Sequence[Question], tested: Overlap) -> tuple[list[Question], list[Contaminated]]:
    """The questions that ask no benchmark item, in their order, and those that do."""
    kept, dropped = [], []
    for number, question in enumerate(tqdm(questions, desc="decontaminate", unit="question", mininterval=2)):
        progress.report(number, len(questions), "questions")
        if matches := tested.matches(question):
            dropped.append(Contaminated(id=question.id, source=question.source, matches=matches))
        else:
            kept.append(question)
    return kept, dropped


def report(
    questions: Sequence[Question], dropped: Sequence[Contaminated], benchmarks: Mapping[str, Sequence[Question]]
) -> list[dict]:
    """A row of COLUMNS for each pair of source and benchmark that share a question, and for each of either in all.

    `questions` are the source's, `exact` and `ngram` those of them that ask an item word for word or by an n-gram
    alone, `dropped` their sum; `caught` of the benchmark's `items` are asked by at least one of them.
    """
    sources = Counter(question.source for question in questions)
    items = {name: len(asked) for name, asked in benchmarks.items()}
    totals = {ALL: len(questions), **sources}
    asked = {ALL: sum(items.values()), **items}
    rows = []
    for source, benchmark in [(s, b) for s in (*sources, ALL) for b in (*items, ALL)]:
        of_source = [entry for entry in dropped if source in (ALL, entry.source)]
        found = [matches for entry in of_source if (matches := list(_of(entry.matches, benchmark)))]
        exact = sum(any(match.how == "exact" for match in matches) for matches in found)
        if not found and ALL not in (source, benchmark):
            continue
        rows.append(
            {
                "source": source,
                "benchmark": benchmark,
                "questions": totals[source],
                "exact": exact,
                "ngram": len(found) - exact,
                "dropped": len(found),
                "items": asked[benchmark],
                "caught": len({(match.benchmark, match.item) for matches in found for match in matches}),
            }
        )
    return rows


def _of(matches: Iterable[Match], benchmark: str) -> Iterator[Match]:
    return (match for match in matches if benchmark in (ALL, match.benchmark))
