"""What a user of the workflow sees: one live block on a terminal, plain lines elsewhere.

Snakemake's events come in as log records (its logger interface); what jobs tell of themselves is read beside their logs
(gdpo.core.progress). A finished step is one line. Text of jobs, rules and files is shown as it is, never as rich's
markup, and its control characters as their escapes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import ERROR, LogRecord
from pathlib import Path

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gdpo.core import progress
from gdpo.core.terminal import printable
from gdpo.display import estimate, wording

REDRAWN = 2  # times a second; a job tells as often how far it is
NARROW = 72  # columns below which a job's progress goes below its name
NOTHING = "Nothing to be done"  # how Snakemake's sentence begins where all is made


@dataclass(frozen=True)
class Job:
    """A job that runs: what it does in words, where it logs, since when, in seconds since the epoch."""

    number: int
    rule: str
    words: str
    log: Path | None
    started: float
    makes: bool  # false: a rule that only names others' files, which is shown as no step

    def progress(self) -> str:
        """Its progress in words; empty where it has reported none."""
        state = progress.read(self.log, self.started) if self.log else None
        if state is None:
            return ""
        counted = f"{state.done:,} of {state.total:,} {state.what}"
        return printable(f"{state.part}, {counted}" if state.part else counted).replace("\n", " ")


@dataclass
class Display:
    """One call of the workflow, shown on `console`; `receive` takes Snakemake's log records one by one."""

    console: Console
    clock: Callable[[], float] = time.time
    log: Path | None = None  # where all other output goes
    size: Callable[[], tuple[int, int] | None] = lambda: None  # columns and lines of the terminal, if it is one
    total: int = 0
    done: int = 0
    failed: int = 0
    cores: int = 1
    stopping: bool = False
    running: dict[int, Job] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    waiting: Counter[str] = field(default_factory=Counter)  # rule -> jobs that have not begun
    errors: list[str] = field(default_factory=list)  # of Snakemake itself
    nothing: bool = False  # all is made already

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.estimate = estimate.Estimate(estimate.PLANNED)
        self._live: Live | None = None
        # Rich's own thread and a line that is printed meanwhile may each take the block to be as high as it was before
        # the other one drew it: then a part of it stays, or a line is lost. So one lock is for all that draws.
        self._lock = threading.RLock()
        self._ended = threading.Event()

    @property
    def redraws(self) -> bool:
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def receive(self, record: LogRecord, text: str) -> None:
        """Take in one record of Snakemake's; `text` is how Snakemake itself would put it."""
        with self._lock:
            self._receive(record, text)

    def _receive(self, record: LogRecord, text: str) -> None:
        event = str(getattr(record, "event", None) or "")
        fields = record.__dict__
        if event == "run_info":
            self._begin(fields["stats"])
        elif event == "resources_info":
            self.cores = fields.get("cores") or self.cores
        elif event == "job_info":
            self._job_begins(fields, record.created)
        elif event == "job_finished":
            self._job_ends(fields["job_id"], record.created)
        elif event == "job_error":
            self._job_fails(fields["jobid"], record.created)
        elif record.levelno >= ERROR:
            self.errors.append(text)
        elif str(record.msg).startswith(NOTHING):
            self.nothing = True

    def _begin(self, stats: Mapping[str, int]) -> None:
        self.total = stats["total"]
        self.waiting = Counter({rule: count for rule, count in stats.items() if rule != "total"})
        where = f"; what else is said: {self.log}" if self.log else ""
        self.say(f"{_steps(self.total)} to do{where}")
        if self.redraws:
            self._live = Live(
                console=self.console, get_renderable=self.block, auto_refresh=False, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start(refresh=True)
            threading.Thread(target=self._redraw, name="redraw", daemon=True).start()

    def _redraw(self) -> None:
        while not self._ended.wait(1 / REDRAWN):
            with self._lock:
                if self._live is not None:
                    self._live.refresh()

    def _job_begins(self, fields: Mapping, now: float) -> None:
        wildcards = {key: str(value) for key, value in dict(fields.get("wildcards") or {}).items()}
        words = printable(wording.words(fields["rule_name"], wildcards)).replace("\n", " ")
        log = next(map(Path, fields.get("log") or ()), None)
        number = fields["jobid"]
        self.running[number] = Job(number, fields["rule_name"], words, log, now, bool(fields.get("output") or log))
        if number not in self.begun:
            self.begun.add(number)
            self.waiting[fields["rule_name"]] -= 1

    def _job_ends(self, number: int, now: float) -> None:
        self.done += 1
        job = self.running.pop(number, None)
        if job is None or not job.makes:
            return
        self.estimate.finish(number, job.rule, now - job.started)
        self.say(f"{self._place()}  {job.words}, {wording.duration(now - job.started)}")

    def _job_fails(self, number: int, now: float) -> None:
        job = self.running.pop(number, None)
        if job is None or self.stopping:  # what a user stops has not failed
            return
        self.failed += 1
        where = f"; its log: {job.log}" if job.log else ""
        self.say(f"{' ' * (len(self._place()) - 6)}failed  {job.words}, {wording.duration(now - job.started)}{where}")

    def _place(self) -> str:
        """How many steps are done, as wide as "12 of 47" will get."""
        return f"{self.done:>{len(str(self.total))}} of {self.total}"

    def say(self, text: str) -> None:
        """One line that stays, above the block where there is one."""
        line = Text(printable(text))
        if self.redraws:
            self._fit()
            self.console.print(line, soft_wrap=True)
        else:
            self.console.print(line, soft_wrap=True, no_wrap=True, crop=False)

    def _fit(self) -> None:
        if size := self.size():
            self.console.size = ConsoleDimensions(*size)

    def block(self) -> RenderableType:
        """The live block as it is now: how far all is, and each job that runs."""
        self._fit()
        now = self.clock()
        jobs = [job for job in self.running.values() if job.makes]
        head = Text(f"step {min(len(self.begun), self.total)} of {self.total}{self._left(now)}", style="bold")
        if self.stopping:
            head = Text("stopping: what runs is ended first", style="bold")
        narrow = self.console.width < NARROW
        room = max(1, (self.console.height - 3) // (2 if narrow else 1))
        rows = [(job.words, job.progress(), wording.duration(now - job.started)) for job in jobs[:room]]
        more = [Text(f"  and {len(jobs) - room} more")] if len(jobs) > room else []
        for line in (head, *more):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(head, _stacked(rows) if narrow else _grid(rows), *more)

    def _left(self, now: float) -> str:
        if not self.estimate.known:
            return ""
        running = [(job.number, job.rule, now - job.started) for job in self.running.values()]
        if estimate.PLANNED:
            waiting = [(number, job.rule) for number, job in estimate.PLANNED.items() if number not in self.begun]
        else:
            waiting = [(-1, rule) for rule in self.waiting.elements()]
        return f", about {wording.about(self.estimate.left(running, waiting, self.cores))} left"

    def close(self, stopped: str = "") -> None:
        """Take the block away and say how it ended; `stopped` is the sentence for a user who has ended it."""
        self._ended.set()
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None
            self._close(stopped)

    def _close(self, stopped: str) -> None:
        took = wording.duration(self.clock() - self.started)
        if stopped:
            self.say(stopped)
        elif self.failed:
            where = f"; all that was said: {self.log}" if self.log else ""
            self.say(f"{_steps(self.failed)} failed, {self.done} of {self.total} are done after {took}{where}")
        elif self.errors:
            for text in self.errors:
                self.say(text)
        elif self.nothing:
            self.say("nothing to do: all that was asked for is made")
        elif self.total:
            self.say(f"{_steps(self.done)} done in {took}")


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _grid(rows: list[tuple[str, str, str]]) -> RenderableType:
    """A row a job: what it does, how far it is, how long it runs."""
    grid = Table.grid(padding=(0, 2, 0, 0), expand=False)
    for words, progress_text, elapsed in rows:
        grid.add_row(_line(f"  {words}"), _line(progress_text, "cyan"), _line(elapsed, "dim"))
    return grid


def _stacked(rows: list[tuple[str, str, str]]) -> RenderableType:
    """The same on a narrow terminal: a job's progress is below what it does."""
    lines = []
    for words, progress_text, elapsed in rows:
        below = f"{progress_text}, {elapsed}" if progress_text else elapsed
        lines += [_line(f"  {words}"), _line(f"    {below}", "cyan")]
    return Group(*lines)
