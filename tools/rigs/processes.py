"""The processes of a run of Snakemake, what each is, and whether two of them make the same thing (ours; Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gdpo.cli.preload import CALL
from gdpo.runtime.parent_watchdog import descendants, parent_of

SHELLS = ("sh", "bash", "dash")


@dataclass(frozen=True)
class Process:
    """A process and its command line; `kind` is snakemake, preloaded, shell, call, gdpo or child.

    Where a preloaded parent forks a step's process, `gdpo`, a `call` with the same command line waits for it.
    """

    pid: int
    kind: str
    command: tuple[str, ...]
    parent: int = 0

    @property
    def step(self) -> str:
        """The arguments of `gdpo`, also where a shell calls it; empty of anything else."""
        place = next((n for n, word in enumerate(self.command) if word.endswith("/gdpo")), None)
        return "" if place is None else " ".join(self.command[place + 1 :])


def kind_of(command: Iterable[str], name: str = "") -> str:
    """What a process with this command line is: a shell, a `gdpo` in Python, or what one of these has started.

    `name` is what the process calls itself, by which a call that waits is told from the step that it waits for.
    """
    words = list(command)
    if Path(words[0]).name in SHELLS:
        return "shell"
    if name == CALL:
        return "call"
    if words[1:3] == ["-m", "gdpo.cli.preloaded_parent"]:
        return "preloaded"
    return "gdpo" if any(word.endswith("/gdpo") for word in words[:2]) else "child"


def command_line(pid: int) -> tuple[str, ...]:
    """The words of a process's command line; none of one that is gone."""
    with suppress(OSError):
        return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
    return ()


def name_of(pid: int) -> str:
    """What a process calls itself; empty of one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def tree(snakemake: int) -> list[Process]:
    """A Snakemake and all that it has started."""
    found = [Process(snakemake, "snakemake", command_line(snakemake))]
    for pid in descendants(snakemake):
        command = command_line(pid)
        if any(command):  # none of one that has ended
            found.append(Process(pid, kind_of(command, name_of(pid)), command))
    return found


def at_work(directory: Path) -> list[Process]:
    """Every `gdpo` in Python that works in `directory`, whoever started it."""
    found = []
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        parent, command = parent_of(pid), command_line(pid)
        if parent and any(command) and kind_of(command, name_of(pid)) == "gdpo":
            with suppress(OSError):
                if Path(os.readlink(f"/proc/{pid}/cwd")) == directory:
                    found.append(Process(pid, "gdpo", command, parent))
    return found


def beside_itself(working: Iterable[Process]) -> dict[str, list[int]]:
    """Steps that several processes are at, none of which has started another: one that does is seen twice at first."""
    steps: dict[str, list[Process]] = {}
    for process in working:
        steps.setdefault(process.step, []).append(process)
    found = {}
    for step, several in steps.items():
        pids = {process.pid for process in several}
        found[step] = [process.pid for process in several if process.parent not in pids]
    return {step: pids for step, pids in found.items() if len(pids) > 1}
