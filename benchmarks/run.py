"""`python -m benchmarks.run`: measure the cases, print one table, save it with its provenance.

results/bench/bench.csv, bench.md           the table
results/bench/measurements.jsonl            every single measurement
results/bench/bench.csv.provenance.json     code, versions, hardware, sizes, seeds
results/bench/log.txt                       what the trainers printed
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL's trainers report their use otherwise
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES, SCALES, Arm, Bench, Scale
from benchmarks.data import GROUP_SIZE, SEED
from benchmarks.measure import isolated
from gdpo.core.files import write_csv, write_jsonl, write_text
from gdpo.core.provenance import recorded

# Dense bfloat16 peak in floating-point operations a second, from the makers' data sheets.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}

COLUMNS = [
    "case", "shape", "subject", "peer", "tokens_per_second", "peer_tokens_per_second", "speed", "speed_min",
    "speed_max", "peak_mib", "peer_peak_mib", "memory", "padding", "peer_padding", "mfu", "peer_mfu", "useful_tokens",
    "repeats", "peer_settings",
]  # fmt: skip

Measurements = dict[str, list[dict[str, Any]]]  # arm -> one a repeat


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    scale = SCALES["quick" if options.quick else device]
    repeats, threads = (1, 1) if options.quick else (options.repeats, options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    log, table = options.out / "log.txt", options.out / "bench.csv"
    log.unlink(missing_ok=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a log has no width of its own
    seeds = {"model": SEED, "data": SEED, "trainer": SEED}

    def once(arm: Arm, **given: Any) -> dict[str, Any]:
        return isolated(arm.run, device, threads, log, **given)

    with recorded(table, "bench", _settings(scale, device, repeats, threads, options.cases), seeds) as extra:
        rows, raw = [], []
        for bench in (bench for case in options.cases for bench in CASES[case](scale, device)):
            console.print(f"[dim]{bench.case}: {bench.shape}[/dim]")
            chosen, measured = measure(bench, repeats, once)
            rows += [compare(bench, line, chosen, measured) for line in bench.lines]
            raw += [
                {"case": bench.case, "shape": bench.shape, "arm": arm, "repeat": number, **entry}
                for arm, entries in measured.items()
                for number, entry in enumerate(entries)
            ]
        extra["device"] = device
    write_csv(table, COLUMNS, rows)
    write_jsonl(options.out / "measurements.jsonl", raw)
    write_text(table.with_suffix(".md"), markdown(rows))
    console.print(printed(rows))
    console.print(f"[dim]{table}[/dim]")
    return rows


def measure(bench: Bench, repeats: int, once: Callable[..., dict]) -> tuple[dict[str, dict], Measurements]:
    """The settings that each arm's trial chose, and the measurements; arms take turns: A, B, C, A, B, C, ..."""
    chosen = {}
    for name, arm in bench.arms.items():
        chosen[name] = arm.settings[0]
        if len(arm.settings) > 1:
            chosen[name] = min(arm.settings, key=lambda setting, arm=arm: once(arm, **arm.trial | setting)["seconds"])
    measured: Measurements = {name: [] for name in bench.arms}
    for _ in range(repeats):
        for name, arm in bench.arms.items():
            measured[name].append(once(arm, **chosen[name]))
    return chosen, measured


