"""A step that a preloaded parent forks is the step that a plain process is, and ends with all that it depends on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gdpo.cli import main as cli
from gdpo.cli import preload, preloaded_parent
from gdpo.runtime import parent_watchdog

pytestmark = pytest.mark.skipif(not preload.available(), reason="Linux alone has what a preloaded parent needs")

GDPO = str(Path(sys.executable).with_name("gdpo"))
HANG = 60  # seconds
HOLD = ["audit", "--scale", "held.yaml"]  # a step that waits for what somebody writes into a named pipe
SECRET = "canary-of-a-key"
# As Snakemake does: start a parent, call a step, and wait for it.
WORKFLOW = """
import subprocess, sys
from pathlib import Path
from gdpo.cli import preload
from gdpo.runtime import parent_watchdog
parent_watchdog.announce()
preload.start(Path("preload.log"), offline=True)
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


def call(directory: Path, environment: dict[str, str], *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    directory.mkdir(exist_ok=True)
    command = [GDPO, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment, **options)


def plain(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != preload.SOCKET}


def parent_of_session(environment: dict[str, str]) -> int:
    """The process that listens at the address, the one with it on its command line."""
    address = environment[preload.SOCKET]
    listed = [pid for pid in parent_watchdog.descendants(os.getpid()) if address in command_line(pid)]
    # A child has its parent's command line until it has written its own.
    parents = [pid for pid in listed if parent_watchdog.parent_of(pid) not in listed]
    assert len(parents) == 1
    return parents[0]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    except OSError:
        return []


def forked(environment: dict[str, str]) -> int:
    """Pages that the parent's ended children have touched, which grows with each child."""
    fields = Path(f"/proc/{parent_of_session(environment)}/stat").read_text().rpartition(")")[2].split()
    return int(fields[8])


def said(environment: dict[str, str]) -> str:
    """The parent's log: the last of the lines that it has said."""
    descriptor = Path(f"/proc/{parent_of_session(environment)}/fd/2")
    return Path(os.readlink(descriptor)).read_text()


def files(directory: Path) -> dict[str, bytes]:
    """What lies in a directory; of records, which tell times, the names alone."""
    found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    return {name: b"" if "provenance" in name else path.read_bytes() for name, path in found.items()}


# The same step

STEPS = {
    "a step": ("benchmark", "--scale", "micro", "--limit", "2", "--log", "results/l.log"),
    "one with a model": ("model", "--scale", "micro", "--name", "tiny-s", "--log", "results/l.log"),
    "one that fails": ("metakl", "annotate", "--scale", "micro"),
    "one that fails into its log": ("metakl", "annotate", "--scale", "micro", "--log", "results/l.log"),
    "a misspelt scale": ("audit", "--scale", "mirco"),
    "a misspelt option": ("audit", "--scael", "micro"),
    "help": ("--help",),
}


@pytest.mark.parametrize("arguments", STEPS.values(), ids=STEPS)
def test_forked_step_equals_plain_step(arguments, preloaded, tmp_path):
    """Exit code, output, log and files."""
    before = forked(preloaded)
    through = call(tmp_path / "through", preloaded, *arguments)
    assert forked(preloaded) > before
    before = forked(preloaded)
    alone = call(tmp_path / "alone", plain(preloaded), *arguments)
    assert forked(preloaded) == before
    assert (through.returncode, through.stdout, through.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    assert files(tmp_path / "through") == files(tmp_path / "alone")


def test_exit_codes(preloaded, tmp_path):
    codes = {name: call(tmp_path, preloaded, *arguments).returncode for name, arguments in STEPS.items()}
    assert list(codes.values()) == [0, 0, 2, 2, 2, 2, 0]


def test_forked_step_has_directory_umask_and_input_of_its_call(preloaded, tmp_path):
    done = call(tmp_path / "made", preloaded, *STEPS["one that fails into its log"], umask=0o077)
    assert done.returncode == 2
    assert (tmp_path / "made/results/l.log").stat().st_mode & 0o777 == 0o600
    (tmp_path / "given.yaml").symlink_to("/dev/stdin")
    done = call(tmp_path, preloaded, "audit", "--scale", "given.yaml", input="extends: nowhere")
    assert done.returncode == 2 and "nowhere.yaml: no such scale" in done.stderr


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("a sentence"), 1, "a sentence\n"),
        (RuntimeError("a mistake of ours"), 1, "Traceback"),
        (None, 0, ""),
    ],
)
def test_exit_code_of_each_way_to_end(end, code, told, monkeypatch, capsys):
    def main(job: int) -> None:
        if end:
            raise end

    monkeypatch.setattr(cli, "main", main)
    assert preloaded_parent._run(1) == code
    assert capsys.readouterr().err.startswith(told)


FINAL = """
import atexit, os, sys
from gdpo.cli.preloaded_parent import _Exit
leave = _Exit()
atexit.register(leave)
atexit.register(lambda: print("second"))
child = os.fork()
if child == 0:
    print("first")
    leave.code = 7
else:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("third", code)
"""


