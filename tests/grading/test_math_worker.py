"""Worker processes that compare math answers: items that hang or exhaust memory, and workers that are killed."""

from __future__ import annotations

import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from gdpo.core.records import Question
from gdpo.grading import math_worker
from gdpo.grading.grade import grade_many
from gdpo.grading.math_worker import MathWorker

MEGABYTE = 10**6
GIANT = "7" * 10_000
LIMIT = 1.5

# Answers that no reader can tell at a glance, with the verdicts that are in order: a grader that can tell them from
# 42 says wrong, and one that needs longer than its limit has no verdict.
TOWERS = {
    "tower of nines": r"\boxed{9^{9^{9^{9}}}}",
    "exponent of 10,000 digits": rf"\boxed{{2^{{{GIANT}}}}}",
    "tower with 10,000 digits": rf"\boxed{{9^{{9^{{{GIANT}}}}}}}",
    "parentheses 5,000 deep": rf"\boxed{{{'(' * 5000}41{')' * 5000}}}",
    "number of 1 MB": rf"\boxed{{{'7' * MEGABYTE}}}",
}
MORE_TOWERS = {
    "tower of 10,000 storeys": rf"\boxed{{{'9^{' * 10_000}9{'}' * 10_000}}}",
    "tower in prose": "The answer is 9^9^9^9^9.",
    "binomial": r"\boxed{\binom{9999999999}{4999999999}}",
    "factorial": r"\boxed{9999999999!}",
    "factorial of a factorial": r"\boxed{(9999!)!}",
    "fractions 5,000 deep": r"\boxed{" + r"\frac{1}{" * 5000 + "2" + "}" * 5000 + "}",
    "tower less a tower": r"\boxed{10^{10^{10^{10}}} - 10^{10^{10^{10}}}}",
    "float beyond floats": r"\boxed{9e9999999999}",
    "power of a float": r"\boxed{1.0000001^{10^{18}}}",
    "series": r"\boxed{\sum_{n=1}^{10^{10}} \frac{1}{n^{n}}}",
    "integral": r"\boxed{\int_0^{\infty} \frac{\sin(x^x) e^{x^3}}{\log(x+\sqrt{x})} dx}",
    "sum of 1 MB": r"\boxed{" + "1+" * (MEGABYTE // 2) + "1}",
    "digits of 1 MB in prose": "The answer is " + "7" * MEGABYTE,
    "prose of 1 MB": "so the answer is good and " * (MEGABYTE // 25),
    "boxes never closed": r"\boxed{" * (MEGABYTE // 7),
    "dollars": "$" * MEGABYTE,
    "exponents in glyphs": "²" * MEGABYTE,
}


@pytest.fixture(scope="module")
def worker():
    worker = MathWorker(seconds=LIMIT)
    yield worker
    worker.close()


def assert_costs_its_limit(worker: MathWorker, answer: str) -> None:
    assert worker.verdict("42", r"\boxed{42}") == "right"
    process, memory = worker.process, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = cpu_of_children()
    assert worker.verdict("42", answer) in ("wrong", "ungradable")
    if worker.process is None:  # it ran into its limit: the worker is gone, and waited for
        assert process.returncode is not None
        assert LIMIT - 0.2 < cpu_of_children() - before < LIMIT + 10  # what it took to start is counted too
    assert worker.verdict("42", r"\boxed{42}") == "right"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024  # in kB: the parent's peak


def cpu_of_children() -> float:
    """Seconds that children have computed which have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_costs_its_time_limit_alone(worker, name) -> None:
    assert_costs_its_limit(worker, TOWERS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", MORE_TOWERS)
def test_more_towers(worker, name) -> None:
    assert_costs_its_limit(worker, MORE_TOWERS[name])


def test_a_closed_worker_is_gone() -> None:
    worker = MathWorker(seconds=LIMIT)
    assert worker.verdict("1", "1") == "right"
    process = worker.process
    worker.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    worker.close()  # a second time does nothing


def test_an_item_is_asked_again_after_its_worker_was_killed() -> None:
    """A kill says nothing about the answer: idle or at work, the worker is replaced and the verdict the same."""
    worker = MathWorker(seconds=4 * LIMIT)
    assert worker.verdict("42", r"\boxed{41}") == "wrong"
    first = worker.process
    first.kill()
    assert worker.verdict("42", r"\boxed{42}") == "right"
    assert worker.process.pid != first.pid
    killer = threading.Timer(0.3, worker.process.kill)
    second = worker.process
    killer.start()
    assert worker.verdict("42", TOWERS["tower of nines"]) == "ungradable"  # by its own limit, the second time
    assert (first.returncode, second.returncode, worker.process) == (-signal.SIGKILL, -signal.SIGKILL, None)


def test_an_item_that_kills_two_workers_is_ungradable(monkeypatch) -> None:
    started = []
    worker = MathWorker(seconds=LIMIT)

    def start() -> subprocess.Popen:
        started.append(MathWorker._start(worker))
        started[-1].kill()
        return started[-1]

    monkeypatch.setattr(worker, "_start", start)
    assert worker.verdict("42", r"\boxed{42}") == "ungradable"
    assert len(started) == 2 and worker.process is None


@pytest.mark.parametrize("how", ["ignores", "holds back"])
def test_the_time_limit_holds_where_the_parent_ignores_or_blocks_its_signal(monkeypatch, how) -> None:
    """Both are handed on to a worker; a profiler or a server of models may do either."""
    before = signal.getsignal(signal.SIGPROF)
    if how == "ignores":
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    worker = MathWorker(seconds=0.5)
    try:
        assert worker.verdict("1", "1") == "right"
        process = worker.process
        monkeypatch.setattr(worker, "_start", lambda: pytest.fail("the worker did not end by its limit"))
        late = threading.Timer(60, process.kill)  # else what hangs would hang this
        late.start()
        assert worker.verdict("1", r"\boxed{\sum_{k=1}^{10^{9}} \sin(k^{k})}") == "ungradable"
        assert process.returncode == -signal.SIGPROF
        late.cancel()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        signal.signal(signal.SIGPROF, before)
        worker.close()


def test_a_stopped_worker_keeps_its_time_limit() -> None:
    """A worker that stands still for twice its limit has computed nothing meanwhile."""
    worker = MathWorker(seconds=0.5)
    assert worker.verdict("1", "1") == "right"
    process = worker.process
    os.kill(process.pid, signal.SIGSTOP)
    going_on = threading.Timer(1.0, os.kill, (process.pid, signal.SIGCONT))
    going_on.start()
    assert worker.verdict("1", "2") == "wrong"
    going_on.join()
    assert worker.process is process
    worker.close()


def test_random_numbers_are_seeded_for_each_item() -> None:
    """sympy draws them from a generator of its own, which is seeded from the clock."""
    code = "from gdpo.grading import math_worker; from sympy.core.random import random\n"
    code += "math_worker._compare = lambda *_: random(); math_worker.serve(5)"
    lines = '["1", "1"]\n["2", "1"]\n'
    calls = [subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True) for _ in "ab"]
    told = [line for done in calls for line in done.stdout.splitlines() if line != "ready"]
    assert len(told) == 4 and len(set(told)) == 1


def test_hash_seed_is_fixed(worker) -> None:
    assert worker.verdict("1", "1") == "right"
    assert b"PYTHONHASHSEED=0\0" in Path(f"/proc/{worker.process.pid}/environ").read_bytes()


def test_a_hanging_item_leaves_other_verdicts_alone(monkeypatch) -> None:
    """Fifty items, the twentieth a tower: 48 right, one wrong, one ungradable, in order and in little more than its
    limit."""
    idle: queue.SimpleQueue[MathWorker] = queue.SimpleQueue()
    monkeypatch.setattr(math_worker, "_idle_workers", idle)
    monkeypatch.setattr(math_worker, "MathWorker", partial(MathWorker, seconds=LIMIT))
    answers = [rf"\boxed{{{number}}}" for number in range(50)]
    answers[20], answers[30] = TOWERS["tower of nines"], r"\boxed{-30}"
    start = time.monotonic()
    found = grade_many([(math_question(str(number)), answer) for number, answer in enumerate(answers)])
    assert time.monotonic() - start < LIMIT + 15
    while not idle.empty():
        idle.get().close()
    expected = ["right"] * 50
    expected[20], expected[30] = "ungradable", "wrong"
    assert found == expected


def test_no_worker_outlives_its_parent() -> None:
    code = (
        "from functools import partial\n"
        "from gdpo.grading import math_worker; from gdpo.grading.grade import grade\n"
        "from gdpo.core.records import Question\n"
        "math_worker.MathWorker = partial(math_worker.MathWorker, seconds=1.5)\n"
        "ask = lambda text: grade("
        "Question(id='q', domain='math', source='s', question='?', answer='2', grader='math'), text)\n"
        "for text in ('2', r'\\boxed{9^{9^{9^{9}}}}', '2'):\n"
        "    verdict = ask(text); worker = math_worker._idle_workers.get()\n"
        "    print(verdict, worker.process.pid if worker.process else '-'); math_worker._idle_workers.put(worker)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    verdicts, pids = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert verdicts == ("right", "ungradable", "right")
    assert pids[1] == "-" and pids[0] != pids[2]  # the second item cost the first worker, the third has its own
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{pids[2]}").exists():
        time.sleep(0.05)
    for pid in (pids[0], pids[2]):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def math_question(answer: str) -> Question:
    return Question(id="q", domain="math", source="s", question="?", answer=answer, grader="math")
