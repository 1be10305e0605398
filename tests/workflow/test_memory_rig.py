"""`make memory`: the tables on the page are those of the kept results, and a small shape is tracked and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gdpo.core.project import PROJECT
from tools.rigs import memory

KEPT = PROJECT / memory.RESULTS
SMALL = """
import json
from gdpo.config.loader import load_scale
from tools.gpu_first.gpu_trainers import force_sharding
from tools.rigs.collectives import SMALL
from tools.rigs.fake_training import track

force_sharding()
methods = load_scale("paper").methods
found = {name: track(name, SMALL, 2, methods[name].model_copy(update={"max_length": 64})) for name in ("sft", "gdpo")}
print(json.dumps([SMALL.parameters, found]))
"""


def test_page_has_the_kept_tables() -> None:
    text = (PROJECT / memory.PAGE).read_text(encoding="utf-8")
    table = memory.page(memory.read(KEPT / "memory.csv"), memory.read(KEPT / "collectives.csv"))
    assert memory.filled(text, table) == text and table in text


def test_collectives_are_those_of_arithmetic() -> None:
    rows = memory.read(KEPT / "collectives.csv")
    assert {(row["method"], row["processes"]) for row in rows} == {
        (method, processes) for method in memory.METHODS for processes in ("2", "4")
    }
    assert all(row["counted"] == row["arithmetic"] for row in rows)


def test_what_fits_is_told_by_the_larger_of_step_and_scoring() -> None:
    for row in memory.read(KEPT / "memory.csv"):
        held = max(float(row[key]) for key in ("tracked_gib", "plan_gib", "scoring_gib"))
        assert row["fits"] == ("yes" if held <= 77 else "no")


@pytest.mark.long
def test_a_small_shape_is_tracked() -> None:
    """Half of 16 bytes a weight and more; in the head's stage at least its gradient in float32."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, env=environment, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-3000:]
    parameters, found = json.loads(done.stdout.splitlines()[-1])
    for stages in found.values():
        assert set(stages) == set(memory.STAGES)
        assert min(stages.values()) >= 8 * parameters
        assert stages["head"] >= 8 * parameters + 4 * 256 * 32


@pytest.mark.long
def test_collectives_are_counted_anew() -> None:
    rows = memory.counted_rows(2)
    kept = [row for row in memory.read(KEPT / "collectives.csv") if row["processes"] == "2"]
    assert [{key: str(value) for key, value in row.items()} for row in rows] == kept
