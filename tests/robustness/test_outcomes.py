"""What `--outcomes` writes: each case with what it came to, the same bytes each time; and the page that counts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.core.files import read_csv
from tests.robustness.outcomes import BEGIN, COLUMNS, KEPT, PAGE, counts, filled, neutral
from tests.robustness.test_malformed import CASES

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest
from gdpo.core.errors import UserError

@pytest.mark.parametrize("name", ["b", "a"])
def test_a_file_is_named(name, tmp_path):
    with pytest.raises(UserError):
        raise UserError(path=f"{tmp_path}/{name}", found="none")

def test_a_command_tells(record_property):
    record_property("said", "b: found two")

def test_nothing_is_said():
    pass

@pytest.mark.outcome("recovered")
def test_it_goes_on():
    pass

def test_it_fails():
    assert False

@pytest.mark.skip(reason="no root")
def test_it_cannot_be_tried():
    pass
"""
ROWS = [
    ["a command tells", "", "one sentence", "b: found two"],
    ["a file is named", "a", "one sentence", "a: found none"],
    ["a file is named", "b", "one sentence", "b: found none"],
    ["it cannot be tried", "", "skipped", ""],
    ["it fails", "", "failed", ""],
    ["it goes on", "", "recovered", ""],
    ["nothing is said", "", "holds", ""],
]


@pytest.mark.parametrize("processes", [["-p", "no:xdist"], ["-n", "2"]], ids=["one process", "two"])
def test_every_case_is_a_row(tmp_path, processes):
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = outcome(what): as in the project\n")
    (tmp_path / "test_own.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes]
    done = subprocess.run(
        [*command, "--outcomes", "made", "test_own.py"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert [list(row.values()) for row in read_csv(tmp_path / "made/own.csv", *COLUMNS)] == ROWS


def test_a_sentence_loses_what_is_this_machines():
    said = f"/base/test_x0/m/.f.123.partial: {ROOT}/a {'0a' * 32} http://127.0.0.1:4711/v1"
    assert neutral(said, Path("/base")) == "m/.f.PID.partial: a SHA256 http://127.0.0.1:PORT/v1"
    assert neutral("x" * 400, Path("/base")) == "x" * 300 + "..."


def test_the_page_counts_what_is_kept():
    page = PAGE.read_text(encoding="utf-8")
    assert BEGIN in page and filled(page, counts()) == page, "run `make robustness`"


def test_names_of_malformed_inputs_are_told_apart():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_every_malformed_input_is_kept():
    kept = {row["case"] for row in read_csv(KEPT / "malformed.csv", *COLUMNS)}
    assert {case.name for case in CASES} <= kept, "run `make robustness`"


def test_no_kept_case_failed():
    rows = [row for path in KEPT.glob("*.csv") for row in read_csv(path, *COLUMNS)]
    assert rows and "failed" not in {row["outcome"] for row in rows}
