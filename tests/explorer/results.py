"""Finished results of a small made-up scale, written by hand: what the explorer's tests read."""

from __future__ import annotations

import base64
from pathlib import Path

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.tables import Cell, Table
from gdpo.core.files import write_csv, write_json, write_jsonl
from gdpo.core.provenance import provenance_path
from gdpo.report import figures
from gdpo.report.claims import COLUMNS
from gdpo.report.explorer.items import shown_trainsets
from tests.seeded import two_seeds

ITEMS = 40
CODE = "0.2.0+abc123"
STUDENTS = ("tiny-s", "tiny-m")
ROWS = [
    Cell(row="Origin"),
    Cell(row="safety-only", trainset="safety-only", method="sft"),
    Cell(row="MetaGDPO", trainset="metakl", method="gdpo"),
]
# Items that are right, by benchmark and method; all seeds and students are alike but for one item of tiny-m.
RIGHT = {
    "fact": {"origin": range(30), "sft": range(10), "gdpo": range(32)},
    "hop": {"origin": range(20), "sft": range(5), "gdpo": range(3, 24)},  # GDPO forgets 0, 1, 2 and gains 20 to 23
    "harmful": {"origin": range(25), "sft": range(40), "gdpo": range(28)},
}
# What a model may have written, to do harm in a browser.
HOSTILE = (
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 2'>",
    '"><svg/onload=window.owned=3>',
    "<a href='javascript:window.owned=4'>here</a>",
    "{{ 7 * 7 }} ${window.owned = 5} `x`",
    "line\u2028separator\u2029paragraph",
    "turned \u202eevil\u2066 direction",
    "\x1b]0;owned\x07 \x00 \x9b31m",
    "<!-- <script>",
    "https://example.org/?q=%3Cscript%3E",
    "知識 ∑ ± 👍",
    "x" * 3000,
)
VERDICTS = ["supported", "contradicted", "inconclusive", "not testable"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def scale():
    """Micro with two seeds, two tables and three benchmarks."""
    micro = two_seeds()
    shown = {"columns": ["general", "safety"], "overall": True, "rows": ROWS}
    tables = {
        "table2": Table(title="Table 2: <b>retention</b>", **shown),
        "tableA4": Table(title="Table A4: sources", kind="sources"),
    }
    benchmarks = {name: micro.benchmarks[name] for name in RIGHT}
    return micro.model_copy(
        update={"tables": tables, "benchmarks": benchmarks, "students": list(STUDENTS), "bootstrap_draws": 200}
    )


def output(name: str, number: int, method: str) -> str:
    """Answers of hop begin with something hostile; what both methods say alike is one text."""
    if name == "hop":
        return HOSTILE[number % len(HOSTILE)] + f" {number if method == 'origin' else method}"
    return f"answer {number}"


def write_samples(layout: Layout, run: Run) -> None:
    for name, right in RIGHT.items():
        rows = [
            {
                "id": f"{name}-{number}",
                "output": output(name, number, run.method),
                "verdict": "right" if number in right[run.method] else "ungradable" if number == 39 else "wrong",
            }
            for number in range(ITEMS)
        ]
        write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", rows)


def write_results(layout: Layout) -> None:
    """All that a page over `layout` reads, in the present directory."""
    for student in STUDENTS:
        for cell in ROWS:
            for run in origin(student) if cell.method == "origin" else layout.cell_runs(student, cell):
                write_samples(layout, run)
    for name in RIGHT:
        grader = "refusal" if name == "harmful" else "exact"
        asked = {"domain": "general", "source": name, "answer": "" if name == "harmful" else "duck", "grader": grader}
        questions = [
            asked | {"id": f"{name}-{number}", "question": f"{HOSTILE[number % len(HOSTILE)]} {name} {number}?"}
            for number in range(ITEMS)
        ]
        write_jsonl(layout.benchmark(name, "test"), questions)
    _write_groups(layout)
    _write_documents(layout)


def _write_groups(layout: Layout) -> None:
    for name in shown_trainsets(layout):
        parts = [{"verdict": "right", "correctness": 1.0, "format": 0.5, "length": 0.5, "total": 2.0}]
        parts += [{"verdict": "wrong", "correctness": 0.0, "format": 0.5, "length": 0.25, "total": 0.75}]
        groups = [
            {
                "id": f"q{number}",
                "domain": "math",
                "prompt": [{"role": "user", "content": f"{number} {HOSTILE[number % len(HOSTILE)]}"}],
                "completions": ["yes", HOSTILE[0]],
                "rewards": [2.0, 0.75],
                "parts": parts,
            }
            for number in range(12)
        ]
        write_jsonl(layout.groups(name), groups)


def _write_documents(layout: Layout) -> None:
    for name in layout.scale.tables:
        write_csv(layout.table(name), ["set", "n"], [{"set": "metakl", "n": "96"}, {"set": HOSTILE[1], "n": "12"}])
        write_json(provenance_path(layout.table(name)), {"step": "table", "code": CODE})
    claims = [
        dict.fromkeys(COLUMNS, "")
        | {"id": f"c{number}", "statement": f"claim {number}", "test": "difference" if number % 2 else "best"}
        | {"verdict": VERDICTS[number % 4], "claimed": "> 0", "effect": "-1.5000", "low": "-2.0000", "high": "-1.0000"}
        | {"unit": "points", "note": HOSTILE[2]}
        for number in range(8)
    ]
    write_csv(layout.root / "claims.csv", COLUMNS, claims)
    runs = [{"student": s, "method": "gdpo", "seconds": f"{10 - n}.5"} for n, s in enumerate(STUDENTS)]
    write_csv(layout.runs, ["student", "method", "seconds"], runs)
    write_csv(layout.root / "cost.csv", ["step", "wall_seconds"], [{"step": "train gdpo", "wall_seconds": "12.0"}])
    keys = ["student", "row", "learning_rate", "kl", "gain", "gain_low", "gain_high"]
    keys += ["forgetting", "forgetting_low", "forgetting_high", "pareto"]
    points = [
        ("SFT", "0.01", "1.0", "4.0", "0"),
        ("SFT", "0.02", "3.0", "5.0", "0"),
        ("GDPO", "0.005", "2.0", "1.0", "1"),
    ]
    rows = [
        dict(zip(keys, ("Tiny-S", row, "0.001", kl, gain, "0.5", "4.0", lost, "0.0", "6.0", front), strict=True))
        for row, kl, gain, lost, front in points
    ]
    for name in figures.names(layout.scale):
        write_csv(layout.figure(name), keys, rows)
        layout.figure(name).with_suffix(".png").write_bytes(PNG)


def made(directory: Path) -> Layout:
    """The layout of the scale, and its results in `directory`, which is the present one."""
    layout = Layout(scale())
    assert Path.cwd() == directory
    write_results(layout)
    return layout
