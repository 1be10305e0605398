"""`python -m benchmarks.command_line`: how long `gdpo --help` takes, beside a Python that does nothing."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 10
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "gdpo --help": [str(Path(sys.executable).with_name("gdpo")), "--help"],
}


def seconds(command: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of a processor, which other processes lengthen less."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Take turns, and print the least and the median of each command, and the ratio of the least."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            took[name].append(seconds(command))
    least: dict[str, list[float]] = {"clock": [], "processor": []}
    for name, each in took.items():
        for what, values in zip(least, zip(*each, strict=True), strict=True):
            print(
                f"{name:15} {what:9} least {min(values):.3f} s, median {statistics.median(values):.3f} s of {REPEATS}"
            )
            least[what].append(min(values))
    print("ratio of the least:", ", ".join(f"{what} {y / x:.1f}" for what, (x, y) in least.items()))


if __name__ == "__main__":
    main()
