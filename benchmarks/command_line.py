"""`python -m benchmarks.command_line`: how long `gdpo --help` takes, beside a Python that does nothing."""

from __future__ import annotations

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


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Take turns, and print the least and the median of each command, and the ratio of the least."""
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            took[name].append(seconds(command))
    for name, each in took.items():
        print(f"{name:15} least {min(each):.3f} s, median {statistics.median(each):.3f} s of {REPEATS}")
    plain, shown = (min(each) for each in took.values())
    print(f"ratio of the least: {shown / plain:.1f}")


if __name__ == "__main__":
    main()