def test_child_runs_exit_handlers_and_flushes(tmp_path):
    """In a file nothing is written before the end. The parent, who is no child, ends as ever."""
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", FINAL], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "first\nsecond\nthird 7\nsecond\n"


def test_child_time_and_memory_exclude_its_parent(preloaded, tmp_path):
    """Of seconds that the parent's imports took it has none, of memory what it shares with the parent."""
    assert call(tmp_path, preloaded, *STEPS["a step"]).returncode == 0
    record = next(tmp_path.rglob("*provenance.json"))
    pid = parent_of_session(preloaded)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    imports = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    told = json.loads(record.read_text())
    assert told["cpu_seconds"] < imports
    assert told["peak_memory_mb"] < 1.5 * resident


def test_parent_has_one_thread_and_computes_nothing(preloaded, tmp_path):
    call(tmp_path, preloaded, "--help")
    pid = parent_of_session(preloaded)
    assert len(os.listdir(f"/proc/{pid}/task")) == 1
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


# Which calls are none of a parent's


@pytest.mark.parametrize("change", ["another value", "one more", "one less"])
def test_call_with_another_environment_is_not_forked(change, preloaded, tmp_path):
    """The parent's log names the variable, and never a value; the call itself says nothing of it."""
    name = "LANGUAGE_OF_A_TEST" if change != "one less" else "PATH"
    other = dict(preloaded) | {name: SECRET}
    if change == "one less":
        other.pop("PATH")
    if change == "another value":
        name, other = "PATH", {**preloaded, "PATH": f"{preloaded['PATH']}:/{SECRET}"}
    before = said(preloaded)
    done = call(tmp_path, other, *STEPS["one that fails"])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    told = said(preloaded).removeprefix(before)
    assert told == f"gdpo metakl annotate --scale micro: imports for itself: other values of {name}\n"
    assert SECRET not in said(preloaded) + done.stderr


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "TMPDIR", "COLUMNS", "GDPO_CALLER", "PWD"])
def test_call_with_irrelevant_variables_is_forked(name, preloaded, tmp_path):
    before = forked(preloaded), said(preloaded)
    done = call(tmp_path, {**preloaded, name: "1" if name != "TMPDIR" else str(tmp_path)}, *STEPS["one that fails"])
    assert done.returncode == 2
    assert forked(preloaded) > before[0] and said(preloaded) == before[1]


def test_call_of_another_checkout_is_refused(preloaded, monkeypatch):
    monkeypatch.setenv(preload.SOCKET, preloaded[preload.SOCKET])
    monkeypatch.setattr(preload, "__file__", "/elsewhere/gdpo/cli/preload.py")
    assert preload.hand_over(["audit"]) is None
    assert "gdpo audit: imports for itself: another Python or checkout\n" in said(preloaded)
    assert preload.SOCKET not in os.environ  # what this process starts is no step of that workflow


def test_reasons_to_refuse():
    """A variable may be missing on either side; the address and what is free may differ."""
    request = {"python": sys.executable, "code": preload.__file__, "environment": {"A": "1", "COLUMNS": "80"}}
    why_refused = preloaded_parent._why_refused
    assert why_refused(request, {"A": "1", preload.SOCKET: "x"}) is None
    assert why_refused(request, {"A": "2", "B": SECRET}) == "other values of A, B"
    assert why_refused(request | {"python": "/usr/bin/python3"}, {"A": "1"}) == "another Python or checkout"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user")
