"""What Snakemake has called ends with it, at once and altogether; what a user has called does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gdpo.core.project import PROJECT
from gdpo.runtime import parent_watchdog
from workflow.scripts import orphans

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc lists processes on Linux alone")

HANG = 60  # seconds
WATCHED = "from gdpo.runtime import parent_watchdog; parent_watchdog.watch(); "
WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
STARTS = "import subprocess, sys; subprocess.run(sys.argv[1:]); "


ANNOUNCES = "from gdpo.runtime import parent_watchdog; parent_watchdog.announce(); "


def starter(*command: str, before: str = ANNOUNCES) -> list[str]:
    """A process that announces itself, as Snakemake does, starts `command` and waits for it."""
    return [sys.executable, "-c", before + STARTS, *command]


def step(code: str = WATCHED + WAITS) -> list[str]:
    return [sys.executable, "-c", code]


def start(command: list[str], directory: Path) -> tuple[subprocess.Popen, int]:
    """The process started, and the number that the innermost one prints."""
    given = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=directory, env=given)
    return process, int(process.stdout.readline())


def lives(pid: int) -> bool:
    return bool(parent_watchdog._start_time(pid))


def gone(pid: int) -> bool:
    until = time.monotonic() + HANG
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not lives(pid)


@pytest.mark.parametrize("between", [[], ["sh", "-c", '"$@"; true', "sh"]], ids=["called", "through a shell"])
def test_a_step_ends_when_its_snakemake_is_killed(tmp_path, between):
    process, pid = start(starter(*between, *step()), tmp_path)
    process.kill()
    process.wait()
    assert gone(pid)


def test_a_step_ends_when_the_shell_that_called_it_is_killed(tmp_path):
    process, pid = start(starter("sh", "-c", '"$@"; true', "sh", *step()), tmp_path)
    os.kill(parent_watchdog._stat(pid)[1], signal.SIGKILL)
    assert gone(pid)
    process.wait(HANG)


def test_children_of_a_step_end_with_it(tmp_path):
    process, pid = start(starter(*starter(*step(WAITS), before=WATCHED)), tmp_path)
    process.kill()
    process.wait()
    assert gone(pid)


def test_a_step_whose_snakemake_has_died_already_does_not_begin(tmp_path):
    process, pid = start(starter(*step(WAITS)), tmp_path)
    named = parent_watchdog.CALLER + "=" + caller_of(pid)
    process.kill()
    process.wait()
    os.kill(pid, signal.SIGKILL)
    done = subprocess.run(["env", named, *step(WATCHED + "print('began')")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def caller_of(pid: int) -> str:
    told = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(entry for entry in told if entry.startswith(parent_watchdog.CALLER)).partition("=")[2]


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(open(os.devnull))
except OSError:
    time.sleep(3 * parent_watchdog.LOOK_SECONDS)
held.clear()
"""


def test_a_step_that_can_open_no_file_for_a_while_goes_on_and_is_watched_still(tmp_path):
    """What cannot be looked at is not taken for dead."""
    process, pid = start(starter(*step(WATCHED + "import os, time\n" + FULL + WAITS)), tmp_path)
    assert lives(pid)
    process.kill()
    process.wait()
    assert gone(pid)


def test_process_name_that_is_no_text_is_read(tmp_path):
    """The kernel cuts names at fifteen bytes, amid a character where it comes so."""
    named = tmp_path / ("n" * 14 + "\u00fc")
    named.symlink_to(sys.executable)
    unreadable = subprocess.Popen([named, "-c", WAITS], stdout=subprocess.PIPE)
    unreadable.stdout.readline()
    try:
        assert b"n\xc3)" in Path(f"/proc/{unreadable.pid}/stat").read_bytes()
        assert unreadable.pid in parent_watchdog.descendants(os.getpid())
    finally:
        unreadable.kill()
        unreadable.wait()


@pytest.mark.parametrize("named", ["", "another:pid:[1] 1 1 /here", "nonsense"])
def test_a_step_called_by_hand_or_on_another_machine_is_not_watched(tmp_path, named):
    """Its parent is killed, and it goes on."""
    setting = f"import os; os.environ['{parent_watchdog.CALLER}'] = {named!r}; "
    process, pid = start(starter(*step(), before=setting), tmp_path)
    process.kill()
    process.wait()
    time.sleep(3 * parent_watchdog.LOOK_SECONDS)
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


def test_orphan_that_does_not_end_is_named_and_blocks_a_new_run(tmp_path, monkeypatch):
    process, pid = start(starter(*step(WAITS)), tmp_path)
    assert parent_watchdog.find_orphans(tmp_path) == {}
    process.kill()
    process.wait()
    assert list(parent_watchdog.find_orphans(tmp_path)) == [pid]
    assert parent_watchdog.find_orphans(tmp_path / "other") == {}
    monkeypatch.setattr(orphans, "ENDING_SECONDS", 0.1)
    told = orphans.local_problem(tmp_path)
    assert f"left running when it died, {pid} ({sys.executable} -c" in told and f"kill -9 {pid}" in told
    os.kill(pid, signal.SIGKILL)
    assert gone(pid) and orphans.local_problem(tmp_path) is None
