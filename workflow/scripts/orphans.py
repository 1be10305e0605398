"""Find the jobs of a Slurm submission whose Snakemake has died, cancel or await them, and unlock the directory.

Snakemake's Slurm plugin names every job of a submission by one run id and writes it into the submission's log, which
the submitter holds open as long as it lives. Jobs of a run id whose log no process holds open are orphans; only these
are touched. The Snakefile looks for them before it submits anything, so that no job runs twice at the same time.
Without Slurm, the processes of a dead Snakemake end by themselves (gdpo/runtime/parent_watchdog.py); this script waits
for that.
"""

from __future__ import annotations

import argparse
import getpass
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT)]

from gdpo.core.errors import UserError  # noqa: E402
from gdpo.runtime.parent_watchdog import find_orphans  # noqa: E402

POLL_SECONDS = 10
ENDING_SECONDS = 20  # ours: a process that is about to end has ended by then, unless its disk does not answer
AWAITED = Path(".snakemake") / "awaited"  # says that orphans finished results, which no Snakemake recorded
ORPHANS, REFUSED = 1, 2  # exit codes


@dataclass(frozen=True)
class Submission:
    """One call of Snakemake that submitted to Slurm."""

    run: str
    host: str
    log: Path


@dataclass(frozen=True)
class Job:
    """A line of squeue: a job that is not over yet."""

    id: str
    state: str
    run: str
    what: str


def read_submission(log: Path) -> Submission | None:
    """The submission whose log this is; None for a run without Slurm."""
    host = ""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if found := re.match(r"  Host: (\S+)", line):
                host = found[1]
            if found := re.match(r"SLURM run ID: (\S+)", line):
                return Submission(found[1], host, log)
    return None


def snakemake_logs(directory: Path) -> list[Path]:
    """The logs of Snakemake's calls in `directory`, oldest first."""
    return sorted((directory.resolve() / ".snakemake" / "log").glob("*.snakemake.log"))


def submissions(directory: Path) -> dict[str, Submission]:
    """The submissions from `directory` to Slurm, by run id."""
    return {each.run: each for each in map(read_submission, snakemake_logs(directory)) if each}


def parse_queue(text: str) -> list[Job]:
    """The jobs in squeue's lines `ID|STATE|NAME|COMMENT`; the plugin's comment says rule and wildcards."""
    return [Job(*line.split("|", 3)) for line in text.splitlines() if line.count("|") >= 3]


def queued_jobs(runs: Iterable[str]) -> list[Job]:
    """The user's own jobs of `runs` that are waiting, running or ending, as the scheduler has them.

    Raises UserError where the scheduler does not answer.
    """
    names = set(runs)
    if not names:
        return []
    command = ["squeue", f"--user={getpass.getuser()}", "--noheader", "--format=%i|%T|%j|%k"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"squeue failed: {done.stderr.strip()}", expected="a scheduler that answers")
    return [job for job in parse_queue(done.stdout) if job.run in names]


def _processes() -> list[Path]:
    """Every other process on this machine, below /proc."""
    return [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]


def open_files() -> dict[str, str]:
    """What the user's processes on this machine hold open, with the process id of one that does."""
    holders = {}
    for process in _processes():
        with suppress(OSError):  # it ended meanwhile, or is another user's
            holders |= {os.readlink(each): process.name for each in (process / "fd").iterdir()}
    return holders


def is_submitting(runs: set[str]) -> bool:
    """Whether a process here still carries a job of `runs` to the scheduler: an sbatch outlives who called it."""
    for process in _processes():
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"sbatch" in command and any(run.encode() in command for run in runs):
                return True
    return False


