"""A process that has imported everything once, and forks one child for each step of a workflow (ours).

A step of tiny computes for seconds and imports torch, transformers, TRL, lm-eval and scipy for ten. The workflow
therefore starts one preloaded parent. A `gdpo` that the workflow calls sends its arguments, directory, environment and
open files there, and waits: the forked child is the step, and its exit code is that of the call. A call by hand, a
call on a cluster and a call with another environment import for themselves and do the same.

The parent has one thread and computes nothing, so a fork is as good as a new process: seeds, threads and memory are the
child's own. Linux alone has what this needs (abstract sockets, pidfd); elsewhere every call is an ordinary one.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from gdpo.runtime import single_thread

SOCKET = "GDPO_PRELOADED"  # the address of the preloaded parent, in the environment of a workflow's jobs
WANTED = "GDPO_PRELOAD"  # "no": a workflow starts none
FEWEST_JOBS = 4  # ours: importing for all steps takes as long as importing for four

# Variables that may differ between a job and the parent: no library reads them while it is imported, or, of those that
# Snakemake sets for each job, gdpo.runtime.single_thread decides the number of threads and `accept` the temporary
# directory.
FREE = {"PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", SOCKET, "GDPO_CALLER", "GDPO_CHECKOUT", "GDPO_MIRROR"}
FREE |= {*single_thread.NUMBERS, "GOTO_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "TMPDIR", "TEMPDIR", "TMP", "TEMP"}
# What the steps of a table import; the scale's world decides nothing here. A step imports what is missing itself.
MODULES = (
    "gdpo.config.loader", "gdpo.config.layout", "gdpo.students.steps", "gdpo.students.sft", "gdpo.students.dpo",
    "gdpo.students.grpo", "gdpo.students.gdpo", "gdpo.students.watch", "gdpo.students.noise", "gdpo.metakl.steps",
    "gdpo.teach.steps", "gdpo.teach.imports", "gdpo.evaluate.steps", "gdpo.evaluate.harness", "gdpo.evaluate.model",
    "gdpo.evaluate.drift", "gdpo.evaluate.samples", "gdpo.report.steps", "gdpo.report.figures.settings",
    "gdpo.report.figures.style", "gdpo.tiny.pretrain", "gdpo.models.sampling_hf", "gdpo.models.choice_likelihood",
    "gdpo.grading.grade", "gdpo.metakl.contamination", "peft", "accelerate", "seaborn",
    "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto", "scipy.stats",
    "nltk.stem.snowball", "matplotlib.figure", "lm_eval.evaluator",
)  # fmt: skip

CALL = "gdpo-call"  # what a process is called that waits for the child that is its step
ROOM = 4096  # ours: characters for a child's command line, which stands where its parent's stood

_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def available() -> bool:
    """Whether this system has what the parent needs; a cluster's job has limits that the parent would not share."""
    able = sys.platform == "linux" and hasattr(os, "pidfd_open")
    return able and os.environ.get(WANTED) != "no" and "SLURM_JOB_ID" not in os.environ


# The workflow's side


def start(log: Path, offline: bool) -> None:
    """Start a preloaded parent that ends with this process, and name it to all that is started from now on.

    `offline` is what its steps are told (gdpo.cli.main.prepare_environment), which libraries read when they are
    imported.

    What its imports say goes to `log`. Jobs that come before it has imported everything wait for it.
    """
    address = f"gdpo-{os.getuid()}-{os.getpid()}-{secrets.token_hex(8)}"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "gdpo.cli.preload",
        address,
        str(os.getpid()),
        "offline" if offline else "online",
        " " * ROOM,
    ]
    with log.open("wb") as said:
        parent = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
    assert parent.stdout is not None
    if parent.stdout.readline() == b"listening\n":
        os.environ[SOCKET] = address


# The job's side


def hand_over(arguments: list[str]) -> int | None:
    """Let the preloaded parent's child run `gdpo ARGUMENTS`; its exit code, as a shell gives it.

    None where there is no parent, or where it has another environment: then this process is to run the step.
    """
    address = os.environ.pop(SOCKET, None)
    if not address or not available():
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"\0{address}")
            if _peer(connection)[1] != os.getuid():
                return None
            _send(connection, arguments)
            child = _receive(connection, _STATUS)
        except OSError:
            return None
        if not child:
            return None
        Path("/proc/self/comm").write_text(CALL)  # before the child goes on, so that no step is seen twice
        _forward_signals(child)
        with suppress(OSError):  # of a parent that was killed meanwhile, as is told below
            connection.sendall(_STATUS.pack(child))
        status = _receive(connection, _STATUS)
    if status is None:  # the parent was killed, and its children with it
        _await_end(child)
        return 128 + signal.SIGKILL
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _send(connection: socket.socket, arguments: list[str]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "arguments": arguments,
        "program": sys.argv[0],
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask,
        "python": sys.executable,
        "code": __file__,
        "job": os.getpid(),
    }
    message = json.dumps(request).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(message))], [0, 1, 2])
    connection.sendall(message)


def _receive(connection: socket.socket, form: struct.Struct) -> int | None:
    """A number from the other side; None where it has gone."""
    data = b""
    while len(data) < form.size:
        try:
            more = connection.recv(form.size - len(data))
        except ConnectionResetError:
            return None
        if not more:
            return None
        data += more
    return int(form.unpack(data)[0])


def _forward_signals(child: int) -> None:
    """Let the step have what this process is sent, and all that it has started: the child leads a group."""

    def forward(number: int, _: Any) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child, number)

    def stop(*_: Any) -> None:
        forward(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)

    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # else the child ignores it as well
            signal.signal(number, forward)
    signal.signal(signal.SIGTSTP, stop)


