"""The report compiles from whatever there is, to the same bytes, and shows foreign text as text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typst

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv, write_json, write_jsonl
from gdpo.core.provenance import provenance_path
from gdpo.report import numbers, paper
from gdpo.report.case_studies import HEADER as CASES
from gdpo.report.claims import COLUMNS as CLAIMS
from tests.refusal import refused
from tests.seeded import two_seeds

HOSTILE = '#panic("x") $x^2$ \\ `a` ```b *c* _d_ @e <f> [ ] // /* <script>alert(1)</script> #import "/etc/passwd" \x07'


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Layout(two_seeds())


def gathered(layout, **changes):
    found = numbers.numbers(layout) | changes
    write_json(layout.root / "numbers.json", found)
    return found


def score_rows(layout, name, title=None):
    """A table with two rows for each of its students: Origin, and one 5 points above it."""
    info = numbers.numbers(layout)["tables"][name]
    rows = []
    for model in info["students"]:
        for row, mean, mark in (("Origin", 50.0, ""), (title or "MetaGDPO", 55.0, "up")):
            cells = {"model": model, "row": row, "n": "20", "seeds": "none" if row == "Origin" else "0 1"}
            for column in info["columns"]:
                key = column["key"]
                cells |= {key: f"{mean:.2f}", f"{key}_low": f"{mean - 1:.2f}", f"{key}_high": f"{mean + 2:.2f}"}
                cells |= {f"{key}_mark": mark, f"{key}_best": "1" if mark else ""}
            rows.append(cells)
    return rows


def write_rows(path, rows):
    write_csv(path, list(rows[0]), rows)


def elements(selector):
    """Every element of the compiled document that `selector` finds, without the places where words may break."""
    found = typst.query(
        str(paper.PAPER / "main.typ"),
        selector,
        root=str(paper.PAPER),
        ignore_system_fonts=True,
        sys_inputs={"files": paper.listing(paper.PAPER)},
    )
    return json.loads(found.replace("\u200b", ""))


def text(element):
    """The element's text, in order, as it is read."""
    if isinstance(element, list):
        return "".join(map(text, element))
    if not isinstance(element, dict):
        return ""
    if element.get("func") in ("space", "linebreak"):
        return " "
    return element["text"] if isinstance(element.get("text"), str) else "".join(map(text, element.values()))


def test_a_scale_that_has_made_nothing_but_its_numbers_has_a_report(layout):
    gathered(layout)
    assert paper.build(layout).read_bytes().startswith(b"%PDF")
    assert "Table 2: retention, the general and safety columns, and the average over all: not made." in text(
        elements("emph")
    )


def test_a_scale_without_tables_figures_or_students_sets_says_so(layout):
    gathered(layout, tables={}, figures={}, student_sets={}, trainsets=[], rates=[], methods=[], cost=[])
    paper.build(layout)
    assert "This scale has no table 2." in text(elements("emph"))


def test_without_numbers_the_report_names_what_is_missing(layout):
    with refused(problem="no such file", path="numbers.json", expected="what `gdpo numbers` writes"):
        paper.build(layout)


def test_the_same_data_give_the_same_bytes_in_another_directory(layout, tmp_path_factory, monkeypatch):
    found = gathered(layout)
    write_rows(layout.table("table2"), score_rows(layout, "table2"))
    first = paper.build(layout).read_bytes()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    write_json(layout.root / "numbers.json", found)
    write_rows(layout.table("table2"), score_rows(layout, "table2"))
    assert paper.build(layout).read_bytes() == first


def test_the_text_follows_the_tables_marks(layout):
    gathered(layout)
    write_rows(layout.table("table2"), score_rows(layout, "table2"))
    paper.build(layout)
    model = layout.scale.model(layout.scale.students[0]).display
    sentence = f"{model}, overall avg, Origin 50.0: significantly above it MetaGDPO (55.0)"
    assert sentence in text(elements("list"))
    assert "55.0↑ [54.0, 57.0]" in text(elements("figure"))


def test_columns_of_ours_and_columns_without_items_are_explained(layout):
    """fact is ours; hop's items cannot be had; pair is sampled."""
    given = {"fact": {"ours": True}, "pair": {"samples": 16}}
    entries = {n: b.model_copy(update=given.get(n, {})) for n, b in layout.scale.benchmarks.items()}
    layout = Layout(layout.scale.model_copy(update={"benchmarks": entries}))
    write_jsonl(layout.benchmark("hop", "test"), [])
    write_json(provenance_path(layout.benchmark("hop", "test")), {"unavailable": "its source is gated."})
    benchmarks = {entry["name"]: entry for entry in gathered(layout)["benchmarks"]}
    assert (benchmarks["fact"]["display"], benchmarks["hop"]["unavailable"]) == ("Fact†", "its source is gated.")
    assert not {"unavailable", "samples"} & set(benchmarks["order"])
    write_rows(layout.table("table2"), score_rows(layout, "table2"))
    paper.build(layout)
    assert "†: ours, in no average. Empty, and in no average: Hop (" in text(elements("figure"))
    told = text(elements("par"))
    assert "and in no average. Empty, and in no average: Hop (its source is gated)." in told
    assert "Each item of Pair is answered 16 times" in told


def test_gather_removes_data_of_another_scale(layout):
    gathered(layout)
    write_rows(layout.table("table2"), score_rows(layout, "table2"))
    paper.build(layout)
    assert (paper.PAPER / "data" / "table2.csv").exists()
    layout.table("table2").unlink()
    paper.build(layout)
    assert not (paper.PAPER / "data" / "table2.csv").exists()