def compare(bench: Bench, line: tuple[str, str], chosen: dict[str, dict], measured: Measurements) -> dict[str, Any]:
    """A line of the table: medians over repeats, and the ratio subject / peer within each repeat."""
    subject, peer = (_added([measured[name] for name in side.split(" + ")]) for side in line)
    ratios = [ours["speed"] / theirs["speed"] for ours, theirs in zip(subject, peer, strict=True)]
    sides = {"": subject, "peer_": peer}
    row = {
        "case": bench.case, "shape": bench.shape, "subject": line[0], "peer": line[1],
        "speed": statistics.median(ratios), "speed_min": min(ratios), "speed_max": max(ratios),
        "useful_tokens": subject[0]["useful_tokens"], "repeats": len(ratios),
        "peer_settings": " ".join(f"{name}={value}" for name, value in chosen[line[1]].items()),
    }  # fmt: skip
    for prefix, entries in sides.items():
        row[f"{prefix}tokens_per_second"] = _median(entries, "speed")
        row[f"{prefix}peak_mib"] = _median(entries, "peak_mib")
        row[f"{prefix}padding"] = _median(entries, "padding_share")
        row[f"{prefix}mfu"] = _median(entries, "mfu")
    row["memory"] = row["peak_mib"] / row["peer_peak_mib"]
    return row


def _added(arms: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Arms run one after the other, repeat by repeat: seconds add up, the peak is the highest."""
    added = []
    for parts in zip(*arms, strict=True):
        seconds = sum(part["seconds"] for part in parts)
        first, peak = parts[0], peak_flops()
        added.append(
            {
                **first,
                "peak_mib": max(part["peak_mib"] for part in parts),
                "speed": first["useful_tokens"] / seconds,
                "mfu": first["flops"] / seconds / peak if peak and len(parts) == 1 and "flops" in first else None,
            }
        )
    return added


def _median(entries: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in entries if entry.get(name) is not None]
    return statistics.median(values) if values else None


def peak_flops() -> float | None:
    """The GPU's dense bfloat16 peak by its data sheet, in operations a second; None on a CPU or an unknown card."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


# The printed table's columns: heading, and the cell of a row.
CELLS: dict[str, Callable[[dict[str, Any]], str]] = {
    "case": lambda row: row["case"],
    "shape": lambda row: row["shape"],
    "subject": lambda row: row["subject"],
    "peer": lambda row: row["peer"],
    "tokens/s": lambda row: f"{row['tokens_per_second']:,.0f}",
    "peer's": lambda row: f"{row['peer_tokens_per_second']:,.0f}",
    "speed": lambda row: f"{row['speed']:.2f} ({row['speed_min']:.2f}..{row['speed_max']:.2f})",
    "MiB": lambda row: f"{row['peak_mib']:,.0f}",
    "peer's MiB": lambda row: f"{row['peer_peak_mib']:,.0f}",
    "memory": lambda row: f"{row['memory']:.2f}",
    "padding": lambda row: _percent(row["padding"]),
    "peer's padding": lambda row: _percent(row["peer_padding"]),
    "MFU": lambda row: _percent(row["mfu"]),
    "peer's MFU": lambda row: _percent(row["peer_mfu"]),
}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _shown(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The columns that have something to say, as text."""
    columns = {heading: [cell(row) for row in rows] for heading, cell in CELLS.items()}
    return {heading: cells for heading, cells in columns.items() if any(cells)}


def printed(rows: list[dict[str, Any]]) -> Table:
    columns = _shown(rows)
    table = Table(title="Useful tokens per second and peak memory; ratios are subject / peer, in the same repeat")
    for heading in columns:
        table.add_column(heading, justify="left" if heading in ("case", "shape", "subject", "peer") else "right")
    cases = [row["case"] for row in rows]
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(*cells, end_section=cases[number] != [*cases, ""][number + 1])
    return table


def markdown(rows: list[dict[str, Any]]) -> str:
    columns = _shown(rows)
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _settings(scale: Scale, device: str, repeats: int, threads: int | None, cases: list[str]) -> dict[str, Any]:
    run = {"device": device, "repeats": repeats, "threads": threads, "cases": cases, "group_size": GROUP_SIZE}
    return run | dataclasses.asdict(scale)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="all, if absent")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="cuda where there is one, if absent")
    parser.add_argument("--threads", type=int, help="of a CPU; torch's own choice, if absent")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--quick", action="store_true", help="one repeat of the smallest sizes, to see that it works")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