def _await_end(child: int) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(child)
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            selector.select()
        os.close(descriptor)


# The parent's side


@dataclass
class Parent:
    """The listening parent and the children whose end it has still to tell: pid and connection, by pidfd."""

    listener: socket.socket
    workflow: int  # a pidfd
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    children: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)

    def serve(self) -> socket.socket:
        """Fork a child for each call, until the workflow ends; returns in each child, with its connection."""
        for watched in (self.listener.fileno(), self.workflow):
            self.selector.register(watched, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fd == self.workflow:
                    self.end()
                elif key.fd in self.children:
                    self.tell(key.fd)
                else:
                    connection, _ = self.listener.accept()
                    if _peer(connection)[1] != os.getuid():
                        connection.close()
                        continue
                    try:
                        pid = os.fork()
                    except OSError:  # no memory, or too many processes: the call goes on by itself
                        connection.close()
                        continue
                    if pid == 0:
                        self.forget()
                        return connection
                    self.watch(pid, connection)

    def watch(self, pid: int, connection: socket.socket) -> None:
        descriptor = os.pidfd_open(pid)
        self.children[descriptor] = pid, connection
        self.selector.register(descriptor, selectors.EVENT_READ)

    def tell(self, descriptor: int) -> None:
        """Send a child's wait status to the call that it was."""
        pid, connection = self.children.pop(descriptor)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError), connection:
            connection.sendall(_STATUS.pack(status))

    def forget(self) -> None:
        """Close in a child what only the parent needs."""
        self.selector.close()
        self.listener.close()
        os.close(self.workflow)
        for descriptor, (_, connection) in self.children.items():
            os.close(descriptor)
            connection.close()

    def end(self) -> NoReturn:
        for pid, _ in self.children.values():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)


def accept(connection: socket.socket, environment: Mapping[str, str]) -> int:
    """Become the step that a call asks for, but for running it; the process id of the call.

    Ends this process where the call has another Python, code or environment than the parent, whose is `environment`.
    """
    with connection:
        job, _ = _peer(connection)
        head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
        if len(head) < _LENGTH.size:  # the call ended before it asked for anything
            os._exit(1)
        rest = _LENGTH.unpack(head)[0]
        message = b""
        while len(message) < rest and (more := connection.recv(rest - len(message))):
            message += more
        if len(message) < rest:
            os._exit(1)
        request = json.loads(message)
        if why := _refused(request, environment):
            print(f"gdpo {' '.join(request['arguments'])}: imports for itself: {why}", file=sys.stderr, flush=True)
            connection.sendall(_STATUS.pack(0))
            os._exit(1)
        os.setpgid(0, 0)
        for standard, descriptor in enumerate(files):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        connection.sendall(_STATUS.pack(os.getpid()))
        if _receive(connection, _STATUS) is None:  # the call has ended, perhaps while it waited for the imports
            os._exit(1)
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # which imports may have looked up
    sys.argv = [request["program"], *request["arguments"]]
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    Path("/proc/self/comm").write_text("gdpo")
    _show([sys.executable, *sys.argv])
    return job


def _show(command: list[str]) -> None:
    """Let this process have `command` as its command line, for `ps` and for parent_watchdog.find_orphans."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # proc(5): arg_start and arg_end, the 48th and the 49th of all fields
    words = "\0".join(command).encode()[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def _refused(request: dict[str, Any], environment: Mapping[str, str]) -> str | None:
    """Why a call is none that a child of this process can be; no value of a variable is told, which may be a key."""
    if request["python"] != sys.executable or request["code"] != __file__:
        return "another Python or checkout"
    wanted = request["environment"]
    names = sorted(n for n in {*wanted, *environment} - FREE if wanted.get(n) != environment.get(n))
    return f"other values of {', '.join(names)}" if names else None


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a connection."""
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user


def _import_all() -> None:
    for name in MODULES:
        with suppress(ImportError):  # an optional one, or one that the step itself will miss and say so
            import_module(name)
    with suppress(Exception):  # transformers compiles patterns for all architectures when it first loads a model
        import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")


class _Exit:
    """Ends a child without taking down what it shares with the parent, which would copy all of it, page by page."""

    code: int | None = None  # of a child, once it has come to its end

    def __call__(self) -> None:
        if self.code is not None:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(self.code)


def _run(job: int) -> int:
    """Run the step that `accept` has made of this process; its exit code."""
    from gdpo.cli import main as cli

    try:
        cli.main(job)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    """`python -m gdpo.cli.preload ADDRESS WORKFLOW MODE ROOM`: listen, import, and fork; in a child, run the step."""
    leave = _Exit()
    atexit.register(leave)  # before all that imports register, so that it is called after them
    from gdpo.cli import main as cli

    address, pid, mode, _ = sys.argv[1:]
    environment, parent = dict(os.environ), os.getpid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{address}")
    listener.listen(128)
    workflow = os.pidfd_open(int(pid))
    if os.getppid() != int(pid):
        sys.exit(0)  # it has ended meanwhile
    print("listening", flush=True)
    cli.prepare_environment(mode == "offline")
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # pyarrow's allocator would start one
    _import_all()
    if len(os.listdir("/proc/self/task")) > 1:  # after a fork the locks that other threads hold stay locked
        sys.exit("gdpo: an import has started threads, so that each step imports for itself")
    gc.collect()
    gc.freeze()
    connection = Parent(listener, workflow).serve()
    try:
        job = accept(connection, environment)
    except (BrokenPipeError, ConnectionResetError):  # the call has ended
        os._exit(1)
    if os.getppid() != parent:  # it was killed meanwhile, and nobody would tell the call how this ends
        os._exit(1)
    leave.code = _run(job)


if __name__ == "__main__":
    main()
