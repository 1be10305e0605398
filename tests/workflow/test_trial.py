"""The trial: a world of scale trial-check from its seed to its packed files, and questions asked of packed worlds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from gdpo.core.result_files import RunScores, read_stored
from gdpo.report.trial import kept, steps
from gdpo.report.trial.answers import MAIN_SETS, PRINTED
from gdpo.report.trial.kept import in_turn
from gdpo.report.trial.packing import read_world, write_world
from tests.report.trial.made_worlds import world

ROOT = Path(__file__).resolve().parents[2]
WORLD = 102


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The directory of a run of scale trial-check."""
    directory = tmp_path_factory.mktemp("trial")
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "--cores", "2"]
    target = f"results/trial-check/world-{WORLD}/world"
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, target, "--config", "scale=trial-check", f"world={WORLD}"],
        capture_output=True, text=True, env={**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.long
def test_a_world_is_packed_from_its_seed(packed, monkeypatch):
    """Every run of the trial is there, and the packed verdicts give the scores that were stored."""
    monkeypatch.chdir(packed)
    layout = Layout(load_scale("trial-check", world=WORLD))
    found = read_world(layout.packed_world)
    runs = layout.trial_runs()
    assert [key[:3] for key in found.keys()[1:]] == [(r.student, r.trainset, r.method.partition("~")[0]) for r in runs]
    assert found.about["shares"]["hard-only"].keys() <= {"chain2", "chain3", "chain4", "chain5", "logic", "order"}
    for place, run in enumerate(runs, start=1):
        stored = read_stored(layout.score(run, "test"), RunScores)["benchmarks"]
        assert {name: scores[place] for name, scores in found.right().items()} == {
            name: entry["score"] for name, entry in stored.items()
        }


# --- questions asked of packed worlds


def counts(gain: int, lost: int) -> tuple[int, ...]:
    return (5 + gain, 5, 8 - lost, 8 - lost, 8 - lost, 5)


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    """Three development worlds, packed, in which SFT forgets more than GDPO as printed."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale("trial")
    for seed in (101, 102, 103):
        cells = {}
        for name in (*MAIN_SETS, "random"):
            for method, lost in (("sft", 3 + seed % 2), (PRINTED, 1)):
                rates = [f"{rate:g}" for rate in scale.sweep.rates(method)]
                cells |= {(name, method, rate): counts(3, lost) for rate in rates}
        cells |= {("metakl", "grpo", f"{rate:g}"): counts(3, 1) for rate in scale.sweep.rates("grpo")}
        made = world(cells, seed, student="tiny-s").world
        write_world(Layout(load_scale("trial", world=seed)).packed_world, made)
    return scale


def test_questions_are_answered(worlds, capsys):
    steps.trial(worlds, "development")
    out = Path("results/trial/development")
    with (out / "answers.csv").open() as file:
        rows = {row["question"]: row for row in csv.DictReader(file) if not row["part"]}
    assert len(rows) == 5
    assert float(rows["1 narrow SFT forgets"]["effect"]) == pytest.approx(100 * (4 + 3 + 4) / 3 / 10, abs=0.01)
    assert (out / "fronts.png").stat().st_size > 10_000
    with (out / "cells.csv").open() as file:
        cell = next(row for row in csv.DictReader(file) if row["method"] == PRINTED)
    assert (float(cell["gain"]), float(cell["forgetting"]), float(cell["lost_wrong"])) == (30, 10, 10)
    assert "1 narrow SFT forgets" in (out / "answers.md").read_text()


def test_no_worlds_are_no_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"worlds\.development: found 0 packed worlds, expected two or more"):
        steps.trial(load_scale("trial"), "development")


def test_sealed_worlds_answer_together(tmp_path, monkeypatch):
    """With some of them there, nobody looks at any; a world given up is replaced by the reserve's next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept, "PROJECT", tmp_path)
    scale = load_scale("trial")
    directory = kept.kept(scale)
    for seed in (*scale.worlds.sealed[1:], scale.worlds.reserve[0]):
        (directory / f"world-{seed}").mkdir(parents=True)
        (directory / f"world-{seed}" / "world.json").write_text("{}")
    with pytest.raises(UserError, match=r"found 11 of 12 packed worlds, expected all of them before any is looked at"):
        steps.trial(scale, "sealed")
    (directory / "replaced.csv").write_text(f"world,left\n{scale.worlds.sealed[0]},rank\n")
    assert list(kept.packed_worlds(scale, "sealed")) == [*scale.worlds.sealed[1:], scale.worlds.reserve[0]]


def test_other_scales_have_no_trial():
    with pytest.raises(UserError, match="trial: found none in scale micro, expected a scale with a trial"):
        steps.world(load_scale("micro"))


# --- `make trial`


def test_a_world_given_up_is_replaced_in_order():
    assert in_turn([1, 2, 3], [8, 9], []) == [1, 2, 3]
    assert in_turn([1, 2, 3], [8, 9], [2, 8]) == [1, 3, 9]


def test_sealed_worlds_are_refused_elsewhere(monkeypatch):
    monkeypatch.delenv("GDPO_TRIAL", raising=False)
    sealed = load_scale("trial").worlds
    for seed in (*sealed.sealed[:1], *sealed.reserve[:1]):
        with pytest.raises(UserError, match="which is sealed, expected a development world"):
            load_scale("trial", world=seed)