def test_call_of_another_user_is_refused(preloaded, tmp_path):
    call(tmp_path, preloaded, "--help")  # the parent listens, and has imported everything
    before = forked(preloaded)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"\0{preloaded[preload.SOCKET]}")
            connection.settimeout(HANG)
            os._exit(len(connection.recv(1)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert forked(preloaded) == before


def test_parent_of_another_user_gets_no_request(preloaded, monkeypatch):
    monkeypatch.setenv(preload.SOCKET, preloaded[preload.SOCKET])
    monkeypatch.setattr(preload, "peer", lambda connection: (1, os.getuid() + 1))
    monkeypatch.setattr(preload, "_send", None)
    assert preload.hand_over(["audit"]) is None


@pytest.mark.parametrize("setting", [{"SLURM_JOB_ID": "7"}, {preload.SETTING: "no"}])
def test_call_on_cluster_or_without_preload_is_not_forked(setting, preloaded, monkeypatch):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(preload.SOCKET, preloaded[preload.SOCKET])
    assert not preload.available()
    assert preload.hand_over(["audit"]) is None


@pytest.mark.parametrize("address", ["", "gdpo-of-nobody"])
def test_call_without_parent_is_not_forked(address, monkeypatch):
    monkeypatch.setenv(preload.SOCKET, address)
    assert preload.hand_over(["audit"]) is None


def test_preload_is_for_linux_alone(monkeypatch):
    monkeypatch.setattr(preload.sys, "platform", "darwin")
    assert not preload.available()


# Signals and ends


@pytest.fixture
def held(tmp_path):
    """A directory with a scale that nobody writes yet."""
    os.mkfifo(tmp_path / "held.yaml")
    return tmp_path


def step_of(process: int, directory: Path) -> int:
    """The forked child that works in `directory` and waits, once there is one."""
    until = time.monotonic() + HANG
    while time.monotonic() < until:
        for pid in parent_watchdog.descendants(process):
            try:
                here = Path(os.readlink(f"/proc/{pid}/cwd")) == directory
                forked_there = command_line(parent_watchdog.parent_of(pid))[1:3] == ["-m", "gdpo.cli.preloaded_parent"]
                if here and forked_there and command_line(pid)[-3:] == HOLD and waits(pid):
                    return pid
            except OSError:
                continue
        time.sleep(0.02)
    raise AssertionError("no step has begun")


def waits(pid: int) -> bool:
    """Whether the process is at the pipe: it watches its caller before, where it has one, and masks keys."""
    return Path(f"/proc/{pid}/wchan").read_text() in ("wait_for_partner", "fifo_open", "0", "")


def gone(pid: int) -> bool:
    until = time.monotonic() + HANG
    while parent_watchdog._start_time(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not parent_watchdog._start_time(pid)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, 137), (signal.SIGTERM, 143), (signal.SIGSEGV, 139), (signal.SIGINT, cli.INTERRUPTED)],
)
def test_exit_code_of_step_that_a_signal_ended(number, code, preloaded, held):
    process = subprocess.Popen([GDPO, *HOLD], cwd=held, env=preloaded)
    os.kill(step_of(os.getpid(), held), number)
    assert process.wait(HANG) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_call_reaches_step(number, preloaded, held):
    """Both end, with the code of the plain call, as a shell gives it."""
    process = subprocess.Popen([GDPO, *HOLD], cwd=held, env=preloaded, start_new_session=True)
    child = step_of(os.getpid(), held)
    process.send_signal(number)
    assert process.wait(HANG) == (cli.INTERRUPTED if number == signal.SIGINT else 128 + number)
    assert gone(child)


def test_stopping_and_continuing_call_stops_and_continues_step(preloaded, held):
    process = subprocess.Popen([GDPO, *HOLD], cwd=held, env=preloaded, start_new_session=True)
    child = step_of(os.getpid(), held)

    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    process.send_signal(signal.SIGTSTP)
    until = time.monotonic() + HANG
    while (state(child), state(process.pid)) != ("T", "T") and time.monotonic() < until:
        time.sleep(0.02)
    assert (state(child), state(process.pid)) == ("T", "T")
    process.send_signal(signal.SIGCONT)
    while "T" in (state(child), state(process.pid)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG) == cli.INTERRUPTED


@pytest.fixture
def workflow(held, preloaded):
    """What stands for Snakemake, with its parent and a call whose step waits: processes of each, by name."""
    command = [sys.executable, "-c", WORKFLOW, GDPO, *HOLD]
    snakemake = subprocess.Popen(command, cwd=held, env=plain(preloaded), start_new_session=True)
    step = step_of(snakemake.pid, held)
    parent = parent_watchdog.parent_of(step)
    (waiting,) = [
        pid for pid in parent_watchdog.descendants(snakemake.pid) if command_line(pid)[-3:] == HOLD and pid != step
    ]
    yield {"snakemake": snakemake, "parent": parent, "call": waiting, "step": step}
    snakemake.kill()
    snakemake.wait()


def test_step_ends_when_its_call_is_killed(workflow):
    """And what is left goes on: the workflow sees that a job was killed."""
    os.kill(workflow["call"], signal.SIGKILL)
    assert gone(workflow["step"])
    assert workflow["snakemake"].wait(HANG) == 256 - signal.SIGKILL
    assert gone(workflow["parent"])


def test_all_processes_end_when_snakemake_is_killed(workflow):
    workflow["snakemake"].kill()
    workflow["snakemake"].wait()
    assert all(gone(workflow[name]) for name in ("step", "call", "parent"))


def test_step_ends_when_parent_is_killed(workflow):
    """The call says what a step that was killed says, once its step has ended."""
    os.kill(workflow["parent"], signal.SIGKILL)
    assert workflow["snakemake"].wait(HANG) == 128 + signal.SIGKILL
    assert not parent_watchdog._start_time(workflow["step"])


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


@pytest.mark.long
def test_parent_with_threads_forks_nothing(preloaded, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(THREAD)
    given = plain(preloaded) | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{preloaded.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", WORKFLOW, GDPO, *STEPS["one that fails"]]
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 2 and "decontaminated.jsonl: no such file" in done.stderr
    assert (
        "an import has started threads, so that each step imports for itself" in (tmp_path / "preload.log").read_text()
    )
