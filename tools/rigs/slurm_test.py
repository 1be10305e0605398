"""`make slurm-test`: micro's table 2 through a real Slurm, with deaths of the submitter and a job that fails.

It skips, saying why, where no Slurm can be brought up: that says nothing about the project. Everything happens in a
copy of the checkout. A `gdpo` of the test's own, first on PATH, keeps a journal of what ran, holds steps back and fails
one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tools.rigs.rig import SECONDS, TABLE, Rig, attempted, expect  # noqa: E402
from tools.rigs.slurm_cluster import GPUS, cluster, missing  # noqa: E402

SCALE = "tests/data/slurm/slurm-test.yaml"
PROFILE = "workflow/profiles/slurm"

# What jobs must be seen to ask for, by how their comment starts: SCALE's needs, for the rest the profile's defaults.
# Partition, CPUs, MB of memory, minutes, GPUs; a group's minutes are its levels' sum, its CPUs and memory a level's.
ASKED = {
    "rule_train_": ("gpu", 2, 3072, 30, 1),
    "rule_evaluate_": ("gpu", 2, 2560, 15, 1),
    "rule_model_": ("cpu", 2, 2048, 45, 0),
    "rule_annotate": ("cpu", 1, 4096, 60, 0),
    "rule_reward_": ("cpu", 1, 4096, 60, 0),
    "rule_data_benchmark_decontaminate_sources": ("cpu", 2, 8192, 120, 0),
    "rule_tables_publish_scores_table_scores": ("cpu", 1, 4096, 120, 0),
}


@dataclass(frozen=True)
class Record:
    """A job as the scheduler has it: what it asked for, and how it ended."""

    id: str
    comment: str
    state: str
    asked: tuple[str, int, int, int, int]  # as in ASKED


def megabytes(text: str) -> int:
    """Slurm's memory, such as 3G or 2.50G."""
    return round(float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]])


def minutes(text: str) -> int:
    """Slurm's time limit, such as 1-02:00:00."""
    days, _, clock = text.rpartition("-")
    hours, mins, _ = (int(part) for part in clock.split(":"))
    return (int(days or 0) * 24 + hours) * 60 + mins


def parse_record(line: str) -> Record:
    """A line of `scontrol --oneliner show job`."""
    found = dict(re.findall(r"(\w+)=(\S*)", line))
    gpus = re.search(r"gres:gpu:(\d+)", found.get("TresPerJob", ""))
    memory = megabytes(found["MinMemoryNode"])
    asked = (
        found["Partition"],
        int(found["NumCPUs"]),
        memory,
        minutes(found["TimeLimit"]),
        int(gpus[1]) if gpus else 0,
    )
    return Record(found["JobId"], found["Comment"], found["JobState"], asked)


def most_at_once(spans: Iterable[tuple[str, str]]) -> int:
    """How many of the (start, end) overlap at most; what ends when another starts does not overlap it."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    return max(sum(change for _, change in changes[: n + 1]) for n in range(len(changes)))


class Submitter(Rig):
    """The calls of Snakemake and of orphans.py in the copy."""

    def submission(self, *more: str) -> list[str]:
        """What submits: partitions are the profile's example, and jobs are looked at more often than by default."""
        profile = ["--workflow-profile", PROFILE, "--slurm-partition-config", f"{PROFILE}/partitions.yaml"]
        often = ["--slurm-init-seconds-before-status-checks", "3"]
        return ["-m", "snakemake", TABLE, *profile, *often, *more, "--config", f"scale={SCALE}"]

    def killed_when(self, reached: Callable[[], bool]) -> None:
        """Submit, and kill the submitting process with SIGKILL as soon as `reached`."""
        with (self.here / "submitter.log").open("w") as log:
            given = {"cwd": self.project, "env": self.environment, "stdout": log, "stderr": log}
            process = subprocess.Popen([sys.executable, *self.submission()], **given)
        try:
            until = time.monotonic() + SECONDS
            while not reached():
                said = (self.here / "submitter.log").read_text()[-3000:]
                expect(process.poll() is None and time.monotonic() < until, f"not reached; Snakemake said:\n{said}")
                time.sleep(0.5)
            refused = self.orphans("--cancel")
            expect(refused.returncode == 2, f"orphans were cancelled below a living submitter: {refused.stdout}")
            expect(
                f"Snakemake still runs in {self.project}, as process {process.pid}" in refused.stderr, refused.stderr
            )
        finally:
            process.kill()
            process.wait()

    def orphans(self, how: str) -> subprocess.CompletedProcess:
        return self.call("workflow/scripts/orphans.py", how)


def records() -> list[Record]:
    """Every job the scheduler has seen."""
    shown = subprocess.check_output(["scontrol", "--oneliner", "show", "job"], text=True)
    return [parse_record(line) for line in shown.splitlines() if line.startswith("JobId=")]


def waiting(comment: str) -> bool:
    return any(each.state == "PENDING" and each.comment.startswith(comment) for each in records())


