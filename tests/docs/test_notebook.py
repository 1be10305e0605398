"""The notebook's code cells run from top to bottom, in a directory of their own, and its student has learned."""

from __future__ import annotations

import ast
import json

import pytest

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code(path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs_and_its_cells_are_python(path):
    """Outputs would be numbers that no run of today has computed."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    for cell in code(path):
        ast.parse(cell)


@pytest.mark.long
def test_notebook_trains_a_student_that_gains_on_what_is_taught(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in code(ROOT / "docs" / "notebooks" / "from-groups-to-a-student.ipynb"):
        exec(compile(cell, "notebook", "exec"), names)
    assert names["trainer"].state.global_step > 0
    assert names["after"][names["taught"]] > names["before"][names["taught"]]
