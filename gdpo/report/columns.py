"""Which benchmarks averages are over, and what columns are called: the one place that tables, figures and claims ask.

Averages are over the paper's columns, without those whose items cannot be had. Columns of ours are shown beside them.
"""

from __future__ import annotations

from collections.abc import Iterable

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.records import Domain

DAGGER = "†"
OURS = f"{DAGGER} ours: not one of the paper's columns, in no average."


def paper(scale: Scale, domain: Domain | None = None) -> list[str]:
    """The paper's columns of a domain, absent of all domains, in the configuration's order."""
    known = scale.benchmarks.items()
    return [name for name, entry in known if not entry.ours and domain in (None, entry.domain)]


def averaged(layout: Layout, domain: Domain | None = None) -> list[str]:
    """As `paper`, without the columns that stay empty because their items cannot be had."""
    empty = layout.unavailable()
    return [name for name in paper(layout.scale, domain) if name not in empty]


def title(scale: Scale, name: str) -> str:
    """What a column is called in print; those of ours carry a dagger."""
    entry = scale.benchmark(name)
    return f"{entry.display}{DAGGER}" if entry.ours else entry.display


def left_out(layout: Layout, names: Iterable[str]) -> list[str]:
    """A sentence on those of the columns `names` that stay empty, and why; none where all can be had."""
    empty, scale = layout.unavailable(), layout.scale
    why = [f"{title(scale, name)} ({empty[name].rstrip('.')})" for name in names if name in empty]
    return [f"Empty, and in no average: {'; '.join(why)}."] if why else []


def notes(layout: Layout, names: Iterable[str]) -> list[str]:
    """What a reader of the columns `names` must know of them; nothing where they are the paper's, each asked once."""
    names, scale = list(names), layout.scale
    sampled = [f"{title(scale, name)} {scale.benchmark(name).samples}" for name in names if _is_sampled(scale, name)]
    found = [OURS] if any(scale.benchmark(name).ours for name in names) else []
    found += left_out(layout, names)
    if sampled:
        found.append(
            f"Sampled several times an item: {', '.join(sampled)}. An item's score is the share of its samples "
            "that are right; it was right before training where at least half of them were, so that the untrained "
            "student's own retention is below 100."
        )
    return found


def _is_sampled(scale: Scale, name: str) -> bool:
    return scale.benchmark(name).samples > 1
