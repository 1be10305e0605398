"""`make determinism`: a small scale's table 2, made once for each thing that another machine may have otherwise (ours).

Prints what of its results differs from the first run's, and from what `--record` kept of another machine's. The steps,
in the order of Snakemake's plan, are forks of one process that has imported the libraries: imports take most of a small
scale's time. docs/guarantees/determinism.md says what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tools.rigs.differences import HEAD, Difference, digests, hashes_that_differ  # noqa: E402

SCALE = ROOT / "tests" / "data" / "determinism" / "small.yaml"
RECORD = ROOT / "results" / "reference" / "determinism" / "small.json"
TABLE = "results/table2.csv"
NOWHERE = "/nonexistent"
ROOMS = ("evaluate.harness", "evaluate.model", "students.sft", "students.gdpo", "tiny.pretrain", "report.steps")
HEAVY = [f"gdpo.{room}" for room in ROOMS]  # what steps import that takes seconds


@dataclass(frozen=True)
class Variation:
    """What is otherwise in a run: environment variables, the scale's `threads`, the jobs' order, the directory."""

    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    reverse: bool = False
    directory: str = "run"


def numbers(count: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, str(count)) | {"MKL_DOMAIN_NUM_THREADS": f"MKL_DOMAIN_ALL={count}"}


# What must not matter, and what decides for libraries which machine this is: their kernels differ in the last bits.
SAME = {
    "threads": Variation(numbers(4) | {"MKL_DYNAMIC": "FALSE", "TOKENIZERS_PARALLELISM": "true"}, threads=4),
    "order of jobs": Variation(reverse=True),
    "surroundings": Variation(
        {"PYTHONHASHSEED": "7", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}
        | {"USER": "nobody", "LOGNAME": "nobody", "HOME": NOWHERE, "HF_HOME": NOWHERE}
        | {"ACCELERATE_MIXED_PRECISION": "bf16"},
        directory="größer als 'das' hier",
    ),
}
OTHER = {
    "torch as with AVX2": Variation({"ATEN_CPU_CAPABILITY": "avx2"}),
    "torch as without AVX": Variation({"ATEN_CPU_CAPABILITY": "default"}),
    "MKL alike on all processors": Variation({"MKL_CBWR": "COMPATIBLE"}),
    "MKL as with AVX2": Variation({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    "oneDNN as with AVX2": Variation({"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "OpenBLAS as on Haswell": Variation({"OPENBLAS_CORETYPE": "Haswell"}),
    "all as with AVX2": Variation(
        {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        | {"OPENBLAS_CORETYPE": "Haswell"}
    ),
}
VARIATIONS = SAME | OTHER


@cache
def planned(scale: Path, reverse: bool) -> list[list[str]]:
    """The arguments of each `gdpo` that makes the table: in Snakemake's order, or always the last that can be next."""
    empty = scale.parent / "empty"
    command = ["-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(empty), "-n", "-p", TABLE]
    command += ["--config", f"scale={scale}"]
    shown = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment({}))
    if shown.returncode:
        sys.exit(shown.stdout + shown.stderr)
    jobs = []
    for block in re.split(r"\n(?=rule )", shown.stdout):
        if call := re.search(r"^Shell command: gdpo (.+)$", block, re.MULTILINE):
            found = {key: re.search(rf"^    {key}: (.+)$", block, re.MULTILINE) for key in ("input", "output")}
            files = {key: set(match[1].split(", ")) if match else set() for key, match in found.items()}
            jobs.append((files["input"], files["output"], shlex.split(call[1])))
    ordered: list[list[str]] = []
    while jobs:
        awaited = {path for _, made, _ in jobs for path in made}
        ready = [job for job in jobs if not job[0] & awaited]
        job = ready[-1 if reverse else 0]
        jobs.remove(job)
        ordered.append(job[2])
    return ordered


def environment(more: dict[str, str]) -> dict[str, str]:
    """This environment with `more`; ours: without what decides the same things."""
    varied = {name for variation in VARIATIONS.values() for name in variation.environment} - {"HOME", "USER"}
    kept = {name: value for name, value in os.environ.items() if name not in varied}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def make(into: Path, variation: Variation, scale: Path = SCALE) -> Path:
    """The directory, below `into`, in which the table was made. Raises SystemExit with a failed run's last lines."""
    directory = into / variation.directory
    directory.mkdir(parents=True)
    own = into.parent / "a scale's" / f"threads-{variation.threads}.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(scale.read_text(encoding="utf-8") + f"threads: {variation.threads}\n", encoding="utf-8")
    steps, log = into / "steps.json", into / "log"
    steps.write_text(json.dumps(planned(own, variation.reverse)), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).resolve()), "--steps", str(steps)]
    with log.open("w") as file:
        given = {"cwd": directory, "env": environment(variation.environment), "stdout": file, "stderr": file}
        failed = subprocess.run(command, **given).returncode
    if failed:
        sys.exit(f"{log}: {log.read_text(errors='replace')[-3000:]}")
    return directory


def run_steps(path: Path) -> None:
    """Each step of the file, in a fork of this process."""
    from gdpo.runtime import single_thread

    single_thread.limit_to_one_thread()  # as `gdpo` does first of all
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in HEAVY:
        import_module(name)
    from gdpo.cli import main as cli

    for arguments in json.loads(path.read_text(encoding="utf-8")):
        child = os.fork()
        if child == 0:
            sys.argv[1:] = arguments
            cli.main()
            sys.stdout.flush()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"failed: gdpo {shlex.join(arguments)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"variations, absent: all of {', '.join(VARIATIONS)}")
    parser.add_argument("--scale", type=Path, default=SCALE, help="a scale's YAML file, without `threads`")
    parser.add_argument("--out", type=Path, help="keep what is made below this directory")
    parser.add_argument("--record", action="store_true", help="keep the hashes of the first run in results/reference/")
    parser.add_argument("--steps", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps:
        return run_steps(given.steps)
    if unknown := set(given.names) - VARIATIONS.keys():
        parser.error(f"found {', '.join(sorted(unknown))}; expected some of {', '.join(VARIATIONS)}")
    with tempfile.TemporaryDirectory(prefix="determinism-") as temporary:
        out = (given.out or Path(temporary)).resolve()
        first = make(out / "first", Variation(), given.scale)
        print(HEAD, flush=True)
        if given.record:
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            RECORD.write_text(json.dumps(digests(first), indent=1) + "\n", encoding="utf-8")
        elif given.scale == SCALE:
            print(hashes_that_differ(json.loads(RECORD.read_text(encoding="utf-8")), digests(first)), flush=True)
        unexpected = []
        for number, name in enumerate(given.names or VARIATIONS):
            found = Difference.between(first, make(out / f"{number}", VARIATIONS[name], given.scale))
            print(found.row(name), flush=True)
            unexpected += [name] if name in SAME and found.files else []
    if unexpected:
        sys.exit(f"these should have made no difference: {', '.join(unexpected)}")


if __name__ == "__main__":
    main()
