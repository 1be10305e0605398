"""`make chaos`: table 2 made while random processes of the run are killed outright, and made again each time.

A run that nobody disturbs says what must come out. In another directory Snakemake, the preloaded parent, a job's shell,
its call, its `gdpo` or a child of it is then killed with SIGKILL at a random moment of each stage in turn, and the run
is started anew as README has it. After each kill every file under its final name must be the undisturbed run's, no step
may have two processes at it, and what Snakemake had recorded as done may not run again. Linux alone has what this looks
at.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from gdpo.runtime.parent_watchdog import descendants  # noqa: E402
from tools.rigs.chaos_checks import Findings, differing, half_saved, whole_saved  # noqa: E402
from tools.rigs.processes import at_work, beside_itself, tree  # noqa: E402
from tools.rigs.rig import SECONDS, TABLE, Entry, Rig, attempted, expect, parse_journal  # noqa: E402

SCALE = "tests/data/chaos/chaos.yaml"
LOOK_SECONDS = 0.05
BOOKKEEPING_SECONDS = 0.05  # ours: Snakemake writes a finished job down within about this after its end

STAGES = {
    "model": "pretraining",
    "benchmark": "data",
    "metakl": "data",
    "teach": "responses and rewards",
    "evaluate": "evaluation",
    "table": "tables",
    "publish": "tables",
}


@dataclass(frozen=True)
class Kill:
    """What is to be killed, and when.

    `moment`: `time`, after the share `after` of what a step of the stage took undisturbed; `bookkeeping`, right after a
    step's end; `checkpoint`, with a whole checkpoint there; `half checkpoint`, while one is being written.
    """

    stage: str
    victim: str
    moment: str
    after: float


@dataclass(frozen=True)
class Hit:
    """A kill that was done: of which process, at which step, and how many steps it left running."""

    kill: Kill
    step: str
    victim: str
    orphans: int

    def line(self, number: int, total: int, outcome: str) -> str:
        at = f"{self.kill.stage}, {short(self.step)}, at {self.kill.moment}" if self.kill.moment != "time" else ""
        left = f"{self.orphans} steps left running ended; " if self.victim == "snakemake" else ""
        return (
            f"kill {number}/{total}: {at or f'{self.kill.stage}, {short(self.step)}'}: {self.victim}: {left}{outcome}"
        )


def stage_of(arguments: str) -> str:
    """The stage that a call of `gdpo` belongs to; each method's training is one."""
    step = arguments.split()[0]
    if step == "train":
        return "training " + re.search(r"--method (\S+)", arguments)[1]
    return STAGES[step]


def of_jobs(entries: Sequence[Entry]) -> list[Entry]:
    """The calls that jobs made; at its end Snakemake itself asks for a summary."""
    return [each for each in entries if not each.arguments.startswith("summary ")]


def short(arguments: str) -> str:
    """A call of `gdpo` in few words: the step and what it is about."""
    words = re.sub(r" --(?:scale|log|seeds|split) \S+", "", f" {arguments}").split()
    return " ".join(word for word in words if not word.startswith("--"))


def durations(journal: Sequence[Entry]) -> dict[str, float]:
    """Seconds that each call took, by its arguments."""
    began = {each.arguments: each.at for each in journal if each.what == "begin"}
    return {each.arguments: each.at - began[each.arguments] for each in journal if each.what == "end"}


def moments(stage: str) -> list[str]:
    """The moments to draw from in a stage; GRPO's few steps write no checkpoint."""
    if stage.startswith("training") and stage != "training grpo":
        return ["time", "checkpoint", "half checkpoint", "bookkeeping"]
    return ["time", "time", "bookkeeping"]


