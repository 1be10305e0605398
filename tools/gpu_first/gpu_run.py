"""Run the stages of the first half hour on a GPU part by part, each in a process of its own that a time-out ends.

    RESULTS/journal.jsonl        what began and what came of it, with its rows; everything else is made of it
    RESULTS/NUMBER-STAGE.csv     the rows of a stage, after every part; beside it its provenance
    RESULTS/parts.csv            every part with its seconds and, where it failed, the reason in one sentence
    RESULTS/logs/PART.log        what the part printed
    RESULTS/work/                what parts keep for later ones

A part that has ended is never run again, unless `--retry` names it. What a kill, even of this process, interrupted is.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gdpo.core.errors import UserError, last_line, writing
from gdpo.core.files import finished_rows, read_json, write_csv
from gdpo.core.provenance import provenance_path, recorded
from gdpo.core.redaction import scrubbed
from gdpo.core.terminal import say
from gdpo.runtime import parent_watchdog
from tools.gpu_first.gpu_plan import Part, Plan, Stage
from tools.gpu_first.gpu_versions import versions
from tools.offline.node import DONE, FAILED, UNFINISHED

ENDED = ("done", "failed", "timed out", "no time")  # whatever else became of a part, it is run again
MARK = "GPU_FIRST_PART"  # in the environment of what a part runs
SECONDS = "GPU_FIRST_SECONDS"  # how long it has
LEAST = 20  # ours: seconds below which a part that resumes is not begun: its imports alone take as long
MERCY, MOST_MERCY = (
    0.2,
    10,
)  # ours: of a part's time, between the interrupt, upon which it keeps what it can, and the kill
LOOK = 0.2  # ours: seconds between two looks at a part
TAIL = 30  # ours: lines of a failed part's log that stay in the journal
TOOK = ["part", "status", "seconds", "cpu_seconds", "given_seconds", "at"]
PARTS = ["stage", "part", "status", "seconds", "cpu_seconds", "given_seconds", "attempts", "ended", "reason"]


class Journal:
    """What began and ended; the file's time of change is when this process was last seen alive."""

    def __init__(self, path: Path):
        self.path = path
        self.entries = finished_rows(path)

    def add(self, **entry: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = {**entry, "at": now, "time": time.time()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)

    def beat(self) -> None:
        os.utime(self.path)

    def of(self, part: str) -> list[dict[str, Any]]:
        """What became of each time that a part was begun."""
        return [entry for entry in self.entries if entry["part"] == part and entry["event"] == "end"]

    def status(self, part: str) -> str:
        return next((entry["status"] for entry in reversed(self.of(part))), "waits")

    def spent(self) -> float:
        """Seconds of the half hour that parts have taken."""
        return sum(entry["seconds"] for entry in self.entries if entry["event"] == "end")

    def mend(self) -> None:
        """Write down the end of a part whose runner was killed, and end what it may have left running."""
        last = self.entries[-1] if self.entries else None
        if last and last["event"] == "begin":
            _end_left(last["pid"], last["part"])
            seconds = max(self.path.stat().st_mtime - last["time"], 0.0)
            told = {name: last[name] for name in ("stage", "part", "given_seconds")}
            self.add(event="end", **told, status="killed", seconds=round(seconds, 1), cpu_seconds=None, rows=[],
                     reason="the runner was killed while the part ran")  # fmt: skip


class Runner:
    """All parts of `plan` in order, `minutes` of them in this call."""

    def __init__(self, plan: Plan, file: Path, project: Path, minutes: float, retry: list[str]):
        self.plan, self.file, self.project, self.retry = plan, file, project, list(retry)
        self.room = project / plan.results
        (self.room / "logs").mkdir(parents=True, exist_ok=True)
        self.ends = time.monotonic() + minutes * 60
        if unknown := [name for name in retry if name not in plan.parts()]:
            raise UserError(f"--retry {unknown[0]}: expected one of {', '.join(plan.parts())}")

    def run(self, through: str | None) -> int:
        """Run what waits, to the end of stage `through`; DONE, FAILED where a part failed, UNFINISHED where some wait.

        Raises UserError where another call is at it.
        """
        with self._alone():
            self.journal = Journal(self.room / "journal.jsonl")
            self.journal.mend()
            for stage in self.plan.stages:
                if self._behind(stage):  # a kill came between the journal and the CSV
                    self._write(stage)
                for part in stage.parts:
                    if self._waits(part) and not self._begin(stage, part):
                        return self._remains()
                if stage.name == through:
                    break
            return self._remains()

    def _waits(self, part: Part) -> bool:
        return part.name in self.retry or self.journal.status(part.name) not in ENDED

    def limit(self, stage: Stage, part: Part) -> float:
        """Seconds for `part`: to the end of its stage, less what later parts of the stage are given."""
        later = stage.parts[stage.parts.index(part) + 1 :]
        waiting = sum(one.seconds for one in later if self.journal.status(one.name) not in ENDED)
        return self.plan.ends(stage) - self.journal.spent() - waiting

    def _begin(self, stage: Stage, part: Part) -> bool:
        """Run `part` if this call has the time; whether the call goes on."""
        limit = part.seconds if part.name in self.retry else self.limit(stage, part)
        left = self.ends - time.monotonic()
        if limit < min(part.seconds / 4, LEAST):
            self._end(stage, part, "no time", 0.0, 0.0, limit, f"its stage has {max(limit, 0):.0f} seconds left")
            return True
        if left < (min(LEAST, limit) if part.resumes else min(part.seconds, limit)):
            say(f"{left:.0f} seconds of this call are left, {part.name} is given {limit:.0f}")
            return False
        given = min(limit, left)
        say(f"{stage.name}: {part.name}, at most {given:.0f} s")
        status, seconds, cpu, reason = self._one(stage, part, given)
        if status == "timed out" and part.resumes and given < limit:
            status, reason = "stopped", "this call's time is over"
        self._end(stage, part, status, seconds, cpu, given, reason)
        if part.name in self.retry:
            self.retry.remove(part.name)
        return status != "stopped"

    def _one(self, stage: Stage, part: Part, given: float) -> tuple[str, float, float, str]:
        """Run a part for `given` seconds at most: what became of it, seconds of the clock and the CPU, the reason."""
        out, log = self.room / "work" / f"{part.name}.json", self.room / "logs" / f"{part.name}.log"
        out.parent.mkdir(exist_ok=True)
        for stale in (out, out.with_suffix(".error")):
            stale.unlink(missing_ok=True)
        parent_watchdog.announce()
        environment = os.environ | {MARK: part.name, SECONDS: f"{given - mercy(given):.0f}"}
        started, before = time.monotonic(), _children()
        with log.open("ab") as file:
            process = subprocess.Popen(
                command(self.plan, part, self.file, out), cwd=self.project, env=environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self.journal.add(
                event="begin", stage=stage.name, part=part.name, given_seconds=round(given), pid=process.pid
            )
            stopped = None
            try:
                stopped = self._wait(process, started + given, mercy(given))
            except KeyboardInterrupt:
                stopped = "stopped"
            finally:
                _kill(process.pid, signal.SIGKILL)
                process.wait()
        seconds, cpu = time.monotonic() - started, _children() - before
        if stopped:
            said = "interrupted" if stopped == "stopped" else f"it was ended after {given:.0f} seconds"
            return stopped, seconds, cpu, said
        if process.returncode == 0 and out.exists():
            return "done", seconds, cpu, ""
        return "failed", seconds, cpu, _reason(process.returncode, out, log)

    def _wait(self, process: subprocess.Popen, ends: float, kept_back: float) -> str | None:
        """Wait for a part, interrupted `kept_back` seconds before `ends` as Ctrl-C does; 'timed out' where it was."""
        asked = False
        while process.poll() is None:
            now = time.monotonic()
            if now > ends:
                return "timed out"
            if now > ends - kept_back and not asked:
                _kill(process.pid, signal.SIGINT)
                asked = True
            self.journal.beat()
            time.sleep(LOOK)
        # Interrupted, it may still have ended well: then it has written its rows, and is done.
        return "timed out" if asked and process.returncode else None

    def _end(
        self, stage: Stage, part: Part, status: str, seconds: float, cpu: float, given: float, reason: str
    ) -> None:
        out = self.room / "work" / f"{part.name}.json"
        told = read_json(out) if seconds and out.exists() else {}
        log = self.room / "logs" / f"{part.name}.log"
        tail = (
            scrubbed(log.read_text(errors="replace")).splitlines()[-TAIL:] if status != "done" and log.exists() else []
        )
        self.journal.add(
            event="end", stage=stage.name, part=part.name, status=status, seconds=round(seconds, 1),
            cpu_seconds=round(cpu, 1), given_seconds=round(given), reason=reason, rows=told.get("rows", []),
            machine=told.get("machine", {}), tail=tail,
        )  # fmt: skip
        self._write(stage)
        say(f"{stage.name}: {part.name} {status} in {seconds:.1f} s, {cpu:.1f} of CPU{f': {reason}' if reason else ''}")

    def _csv(self, stage: Stage) -> Path:
        return self.room / f"{self.plan.stages.index(stage) + 1}-{stage.name}.csv"

    def _behind(self, stage: Stage) -> bool:
        """Whether the journal knows more of a stage than its CSV, or than the provenance, which is written after it."""
        times = [entry["time"] for part in stage.parts for entry in self.journal.of(part.name)]
        told = provenance_path(self._csv(stage))
        whole = self._csv(stage).exists() and told.exists() and (self.room / "parts.csv").exists()
        return bool(times) and not (whole and told.stat().st_mtime >= max(times))

    def _write(self, stage: Stage) -> None:
        """Make a stage's CSV and parts.csv anew of the journal."""
        rows, machine = [], {}
        for part in stage.parts:
            if ended := self.journal.of(part.name):
                told = {"part": part.name, "status": ended[-1]["status"], "reason": ended[-1]["reason"]}
                rows += [told | row for row in ended[-1]["rows"]] or [told]
                machine |= ended[-1].get("machine", {})
        if not rows:
            return
        path = self._csv(stage)
        with recorded(path, "gpu_first", stage) as extra:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            write_csv(path, columns, [{column: row.get(column, "") for column in columns} for row in rows])
            entries = [entry for part in stage.parts for entry in self.journal.of(part.name)]
            extra |= {  # what the parts took and ran on; writing their rows is no part of it
                "rehearsal": self.plan.rehearsal, "sizes": self.file.name, "device": self.plan.device,
                "machine": machine, "requirements": versions(self.project),
                "parts": [{name: entry[name] for name in TOOK} for entry in entries],
                "wall_seconds": round(sum(entry["seconds"] for entry in entries), 1),
                "cpu_seconds": round(sum(entry["cpu_seconds"] or 0 for entry in entries), 1),
            }  # fmt: skip
            write_csv(self.room / "parts.csv", PARTS, self.table())

    def table(self) -> list[dict[str, Any]]:
        """A row for every part that was begun, seconds over all its attempts."""
        rows = []
        for name, (stage, part) in self.plan.parts().items():
            if ended := self.journal.of(name):
                rows.append(
                    {
                        "stage": stage.name, "part": name, "status": ended[-1]["status"],
                        "seconds": round(sum(entry["seconds"] for entry in ended), 1),
                        "cpu_seconds": round(sum(entry["cpu_seconds"] or 0 for entry in ended), 1),
                        "given_seconds": part.seconds, "attempts": len(ended), "ended": ended[-1]["at"],
                        "reason": ended[-1]["reason"],
                    }
                )  # fmt: skip
        return rows

    def _remains(self) -> int:
        """Say what remains and what failed."""
        say(remaining(self.plan, self.journal))
        states = [self.journal.status(name) for name in self.plan.parts()]
        if any(state not in ENDED for state in states):
            return UNFINISHED
        return FAILED if any(state != "done" for state in states) else DONE

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.room / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"{self.room}: found another call at work there, expected none") from None
            # A shell starts what it puts into the background deaf to SIGINT, and its children would inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            yield


def remaining(plan: Plan, journal: Journal) -> str:
    """What waits, stage by stage, and what ended without being done, in words."""
    lines = [f"{journal.spent():.0f} seconds of {sum(stage.seconds for stage in plan.stages)} are spent"]
    for stage in plan.stages:
        states = {part.name: journal.status(part.name) for part in stage.parts}
        waits = [name for name, state in states.items() if state not in ENDED]
        broken = [f"{name} ({state})" for name, state in states.items() if state in ENDED and state != "done"]
        words = [f"{len(waits)} of {len(states)} parts remain: {', '.join(waits)}"] if waits else ["nothing remains"]
        words += [f"not done: {', '.join(broken)}"] if broken else []
        lines.append(f"{stage.name}: {'; '.join(words)}")
    return "\n".join(lines)


def command(plan: Plan, part: Part, file: Path, out: Path) -> list[str]:
    """The command line of a part, with its launcher before it."""
    if part.command:
        return [word.replace("{out}", str(out)) for word in part.command]
    module = ["tools.gpu_first.gpu_part", str(file), part.name, str(out)]
    if part.launcher == "nccl":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m", *module]
    if part.launcher == "fsdp2":
        from gdpo.core.project import CONFIG

        settings = ["--config_file", str(CONFIG / "accelerate" / "fsdp2.yaml"), "--num_processes", "1"]
        launch = [sys.executable, "-m", "accelerate.commands.launch", *settings, "--main_process_port", "0"]
        return [*launch, "--module", *module]
    return [sys.executable, "-m", *module]


def _reason(status: int, out: Path, log: Path) -> str:
    """Why a part failed, in one sentence: its own, or what its log says last."""
    told = out.with_suffix(".error")
    if told.exists():
        return told.read_text(encoding="utf-8").strip()
    said = last_line(log.read_text(errors="replace") if log.exists() else "")
    how = f"killed by signal {-status}" if status < 0 else f"exit code {status}"
    return f"{how}, and no result; it said last: {said}"


def mercy(given: float) -> float:
    """Seconds, of those that a part is given, that are kept back for it to stop by itself."""
    return min(MERCY * given, MOST_MERCY)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kill(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _end_left(group: int, part: str) -> None:
    """End the process group of a part, if it is still that part's and no other that has its number now."""
    with suppress(OSError):
        told = Path(f"/proc/{group}/environ").read_bytes().split(b"\0")
        if f"{MARK}={part}".encode() in told:
            _kill(group, signal.SIGKILL)
