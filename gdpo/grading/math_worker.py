"""Math answers compared in worker processes, each of which has a limit of CPU time and of memory.

math-verify parses with sympy and can run for ever. Its own timeout is a signal handler, which needs the main thread.
It therefore runs in child processes under a kernel timer: an item that hangs costs its time limit and one worker. The
timer counts the worker's own CPU time, sympy's random numbers are seeded for each item, and its sets have one order: a
verdict depends neither on a machine's load nor on what else a worker has graded.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import resource
import signal
import subprocess
import sys
from typing import IO

from gdpo.core.errors import UserError
from gdpo.core.records import Verdict
from gdpo.grading.math_values import compare

MATH_SECONDS = 5.0  # ours: of CPU time; a comparison takes some 0.05 s, so what needs 5 s is a hang
MATH_MEMORY = 4 * 2**30  # ours: address space of a worker, so that 9^9^9 cannot exhaust the machine


class MathWorker:
    """A child process that compares math answers one at a time, and is replaced when it dies."""

    def __init__(self, seconds: float = MATH_SECONDS) -> None:
        self.seconds = seconds
        self.owner = os.getpid()
        self.process: subprocess.Popen[str] | None = None

    def verdict(self, reference: str, answer: str) -> Verdict:
        """`answer` (a final answer in words or LaTeX) against `reference` (a LaTeX or numeric value).

        A worker that dies of anything but its time limit, such as a kill from outside, is replaced and asked once more.
        If that one dies too, the item is to blame.
        """
        for _ in range(2):
            if self.process is None:
                self.process = self._start()
            requests, replies = _pipes(self.process)
            try:
                requests.write(json.dumps([reference, answer]) + "\n")
                requests.flush()
                line = replies.readline()
            except BrokenPipeError:
                line = ""
            if line.endswith("\n"):
                verdict: Verdict = json.loads(line)
                return verdict
            if self.process.wait() == -signal.SIGPROF:
                break
            self.close()
        self.close()
        return "ungradable"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from gdpo.grading.math_worker import serve; serve({self.seconds})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONHASHSEED": "0"},  # sympy goes through sets of symbols
        )
        if _pipes(process)[1].readline() != "ready\n":
            process.kill()
            raise UserError("math-verify does not start", key="grading", expected="the package math-verify installed")
        return process


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None  # started with pipes
    return process.stdin, process.stdout


_idle_workers: queue.SimpleQueue[MathWorker] = queue.SimpleQueue()


def math_verdict(item: tuple[str, str]) -> Verdict:
    """The verdict on (reference, answer) by an idle worker, or by a new one. Safe to call from several threads."""
    try:
        worker = _idle_workers.get_nowait()
    except queue.Empty:
        worker = MathWorker()
    if worker.owner != os.getpid():  # inherited through a fork: its pipes belong to the parent
        worker = MathWorker()
    verdict = worker.verdict(*item)
    _idle_workers.put(worker)
    return verdict


def serve(seconds: float) -> None:
    """The worker's side: one JSON pair in, one verdict out, until the input ends.

    SIGPROF keeps its default action, so the kernel ends this process in whatever code it hangs.
    """
    from math_verify import parse  # noqa: F401  (imported before "ready", so that no item pays for it)
    from sympy.core.random import seed

    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a parent that ignores it would hand that on,
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})  # and so would one that holds it back
    resource.setrlimit(resource.RLIMIT_AS, (MATH_MEMORY, MATH_MEMORY))
    print("ready", flush=True)
    for line in sys.stdin:
        reference, answer = json.loads(line)
        seed(0)  # expressions without a normal form are compared at random points
        signal.setitimer(signal.ITIMER_PROF, seconds)
        verdict = _compare(reference, answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), flush=True)


def _compare(reference: str, answer: str) -> Verdict:
    try:
        return compare(reference, answer)
    except Exception:  # sympy raises anything, RecursionError and MemoryError included
        return "ungradable"
