"""What a user of the workflow sees, drawn on consoles of fixed width from the events that Snakemake sends."""

from __future__ import annotations

import io
import json
import logging
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from gdpo.core import progress
from gdpo.display import estimate, wording
from gdpo.display.estimate import Planned
from gdpo.display.live import Display
from tests.screen import rendered

NAMES = {"student": {"tiny-s": "Tiny-S"}, "trainset": {"metakl": "MetaKL"}, "method": {"sft": "SFT", "gdpo": "GDPO"}}


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr(wording, "NAMES", NAMES)
    monkeypatch.setattr(estimate, "PLANNED", {})


class Workflow:
    """A call of the workflow: what is sent to a display, at the seconds since its start that a test says."""

    def __init__(self, directory: Path, width: int, terminal: bool, lines: int = 24, **console) -> None:
        self.directory, self.now, self.written = directory, 0.0, io.StringIO()
        drawn = Console(file=self.written, width=width, height=lines, force_terminal=terminal, **console)
        self.display = Display(drawn, clock=lambda: self.now, log=Path("all.log"))
        self.drawn = {"width": width, "height": lines, **console}

    def send(self, event: str | None, message: str = "", level: int = logging.INFO, **told) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.created = self.now
        record.__dict__.update(event=event, **told)
        self.display.receive(record, f"{message}")

    def begin(self, **stats: int) -> None:
        self.send("resources_info", cores=2)
        self.send("run_info", stats={**stats, "total": sum(stats.values())})

    def job(self, number: int, rule: str, log: bool = True, **wildcards: str) -> None:
        path = self.directory / f"{number}.log"
        files = {"log": [str(path)] if log else [], "output": ["made"] if log else []}
        self.send("job_info", jobid=number, rule_name=rule, wildcards=wildcards, **files)

    def tell(self, number: int, done: int, total: int, what: str, part: str = "") -> None:
        """What job `number` tells of itself."""
        told = {"done": done, "total": total, "what": what, "part": part}
        progress.file_of(self.directory / f"{number}.log").write_text(json.dumps(told))

    def block(self) -> str:
        """The live block as text."""
        page = Console(file=io.StringIO(), **self.drawn)
        page.print(self.display.block())
        return "\n".join(line.rstrip() for line in page.file.getvalue().rstrip().splitlines())

    def screen(self) -> list[str]:
        """What a terminal shows of all that was written."""
        return rendered(self.written.getvalue().replace("\n", "\r\n"))

    def lines(self) -> list[str]:
        return self.written.getvalue().splitlines()


def run(workflow: Workflow) -> None:
    """Three steps and a rule that only names them, of which one trains and one evaluates when 20 seconds are over."""
    workflow.begin(benchmark=1, train=1, evaluate=1, tables=1)
    workflow.job(1, "benchmark")
    workflow.now = 8
    workflow.send("job_finished", job_id=1)
    workflow.job(2, "train", student="tiny-s", trainset="metakl", method="gdpo")
    workflow.now = 12
    workflow.job(3, "evaluate", student="tiny-s", trainset="metakl", method="sft")
    workflow.now = 20


def test_without_a_terminal_each_finished_step_is_one_plain_line(tmp_path):
    workflow = Workflow(tmp_path, 40, terminal=False)
    run(workflow)
    workflow.send("job_finished", job_id=3)
    workflow.now = 95
    workflow.send("job_finished", job_id=2)
    workflow.job(4, "tables", log=False)
    workflow.send("job_finished", job_id=4)
    workflow.display.close()
    assert workflow.written.getvalue() == (
        "4 steps to do; what else is said: all.log\n"
        "1 of 4  writing the benchmarks' items, 8 s\n"
        "2 of 4  evaluating Tiny-S, MetaKL, SFT, 8 s\n"
        "3 of 4  training Tiny-S, MetaKL, GDPO, 1 min 27 s\n"
        "4 steps done in 1 min 35 s\n"
    )


def test_the_block_shows_each_job_with_its_own_progress(tmp_path):
    workflow = Workflow(tmp_path, 100, terminal=True)
    run(workflow)
    workflow.tell(2, 41, 75, "steps", "run 2 of 3")
    workflow.tell(3, 120, 1200, "answers")
    assert workflow.block() == (
        "step 3 of 4\n"
        "  training Tiny-S, MetaKL, GDPO   run 2 of 3, 41 of 75 steps  12 s\n"
        "  evaluating Tiny-S, MetaKL, SFT  120 of 1,200 answers        8 s"
    )