def die_and_wait(rig: Submitter) -> None:
    """Two trainings hold both GPUs, a third waits; the submitter dies, nothing may be submitted, all three end."""
    hold = rig.here / "hold-train"
    hold.touch()
    rig.killed_when(lambda: rig.began("train") == GPUS and waiting("rule_train_"))
    again = rig.call(*rig.submission("--nolock"))
    expect(again.returncode != 0, f"submitted beside orphans:\n{again.stdout[-3000:]}")
    expect("jobs of a submission that died" in again.stderr, again.stderr[-3000:])
    expect(rig.began("train") == GPUS, "a third training began although both GPUs were taken")
    hold.unlink()
    done = rig.orphans("--wait")
    expect(done.returncode == 0 and "orphans waited for: 3" in done.stdout, done.stdout + done.stderr)
    print(
        "the submitter died while 3 jobs were under way: none could be submitted twice, all were waited for", flush=True
    )


def die_and_cancel(rig: Submitter) -> int:
    """The submitter dies while evaluations run; they are cancelled. How many there were."""
    hold = rig.here / "hold-evaluate"
    hold.touch()
    before = rig.began("evaluate")
    rig.killed_when(lambda: rig.began("evaluate") == before + GPUS)
    done = rig.orphans("--cancel")
    hold.unlink()
    count = sum(each.state == "CANCELLED" for each in records())
    expect(done.returncode == 0 and f"orphans cancelled: {count};" in done.stdout, done.stdout + done.stderr)
    expect(count >= GPUS, f"{count} jobs were cancelled; expected the {GPUS} that ran at least")
    print(f"the submitter died once more: {count} jobs were cancelled", flush=True)
    return count


def finish(rig: Submitter) -> None:
    """The rest, with one evaluation that fails at its first attempt."""
    (rig.here / "fail-evaluate").touch()
    done = rig.call(*rig.submission())
    said = done.stdout + done.stderr
    expect(done.returncode == 0, f"the last submission failed:\n{said[-5000:]}")
    expect("Error in rule evaluate" in said and "the test made this fail" in said, f"not reported:\n{said[-5000:]}")
    expect("runs to train: 0" in said, f"trained anew what the orphans had trained:\n{said[:3000]}")
    print("one evaluation failed: its log was shown, and a second attempt was made", flush=True)


def check_records(found: list[Record]) -> None:
    """Jobs asked for what scale and profile say, and each was completed once."""
    seen = Counter()
    failed = [each for each in found if each.state == "FAILED"]
    expect(len(failed) == 1, f"failed jobs: {failed}; expected one")
    second = [each for each in found if each.comment == failed[0].comment][-1]
    partition, cpus, memory, limit, gpus = failed[0].asked
    expect(second.asked == (partition, cpus, 2 * memory, 2 * limit, gpus), f"retried as {second}")
    for each in found:
        for prefix, asked in ASKED.items():
            if each.comment.startswith(prefix) and each != second:
                expect(each.asked == asked, f"job {each.id}, {each.comment}: found {each.asked}, expected {asked}")
                seen[prefix] += 1
    expect(set(seen) == set(ASKED), f"no jobs of {set(ASKED) - set(seen)}")
    states = Counter(each.state for each in found)
    expect(set(states) == {"COMPLETED", "CANCELLED", "FAILED"}, f"states of jobs: {states}")
    completed = Counter(each.comment for each in found if each.state == "COMPLETED" and "_wildcards_" in each.comment)
    expect(set(completed.values()) == {1}, f"completed more than once: {completed}")
    print(
        f"{len(found)} jobs, {dict(states)}; {sum(seen.values())} of them checked for what they asked for", flush=True
    )
    print(f"retried with {second.asked[2]} MB and {second.asked[3]} minutes after {memory} and {limit}", flush=True)


def check_times(jobcomp: Path) -> None:
    """At no time more jobs with a GPU than GPUs."""
    lines = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in jobcomp.read_text().splitlines()]
    started = [each for each in lines if each["Partition"] == "gpu" and each["StartTime"] != "Unknown"]
    most = most_at_once([(each["StartTime"], each["EndTime"]) for each in started])
    expect(most == GPUS, f"{most} jobs with a GPU ran at once; expected {GPUS}")
    print(f"{len(started)} jobs had a GPU, at most {most} of them at once", flush=True)


def check_journal(rig: Submitter) -> None:
    """No step came to its end twice."""
    ended = Counter(each.arguments for each in rig.journal() if each.what == "end")
    expect(set(ended.values()) == {1}, f"ran twice: {[line for line, count in ended.items() if count > 1]}")
    print(f"{len(ended)} steps of the workflow ran to their end, each once", flush=True)


def run(here: Path) -> None:
    """All of it, below `here`. Raises AssertionError with what was found."""
    rig = Submitter(here)
    expected = (rig.locally(SCALE) / TABLE).read_bytes()
    with cluster(here / "slurm") as slurm:
        version = subprocess.check_output(["sinfo", "--version"], text=True).strip()
        print(f"{version} is up, with {GPUS} GPUs", flush=True)
        die_and_wait(rig)
        die_and_cancel(rig)
        finish(rig)
        check_records(records())
        check_times(slurm / "jobcomp.txt")
    check_journal(rig)
    expect((rig.project / TABLE).read_bytes() == expected, f"{TABLE} differs from the one made without Slurm")
    print(f"{TABLE} is byte for byte the one made without Slurm", flush=True)


def main() -> int:
    reason = missing()
    if reason:
        print(f"slurm-test skipped: {reason}", file=sys.stderr)
        return 0
    return attempted("slurm-test", run)


if __name__ == "__main__":
    sys.exit(main())
