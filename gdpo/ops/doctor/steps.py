"""`gdpo doctor`: one line a check, and exit code 1 where something is missing that the scale needs."""

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

SECONDS = 9.0  # ours: a name server that does not answer is waited for by the system, beyond every limit of ours
BY_HAND = "look at it by hand"

Asked = Callable[[Scale], Iterator[Check]]


def doctor(scale: Scale, slurm: bool) -> None:
    """Print what is here of what a scale needs; exit code 1 where something is missing.

    With `slurm`, jobs have GPUs and memory of the cluster's nodes: here only its commands are looked for.
    """
    require("snakemake")  # without the extra that has it, no other check is of use
    asked: list[Asked] = [checks.python, checks.packages]
    asked += [checks.slurm] if slurm else [checks.gpus, checks.memory]
    asked += [checks.disk, checks.directories, checks.network, checks.keys, checks.commands, checks.lock, checks.vllm]
    found = gathered(asked, scale, SECONDS)
    display("\n".join(map(str, found)))
    missing = sum(check.level == "missing" for check in found)
    display(f"doctor, scale {scale.name}: {f'{missing} missing' if missing else 'nothing that it needs is missing'}")
    if missing:
        sys.exit(1)


def gathered(asked: list[Asked], scale: Scale, seconds: float) -> list[Check]:
    """What each check says, in order; all are asked at once, and one that hangs is left behind."""
    found: dict[Asked, list[Check]] = {}

    def ask(check: Asked) -> None:
        try:
            found[check] = list(check(scale))
        except Exception as error:  # whatever is off with a machine, the other checks are wanted
            found[check] = [Check("warning", check.__name__, f"could not be checked: {first_line(error)}", BY_HAND)]

    end = time.monotonic() + seconds
    threads = [threading.Thread(target=ask, args=(check,), daemon=True) for check in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    told = dict(found)
    return [line for check in asked for line in told.get(check, [_late(check)])]


def _late(check: Asked) -> Check:
    return Check("warning", check.__name__, "did not answer in time", BY_HAND)
