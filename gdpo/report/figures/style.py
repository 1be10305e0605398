"""How figures look: type, colours, markers and panels, and files whose bytes depend on the numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from gdpo.config.figures import Figure
from gdpo.core.files import replacing
from gdpo.report.figures.settings import load

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.transforms import Bbox

# Without these neither format records when or by what it was written.
METADATA = {"pdf": {"CreationDate": None, "Creator": None, "Producer": None}, "png": {"Software": None}}


STRIP, MARGIN = 1.5, 0.04  # below a figure: the height of its footer in letters, and what is left beside it in inches


@contextmanager
def context() -> Iterator[None]:
    """Matplotlib with this style on top of its own defaults, whatever the user's are."""
    import matplotlib

    matplotlib.use("Agg")
    style = load().style
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "pdf.fonttype": 42,  # text stays text, and editors can read its font
                "font.size": style.font_size,
                "axes.titlesize": style.font_size,
                "axes.labelsize": style.font_size,
                "xtick.labelsize": style.small_font_size,
                "ytick.labelsize": style.small_font_size,
                "legend.fontsize": style.small_font_size,
                "legend.frameon": False,
                "legend.handlelength": 2.8,
                "figure.constrained_layout.w_pad": 0.06,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.linewidth": 0.6,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": "#E6E6E6",
                "grid.linewidth": 0.5,
                "xtick.major.width": 0.6,
                "ytick.major.width": 0.6,
                "lines.linewidth": 1.2,
                "lines.markersize": 4,
                "hatch.linewidth": 0.5,
                "savefig.dpi": style.dpi,
            }
        )
        yield


def panels(figure: Figure, columns: int, rows: int = 1, **kwargs: Any) -> tuple[Canvas, np.ndarray]:
    """An empty matplotlib figure as wide as it is printed, and its axes, shape (rows, columns)."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(load().style.widths[figure.width], figure.height * rows), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False, **kwargs)


class Look(TypedDict):
    """What matplotlib's line drawing takes by these names."""

    color: str
    marker: str
    linestyle: str


def look(series: int) -> Look:
    """Colour, marker and line of the series with this number."""
    style = load().style
    return {
        "color": style.palette[series % len(style.palette)],
        "marker": style.markers[series % len(style.markers)],
        "linestyle": style.lines[series % len(style.lines)],
    }


def hatch(series: int) -> str:
    hatches = load().style.hatches
    return hatches[series % len(hatches)]


def spread(values: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[list[float]]:
    """Matplotlib's `xerr` or `yerr` of intervals; never negative, since a redrawn interval may miss its mean."""
    below = [max(0.0, value - bound) for value, bound in zip(values, low, strict=True)]
    return [below, [max(0.0, bound - value) for value, bound in zip(values, high, strict=True)]]


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 100 * low:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def legend(canvas: Canvas, axes: Iterable[Axes], columns: int) -> None:
    """One legend for all panels, outside of them, so that it hides nothing."""
    from matplotlib.artist import Artist
    from matplotlib.container import Container

    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        labels = sorted(found, key=lambda label: not isinstance(found[label], Container))  # series, then what is beside
        canvas.legend([found[label] for label in labels], labels, loc="outside lower center", ncols=columns)


def save(canvas: Canvas, numbers: Path, scale: str) -> list[Path]:
    """Write a figure as PDF and PNG beside its numbers, above the name of the scale whose results it shows.

    The same figure gives the same bytes.
    """
    paths = [numbers.with_suffix(f".{kind}") for kind in METADATA]
    area = footed(canvas, f"scale {scale}")
    for path, (kind, metadata) in zip(paths, METADATA.items(), strict=True):
        with replacing(path) as temporary:
            canvas.savefig(temporary, format=kind, metadata=metadata, bbox_inches=area)
    return paths


def footed(canvas: Canvas, text: str) -> Bbox:
    """Write `text` into a strip below the figure, where it hides nothing; the area of both, in inches."""
    from matplotlib.transforms import Bbox

    width, height = canvas.get_size_inches()
    size = load().style.small_font_size
    strip = STRIP * size / 72
    canvas.text(1 - MARGIN / width, -strip / height, text, fontsize=size, ha="right", va="bottom", in_layout=False)
    return Bbox.from_extents(0, -strip, width, height)


def shown(value: Any) -> Any:
    """A value as the CSV has it: six significant digits, and nothing for what could not be computed."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def distinct(rows: Sequence[dict], key: str) -> list:
    """The values of `key` in order of appearance."""
    return list(dict.fromkeys(row[key] for row in rows))
