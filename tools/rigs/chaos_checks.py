"""What must hold of a run's files when a process of it was killed: for `make chaos` (ours)."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# What tells of time or machine, or stands under a name that nothing reads: of these two runs may differ.
APART = ("logs", "work", ".snakemake", ".cache")
TIMED = ("provenance.json", "train.json")
FINISHED = re.compile(r"^Finished jobid: (\d+)", re.MULTILINE)
JOB = re.compile(r"^(?:local)?rule \S+:\n((?: +.*\n)+)", re.MULTILINE)
GOES_ON = re.compile(r"Resuming from (\S*/(checkpoint-\d+))")


def finals(directory: Path) -> dict[Path, bytes]:
    """The files of a run that stand under their final names and depend on nothing but its settings."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        timed = name.name.endswith(TIMED) or name.parent == Path()
        if timed or set(name.parts) & set(APART) or any(part.endswith(".partial") for part in name.parts):
            continue
        try:
            found[name] = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # Snakemake removes what a failed job made
            continue
    return found


def differing(directory: Path, other: Path) -> tuple[int, list[Path]]:
    """How many files of `directory` were looked at, and which are not there or other in `other`."""
    mine, theirs = finals(directory), finals(other)
    return len(mine), [name for name, content in mine.items() if theirs.get(name) != content]


def checkpoints(directory: Path) -> list[Path]:
    return list(directory.glob("results/*/work/train/*/checkpoints/checkpoint-*"))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has its last file, and all of it."""
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_bytes()))
    except (OSError, ValueError):
        return False


def whole_saved(directory: Path) -> list[Path]:
    return [path for path in checkpoints(directory) if is_whole(path)]


def half_saved(directory: Path) -> list[Path]:
    return [path for path in checkpoints(directory) if path.is_dir() and not is_whole(path)]


def done(directory: Path) -> tuple[set[str], int]:
    """The calls of `gdpo` that Snakemake has recorded as done, by their arguments; how many records are torn.

    Of its outputs none may be marked as incomplete, and all must be there: a job that failed has a record, too.
    """
    marked = {_name(path) for path in (directory / ".snakemake/incomplete").rglob("*") if path.is_file()}
    finished: dict[str, bool] = {}
    torn = 0
    for path in (directory / ".snakemake/metadata").rglob("*"):
        if not path.is_file():
            continue
        try:
            called = json.loads(path.read_text())["shellcmd"] or ""
        except ValueError:
            torn += 1
            continue
        output = _name(path)
        whole = output not in marked and (directory / output).exists()
        finished[called] = finished.get(called, True) and whole
    return {" ".join(called.split()[1:]) for called, whole in finished.items() if whole}, torn


def _name(record: Path) -> str:
    """The output that one of Snakemake's records is about: long names are spread over directories @PART/."""
    parts = [part[1:] for part in record.parts if part.startswith("@")]
    return urlsafe_b64decode("".join([*parts, record.name])).decode()


def said_finished(said: str) -> set[str]:
    """The logs of the jobs that Snakemake told to have finished: each job has its own."""
    logs = {}
    for block in JOB.findall(said):
        told = dict(line.strip().partition(": ")[::2] for line in block.splitlines())
        logs[told.get("jobid")] = told.get("log", "").split(" ")[0]
    return {logs[job] for job in FINISHED.findall(said) if logs.get(job)}


@dataclass
class Findings:
    """What was counted over all kills, and what no later call may do."""

    files: int = 0
    recorded: set[str] = field(default_factory=set)
    half: set[str] = field(default_factory=set)
    whole: set[Path] = field(default_factory=set)
    seen_half: int = 0
    locks: int = 0
    torn: int = 0

    def note(self, directory: Path, said: str, snakemake_died: bool) -> None:
        """Remember what is recorded as done and which checkpoints are half-written, before a restart."""
        recorded, torn = done(directory)
        lost = {log for log in said_finished(said) if not any(each.endswith(f"--log {log}") for each in recorded)}
        if lost:
            raise AssertionError(f"told to have finished, but not recorded: {', '.join(sorted(lost))}")
        self.recorded |= recorded
        self.torn += torn
        self.locks += snakemake_died and any((directory / ".snakemake/locks").glob("*.lock"))
        self.half = {path.relative_to(directory).as_posix() for path in half_saved(directory)}
        self.seen_half += len(self.half)
        self.whole = set(whole_saved(directory))

    def check_again(self, begun: Iterable[str]) -> None:
        again = self.recorded & set(begun)
        if again:
            raise AssertionError(f"recorded as done, but run again: {', '.join(sorted(again))}")

    def check_resumed(self, said: str) -> list[str]:
        """The checkpoints that trainings went on from, none of which may have been half-written."""
        found = dict.fromkeys(GOES_ON.findall(said))
        for path, _ in found:
            if path in self.half:
                raise AssertionError(f"{path}: read, though half-written at the kill")
        return [name for _, name in found]

    def missing(self, directory: Path, other: Path) -> list[Path]:
        """What only the other run made."""
        return sorted(set(finals(other)) - set(finals(directory)))

    def summary(self) -> str:
        return (
            f"half-written checkpoints found {self.seen_half} times, none read; {self.locks} stale locks and "
            f"{self.torn} torn records of Snakemake's, all mended by the restart; {self.files} files looked at "
            f"after kills, none half-written; {len(self.recorded)} steps recorded as done before a kill, none run again"
        )
