"""`gdpo doctor`: one line for each check; exit code 1 if something is missing that the scale needs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

from gdpo.config.scale import Scale
from gdpo.core.errors import first_line
from gdpo.core.extras import require
from gdpo.core.terminal import display
from gdpo.ops.doctor import checks
from gdpo.ops.doctor.checks import Check

SECONDS = 9.0  # ours: the system waits longer than any limit set here for a name server that does not answer
BY_HAND = "look at it by hand"

CheckFunction = Callable[[Scale], Iterator[Check]]


def doctor(scale: Scale, slurm: bool) -> None:
    """Print what of a scale's needs is on this machine; exit code 1 if something is missing.

    With `slurm`, jobs have the GPUs and memory of the cluster's nodes: of this machine, Slurm's commands are checked.
    """
    require("snakemake")  # without the extra that has it, no other check is of use
    functions: list[CheckFunction] = [checks.python, checks.packages]
    functions += [checks.slurm] if slurm else [checks.gpus, checks.memory]
    functions += [checks.disk, checks.directories, checks.network, checks.keys]
    functions += [checks.commands, checks.lock, checks.vllm]
    results = run_checks(functions, scale, SECONDS)
    display("\n".join(map(str, results)))
    missing = sum(check.level == "missing" for check in results)
    display(f"doctor, scale {scale.name}: {f'{missing} missing' if missing else 'nothing that it needs is missing'}")
    if missing:
        sys.exit(1)


def run_checks(functions: list[CheckFunction], scale: Scale, seconds: float) -> list[Check]:
    """The results of all checks, in order. They run at once; one that takes longer than `seconds` is left behind."""
    results: dict[CheckFunction, list[Check]] = {}

    def run(function: CheckFunction) -> None:
        try:
            results[function] = list(function(scale))
        except Exception as error:  # whatever is wrong with a machine, the other checks are wanted
            problem = f"could not be checked: {first_line(error)}"
            results[function] = [Check("warning", function.__name__, problem, BY_HAND)]

    end = time.monotonic() + seconds
    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    finished = dict(results)  # a late thread may still add to `results`
    return [check for function in functions for check in finished.get(function, [_late(function)])]


def _late(function: CheckFunction) -> Check:
    return Check("warning", function.__name__, "did not answer in time", BY_HAND)
