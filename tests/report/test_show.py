"""`gdpo show` names the scale that a table in results/ was made at, whichever was asked for."""

from __future__ import annotations

import csv
import io

import pytest

from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv, write_json, write_text
from gdpo.report import steps, tables
from gdpo.report.scores import Scores
from tests.refusal import refused
from tests.report.test_columns import layout as layout


@pytest.fixture
def published(layout):
    """results/table2 of micro."""
    for part in tables.parts(layout.scale.tables["table2"]):
        rows = list(csv.DictReader(io.StringIO(tables.texts(Scores(layout), "table2", part)[".csv"])))
        write_csv(layout.root.parent / f"table2{part}.csv", list(rows[0]), rows)
    return layout.root.parent / "table2.csv"


def made_at(published, scale: str) -> None:
    name = published.name
    write_json(published.with_name(f"{name}.provenance.json"), {"result": f"results/{scale}/tables/{name}"})


def shown(capsys, scale, name="table2") -> tuple[str, str]:
    """The first and the last line."""
    steps.show(scale, name)
    lines = capsys.readouterr().out.splitlines()
    return lines[0], lines[-1]


def test_show_of_the_requested_scale(layout, published, capsys):
    made_at(published, "micro")
    first, last = shown(capsys, layout.scale)
    assert first.endswith("; scale micro")
    assert last.endswith("models: results/micro/")


@pytest.mark.parametrize(
    ("asked", "limit", "told"),
    [("tiny", None, "scale=tiny"), ("micro", 16, "scale=micro limit=16")],
)
def test_show_names_the_scale_of_the_provenance(published, capsys, asked, limit, told):
    made_at(published, "micro")
    scale = load_scale(asked, limit)
    first, last = shown(capsys, scale)
    assert first.endswith(
        f"; scale micro, not {scale.name}, which `snakemake --cores all results/table2.csv --config {told}` puts here"
    )
    assert last.endswith("models: results/micro/")


def test_show_names_scale_and_limit(published, capsys):
    made_at(published, "micro-limit8")
    first, _ = shown(capsys, load_scale("micro"))
    assert "; scale micro-limit8, not micro, which " in first


def test_show_without_provenance_says_so(layout, published, capsys):
    first, _ = shown(capsys, layout.scale)
    assert first.endswith("; scale micro as asked for, since no provenance names one")


def test_show_refuses_an_unknown_scale(layout, published):
    made_at(published, "mine")
    with refused(path="table2.csv.provenance.json", key="result", found="scale 'mine'"):
        steps.show(layout.scale, "table2")


def test_show_of_case_studies_names_the_scale(layout, published, capsys):
    studies = published.with_name("tableA13.csv")
    write_text(studies.with_suffix(".md"), "# Case studies\n")
    made_at(studies, "micro")
    first, _ = shown(capsys, load_scale("tiny"), "tableA13")
    assert first.startswith("scale micro, not tiny, which `snakemake --cores all results/tableA13.csv ")
