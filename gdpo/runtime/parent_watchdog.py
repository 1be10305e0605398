"""A step that Snakemake called ends when that Snakemake dies, however it dies.

Killed outright, Snakemake leaves its jobs running, and called again it makes the same files beside them: two processes
append to one journal, write checkpoints into one directory, pay for the same answers, and the slower one's result
replaces the other's after it was recorded. So the workflow names itself to its jobs, and each `gdpo` watches all that
stands between itself and the workflow. What a user calls by hand is not watched: it may outlive its shell.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CALLER = "GDPO_CALLER"
PROC = Path("/proc")
LOOK_SECONDS = 0.5  # ours: Snakemake takes longer than this to begin anew


@dataclass(frozen=True)
class Caller:
    """A process and its working directory; `machine` and `start_time` tell it from others that had its number."""

    machine: str
    pid: int
    start_time: str
    directory: str

    def lives(self) -> bool:
        return _start_time(self.pid) == self.start_time


def announce() -> None:
    """Name this process to all that it starts from now on, as the one that they end with; on Linux alone."""
    if PROC.joinpath("self/stat").exists():
        here = (_machine(), os.getpid(), _start_time(os.getpid()), Path.cwd())
        os.environ[CALLER] = " ".join(map(str, here))


def watch(call: int | None = None) -> None:
    """End this process, and all that it has started, as soon as a process between it and its caller has ended.

    `call` is a process that stands for this one, whose parent is then a preloaded one (gdpo.cli.preload): that process,
    and all between it and the caller, is watched, too.
    """
    caller = _parse(os.environ.get(CALLER, ""))
    holds: list[Callable[[], bool]] = []
    if caller is not None and caller.machine == _machine():  # on another node the job step there is what ends it
        ancestors = [(pid, _ancestors_up_to(pid, caller.pid)) for pid in (os.getpid(), call) if pid is not None]
        holds += [caller.lives, lambda: all(_ancestors_up_to(pid, caller.pid) == known for pid, known in ancestors)]
    if call is not None:
        start_time = _start_time(call)
        holds.append(lambda: _start_time(call) == start_time != "")
    if not all(hold() for hold in holds):
        _end()
    if holds:
        threading.Thread(target=_end_unless, args=(holds,), name="watch-caller", daemon=True).start()


def find_orphans(directory: Path) -> dict[int, str]:
    """Process id -> command of what a caller that has died left running in `directory`, as far as may be seen."""
    orphans = {}
    for pid in _pids():
        with suppress(OSError):  # it ended meanwhile, or is another user's
            environment = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
            named = next((entry for entry in environment if entry.startswith(f"{CALLER}=")), "")
            caller = _parse(named.partition("=")[2])
            if any(entry.startswith("SLURM_JOB_ID=") for entry in environment):  # not a submission's child, but Slurm's
                continue
            if caller is None or caller.machine != _machine() or Path(caller.directory) != directory.resolve():
                continue
            if pid != os.getpid() and not caller.lives() and _start_time(pid):
                words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
                orphans[pid] = " ".join(words).strip()
    return orphans


def descendants(pid: int) -> list[int]:
    """All that a process has started and all that those have, nearest first."""
    children: dict[int, list[int]] = {}
    for each in _pids():
        children.setdefault(_stat(each)[1], []).append(each)
    processes = [pid]
    for each in processes:  # which grows meanwhile
        processes += children.get(each, [])
    return processes[1:]


def parent_of(pid: int) -> int:
    """The process that started another one; 0 of one that is gone."""
    return _stat(pid)[1]


def _parse(text: str) -> Caller | None:
    machine, _, rest = text.partition(" ")
    pid, _, rest = rest.partition(" ")
    start_time, _, directory = rest.partition(" ")
    return Caller(machine, int(pid), start_time, directory) if pid.isdigit() and directory else None


def _machine() -> str:
    """This boot of this machine and, since a container numbers its processes anew, the space of numbers."""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.readlink(PROC / 'self/ns/pid')}"


def _stat(pid: int) -> tuple[str, int, str]:
    """State, parent and start time of a process; one that is gone, or is hidden as another user's, counts as dead.

    Raises OSError where this process can look at none.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return "X", 0, ""
    return fields[0], int(fields[1]), fields[19]


def _start_time(pid: int) -> str:
    """When a process started, in ticks since the boot; empty of one that has ended, whether waited for or not."""
    state, _, start_time = _stat(pid)
    return "" if state in "ZX" else start_time


def _ancestors_up_to(below: int, caller: int) -> list[int]:
    """The processes from the parent of `below` up to `caller`; none where `caller` is no ancestor of `below`.

    Below srun it is none, since srun hands a task to a daemon of its own.
    """
    ancestors, pid = [], parent_of(below)
    while pid:
        ancestors.append(pid)
        if pid == caller:
            return ancestors
        pid = _stat(pid)[1]
    return []


def _pids() -> Iterable[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _end_unless(holds: Sequence[Callable[[], bool]]) -> None:
    while True:
        with suppress(OSError):  # such as too many open files, of which nothing follows: look again
            if not all(hold() for hold in holds):
                _end()
        time.sleep(LOOK_SECONDS)


def _end() -> None:
    """Kill this process and all that it has started: a later call can resume what is left half done."""
    for pid in [*descendants(os.getpid()), os.getpid()]:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
