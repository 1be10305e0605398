"""The first half hour on a GPU, in the order of what only a GPU can show (docs/running-elsewhere/gpu.md).

`pack` runs at home; `run`, `status` and `collect` on the GPU machine, below what `carry.py unpack` laid out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT)]

from gdpo.core.errors import UserError  # noqa: E402

INTERRUPTED, MISUSED = 130, 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="gpu_first.py", description=__doc__.splitlines()[0])
    steps = top.add_subparsers(dest="step", required=True, metavar="STEP")
    pack = steps.add_parser("pack", help="make the data sides here and write parcels with wheels, models and data")
    pack.add_argument("--mirror", type=Path, help="read data sets from this directory instead of the Hub")
    pack.add_argument("--out", type=Path, default=Path("build/gpu_first"))
    pack.add_argument("--python", default="3.12", help="the GPU machine's Python, MAJOR.MINOR")
    pack.add_argument("--have", type=Path, required=True, help="its packages, as gpu_versions.py prints them there")
    pack.add_argument("--parcel-mib", type=float, default=60, help="the most that a parcel may hold")
    run = steps.add_parser("run", help="run what waits, for some minutes; again, to go on")
    run.add_argument("--minutes", type=float, help="of this call; the file of sizes has 8")
    run.add_argument("--through", metavar="STAGE", help="stop when this stage has ended")
    run.add_argument("--retry", nargs="+", default=[], metavar="PART", help="run these again, although they ended")
    status = steps.add_parser("status", help="say what remains and what failed")
    collect = steps.add_parser("collect", help="archive what was made, without weights")
    collect.add_argument("--out", type=Path, required=True)
    collect.add_argument("--files", type=int, default=4, help="the most archives")
    collect.add_argument("--file-mib", type=float, default=15, help="the most that one may hold")
    for step in (pack, run, status, collect):
        step.add_argument("--rehearse", action="store_true", help="the sizes of the rehearsal on a CPU")
        step.add_argument("--sizes", type=Path, help="a file of sizes of your own")
    return top


def inside() -> None:
    """Begin anew among the packages that were carried, where some were and this process is not among them yet."""
    from tools.offline.node import CARRIED, environment

    site = str(PROJECT / CARRIED / "site")
    if Path(site).exists() and site not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.execve(sys.executable, [sys.executable, *sys.argv], environment(PROJECT))


def main() -> int:
    options = parser().parse_args()
    inside()
    from tools.gpu_first import gpu_plan

    file = options.sizes or gpu_plan.SIZES / ("rehearsal.yaml" if options.rehearse else "gpu.yaml")
    plan = gpu_plan.load(file.resolve())
    if options.step == "pack":
        from tools.offline.pack import pack

        options.scale, *options.also = plan.scales
        options.limit = None
        pack(options, PROJECT)
        return 0
    if options.step == "collect":
        from tools.gpu_first.gpu_rows import archived

        archived(plan, PROJECT, options.out, options.files, options.file_mib)
        return 0
    from tools.gpu_first.gpu_run import Journal, Runner, remaining

    if options.step == "status":
        print(remaining(plan, Journal(PROJECT / plan.results / "journal.jsonl")))
        return 0
    if options.through not in (None, *(stage.name for stage in plan.stages)):
        names = ", ".join(stage.name for stage in plan.stages)
        raise UserError(f"--through {options.through}: expected one of {names}")
    return Runner(plan, file.resolve(), PROJECT, options.minutes or plan.call_minutes, options.retry).run(
        options.through
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"gpu_first: {error}", file=sys.stderr)
        sys.exit(MISUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
