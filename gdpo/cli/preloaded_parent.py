"""The preloaded parent: the process that imports everything once and forks one child for each step (gdpo.cli.preload).

It has one thread and computes nothing, so a fork is as good as a new process: seeds, threads and memory are the
child's own.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from gdpo.cli import preload
from gdpo.cli.preload import LENGTH, MAY_DIFFER, STATUS, peer, receive

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


@dataclass
class Parent:
    """The listening parent and its running children: pid and connection, by pidfd."""

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
                    self.kill_children_and_exit()
                elif key.fd in self.children:
                    self.report_exit(key.fd)
                else:
                    connection, _ = self.listener.accept()
                    if peer(connection)[1] != os.getuid():
                        connection.close()
                        continue
                    try:
                        pid = os.fork()
                    except OSError:  # no memory, or too many processes: the call goes on by itself
                        connection.close()
                        continue
                    if pid == 0:
                        self.close_in_child()
                        return connection
                    self.watch(pid, connection)

    def watch(self, pid: int, connection: socket.socket) -> None:
        descriptor = os.pidfd_open(pid)
        self.children[descriptor] = pid, connection
        self.selector.register(descriptor, selectors.EVENT_READ)

    def report_exit(self, descriptor: int) -> None:
        """Send a child's wait status to the call whose step it was."""
        pid, connection = self.children.pop(descriptor)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError), connection:
            connection.sendall(STATUS.pack(status))

    def close_in_child(self) -> None:
        """Close in a child what only the parent needs."""
        self.selector.close()
        self.listener.close()
        os.close(self.workflow)
        for descriptor, (_, connection) in self.children.items():
            os.close(descriptor)
            connection.close()

    def kill_children_and_exit(self) -> NoReturn:
        for pid, _ in self.children.values():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)


def accept(connection: socket.socket, environment: Mapping[str, str]) -> int:
    """Become the step that a call asks for, but for running it; the process id of the call.

    Ends this process where the call has another Python, code or environment than the parent, whose is `environment`.
    """
    with connection:
        job, _ = peer(connection)
        head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        if len(head) < LENGTH.size:  # the call ended before it sent its request
            os._exit(1)
        rest = LENGTH.unpack(head)[0]
        message = b""
        while len(message) < rest and (more := connection.recv(rest - len(message))):
            message += more
        if len(message) < rest:
            os._exit(1)
        request = json.loads(message)
        if reason := _why_refused(request, environment):
            print(f"gdpo {' '.join(request['arguments'])}: imports for itself: {reason}", file=sys.stderr, flush=True)
            connection.sendall(STATUS.pack(0))
            os._exit(1)
        os.setpgid(0, 0)
        for standard, descriptor in enumerate(files):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        connection.sendall(STATUS.pack(os.getpid()))
        if receive(connection, STATUS) is None:  # the call has ended, perhaps while it waited for the imports
            os._exit(1)
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # which imports may have looked up
    sys.argv = [request["program"], *request["arguments"]]
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    Path("/proc/self/comm").write_text("gdpo")
    _set_command_line([sys.executable, *sys.argv])
    return job


def _set_command_line(command: list[str]) -> None:
    """Let this process have `command` as its command line, for `ps` and for parent_watchdog.find_orphans."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # proc(5): arg_start and arg_end, the 48th and the 49th of all fields
    words = "\0".join(command).encode()[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def _why_refused(request: dict[str, Any], environment: Mapping[str, str]) -> str | None:
    """Why a child of this process cannot be the step of a call; None where it can.

    Variables are named without their values, which may be keys.
    """
    if request["python"] != sys.executable or request["code"] != preload.__file__:
        return "another Python or checkout"
    wanted = request["environment"]
    names = sorted(n for n in {*wanted, *environment} - MAY_DIFFER if wanted.get(n) != environment.get(n))
    return f"other values of {', '.join(names)}" if names else None


def _import_all() -> None:
    for name in MODULES:
        with suppress(ImportError):  # an optional one, or one that the step itself will miss and say so
            import_module(name)
    with suppress(Exception):  # transformers compiles patterns for all architectures when it first loads a model
        import_module("gdpo.trainer.compat").load_conversion_patterns()


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
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    """Listen, import, and fork; in a child, run the step.

    Called as `python -m gdpo.cli.preloaded_parent ADDRESS WORKFLOW MODE ROOM`.
    """
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
