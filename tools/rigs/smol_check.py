"""`make smol-check`: the whole of scale smol-check, from wheels and data to every table, figure and the report.

It skips, saying why, where the models' wheels or the data cannot be had from here: that says nothing about the project.
What it made lies below DIRECTORY and is looked at by tests/workflow/test_smol_check.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from gdpo.core.errors import Unreachable, UserError

ROOT = Path(__file__).resolve().parents[2]
SCALE = "smol-check"
HUB_SECONDS = 10  # ours: an answer of the Hub's takes one


def missing(cache: Path, mirror: Path | None) -> str | None:
    """Why the check cannot run here: a wheel or the data that cannot be had; None where all are there.

    Raises UserError where a wheel is another than the one that was pinned.
    """
    from gdpo.config.loader import load_scale
    from gdpo.models.checkpoints import cached

    if mirror is None:
        from huggingface_hub import HfApi

        try:
            HfApi().dataset_info("openai/gsm8k", timeout=HUB_SECONDS)
        except Exception as error:  # the Hub's client raises its own, httpx's and OS errors alike
            return f"the Hugging Face Hub does not answer ({type(error).__name__}) and no mirror is named (MIRROR=DIR)"
    scale = load_scale(SCALE)
    references = [model.reference for model in scale.models.values() if model.reference]
    for reference in [*references, scale.encoder.reference]:
        try:
            cached(reference, cache)
        except Unreachable as error:
            return str(error)
    return None


def check(directory: Path, mirror: Path | None) -> int:
    """Run the workflow in `directory`; its exit code."""
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "--cores", "all"]
    command += ["--rerun-incomplete", "all", "figures", "--config", f"scale={SCALE}"]
    command += [f"mirror={mirror}"] if mirror else []
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT, help="where results are written")
    parser.add_argument(
        "--mirror", type=Path, default=os.environ.get("GDPO_MIRROR") or None, help="data, in place of the Hub"
    )
    given = parser.parse_args()
    mirror = Path(given.mirror).resolve() if given.mirror else None
    start = time.monotonic()
    try:
        reason = missing(given.directory / ".cache" / "wheels", mirror)
    except UserError as error:
        print(f"smol-check: {error}", file=sys.stderr)
        return 2
    if reason:
        print(f"smol-check skipped: {reason}", file=sys.stderr)
        return 0
    if code := check(given.directory.resolve(), mirror):
        return code
    print(f"smol-check passed in {(time.monotonic() - start) / 60:.1f} minutes: {given.directory}/results/{SCALE}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