def test_a_narrow_terminal_shows_progress_below_and_cuts_what_does_not_fit(tmp_path):
    workflow = Workflow(tmp_path, 28, terminal=True)
    run(workflow)
    workflow.tell(3, 120, 200, "answers")
    assert workflow.block() == (
        "step 3 of 4\n  training Tiny-S, MetaKL, …\n    12 s\n  evaluating Tiny-S, MetaKL…\n    120 of 200 answers, 8 s"
    )


@pytest.mark.parametrize(("width", "shown"), [(100, 5), (40, 2)])
def test_more_jobs_than_a_terminal_has_lines_are_counted(tmp_path, width, shown):
    workflow = Workflow(tmp_path, width, terminal=True, lines=8)
    workflow.begin(benchmark=9)
    for number in range(9):
        workflow.job(number, "benchmark")
    block = workflow.block().splitlines()
    assert sum("writing" in line for line in block) == shown
    assert block[-1] == f"  and {9 - shown} more"
    assert len(block) < 8


def test_time_left_by_kept_costs_and_by_how_much_longer_jobs_take_here(tmp_path, monkeypatch):
    """Kept: 2, 30, 60 and 60 seconds, 152 in all, on two cores 76. The first job took 12, so the others are taken to be
    10 longer: of 40 and 70 some 12 and 8 are over, 70 are to come: (28 + 62 + 70) / 2 cores = 80 s. With 300 kept for
    the last: its 310 s, since no second core makes one job shorter."""
    kept = {1: 2.0, 2: 30.0, 3: 60.0, 4: 60.0}
    monkeypatch.setattr(estimate, "PLANNED", {number: Planned("train", kept[number]) for number in kept})
    workflow = Workflow(tmp_path, 100, terminal=True)
    workflow.begin(train=4)
    assert workflow.block() == "step 0 of 4, about 1 min left"
    workflow.job(1, "train")
    workflow.now = 12
    workflow.send("job_finished", job_id=1)
    workflow.job(2, "train")
    workflow.now = 16
    workflow.job(3, "train")
    workflow.now = 24
    assert workflow.display._left(workflow.now) == ", about 1 min left"
    running, waiting = [(2, "train", 12.0), (3, "train", 8.0)], [(4, "train")]
    assert workflow.display.estimate.left(running, waiting, 2) == 80
    estimate.PLANNED[4] = Planned("train", 300.0)
    assert workflow.display.estimate.left(running, waiting, 2) == 310


def test_time_left_without_kept_costs_is_learned_from_five_finished_jobs(tmp_path):
    """Five of nine jobs of a rule took 20 seconds each, so that four remain: 80 seconds, on two cores 40."""
    workflow = Workflow(tmp_path, 100, terminal=True)
    workflow.begin(train=9)
    for number in range(5):
        assert "left" not in workflow.block()
        workflow.job(number, "train")
        workflow.now += 20
        workflow.send("job_finished", job_id=number)
    assert workflow.block() == "step 5 of 9, about 40 s left"


def test_failed_job_is_one_line_with_its_log(tmp_path):
    workflow = Workflow(tmp_path, 40, terminal=False)
    run(workflow)
    workflow.send("job_error", level=logging.ERROR, jobid=3)
    workflow.send("error", "At least one job did not complete successfully.", logging.ERROR)
    workflow.display.close()
    assert workflow.lines()[2:] == [
        f"failed  evaluating Tiny-S, MetaKL, SFT, 8 s; its log: {tmp_path}/3.log",
        "1 step failed, 1 of 4 are done after 20 s; all that was said: all.log",
    ]


def test_a_job_that_is_tried_again_counts_once(tmp_path):
    workflow = Workflow(tmp_path, 100, terminal=True)
    workflow.begin(benchmark=2)
    workflow.job(1, "benchmark")
    workflow.send("job_error", level=logging.ERROR, jobid=1)
    workflow.job(1, "benchmark")
    assert workflow.block().splitlines()[0] == "step 1 of 2"