def test_foreign_text_is_shown_and_never_evaluated(layout):
    gathered(layout)
    case = dict.fromkeys(CASES, HOSTILE) | {"items": "3", "at_every_seed": "1", "change": "gained"}
    write_rows(layout.table("tableA13"), [case])
    write_rows(layout.table("table2"), score_rows(layout, "table2", title=HOSTILE))
    claim = dict.fromkeys(CLAIMS, HOSTILE) | {"verdict": "supported", "effect": "1.0", "low": "0.5", "high": "2.0"}
    write_rows(layout.root / "claims.csv", [claim])
    paper.build(layout)
    raw = [element["text"] for element in elements("raw")]
    assert raw.count(HOSTILE) >= 4  # question, gold and both outputs
    shown = text(elements("figure"))
    assert shown.count(HOSTILE) >= 2  # the row's title and the claim's statement


def test_a_long_output_is_cut_and_says_so(layout):
    gathered(layout)
    output = "y" * 5000
    case = dict.fromkeys(CASES, "a") | {"items": "3", "at_every_seed": "1", "output_after": output}
    write_rows(layout.table("tableA13"), [case])
    paper.build(layout)
    lengths = [len(element["text"]) for element in elements("raw")]
    assert max(lengths) == 1200
    assert "3,800 more characters" in text(elements("emph"))


def test_an_error_of_the_source_is_one_sentence(tmp_path):
    (tmp_path / "main.typ").write_text("#let a = missing\n")
    with refused(path="main.typ:1:9", problem="Typst found unknown variable: missing") as found:
        paper.compiled(tmp_path)
    assert "\n" not in str(found.value)


def test_the_source_reads_nothing_outside_its_directory(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "main.typ").write_text('#read("../secret")\n')
    with refused(problem="Typst found"):
        paper.compiled(tmp_path / "paper")


def test_numbers_count_files_that_exist(layout):
    """Two groups of two completions, one with two rewards; 3 of 4 right. One run of many made. A model of 2*3 + 4."""
    parts = [{"verdict": v, "correctness": 1.0, "format": 0.5, "length": 0.5, "total": 2.0} for v in ("right", "wrong")]
    right, mixed = [parts[0], parts[0]], parts
    groups = [
        {"id": str(i), "domain": d, "prompt": [], "completions": ["a", "b"], "rewards": r, "parts": p}
        for i, (d, r, p) in enumerate([("math", [2.0, 2.0], right), ("safety", [2.0, 1.0], mixed)])
    ]
    write_jsonl(layout.groups("metakl"), groups)
    run = next(run for run in layout.selected_runs(layout.scale.tables["table1"]) if not run.is_origin)
    write_json(layout.run(run) / "train.json", {})
    hardware = {"cpu": "Z80", "cpus": 1}
    record = {"step": "train", "packages": {"torch": "9"}, "code": "0+abc", "hardware": hardware}
    write_json(layout.run(run) / "provenance.json", record)
    header = json.dumps({"a": {"shape": [2, 3]}, "b": {"shape": [4]}, "__metadata__": {}}).encode()
    student = layout.scale.students[0]
    layout.model(student).mkdir(parents=True)
    (layout.model(student) / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    found = numbers.numbers(layout)
    metakl = next(entry for entry in found["trainsets"] if entry["name"] == "metakl")
    assert metakl["questions"] == 2 and metakl["contrast"] == 1 and metakl["right"] == 75.0
    assert metakl["domains"] == {"math": 1, "safety": 1} and metakl["completions"] == 2
    assert found["students"][0]["parameters"] == 10 and found["students"][1]["parameters"] is None
    assert found["runs"]["made"] == 1 and 1 < found["runs"]["trained"] < found["runs"]["shown"]
    assert found["machines"] == [{"machine": "Z80, 1 cores", "results": 1}]
    assert found["packages"] == {"torch": ["9"]} and found["code"] == ["0+abc"]
    rates = {(r["student"], r["trainset"], r["method"]): r["learning_rate"] for r in found["rates"]}
    method = layout.scale.method(run.method, run.student, run.trainset)
    assert rates[run.student, run.trainset, run.method] == method.learning_rate
    assert json.loads(json.dumps(found)) == found


def test_report_names_a_rate_beyond_the_grid(tmp_path, monkeypatch):
    """The largest rate of the grid was best, so 3e-3 was tried too, and is the best; 1e-2 was not tried."""
    scale = load_scale("tiny")
    path = tmp_path / "tiny.csv"
    monkeypatch.setattr("gdpo.config.learning_rates.sweep_file", lambda name: path)
    monkeypatch.setattr(numbers, "sweep_file", lambda name: path)
    before = numbers.settings(scale)
    cell = {"student": "tiny-m", "trainset": "metakl", "method": "gdpo"}
    tried = {"1e-05": 80, "0.001": 81, "0.003": 82}
    rows = [cell | {"learning_rate": r, "validation_mean": m, "chosen": int(m == 82)} for r, m in tried.items()]
    write_rows(path, rows)
    assert numbers.settings(scale) != before
    monkeypatch.chdir(tmp_path)
    found = gathered(Layout(scale))["sweep"]
    assert (found["further"], found["candidates"], found["best"][0]["learning_rate"]) == ([0.003], 3, 0.003)
    paper.build(Layout(scale))
    assert "and larger rates where its largest was the best" in text(elements("figure"))


@pytest.mark.parametrize("name", ["micro", "tiny", "smol", "paper"])
def test_every_scale_has_numbers_before_anything_is_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = numbers.numbers(Layout(load_scale(name)))
    assert found["runs"]["made"] == 0 and found["machines"] == [] and found["tables"]


def test_naming_the_inputs_imports_neither_typst_nor_torch():
    code = (
        "import sys, gdpo.report.paper, gdpo.report.numbers; print({'typst', 'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