def orphaned_jobs(directory: Path, gone: Iterable[str] = ()) -> list[Job]:
    """The orphans of `directory`'s submissions.

    Raises UserError where a Snakemake still runs in `directory`, or jobs were submitted on a host that cannot be looked
    at from here and is not one of `gone`.
    """
    opened = open_files()
    for log in snakemake_logs(directory):
        if pid := opened.get(str(log)):
            raise UserError(
                f"Snakemake still runs in {directory}, as process {pid}",
                hint="stop it first: an interrupt (Ctrl-C) cancels its jobs by itself",
            )
    found = submissions(directory)
    jobs = queued_jobs(found)
    for host in {found[job.run].host for job in jobs} - {platform.node(), *gone}:
        raise UserError(
            f"jobs in the queue were submitted on {host}, whose processes cannot be seen from here",
            hint=f"run this there, or with --gone {host} if no Snakemake runs there",
        )
    return jobs


def blocking_jobs(directory: Path) -> list[Job]:
    """The jobs that must end before `directory` is submitted anew: those whose submitter does not live here."""
    opened = open_files()
    return queued_jobs(run for run, each in submissions(directory).items() if str(each.log) not in opened)


def end_orphans(directory: Path, cancel: bool, gone: Iterable[str]) -> int:
    """Cancel or await every orphan; how many there were."""
    seen: set[str] = set()
    while True:
        # An sbatch under way is looked for first: what it submits is in the queue by then.
        late = is_submitting(set(submissions(directory)))
        jobs = orphaned_jobs(directory, gone)
        for job in (job for job in jobs if job.id not in seen):
            print(
                f"{'cancelling' if cancel else 'waiting for'} job {job.id}, {job.state.lower()}: {job.what}", flush=True
            )
            if cancel:
                subprocess.run(["scancel", job.id], check=True)
        seen |= {job.id for job in jobs}
        if not jobs and not late:
            return len(seen)
        time.sleep(1 if cancel else POLL_SECONDS)


def local_problem(directory: Path) -> str | None:
    """Why nothing may run in `directory`, where processes of a Snakemake that died here do not end; None otherwise."""
    until = time.monotonic() + ENDING_SECONDS
    while processes := find_orphans(directory):
        if time.monotonic() > until:
            named = "; ".join(f"{pid} ({command})" for pid, command in processes.items())
            return (
                f"found processes that a Snakemake left running when it died, {named}; expected none before making the "
                f"same files anew: end them with kill -9 {' '.join(map(str, processes))}"
            )
        time.sleep(0.2)
    return None


def unlock(directory: Path) -> None:
    """Remove the dead Snakemake's lock on `directory`."""
    command = ["snakemake", "-s", str(PROJECT / "Snakefile"), "--directory", str(directory), "--unlock"]
    subprocess.run(command, check=True, capture_output=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(), help="where the workflow ran")
    parser.add_argument(
        "--gone", action="append", default=[], metavar="HOST", help="no Snakemake runs on HOST any more"
    )
    do = parser.add_mutually_exclusive_group()
    do.add_argument("--cancel", action="store_true", help="cancel the jobs; what they had begun is made again")
    do.add_argument("--wait", action="store_true", help="wait until they end; what they finish is kept")
    given = parser.parse_args()
    directory = given.directory.resolve()
    if message := local_problem(directory):
        print(f"orphans: {message}", file=sys.stderr)
        return ORPHANS
    if not shutil.which("squeue"):
        return 0  # no Slurm, no further orphans
    try:
        if given.cancel or given.wait:
            count = end_orphans(directory, given.cancel, given.gone)
            if given.wait and count:
                (directory / AWAITED).touch()
            unlock(directory)
            print(f"orphans {'cancelled' if given.cancel else 'waited for'}: {count}; the directory is unlocked")
            return 0
        jobs = blocking_jobs(directory)
    except UserError as error:
        print(f"orphans: {error}", file=sys.stderr)
        return REFUSED
    if jobs:
        print(
            f"orphans: found {len(jobs)} jobs of a submission that died, {', '.join(job.id for job in jobs)}; expected "
            "none before submitting anew: python workflow/scripts/orphans.py --cancel, or --wait",
            file=sys.stderr,
        )
    return ORPHANS if jobs else 0


if __name__ == "__main__":
    sys.exit(main())
