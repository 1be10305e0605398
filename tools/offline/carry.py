"""Carry a scale to a machine with a GPU and no network, run it there in bounded calls, and bring its results back.

`pack` runs here; `unpack`, `run` and `collect` run there, on the standard library. The calls in order:
docs/running-elsewhere/gpu.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT)]  # a parcel holds the little of gdpo that unpacks it

from gdpo.core.errors import UserError  # noqa: E402

INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="carry.py", description=__doc__.splitlines()[0])
    steps = top.add_subparsers(dest="step", required=True, metavar="STEP")
    pack = steps.add_parser("pack", help="make the data side here and write parcels")
    pack.add_argument("--scale", required=True)
    pack.add_argument("--limit", type=int)
    pack.add_argument("--mirror", type=Path, help="read data sets from this directory instead of the Hub")
    pack.add_argument("--out", type=Path, default=Path("build/carry"))
    pack.add_argument("--python", default="3.12", help="the other machine's Python, MAJOR.MINOR")
    pack.add_argument("--have", type=Path, required=True, help="its packages, as its `pip freeze` writes them")
    pack.add_argument("--parcel-mib", type=float, default=60, help="the most that a parcel may hold")
    pack.set_defaults(also=[])
    unpack = steps.add_parser("unpack", help="check parcels, and lay everything out with the last one")
    unpack.add_argument("parcels", type=Path, nargs="+", metavar="PARCEL")
    unpack.add_argument("--into", type=Path, default=Path("gdpo"))
    run = steps.add_parser("run", help="run the workflow for some minutes; again, to go on")
    run.add_argument("--scale", help="checked against what was unpacked")
    run.add_argument("--minutes", type=float, required=True)
    run.add_argument("--jobs", type=int, default=4, help="how many share the GPU and the cores")
    run.add_argument("targets", nargs="+", metavar="TARGET")
    collect = steps.add_parser("collect", help="archive tables, scores, logs and samples, no weights")
    collect.add_argument("--scale", help="checked against what was unpacked")
    collect.add_argument("--out", type=Path, required=True)
    collect.add_argument("--files", type=int, default=4, help="the most archives")
    collect.add_argument("--file-mib", type=float, default=15, help="the most that one may hold")
    return top


def main() -> int:
    options = parser().parse_args()
    if options.step == "pack":
        from tools.offline.pack import pack

        pack(options, PROJECT)
        return 0
    from tools.offline import node

    if options.step == "unpack":
        return node.unpack(options)
    return {"run": node.run, "collect": node.collect}[options.step](options, PROJECT)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"carry: {error}")  # status 1
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
