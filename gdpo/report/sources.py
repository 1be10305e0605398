"""Training sets by source (paper, table A4): how many questions each set took from each source of the pool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

from gdpo.files import read_jsonl
from gdpo.layout import Layout
from gdpo.records import Domain
from gdpo.report.scores import Scores
from gdpo.report.sheet import Entry, Sheet

Source = tuple[str, str]  # domain, name


def trainsets(layout: Layout) -> list[str]:
    """Every training set that a table of scores or a study is about, in the configuration's order."""
    scale = layout.scale
    selections = [*(t for t in scale.tables.values() if t.kind == "scores"), *scale.studies.values()]
    named = {cell.trainset for selection in selections for cell in selection.rows if not cell.model}
    return [name for name in scale.trainsets if name in named]


def inputs(layout: Layout, name: str) -> list[Path]:
    return [layout.pool, *(_file(layout, trainset) for trainset in trainsets(layout))]


def _file(layout: Layout, trainset: str) -> Path:
    """The set's questions; of an imported set there are groups alone."""
    imported = layout.scale.trainset(trainset).select == "import"
    return layout.groups(trainset) if imported else layout.trainset(trainset)


def counts(path: Path, title: str) -> Counter[Source]:
    """Questions by source; those that name none, as groups do, are counted under `title`."""
    return Counter((row["domain"], row.get("source", title)) for _, row in read_jsonl(path))


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of table `name`."""
    return sheet(scores.layout, name).texts()


def sheet(layout: Layout, name: str) -> Sheet:
    scale = layout.scale
    titles = {"pool": "pool"} | {trainset: scale.trainset(trainset).display for trainset in trainsets(layout)}
    files = {"pool": layout.pool} | {trainset: _file(layout, trainset) for trainset in trainsets(layout)}
    found = {key: counts(path, titles[key]) for key, path in files.items()}
    known = list(dict.fromkeys(source for counter in found.values() for source in counter))
    sources = [source for domain in get_args(Domain) for source in known if source[0] == domain]
    rows = [
        {"domain": domain, "source": source, **{key: str(counter[domain, source]) for key, counter in found.items()}}
        for domain, source in sources
    ]
    rows.append({"domain": "all", "source": "total", **{key: str(counter.total()) for key, counter in found.items()}})
    keys = ["domain", "source", *titles]
    return Sheet(
        title=scale.tables[name].title,
        header=keys,
        rows=rows,
        heads=["domain", "source", *titles.values()],
        body=[[Entry(row[key]) for key in keys] for row in rows],
        breaks=[i for i in range(1, len(rows)) if rows[i]["domain"] != rows[i - 1]["domain"]],
        notes=[
            "Questions by source, in the pool and in each training set that a table of scores or a study is about.",
            f"Scale: {scale.name}.",
        ],
    )
