"""`make trial`: run the sealed worlds of docs/protocol.md, one after the other, and keep each finished one.

A finished world is three small files in results/reference/trial/world-N, to be committed; another call, here or on
another machine, goes on with the first world that is not there. A call that is stopped in the middle of a world resumes
it. A world in which too few untaught columns are left to tell forgetting by is given up before anything is trained on
it, and the next reserve seed takes its place (results/reference/trial/replaced.csv).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gdpo.config.layout import Layout, origin
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.config.worlds import UNSEALED
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, replacing, write_csv
from gdpo.core.result_files import RunScores, read_stored
from gdpo.report.trial.effects import FEWEST_UNTAUGHT, has_room
from gdpo.report.trial.kept import given_up, in_turn

KEPT = Path("results/reference/trial")
REPLACED = KEPT / "replaced.csv"


def untaught_left(scale: Scale, student: str) -> list[str]:
    """The untaught columns that count in a world, by the finished scores of the untrained student."""
    scores = read_stored(Layout(scale).score(origin(student)[0], "test"), RunScores)["benchmarks"]
    return [
        name
        for name in scale.role_benchmarks("untaught")
        if has_room(scores[name]["score"], scale.benchmark(name).chance, scores[name]["n"])
    ]


def snakemake(scale: Scale, targets: Sequence[Path], cores: str) -> None:
    """Make `targets`; Snakemake's own failure ends this call with its exit code."""
    world = scale.world.seed if scale.world else None
    command = [
        sys.executable,
        "-m",
        "gdpo.display.terminal",
        "--logger",
        "gdpo",
        "--cores",
        cores,
        "--rerun-incomplete",
    ]
    command += [*map(str, targets), "--config", "scale=trial", f"world={world}"]
    code = subprocess.run(command, env={**os.environ, UNSEALED: "yes"}).returncode
    if code:
        sys.exit(code)


def run_world(seed: int, cores: str, keep: bool) -> bool:
    """Run a sealed world to its end and keep it; False where it is given up."""
    scale = load_scale("trial", world=seed)
    layout = Layout(scale)
    assert scale.trial is not None
    student = scale.trial.student
    snakemake(scale, [layout.score(origin(student)[0], "test")], cores)
    left = untaught_left(scale, student)
    if len(left) < FEWEST_UNTAUGHT:
        rows = read_csv(REPLACED) if REPLACED.exists() else []
        write_csv(REPLACED, ["world", "left"], [*rows, {"world": seed, "left": " ".join(left)}])
        return False
    snakemake(scale, [layout.packed_world], cores)
    with replacing(KEPT / f"world-{seed}") as temporary:
        shutil.copytree(layout.packed_world, temporary, ignore=shutil.ignore_patterns(".snakemake_timestamp"))
    if not keep:
        shutil.rmtree(layout.root)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.5, help="start no further world after so many hours")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--keep", action="store_true", help="keep a finished world's weights and samples as well")
    given = parser.parse_args()
    os.environ[UNSEALED] = "yes"
    scale = load_scale("trial")
    assert scale.worlds is not None
    if not scale.worlds.sealed:
        raise UserError(path="workflow/config/trial.yaml", key="worlds.sealed", found="none", expected="the protocol's")
    started = time.monotonic()
    while True:
        worlds = in_turn(scale.worlds.sealed, scale.worlds.reserve, given_up(KEPT))
        waiting = [seed for seed in worlds if not (KEPT / f"world-{seed}" / "world.json").exists()]
        print(f"trial: {len(worlds) - len(waiting)} of {len(worlds)} worlds are there", file=sys.stderr)
        if not waiting:
            return 0
        if time.monotonic() - started > given.hours * 3600:
            print("trial: the time is over; the same command goes on", file=sys.stderr)
            return 0
        if run_world(waiting[0], given.cores, given.keep):
            print(f"trial: world {waiting[0]} is in {KEPT}; commit it", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"gdpo: {error}")
