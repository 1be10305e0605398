"""A page over finished results that opens from disk: `gdpo explore` writes results/<scale>/explorer/index.html.

The page asks no server. Each part of its data is a script below `data/` that the page adds when it is needed, since a
page from disk may not fetch a file. `page/` has the page's own files; plotly.js comes from the package `plotly`.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.files import replacing
from gdpo.report import figures, tables
from gdpo.report.claims import rule
from gdpo.report.explorer import documents, items
from gdpo.report.explorer.scripts import script
from gdpo.report.figures import settings as figure_settings
from gdpo.report.scores import Scores

PAGE = ("explorer.css", "core.js", "grid.js", "tables.js", "items.js", "views.js", "start.js")
TEMPLATE = "index.html.jinja"


def inputs(layout: Layout) -> list[Path]:
    """Each file and directory that the page shows something of."""
    scale = layout.scale
    found = [path for name in items.score_tables(layout) for path in tables.inputs(layout, name)]
    found += [layout.table(name) for name in scale.tables]
    found += [layout.benchmark(name, "test") for name in items.shown_benchmarks(layout)]
    found += [layout.groups(name) for name in items.shown_trainsets(layout)]
    found += [layout.figure(name).with_suffix(end) for name in figures.names(scale) for end in (".csv", ".png")]
    found += [layout.root / name for name in (documents.CLAIMS, documents.COST)]
    return list(dict.fromkeys([*found, layout.runs]))


def settings(scale: Scale) -> list[Any]:
    """What the page depends on beside its inputs: selections, names, draws, and how figures look and are called."""
    shown = {name: figure_settings.known(scale)[name] for name in figures.names(scale)}
    draws = [scale.bootstrap_draws, scale.bootstrap_seed]
    return [scale.tables, scale.student_sets, scale.benchmarks, scale.names, draws, shown, rule(), palette()]


def palette() -> list[str]:
    """The colours of the figures' series, which the page's have, too."""
    return figure_settings.load().style.palette


def write(layout: Layout, path: Path) -> dict[str, int]:
    """Write the page as the directory `path`; returns how many files and bytes it has. Same results, same bytes."""
    scores = Scores(layout)
    parts = documents.parts(scores, palette())
    with replacing(path) as temporary:
        (temporary / "data").mkdir(parents=True)
        for name, value in (*parts, *items.chunks(scores), *items.group_chunks(layout)):
            target = temporary / "data" / f"{name}.js"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(script(name, value), encoding="utf-8")
        for name in figures.names(layout.scale):
            (temporary / "figures").mkdir(exist_ok=True)
            shutil.copyfile(layout.figure(name).with_suffix(".png"), temporary / "figures" / f"{name}.png")
        _write_page(layout, temporary)
        written = [file.stat().st_size for file in temporary.rglob("*") if file.is_file()]
    return {"files": len(written), "bytes": sum(written)}


def _write_page(layout: Layout, directory: Path) -> None:
    """The page itself, its scripts and the library of its plots."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    source = files("gdpo.report.explorer") / "page"
    for name in PAGE:
        (directory / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    (directory / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        (source / TEMPLATE).read_text(encoding="utf-8")
    )
    shown = {"scale": layout.scale.name, "codes": documents.codes(layout), "scripts": PAGE[1:]}
    (directory / "index.html").write_text(template.render(shown), encoding="utf-8")
