"""A process that has imported everything once, and forks one child for each step of a workflow.

A step of tiny computes for seconds and imports torch, transformers, TRL, lm-eval and scipy for ten. The workflow
therefore starts one preloaded parent. A `gdpo` that the workflow calls sends its arguments, directory, environment and
open files there, and waits: the forked child is the step, and its exit code is that of the call. A call by hand, a
call on a cluster and a call with another environment import for themselves and do the same.

This module is the workflow's side (`start`) and the call's (`hand_over`); gdpo.cli.preloaded_parent is the parent's.
Linux alone has what this needs (abstract sockets, pidfd); elsewhere every call is an ordinary one.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gdpo.cli import SOCKET as SOCKET
from gdpo.runtime import single_thread

SETTING = "GDPO_PRELOAD"  # in the environment; "no": a workflow starts no parent
FEWEST_JOBS = 4  # ours: importing for all steps takes as long as importing for four

# Variables that may differ between a job and the parent: no library reads them while it is imported, or, of those that
# Snakemake sets for each job, gdpo.runtime.single_thread decides the number of threads and `accept` the temporary
# directory.
MAY_DIFFER = {"PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", SOCKET, "GDPO_CALLER", "GDPO_CHECKOUT", "GDPO_MIRROR"}
MAY_DIFFER |= {*single_thread.NUMBERS, "GOTO_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "TMPDIR", "TEMPDIR", "TMP", "TEMP"}
CALL = "gdpo-call"  # the name of a process that waits for the child that is its step
COMMAND_LINE_ROOM = 4096  # ours: characters for a child's command line, which replaces its parent's

LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def available() -> bool:
    """Whether this system has what the parent needs; a cluster's job has limits that the parent would not share."""
    able = sys.platform == "linux" and hasattr(os, "pidfd_open")
    return able and os.environ.get(SETTING) != "no" and "SLURM_JOB_ID" not in os.environ


# The workflow's side


def start(log: Path, offline: bool) -> None:
    """Start a preloaded parent that ends with this process, and name it to all that is started from now on.

    `offline` is that of gdpo.cli.main.prepare_environment: libraries read the environment when they are imported.
    The output of the imports goes to `log`. Jobs that come before the parent has imported everything wait for it.
    """
    address = f"gdpo-{os.getuid()}-{os.getpid()}-{secrets.token_hex(8)}"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "gdpo.cli.preloaded_parent",
        address,
        str(os.getpid()),
        "offline" if offline else "online",
        " " * COMMAND_LINE_ROOM,
    ]
    with log.open("wb") as stderr:
        parent = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
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
            if peer(connection)[1] != os.getuid():
                return None
            _send(connection, arguments)
            child = receive(connection, STATUS)
        except OSError:
            return None
        if not child:
            return None
        Path("/proc/self/comm").write_text(CALL)  # before the child goes on, so that no step is seen twice
        _forward_signals(child)
        with suppress(OSError):  # the parent was killed meanwhile; see below
            connection.sendall(STATUS.pack(child))
        status = receive(connection, STATUS)
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
    socket.send_fds(connection, [LENGTH.pack(len(message))], [0, 1, 2])
    connection.sendall(message)


def receive(connection: socket.socket, form: struct.Struct) -> int | None:
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


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a connection."""
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user
