"""`make memory`: peak memory of SFT, DPO, GDPO and GRPO under FSDP2 at real shapes, tracked, beside what the plan says.

Also how many collectives a step makes (tools/rigs/collectives.py). Written are results/reference/memory/ and the tables
of docs/scale-paper.md. Rows that are in .cache/memory/ are not tracked again.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv, write_text
from gdpo.core.markdown import table_lines
from gdpo.core.provenance import recorded
from gdpo.models import shapes
from gdpo.models.shapes import GIB

Row = dict[str, Any]
RESULTS = Path("results/reference/memory")
CACHE = Path(".cache/memory/rows.jsonl")
PAGE = Path("docs/scale-paper.md")
GROUP = 10
RANKS = (2, 4, 8)
MODELS = {"8B": "Qwen/Qwen3-8B", "32B": "Qwen/Qwen2.5-32B-Instruct"}
METHODS = ("sft", "dpo", "gdpo", "grpo")
DEPTHS = (4, 6)  # layers
STAGES = ("forward", "head", "layers", "embedding")
PROCESSES = (2, 4)  # that really exchange, by gloo
COLUMNS = [
    "shape", "model", "method", "ranks", "length", *(f"{stage}_gib" for stage in STAGES), "worst", "tracked_gib",
    "plan_gib", "difference", "scoring_gib", "fits", "cpu_seconds",
]  # fmt: skip
COUNTS = ["method", "processes", "layers", "passes", "collective", "counted", "arithmetic"]


def row(name: str, size: str, ranks: int, depths: tuple[int, int] = DEPTHS) -> Row:
    """What is tracked at two depths, which lies on a line since layers are alike, at the depth of the real shape."""
    shape, method = shapes.published()[MODELS[size]], load_scale("paper").methods[name]
    from tools.rigs.fake_training import track

    started = time.process_time()
    low, high = (track(name, replace(shape, layers=depth), ranks, method) for depth in depths)
    reached = {}
    for stage in low.keys() & high.keys():
        each = (high[stage] - low[stage]) / (depths[1] - depths[0])
        reached[stage] = high[stage] + each * (shape.layers - depths[1])
    if name == "grpo":  # its forward stage is the reference's, which scores between steps, when there are no gradients
        reached["forward"] -= shapes.SAVED * shape.parameters / ranks
    step = [stage for stage in reached if name != "grpo" or stage != "forward"]
    worst = max(step, key=lambda stage: reached[stage])
    return {
        "shape": size, "model": MODELS[size], "method": name, "ranks": ranks, "length": method.max_length,
        **{f"{stage}_gib": f"{reached.get(stage, 0.0) / GIB:.2f}" for stage in STAGES},
        "worst": worst, "tracked_gib": f"{reached[worst] / GIB:.2f}",
        "cpu_seconds": f"{time.process_time() - started:.0f}",
    }  # fmt: skip


def beside_plan(row: Row) -> Row:
    """`row` with what the plan has for it, and whether a card of scale paper holds the larger of step and scoring."""
    scale = load_scale("paper")
    assert scale.expected is not None and scale.expected.card is not None
    shape, method, ranks = shapes.published()[row["model"]], scale.methods[row["method"]], int(row["ranks"])
    planned = sum(shapes.training_memory(shape, method, GROUP, ranks, True).values()) / GIB
    scoring = sum(shapes.scoring_memory(shape, method, GROUP, ranks).values()) / GIB
    tracked = float(row["tracked_gib"])
    fits = max(planned, tracked, scoring) <= scale.expected.card.memory_gib
    return row | {
        "plan_gib": f"{planned:.2f}", "difference": f"{planned / tracked - 1:.4f}", "scoring_gib": f"{scoring:.2f}",
        "fits": "yes" if fits else "no",
    }  # fmt: skip


def tracked_rows() -> list[Row]:
    """A row for every shape, method and number of processes; what is in CACHE is taken from there."""
    from tools.gpu_first.gpu_trainers import force_sharding

    force_sharding()
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    lines = CACHE.read_text(encoding="utf-8").splitlines() if CACHE.exists() else []
    known = {(r["shape"], r["method"], r["ranks"]): r for r in map(json.loads, lines)}
    for key in [(size, name, ranks) for size in MODELS for name in METHODS for ranks in RANKS]:
        if key not in known:
            known[key] = row(key[1], key[0], key[2])
            with CACHE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[key]) + "\n")
            print(f"memory {key[0]} {key[1]}, {key[2]} processes: {known[key]['tracked_gib']} GiB", flush=True)
    return [beside_plan(known[size, name, ranks]) for size in MODELS for name in METHODS for ranks in RANKS]


def counted_rows(processes: int) -> list[Row]:
    """The collectives of a step by `processes` processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    told = subprocess.run([*launcher, "-m", "tools.rigs.collectives"], capture_output=True, text=True)
    if told.returncode:
        raise SystemExit(told.stderr[-3000:])
    found: list[Row] = json.loads(next(line for line in told.stdout.splitlines() if line.startswith("[")))
    return found


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page(memory: list[Row], counts: list[Row]) -> str:
    """The two tables, as docs/scale-paper.md has them."""
    heads = ["shape", "method", "GPUs", "tracked", "plan", "difference", "worst moment", "scoring", "fits 77 GiB"]
    lines = [
        [r["shape"], r["method"], r["ranks"], r["tracked_gib"], r["plan_gib"], f"{float(r['difference']):+.1%}",
         r["worst"], r["scoring_gib"] if float(r["scoring_gib"]) else "", r["fits"]]
        for r in memory
    ]  # fmt: skip
    titles = ["method", "processes", "passes", "collective", "counted", "arithmetic"]
    cells = [[str(r[title]) for title in titles] for r in counts]
    return "\n".join([*table_lines(heads, lines, labels=2), "", *table_lines(titles, cells, labels=1)])


def filled(text: str, table: str) -> str:
    """`text` with `table` between its marks."""
    return re.sub(r"(<!-- memory -->\n).*?(<!-- /memory -->)", lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.S)


def main() -> None:
    settings = {"ranks": RANKS, "models": MODELS, "depths": DEPTHS, "processes": PROCESSES}
    with recorded(RESULTS / "memory.csv", "memory", settings) as extra:
        rows = tracked_rows()
        extra["cpu_seconds_of_rows"] = sum(float(row["cpu_seconds"]) for row in rows)
        write_csv(RESULTS / "memory.csv", COLUMNS, rows)
    with recorded(RESULTS / "collectives.csv", "collectives", settings):
        write_csv(RESULTS / "collectives.csv", COUNTS, [row for n in PROCESSES for row in counted_rows(n)])
    table = page(read(RESULTS / "memory.csv"), read(RESULTS / "collectives.csv"))
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    main()