def test_error_outside_jobs_is_shown_in_words_of_snakemake(tmp_path):
    workflow = Workflow(tmp_path, 40, terminal=False)
    workflow.send("error", "LockException:\n[bold]locked[/bold]", logging.ERROR)
    workflow.display.close()
    assert workflow.lines() == ["LockException:", "[bold]locked[/bold]"]


def test_nothing_to_do_is_one_line(tmp_path):
    workflow = Workflow(tmp_path, 40, terminal=False)
    workflow.send(None, "Nothing to be done (all requested files are present and up to date).")
    workflow.display.close()
    assert workflow.lines() == ["nothing to do: all that was asked for is made"]


def test_ctrl_c_counts_no_failure_and_ends_in_one_sentence(tmp_path):
    workflow = Workflow(tmp_path, 40, terminal=False)
    run(workflow)
    workflow.display.stopping = True
    workflow.send("job_error", level=logging.ERROR, jobid=3)
    workflow.send("error", "At least one job did not complete successfully.", logging.ERROR)
    workflow.display.close("Stopped; go on with: make table2")
    assert workflow.lines()[2:] == ["Stopped; go on with: make table2"]


def test_markup_and_control_characters_are_shown_literally(tmp_path):
    """Neither control characters nor rich's markup in a name or in what a job tells move or colour anything."""
    workflow = Workflow(tmp_path, 120, terminal=True)
    workflow.begin(train=2)
    workflow.job(1, "train", student="[red]a\x1b[2J", trainset=":boom:\n", method="[/]")
    workflow.tell(1, 1, 2, "[bold]answers\x07\n")
    block = workflow.block()
    assert r"[red]a\x1b[2J, :boom: , [/]  1 of 2 [bold]answers\x07" in block
    assert len(block.splitlines()) == 2
    workflow.send("job_finished", job_id=1)
    assert r"1 of 2  training [red]a\x1b[2J, :boom: , [/], 0 s" in workflow.written.getvalue()


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_is_respected(tmp_path, no_color, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    workflow = Workflow(tmp_path, 100, terminal=True)
    run(workflow)
    workflow.tell(3, 120, 200, "answers")
    workflow.display.close()
    page = Console(file=io.StringIO(), width=100, force_terminal=True)
    page.print(workflow.display.block())
    assert ("\x1b[36m" in page.file.getvalue()) is not no_color


def test_block_is_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    workflow = Workflow(tmp_path, 60, terminal=True)
    workflow.begin(benchmark=1)
    workflow.job(1, "benchmark")
    workflow.display._live.refresh()
    assert workflow.screen()[1:4] == ["step 1 of 1", "  writing the benchmarks' items", "    0 s"]
    workflow.now = 3
    workflow.send("job_finished", job_id=1)
    workflow.display.close()
    assert [line for line in workflow.screen() if line] == [
        "1 step to do; what else is said: all.log",
        "1 of 1  writing the benchmarks' items, 3 s",
        "1 step done in 3 s",
    ]


def test_a_terminal_that_cannot_redraw_gets_plain_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    workflow = Workflow(tmp_path, 60, terminal=True)
    run(workflow)
    workflow.display.close()
    assert "\x1b" not in workflow.written.getvalue()
    assert workflow.lines()[1] == "1 of 4  writing the benchmarks' items, 8 s"


def slowly(draw):
    """`draw` with time for another thread before it."""

    def drawn(*given):
        time.sleep(1e-4)
        return draw(*given)

    return drawn


def test_concurrent_redraws_lose_no_line(tmp_path, monkeypatch):
    """Jobs come and go while the block, whose height changes with them, is redrawn as often as can be."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("gdpo.display.live.REDRAWN", 1e6)
    monkeypatch.setattr(Text, "__rich_console__", slowly(Text.__rich_console__))
    workflow = Workflow(tmp_path, 100, terminal=True)
    workflow.begin(audit=120)
    for number in range(40):
        for job in range(3 * number, 3 * number + 3):
            workflow.job(job, "audit")
        for job in range(3 * number, 3 * number + 3):
            workflow.send("job_finished", job_id=job)
    workflow.display.close()
    lines = [line for line in workflow.screen() if line]
    assert lines[1:-1] == [f"{number:>3} of 120  auditing the published averages, 0 s" for number in range(1, 121)]
