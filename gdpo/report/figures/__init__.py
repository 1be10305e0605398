"""Figures as selections of results: one module a kind of figure, each read from finished files alone.

A figure is an entry of figures.yaml or of a scale's `figures`; `shown` is that entry (gdpo.config.figures). A module
has `available(scale, shown)`: whether the scale has what the figure shows; `inputs(layout, shown)`: the files it reads;
`data(layout, shown)`: the plotted numbers as rows, one mapping each with the same keys; `draw(rows, shown)`: the
picture of them. Neither this module nor any of those loads a drawing library before something is drawn.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from gdpo.config.figures import AnyFigure
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, suggest
from gdpo.report.columns import paper_columns
from gdpo.report.figures import settings


def names(scale: Scale) -> list[str]:
    """The figures that the scale can have, in order."""
    return [name for name, shown in settings.known(scale).items() if _module(shown).available(scale, shown)]


def inputs(layout: Layout, name: str) -> list[Path]:
    """The files that figure `name` reads; raises UserError where the scale has no such figure."""
    shown = _available(layout.scale, name)
    found: list[Path] = _module(shown).inputs(layout, shown)
    return found


def drawn(scale: Scale, name: str) -> list:
    """The settings that a figure's files depend on beside its inputs: its rows, what they are called, how it looks.

    The words that stand around it in print are none of them. Raises UserError where the scale has no such figure.
    """
    shown = _available(scale, name)
    rows = [scale.tables.get(getattr(shown, "table", "")), scale.studies.get(getattr(shown, "study", ""))]
    titles = [{key: entry.display for key, entry in entries.items()} for entries in (scale.models, scale.trainsets)]
    domains = {key: scale.benchmark(key).domain for key in paper_columns(scale)}
    own = settings.drawn(name, shown)
    return [settings.load().style, own, rows, titles, domains, scale.bootstrap_draws, scale.bootstrap_seed]


def _module(shown: AnyFigure) -> ModuleType:
    return import_module(f"gdpo.report.figures.{shown.kind}")


def _available(scale: Scale, name: str) -> AnyFigure:
    """The settings of a figure that the scale can have."""
    known = names(scale)
    if name not in known:
        expected = f"one that scale {scale.scale} has"
        raise UserError(key="figure", found=f"'{name}'", expected=expected, hint=suggest(name, known))
    return settings.known(scale)[name]


def write(layout: Layout, name: str) -> list[Path]:
    """Write NAME.pdf, NAME.png and NAME.csv, the plotted numbers; returns their paths, that of the numbers last."""
    from gdpo.core.files import write_csv
    from gdpo.report.figures import style

    shown = _available(layout.scale, name)
    module = _module(shown)
    rows = module.data(layout, shown)
    if not rows:
        found = f"nothing to show in {layout.root}"
        raise UserError(key=f"figure {name}", found=found, expected="at least one row of numbers")
    numbers = layout.figure(name)
    with style.context():
        pictures = style.save(module.draw(rows, shown), numbers, layout.scale.name)
    write_csv(numbers, list(rows[0]), ({key: style.shown(value) for key, value in row.items()} for row in rows))
    return [*pictures, numbers]
