"""Which benchmarks averages are over, and the titles of columns: for tables, figures and claims alike.

Averages are over the paper's benchmarks whose items can be had. Our own benchmarks are shown, and in no average.
Benchmarks of skills that no training set holds have an average of their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.records import Domain

DAGGER = "†"
UNTAUGHT_NOTE = "Untaught: skills that base models know and no training set holds; in no other average."
EXTRA_NOTE = f"{DAGGER} ours: not one of the paper's columns, in no average."


def paper_columns(scale: Scale, domain: Domain | None = None) -> list[str]:
    """The paper's benchmarks of a domain, or of all domains, in the configuration's order."""
    known = scale.benchmarks.items()
    return [
        name for name, entry in known if not entry.ours and entry.role == "taught" and domain in (None, entry.domain)
    ]


def averaged_columns(layout: Layout, domain: Domain | None = None) -> list[str]:
    """As `paper_columns`, without the benchmarks whose items cannot be had."""
    empty = layout.unavailable()
    return [name for name in paper_columns(layout.scale, domain) if name not in empty]


def untaught_columns(layout: Layout) -> list[str]:
    """The benchmarks of skills that no training set holds, without those whose items cannot be had."""
    empty = layout.unavailable()
    return [name for name in layout.scale.role_benchmarks("untaught") if name not in empty]


def column_title(scale: Scale, name: str) -> str:
    """The printed title of a benchmark; our own carry a dagger."""
    entry = scale.benchmark(name)
    return f"{entry.display}{DAGGER}" if entry.ours else entry.display


def unavailable_notes(layout: Layout, names: Iterable[str]) -> list[str]:
    """A sentence on those of the benchmarks `names` whose items cannot be had, and why; none where all can be had."""
    empty, scale = layout.unavailable(), layout.scale
    why = [f"{column_title(scale, name)} ({empty[name].rstrip('.')})" for name in names if name in empty]
    return [f"Empty, and in no average: {'; '.join(why)}."] if why else []


def column_notes(layout: Layout, names: Iterable[str]) -> list[str]:
    """What a reader must know of the benchmarks `names`; nothing where they are the paper's and asked once."""
    names, scale = list(names), layout.scale
    sampled = [name for name in names if scale.benchmark(name).samples > 1]
    found = [EXTRA_NOTE] if any(scale.benchmark(name).ours for name in names) else []
    found += [UNTAUGHT_NOTE] if any(scale.benchmark(name).role == "untaught" for name in names) else []
    found += unavailable_notes(layout, names)
    if sampled:
        counts = ", ".join(f"{column_title(scale, name)} {scale.benchmark(name).samples}" for name in sampled)
        found.append(
            f"Sampled several times an item: {counts}. An item's score is the share of its samples "
            "that are right; it was right before training where at least half of them were, so that the untrained "
            "student's own retention is below 100."
        )
    return found
