"""Training sets by source (paper, table A4): how many questions of each set are from each source of the pool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

from gdpo.config.layout import Layout
from gdpo.config.tables import Study
from gdpo.core.records import Domain
from gdpo.core.result_files import QuestionOrGroup, read_rows
from gdpo.metakl.published_sources import PUBLISHED
from gdpo.report.rendered_table import RenderedTable, TableCell
from gdpo.report.scores import Scores

DomainSource = tuple[str, str]  # domain, name


def trainsets(layout: Layout) -> list[str]:
    """Each training set that a table of scores or a study has, in the configuration's order."""
    scale = layout.scale
    selections = [s for s in scale.selections.values() if isinstance(s, Study) or s.kind == "scores"]
    named = {cell.trainset for selection in selections for cell in selection.rows if not cell.model}
    return [name for name in scale.trainsets if name in named]


def inputs(layout: Layout, name: str) -> list[Path]:
    return list(_files(layout).values())


def _files(layout: Layout) -> dict[str, Path]:
    """Column -> the file of its questions. A made-up world's pool has no benchmark items to remove."""
    left = {"decontaminated": layout.decontaminated} if layout.scale.sources else {}
    return {"pool": layout.pool} | left | {trainset: _file(layout, trainset) for trainset in trainsets(layout)}


def _file(layout: Layout, trainset: str) -> Path:
    """The file of the set's questions; an imported set has groups only."""
    imported = layout.scale.trainset(trainset).select == "import"
    return layout.groups(trainset) if imported else layout.trainset(trainset)


def counts(path: Path, title: str) -> Counter[DomainSource]:
    """Questions by source; those that name none, as groups do, are counted under `title`."""
    return Counter((row["domain"], row.get("source", title)) for row in read_rows(path, QuestionOrGroup))


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of table `name`."""
    return rendered(scores.layout, name).texts()


def rendered(layout: Layout, name: str) -> RenderedTable:
    scale, files = layout.scale, _files(layout)
    titles = {key: scale.trainset(key).display if key in trainsets(layout) else key for key in files}
    found = {key: counts(path, titles[key]) for key, path in files.items()}
    known = list(dict.fromkeys(source for counter in found.values() for source in counter))
    sources = [source for domain in get_args(Domain) for source in known if source[0] == domain]
    rows = [
        {"domain": domain, "source": source, **{key: str(counter[domain, source]) for key, counter in found.items()}}
        for domain, source in sources
    ]
    rows.append({"domain": "all", "source": "total", **{key: str(counter.total()) for key, counter in found.items()}})
    notes = [
        "Questions by source, in the pool and in each training set that a table of scores or a study is about.",
        f"Scale: {scale.name}.",
    ]
    if scale.sources:
        titles["paper"] = "paper"
        notes.append(_beside_paper(rows))
    keys = ["domain", "source", *titles]

    def share(row: dict[str, str], key: str) -> str:
        shown = scale.sources and key in trainsets(layout) and int(row[key])
        return f" ({int(row[key]) / found[key].total():.1%})" if shown else ""

    return RenderedTable(
        title=scale.tables[name].title,
        csv_columns=keys,
        csv_rows=rows,
        heads=["domain", "source", *titles.values()],
        body=[[TableCell(row[key] + share(row, key)) for key in keys] for row in rows],
        breaks=[i for i in range(1, len(rows)) if rows[i]["domain"] != rows[i - 1]["domain"]],
        notes=notes,
    )


def _beside_paper(rows: list[dict[str, str]]) -> str:
    """Add the paper's count to each row whose source it has too. The note names its other sources."""
    for row in rows:
        row["paper"] = str(PUBLISHED[row["source"]].selected) if row["source"] in PUBLISHED else ""
    named = {row["source"] for row in rows}
    others = [f"{source.title} {source.selected}" for key, source in PUBLISHED.items() if key not in named]
    absent = f" Not in this pool: {', '.join(others)}." if others else ""
    total = sum(source.selected for source in PUBLISHED.values())
    return f"paper: how many of its {total} questions the paper took from the same source.{absent}"
