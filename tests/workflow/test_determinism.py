"""What must not matter does not: one small scale under other threads, orders, environments and directories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gdpo.core.files import write_csv, write_jsonl
from tools.rigs.determinism import SAME, SCALE, Variation, make, planned
from tools.rigs.differences import Difference, digests, hashes_that_differ

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The directory of the run that the others are compared with."""
    return make(tmp_path_factory.mktemp("determinism") / "first", Variation())


@pytest.mark.long
@pytest.mark.parametrize("name", SAME)
def test_variation_changes_no_result(first, name):
    into = first.parents[1] / name
    found = Difference.between(first, make(into, SAME[name]))
    assert found.files == []
    assert found.every > 200
    weights = list((first / "results/small").rglob("*.safetensors"))
    assert len(weights) == 2 + 3 * 2


@pytest.mark.long
def test_orders_differ(first):
    """Else the run in another order would be the first one again."""
    own = first.parents[1] / "a scale's" / "threads-1.yaml"
    assert planned(own, True) != planned(own, False)
    assert sorted(planned(own, True)) == sorted(planned(own, False))


def made(root: Path, weight: float, output: str, verdict: str, score: str) -> Path:
    """The files of a run, by hand."""
    scale = root / "results" / "small"
    for part, value in (("models/tiny-s", 1.0), ("runs/tiny-s/metakl/gdpo/0", weight)):
        (scale / part).mkdir(parents=True)
        save_file({"w": np.array([value, 2.0], dtype=np.float32)}, scale / part / "model.safetensors")
    told = {"hardware": {"cpu": "Z80", "cpu_capability": "DEFAULT"}, "packages": {"torch": "1"}}
    (scale / "models/tiny-s/provenance.json").write_text(json.dumps(told))
    write_jsonl(scale / "groups" / "metakl.jsonl", [{"completions": ["a", "b", output, "d"]}])
    rows = [{"output": text, "verdict": told} for text, told in (("x", "wrong"), (output, verdict))]
    write_jsonl(scale / "samples" / "tiny-s" / "logic.jsonl", rows)
    cells = {"row": "Origin", "logic": score, "logic_low": "40.00", "logic_high": "60.00"}
    write_csv(scale / "tables" / "table2.csv", list(cells), [cells])
    (scale / "logs").mkdir()
    (scale / "logs" / "x.log").write_text(str(root))
    return root


def test_differences_by_hand(tmp_path):
    """One weight by 0.25, one of 4 completions of the teacher, one of 2 answers and verdicts; 50 to 55 points, which
    is half of the half-interval of 10; 4 files of 5."""
    a = made(tmp_path / "a", 1.0, "c", "wrong", "50.00")
    b = made(tmp_path / "b", 1.25, "e", "right", "55.00")
    found = Difference.between(a, b)
    assert (len(found.files), found.every) == (4, 5)
    assert (found.pretrained, found.trained, found.teacher, found.students, found.verdicts) == (0, 0.25, 0.25, 0.5, 0.5)
    assert (found.cells, found.points, found.half_intervals) == (1, 5, 0.5)
    assert found.row("x") == "| x | 4 of 5 | 0 | 0.25 | 25.0% | 50.0% | 50.0% | 1 | 5.00 | 0.50 |"
    assert Difference.between(a, a).files == []
    (b / "results/small/groups/metakl.jsonl").unlink()
    assert "SCALE/groups/metakl.jsonl" in Difference.between(a, b).files


def test_another_machine_s_hashes(tmp_path):
    a, b = (digests(made(tmp_path / name, weight, "c", "wrong", "50.00")) for name, weight in (("a", 1.0), ("b", 1.5)))
    assert "| 0 of 5 |" in hashes_that_differ(a, a)
    b["packages"]["torch"] = "2"
    row = hashes_that_differ(a, b)
    assert row.startswith("| Z80 DEFAULT, recorded; other torch here; 1 SCALE/runs | 1 of 5 |")


def test_the_scale_is_the_recorded_one():
    """Hashes of another scale's files would differ everywhere."""
    assert "scale: small\n" in SCALE.read_text()
