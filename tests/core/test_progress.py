"""What a step tells of itself: a small file beside its log that nothing depends on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from gdpo.core import progress
from gdpo.core.files import resumable_batches
from gdpo.core.progress import Progress
from gdpo.core.records import Question
from gdpo.grading.grade import grade_many


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test moves by hand."""

    @dataclass
    class Clock:
        now: float = 100.0

    clock = Clock()
    monkeypatch.setattr("gdpo.core.progress.time.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def log(tmp_path, clock):
    """The log of a step that tells how far it is."""
    log = tmp_path / "step.log"
    progress.begin(log)
    yield log
    progress.end()


def told(log, clock, done, total, what):
    clock.now += progress.SECONDS
    progress.report(done, total, what)
    return progress.read(log)


def test_read_returns_the_last_report(log, clock):
    assert progress.read(log) is None
    assert told(log, clock, 120, 200, "answers") == Progress(120, 200, "answers")
    progress.part(2, 3, "run")
    assert told(log, clock, 1, 200, "answers") == Progress(1, 200, "answers", "run 2 of 3")
    progress.part(1, 1, "run")
    assert told(log, clock, 2, 200, "answers") == Progress(2, 200, "answers")


def test_report_writes_at_most_twice_a_second(log, clock):
    assert told(log, clock, 1, 9, "steps") == Progress(1, 9, "steps")
    clock.now += progress.SECONDS / 2
    progress.report(2, 9, "steps")
    assert progress.read(log) == Progress(1, 9, "steps")
    clock.now += progress.SECONDS / 2
    progress.report(3, 9, "steps")
    assert progress.read(log) == Progress(3, 9, "steps")


def test_report_without_a_log_writes_nothing(tmp_path, clock, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told(tmp_path / "step.log", clock, 1, 2, "steps")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", ["os.replace", "pathlib.Path.write_text"])
def test_report_on_a_full_disk_is_no_error_and_leaves_no_partial_file(log, clock, monkeypatch, fails):
    assert told(log, clock, 1, 9, "steps")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fails, full)
    assert told(log, clock, 2, 9, "steps") == Progress(1, 9, "steps")
    assert [path.name for path in log.parent.iterdir()] == ["step.log.progress"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"done": 1}', '{"done": {}, "total": 2, "what": "x", "part": ""}']
)
def test_read_ignores_a_file_of_another_format(tmp_path, text):
    progress.file_of(tmp_path / "step.log").write_text(text)
    assert progress.read(tmp_path / "step.log") is None


def test_read_ignores_an_earlier_process(log, clock):
    assert told(log, clock, 1, 9, "steps")
    written = progress.file_of(log).stat().st_mtime
    assert progress.read(log, since=written - 1) == Progress(1, 9, "steps")
    assert progress.read(log, since=written + 1) is None
    progress.begin(log)
    assert not progress.file_of(log).exists()


STEP = """
import sys
from pathlib import Path
from gdpo.core import progress, terminal
terminal.redirect(Path("logs/step.log"))
progress.report(1, 2, "steps")
print(progress.read(Path("logs/step.log")))
{ends}
"""


@pytest.mark.parametrize(("ends", "code"), [("", 0), ("sys.exit(2)", 2), ("raise KeyError('crash')", 1)])
def test_step_reports_beside_its_log_and_removes_the_file_however_it_ends(tmp_path, ends, code):
    done = subprocess.run([sys.executable, "-c", STEP.format(ends=ends)], cwd=tmp_path)
    assert done.returncode == code
    assert "Progress(done=1, total=2, what='steps'" in (tmp_path / "logs/step.log").read_text()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["step.log"]


def test_only_the_first_of_several_processes_reports(tmp_path):
    for rank, told_ in [("0", "Progress(done=1"), ("1", "None")]:
        log = tmp_path / "logs" / ("step.log" if rank == "0" else "step.log.1")
        step = [sys.executable, "-c", STEP.format(ends="")]
        subprocess.run(step, cwd=tmp_path, env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"}, check=True)
        assert log.read_text().startswith(told_)


@pytest.mark.parametrize("kept", [True, False])
def test_resumable_batches_reports_finished_entries(tmp_path, monkeypatch, kept):
    """Three batches of two, two and one of five answers; where the first was kept by a killed call, it counts."""
    reports = []
    monkeypatch.setattr("gdpo.core.files.report", lambda *given: reports.append(given))
    path = tmp_path / "kept.jsonl" if kept else None
    if path:
        path.write_text('{"indices": [0, 1], "made_up_answers": ["a", "b"]}\n')
    every = [([0, 1], ["a", "b"]), ([2, 3], ["c", "d"]), ([4], ["e"])]
    assert resumable_batches(path, "made_up_answers", 5, lambda done: iter(every[done:])) == list("abcde")
    counts = [4, 5] if kept else [2, 4, 5]
    assert reports == [(count, 5, "made up answers") for count in counts]


def test_grade_many_reports_only_on_request(monkeypatch):
    reports = []
    monkeypatch.setattr("gdpo.grading.grade.report", lambda *given: reports.append(given))
    monkeypatch.setattr("gdpo.grading.grade.math_verdict", lambda item: "right")
    sum_ = Question(id="q", domain="math", source="s", question="1 + 1", answer="2", grader="math")
    exact = sum_.model_copy(update={"grader": "exact"})
    pairs = [(sum_, "2"), (exact, "2"), (sum_, "3")]
    assert grade_many(pairs) == ["right"] * 3
    assert reports == []
    grade_many(pairs, show_progress=True)
    assert reports == [(1, 2, "answers graded"), (2, 2, "answers graded")]
