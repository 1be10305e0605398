"""`gdpo paper`: the replication report, paper/report.pdf, from what the workflow made.

Its source, Typst, is compiled by the `typst` package with the package's own fonts: offline, with no program of the
system, and to the same bytes from the same data. The text quotes numbers from paper/data/ alone.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.core.errors import UserError
from gdpo.core.files import replacing, write_csv
from gdpo.core.project import PROJECT, require_checkout
from gdpo.report import audit, power, published, tables

SOURCE = PROJECT / "paper"
SOURCES = ("*.typ", "*.yaml", "*.bib")
PAPER = Path("paper")  # of the working directory, as results/ is
FIGURES = PAPER / "figures"


def sources() -> list[Path]:
    """The report's own text: a change of any of these makes it anew, and nothing else."""
    return sorted(path for pattern in SOURCES for path in SOURCE.rglob(pattern) if "data" not in path.parts)


def results(layout: Layout) -> dict[str, Path]:
    """What the report reads of a scale's results, by its name in paper/data/; files may be missing."""
    root = layout.root
    found = {name: root / name for name in ("numbers.json", "claims.csv")}
    for name, table in layout.scale.tables.items():
        for part in tables.parts(table):
            found[f"{name}{part}.csv"] = layout.table(name + part)
    return found


def shared() -> dict[str, Path]:
    """What is the same at every scale, by its name in paper/data/: numbers of docs/objective.md, the kept benchmark."""
    found = {f"objective_{path.name}": path for path in sorted((PROJECT / "docs" / "objective").glob("*.csv"))}
    return found | {"bench.csv": PROJECT / "results" / "reference" / "bench" / "bench.csv"}


def inputs(layout: Layout) -> list[Path]:
    """What the report is made of beside its figures: the scale's tables, claims and numbers, and what is kept."""
    return [*results(layout).values(), *sources(), *shared().values()]


def build(layout: Layout) -> Path:
    """Gather the data, compile the report and return where it lies.

    Raises UserError outside a checkout, where the scale has no numbers.json yet, or with Typst's message where the
    source is wrong.
    """
    require_checkout("the report's text")
    if not (layout.root / "numbers.json").exists():
        raise UserError("no such file", path=layout.root / "numbers.json", expected="what `gdpo numbers` writes")
    _copy_source()
    gather(layout)
    report = PAPER / "report.pdf"
    pdf = compiled(PAPER)
    with replacing(report) as temporary:
        temporary.write_bytes(pdf)
    return report


def _copy_source() -> None:
    """Bring the source to the working directory, where it is another one than the project's."""
    if PAPER.resolve() == SOURCE:
        return
    for path in sources():
        target = PAPER / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def gather(layout: Layout) -> None:
    """Write paper/data/ anew: this scale's results, the audit of the published numbers, and what scales share."""
    with replacing(PAPER / "data") as data:
        data.mkdir()
        for name, path in (results(layout) | shared()).items():
            if path.exists():
                shutil.copyfile(path, data / name)
        printed = published.published()
        write_csv(data / "audit.csv", audit.COLUMNS, audit.csv_rows(audit.averages(printed)))
        write_csv(data / "disagreements.csv", ["model", "row", "column", "tables", "printed"], _differing(printed))
        write_csv(data / "power.csv", power.COLUMNS, power.csv_rows(power.comparisons(printed, power.item_counts())))
        write_csv(data / "beside.csv", published.COLUMNS, published.rows(published.compare_all(layout)))


def _differing(printed: list[published.PublishedRow]) -> list[dict[str, str]]:
    """Cells of one row that two published tables print differently."""
    return [
        {"model": d.model, "row": d.row, "column": d.column}
        | {"tables": " and ".join(d.tables), "printed": " and ".join(map(str, d.printed))}
        for d in audit.disagreements(printed)
    ]


def listing(root: Path) -> str:
    """The files below `root` as JSON: Typst cannot ask whether a file is there."""
    return json.dumps(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))


def compiled(root: Path) -> bytes:
    """The document `root`/main.typ, a PDF.

    Only files below `root` can be read. Raises UserError with Typst's message where the source is wrong.
    """
    import typst

    try:
        return typst.compile(
            str(root / "main.typ"),
            root=str(root),
            ignore_system_fonts=True,  # the fonts of the package alone: the same pages everywhere
            format="pdf",
            sys_inputs={"files": listing(root)},
            timestamp=0,
        )
    except typst.TypstError as error:
        place = re.search(r"─ (\S+:\d+:\d+)", str(getattr(error, "diagnostic", "")))
        message = " ".join(error.message.split())
        raise UserError(f"Typst found {message}", path=place[1] if place else root / "main.typ") from None
