"""A step that Snakemake called ends when that Snakemake dies, however it dies (ours).

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
    """A process and where it works; `machine` and `born` tell it from any other that has or had its number."""

    machine: str
    pid: int
    born: str
    directory: str

    def lives(self) -> bool:
        return _born(self.pid) == self.born


def announce() -> None:
    """Name this process to all that it starts from now on, as the one that they end with; Linux alone knows how."""
    if PROC.joinpath("self/stat").exists():
        here = (_machine(), os.getpid(), _born(os.getpid()), Path.cwd())
        os.environ[CALLER] = " ".join(map(str, here))


def watch(call: int | None = None) -> None:
    """End this process, and all that it has started, as soon as a process between it and its caller has ended.

    `call` is a process that stands for this one, whose parent is then a preloaded one (gdpo.cli.preload): that process,
    and all between it and the caller, is watched, too.
    """
    caller = _parse(os.environ.get(CALLER, ""))
    holds: list[Callable[[], bool]] = []
    if caller is not None and caller.machine == _machine():  # on another node the job step there is what ends it
        lines = [(pid, _line(pid, caller.pid)) for pid in (os.getpid(), call) if pid is not None]
        holds += [caller.lives, lambda: all(_line(pid, caller.pid) == line for pid, line in lines)]
    if call is not None:
        born = _born(call)
        holds.append(lambda: _born(call) == born != "")
    if not all(hold() for hold in holds):
        _end()
    if holds:
        threading.Thread(target=_end_unless, args=(holds,), name="watch-caller", daemon=True).start()


def find_orphans(directory: Path) -> dict[int, str]:
    """Process id -> command of what a caller that has died left running in `directory`, as far as may be seen."""
    found = {}
    for pid in _pids():
        with suppress(OSError):  # it ended meanwhile, or is another user's
            told = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
            named = next((entry for entry in told if entry.startswith(f"{CALLER}=")), "")
            caller = _parse(named.partition("=")[2])
            if any(entry.startswith("SLURM_JOB_ID=") for entry in told):  # not a submission's child, but Slurm's
                continue
            if caller is None or caller.machine != _machine() or Path(caller.directory) != directory.resolve():
                continue
            if pid != os.getpid() and not caller.lives() and _born(pid):
                words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[pid] = " ".join(words).strip()
    return found


def descendants(pid: int) -> list[int]:
    """All that a process has started and all that those have, nearest first."""
    children: dict[int, list[int]] = {}
    for each in _pids():
        children.setdefault(_stat(each)[1], []).append(each)
    found = [pid]
    for each in found:  # which grows meanwhile
        found += children.get(each, [])
    return found[1:]


def parent_of(pid: int) -> int:
    """The process that started another one; 0 of one that is gone."""
    return _stat(pid)[1]


def _parse(text: str) -> Caller | None:
    machine, _, rest = text.partition(" ")
    pid, _, rest = rest.partition(" ")
    born, _, directory = rest.partition(" ")
    return Caller(machine, int(pid), born, directory) if pid.isdigit() and directory else None


def _machine() -> str:
    """This boot of this machine and, since a container numbers its processes anew, the space of numbers."""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{os.readlink(PROC / 'self/ns/pid')}"


def _stat(pid: int) -> tuple[str, int, str]:
    """State, parent and time of birth of a process; one that is gone, or another user's and hidden, is dead.

    Raises OSError where this process can look at none.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return "X", 0, ""
    return fields[0], int(fields[1]), fields[19]


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty of one that has ended, waited for or not."""
    state, _, born = _stat(pid)
    return "" if state in "ZX" else born


def _line(below: int, caller: int) -> list[int]:
    """The processes from the parent of `below` up to `caller`; none where that is no forebear of it.

    That is so below srun, which hands a task to a daemon of its own.
    """
    line, pid = [], parent_of(below)
    while pid:
        line.append(pid)
        if pid == caller:
            return line
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
    """Kill, since what has been left half done is what a kill leaves, and nobody is there to be told anything."""
    for pid in [*descendants(os.getpid()), os.getpid()]:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
