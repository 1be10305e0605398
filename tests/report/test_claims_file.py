"""The paper's claims as a file: mistakes in it are named, its runs are the tables', and every claim gets a row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, write_csv
from gdpo.report import claims
from tests.refusal import refused

SCALES = ("micro", "tiny", "smol", "paper")


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Nothing has been made."""
    monkeypatch.chdir(tmp_path)
    return Layout(load_scale("tiny"))


def error_of(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        claims.load(load_scale("tiny"), path)
    return str(error.value).removeprefix(f"{path}, ")


def test_mistakes_in_the_claims_file_are_one_sentence(tmp_path):
    start = "x: {statement: s, source: T, test: difference, direction: less, a: {trainset: metakl, method: "
    assert error_of(tmp_path, f"{start}gdppo}}}}").startswith("x.method: found 'gdppo'; did you mean 'gdpo'? known: ")
    assert error_of(tmp_path, f"{start}gdpo}}, students: larg}}").startswith(
        "x.students: found 'larg'; did you mean 'large'? known: "
    )
    assert "colums: unknown key" in error_of(tmp_path, f"{start}gdpo}}, colums: math}}")
    assert "reading" in error_of(tmp_path, "x: {statement: s, source: T, test: retained, a: {}, margin: 5}")
    derived = "x: {statement: s, source: T, test: derived, proof: p, below: 0, value: "
    assert "value: expected one of adjacent_error" in error_of(tmp_path, f"{derived}nothing}}")
    unbound = "x: {statement: s, source: T, test: correlation, between: models}"
    assert "expected 'above', 'below' or both" in error_of(tmp_path, unbound)


def test_only_what_the_paper_prints_can_be_printed(tmp_path):
    """Of an interaction both sides; of a measurement, a correlation or mathematics nothing."""
    printed, start = "printed: {table: A7+A8, a: GDPO}", "x: {statement: s, source: T, "
    both = f"{start}test: interaction, a: {{}}, against: main, direction: less, {printed}}}"
    assert "expected 'printed' and 'printed_against' together" in error_of(tmp_path, both)
    measured = f"{start}test: measure, quantity: memory, a: {{}}, b: {{}}, {printed}}}"
    assert "printed: found a dict, expected None" in error_of(tmp_path, measured)
    correlated = f"{start}test: correlation, between: models, above: 0, {printed}}}"
    assert "printed: found a dict, expected None" in error_of(tmp_path, correlated)
    derived = f"{start}test: derived, value: adjacent_terms, proof: p, below: 1, {printed}}}"
    assert "printed: found a dict, expected None" in error_of(tmp_path, derived)


@pytest.mark.parametrize("scale", SCALES)
def test_claims_read_only_runs_of_tables_and_studies(scale):
    layout = Layout(load_scale(scale))
    selections = [*layout.scale.tables.values(), *(s for s in layout.scale.studies.values() if not s.grid)]
    shown = {run for selection in selections for run in layout.selected_runs(selection)}
    stated = claims.load(layout.scale)
    for claim in stated.values():
        try:
            assert set(claims.claim_runs.runs(layout, claim)) <= shown
        except claims.NotTestable:
            continue
    files = claims.inputs(layout)
    assert len(files) == len(set(files)) > 50
    assert layout.proficiency in files


def test_claims_file_of_this_project(layout):
    """Statements and sources are there, each proof is a test, and each id is written once."""
    stated = claims.load(layout.scale)
    tests = (Path(__file__).parents[1] / "trainer" / "test_objective.py").read_text()
    for claim in stated.values():
        assert claim.statement[0].isupper() and not claim.statement.endswith(".")
        if claim.test == "derived":
            assert f"def {claim.proof}(" in tests
    assert len(re.findall(r"^[a-z][\w-]*:", claims.PATH.read_text(), re.M)) == len(stated)
    assert {c.test for c in stated.values()} == {
        "difference", "equivalence", "best", "retained", "interaction", "correlation", "trend", "measure", "derived",
    }  # fmt: skip


def test_every_claim_gets_a_row_and_a_place_on_the_page(layout):
    """With nothing trained, only mathematics has a verdict: the rest is not testable and says why."""
    stated = claims.load(layout.scale)
    write_csv(layout.proficiency, ["id", "tiny-s", "tiny-m", "average", "strict"], [])
    del stated["proficiency-differs-by-model"]
    found = claims.results(layout, stated)
    by_test = {(r.claim.test == "derived", r.verdict) for r in found}
    assert by_test == {(True, "supported"), (True, "contradicted"), (False, "not testable")}
    rows = claims.rows(found)
    write_csv("claims.csv", claims.COLUMNS, rows)
    assert [row["id"] for row in read_csv("claims.csv")] == list(stated)
    assert all(row["note"] for row in rows if row["verdict"] == "not testable")
    page = claims.markdown(layout, found)
    assert all(f"**{name}**" in page for name in stated)
    assert "supported: the whole interval lies on that side" in page


def test_published_numbers_of_a_claim():
    """A7+A8, recomputed: GDPO 80.86 and GRPO 80.25 overall; SFT's math 63.40 to Origin's 79.16."""
    from gdpo.report.claims import published_effects
    from gdpo.report.published import published

    rows, stated = published(), claims.load(load_scale("tiny"))
    effects = {name: published_effects.effect(stated[name], rows) for name in stated}
    assert effects["gdpo-close-to-grpo"] == pytest.approx(0.61, abs=0.005)
    assert effects["gdpo-best-method"] == pytest.approx(0.61, abs=0.005)
    assert effects["sft-metakl-loses-math"] == pytest.approx(63.40 - 79.16, abs=0.01)
    assert effects["metagdpo-spares-instruct"] == pytest.approx(76.2 - 95.79)
    assert effects["rises-with-group-size"] is None
    bad = stated["sft-metakl-loses-math"].model_copy(
        update={"printed": published_effects.PublishedRows(table="A7+A8", a="STF")}
    )
    with refused(found="'STF'", hint="did you mean 'SFT'"):
        published_effects.effect(bad, rows)


def test_reports_import_no_model_library():
    code = "import sys, gdpo.report.claims, gdpo.report.claims.score_tests, gdpo.report.claims.measurement_tests;"
    code += "import gdpo.report.cost;"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'matplotlib', 'sklearn', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_settings_follow_what_is_claimed_and_how_it_is_named(layout):
    from gdpo.core.hashing import fingerprint

    scale = layout.scale
    key = fingerprint(claims.settings(scale))
    assert key == fingerprint(claims.settings(scale))
    renamed = {n: m.model_copy(update={"display": "X"}) for n, m in scale.models.items()}
    changes = ({"models": renamed}, {"bootstrap_draws": 5}, {"student_sets": {}})
    assert all(fingerprint(claims.settings(scale.model_copy(update=change))) != key for change in changes)


def test_claims_page_repeats_the_rule_of_the_file():
    assert claims.rule()[0].startswith("The paper's claims as tests")
    assert yaml.safe_load(claims.PATH.read_text())