def draw(stages: Sequence[str], kills: int, seed: int) -> list[Kill]:
    """`kills` kills in the order of the stages, as evenly over them as can be; a fixed seed draws the same ones."""
    chance = random.Random(seed)
    extra = set(chance.sample(range(len(stages)), kills % len(stages)))
    counts = [kills // len(stages) + (n in extra) for n in range(len(stages))]
    drawn: list[Kill] = []
    for stage, count in zip(stages, counts, strict=True):
        # Of bookkeeping one and the last: what is recorded does not come again, and a stage may have one step.
        chosen = [chance.choice(moments(stage)) for _ in range(count)]
        if "bookkeeping" in chosen:
            chosen = [each if each != "bookkeeping" else "time" for each in chosen[:-1]] + ["bookkeeping"]
        for moment in chosen:
            # A half-written checkpoint is what the death of its writer leaves, bookkeeping is Snakemake's.
            victims = {"half checkpoint": ["gdpo"], "bookkeeping": ["snakemake"]}
            victim = chance.choice(victims.get(moment, ["snakemake", "shell", "call", "gdpo", "child", "preloaded"]))
            drawn.append(Kill(stage, victim, moment, chance.uniform(0.05, 0.6)))
    return _with_parents(drawn, chance)


def _with_parents(drawn: list[Kill], chance: random.Random) -> list[Kill]:
    """The kills with a quarter of them of the preloaded parent, on which all steps of a call depend."""
    missing = len(drawn) // 4 - sum(kill.victim == "preloaded" for kill in drawn)
    free = [n for n, kill in enumerate(drawn) if kill.moment in ("time", "checkpoint") and kill.victim != "preloaded"]
    chosen = chance.sample(free, min(max(missing, 0), len(free)))
    return [replace(kill, victim="preloaded") if n in chosen else kill for n, kill in enumerate(drawn)]


class Chaos(Rig):
    """The run that is killed again and again."""

    def __init__(self, here: Path):
        super().__init__(here)
        self.calm = self.locally(SCALE)
        self.killed = here / "killed"
        self.killed.mkdir()
        journal = of_jobs(parse_journal((self.calm / "journal").read_text()))
        self.took = durations(journal)
        order = dict.fromkeys(stage_of(each.arguments) for each in journal)
        self.stages = sorted(order, key=lambda stage: stage == "tables")
        self.findings = Findings()
        self.process: subprocess.Popen | None = None
        self.log = here / "killed.log"
        self.started = 0  # length of the log before the present call
        self.since = 0  # length of the journal before it
        self.hits: list[Hit] = []  # in the present call
        self.counted = self.resumed = self.survived = 0
        self.victims, self.stages_hit = Counter(), Counter()

    def command(self, *more: str) -> list[str]:
        where = ["-m", "snakemake", "--directory", str(self.killed)]
        return [sys.executable, *where, *more, "--config", f"scale={self.project / SCALE}"]

    def start(self) -> None:
        """As README says after a kill: unlock, then go on."""
        given = {"cwd": self.project, "env": self.environment}
        unlocked = subprocess.run(self.command("--unlock"), capture_output=True, text=True, **given)
        expect(unlocked.returncode == 0, f"snakemake --unlock failed:\n{unlocked.stderr[-3000:]}")
        self.started = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as log:
            command = self.command("--cores", "2", "--rerun-incomplete", TABLE)
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **given)

    def said(self) -> str:
        """What the present call of Snakemake and its jobs have said."""
        with self.log.open(errors="replace") as log:
            log.seek(self.started)
            return log.read()

    def look(self) -> bool:
        """Whether Snakemake still runs; no step may have two processes at it."""
        twice = beside_itself(at_work(self.killed))
        expect(not twice, f"two processes at one step: {twice}")
        return self.process.poll() is None

    def arm(self, armed: dict[str, tuple[Kill, float]], pool: list[Kill]) -> None:
        """Let each step that this call has begun wait for a kill of its stage, or of one that is over."""
        entries = self.entries()
        ended = {each.arguments for each in entries if each.what == "end"}
        ever = {each.arguments for each in self.journal() if each.what == "end"}
        over = set(self.stages) - {stage_of(step) for step in self.took if step not in ever}
        for step in (each.arguments for each in entries if each.what == "begin"):
            if step in armed or step in ended or any(hit.step == step for hit in self.hits):
                continue
            stage = stage_of(step)
            kill = next((each for each in pool if each.stage == stage), None)
            if kill is None:
                kill = next((each for each in pool if stage == "tables" or each.stage in over), None)
            if kill:
                pool.remove(kill)
                if kill.stage != stage:
                    kill = replace(kill, stage=stage, moment="time")
                armed[step] = kill, time.monotonic() + kill.after * self.took[step]

    def reached(self, pool: list[Kill]) -> tuple[Kill, str] | None:
        """Wait for the moment of a kill out of `pool`, and take it out; None where the call ends before."""
        until = time.monotonic() + SECONDS
        armed: dict[str, tuple[Kill, float]] = {}
        found, ended = None, set()
        while found is None and self.look():
            expect(time.monotonic() < until, f"no kill came up, {len(pool)} were left")
            self.arm(armed, pool)
            ended = {each.arguments for each in self.entries() if each.what == "end"}
            found = next((step for step, (kill, due) in armed.items() if self.come(kill, due, step in ended)), None)
            time.sleep(LOOK_SECONDS if found is None else 0)
        kill = armed.pop(found)[0] if found else None
        if kill and kill.moment != "bookkeeping" and found in ended:
            kill = replace(kill, moment="its end")
        pool[:0] = [other for other, _ in armed.values()]
        return (kill, found) if kill and found else None

    def come(self, kill: Kill, due: float, ended: bool) -> bool:
        """Whether the moment of a kill is there; the end of its step is the last chance for any."""
        if ended:
            time.sleep(kill.after * BOOKKEEPING_SECONDS)
            return True
        if kill.moment == "time":
            return time.monotonic() > due
        if kill.moment == "checkpoint":
            return bool(set(whole_saved(self.killed)) - self.findings.whole)
        return kill.moment == "half checkpoint" and self.stopped_at_half()

    def entries(self) -> list[Entry]:
        """What the jobs of the present call did so far."""
        return of_jobs(self.journal()[self.since :])

    def stopped_at_half(self) -> bool:
        """Stop the training that writes a checkpoint at this instant, if one does within the next moment."""
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            if self.new_half():
                training = [each for each in tree(self.process.pid) if each.kind == "gdpo" and "train " in each.step]
                for each in training:
                    os.kill(each.pid, signal.SIGSTOP)
                if training and self.new_half():
                    return True
                for each in training:
                    os.kill(each.pid, signal.SIGCONT)
            time.sleep(0.001)
        return False

    def new_half(self) -> bool:
        """Whether a checkpoint is half-written that was not so before the present call."""
        found = {path.relative_to(self.killed).as_posix() for path in half_saved(self.killed)}
        return bool(found - self.findings.half)

    def strike(self, kill: Kill, step: str) -> Hit | None:
        """Kill a process of a step, or Snakemake; None where the call has just ended."""
        there = tree(self.process.pid) if self.process.poll() is None else []
        mine = [each for each in there if each.step == step]
        below = {pid for each in mine for pid in descendants(each.pid)}
        wanted = [each for each in there if each.kind == kill.victim and (each in mine or each.pid in below)]
        if kill.victim == "preloaded":
            wanted = [each for each in there if each.kind == "preloaded"]
        if kill.victim == "snakemake" or not mine:
            wanted = there[:1]
        victim = self.chance.choice(wanted or mine or [None])
        for each in there:  # what was stopped goes on, or is killed
            send(each.pid, signal.SIGKILL if each is victim else signal.SIGCONT)
        if victim is None:
            return None
        orphans = len({each.step for each in there if each.kind == "gdpo"}) if victim.kind == "snakemake" else 0
        return Hit(kill, step, victim.kind, orphans)

    def check(self) -> None:
        """What must hold at any instant: nothing half-written is to be seen."""
        seen, wrong = differing(self.killed, self.calm)
        self.findings.files += seen
        expect(not wrong, f"not what the undisturbed run made: {', '.join(map(str, wrong[:5]))}")

    def disturbed(self, kills: Sequence[Kill], seed: int) -> int:
        """The whole run with its kills; how many calls of Snakemake it took."""
        self.chance = random.Random(seed)
        pool, before, calls = list(kills), [], 1
        self.start()
        while True:
            found = self.reached(pool)
            hit = self.strike(*found) if found else None
            if found and not hit:
                pool.insert(0, found[0])
            if hit:
                self.hits.append(hit)
                self.check()
            if hit and hit.victim != "snakemake":
                continue  # what else runs goes on, and may be hit, too
            code = self.process.wait()
            self.tell(before, len(kills))
            before, self.hits = self.hits, []
            if code == 0:
                self.survived += len(before)
                self.printed(before, len(kills), "the run went on to its end")
                return calls
            expect(bool(before), f"Snakemake failed by itself:\n{self.said()[-3000:]}")
            self.findings.note(self.killed, self.said(), before[-1].victim == "snakemake")
            self.since = len(self.journal())
            self.start()
            calls += 1

    def tell(self, hits: Sequence[Hit], total: int) -> None:
        """Print what the present call, now at its end, came to after the hits in the one before it."""
        before = {each.arguments for each in of_jobs(self.journal()[: self.since]) if each.what == "begin"}
        begun = [each.arguments for each in self.entries() if each.what == "begin"]
        self.findings.check_again(begun)
        resumed = self.findings.check_resumed(self.said())
        self.resumed += len(resumed)
        again = ", ".join(short(each) for each in dict.fromkeys(begun) if each in before) or "nothing"
        outcome = f"restarted, made again: {again}" + (f"; went on from {', '.join(resumed)}" if resumed else "")
        self.printed(hits, total, outcome)

    def printed(self, hits: Sequence[Hit], total: int, outcome: str) -> None:
        """Count and print the hits of one call, which had one outcome."""
        for number, each in enumerate(hits, start=1):
            self.counted += 1
            came = outcome if number == len(hits) else "the run was killed once more before it ended"
            print(each.line(self.counted, total, came), flush=True)
            self.victims[each.victim] += 1
            self.stages_hit[each.kill.stage] += 1


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def run(here: Path, kills: int, seed: int) -> None:
    """All of it, below `here`. Raises AssertionError with what was found."""
    start = time.monotonic()
    chaos = Chaos(here)
    print(f"undisturbed: {len(chaos.took)} steps in {time.monotonic() - start:.0f} s", flush=True)
    drawn = draw(chaos.stages, kills, seed)
    try:
        calls = chaos.disturbed(drawn, seed)
    finally:
        if chaos.process and chaos.process.poll() is None:
            chaos.process.kill()
    chaos.check()
    expect(chaos.counted == kills, f"the run ended after {chaos.counted} of {kills} kills")
    missing = chaos.findings.missing(chaos.killed, chaos.calm)
    expect(not missing, f"not made: {', '.join(map(str, missing[:5]))}")
    for part in ("", "_retention", "_forgetting"):
        name = TABLE.replace(".csv", f"{part}.csv")
        expect((chaos.killed / name).read_bytes() == (chaos.calm / name).read_bytes(), f"{name} differs")
    saved = any(each.moment == "checkpoint" for each in drawn)
    expect(chaos.resumed > 0 or not saved, "no training went on from a checkpoint")
    hit = ", ".join(f"{count} {kind}" for kind, count in sorted(chaos.victims.items()))
    stages = ", ".join(f"{stage} {count}" for stage, count in chaos.stages_hit.items())
    print(
        f"{kills} kills, seed {seed}: {hit}; by stage: {stages}; {calls} calls of Snakemake; {chaos.survived} kills "
        f"survived without a restart; {chaos.resumed} times a training went on from a checkpoint; "
        f"{chaos.findings.summary()}"
    )
    print(f"{TABLE}, _retention and _forgetting are byte for byte the undisturbed run's")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not Path("/proc/self/environ").exists():
        print("chaos skipped: expected Linux, whose /proc lists processes", file=sys.stderr)
        return 0
    return attempted("chaos", lambda here: run(here, given.kills, given.seed))


if __name__ == "__main__":
    sys.exit(main())
