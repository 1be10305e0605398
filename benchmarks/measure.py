"""One measurement: a function in a process of its own, its seconds and its peak memory."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from gdpo.core.device import memory_held, peak_memory

MIB = 2**20


class MeasurementError(RuntimeError):
    """A measured function failed; the message is its traceback."""


@contextmanager
def metered(device: str, since_now: bool = False) -> Iterator[dict[str, float]]:
    """Fill the yielded mapping with the block's `seconds`, its threads' `cpu_seconds` and the `peak_mib` it reached.

    The peak is the process's resident memory on a CPU, the allocator's on CUDA, above what was held before the model
    was built. `since_now` counts from the block's start instead, for a step whose inputs are not its own.
    """
    measured: dict[str, float] = {}
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = memory_held(device) if since_now else _floor
    started, cpu = time.perf_counter(), time.process_time()
    yield measured
    if device == "cuda":
        torch.cuda.synchronize()
    measured["seconds"] = time.perf_counter() - started
    measured["cpu_seconds"] = time.process_time() - cpu
    measured["peak_mib"] = (peak_memory(device) - before) / MIB


def isolated(
    function: Callable[..., dict[str, Any]], device: str, threads: int | None, log: Path, **settings: Any
) -> dict[str, Any]:
    """`function(work=a fresh directory, **settings)` in a new process, what it prints appended to `log`.

    On a CPU the process is a fork of this one, which has imported everything but run no torch operation (its thread
    pools would not survive the fork): imports are not measured, and memory starts level. CUDA cannot be forked.
    """
    context = multiprocessing.get_context("spawn" if device == "cuda" else "fork")
    receiver, sender = context.Pipe(duplex=False)
    gc.collect()
    gc.freeze()  # else each collection in the child walks through all that was imported here
    with TemporaryDirectory() as work:
        process = context.Process(target=_child, args=(sender, function, device, threads, log, Path(work), settings))
        process.start()
        sender.close()
        try:
            failed, result = receiver.recv()
        except EOFError:
            failed, result = True, "the process died without a word; was it out of memory?"
        process.join()
    if failed:
        raise MeasurementError(result)
    return result


_floor = 0


def begin(device: str) -> None:
    """Warm up, and let `metered` count memory above what this process holds now; a part of its own calls it once."""
    global _floor
    _warm_up(device)
    _floor = memory_held(device)


def _child(sender, function, device: str, threads: int | None, log: Path, work: Path, settings: dict) -> None:
    os.environ["TMPDIR"] = str(work)  # TRL and datasets keep caches there, which no other measurement may find
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        if threads:
            torch.set_num_threads(threads)
        begin(device)
        sender.send((False, function(work=work, **settings)))
    except BaseException:
        sender.send((True, traceback.format_exc()))


def _warm_up(device: str) -> None:
    """Start threads and load kernels, which is neither an arm's time nor its memory."""
    layer = nn.Linear(64, 64, device=device)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.0)
    states = layer(torch.randn(1, 4, 64, 64, device=device))
    states = functional.scaled_dot_product_attention(states, states, states, is_causal=True)
    functional.cross_entropy(states.flatten(0, 2), torch.zeros(256, dtype=torch.long, device=device)).backward()
    optimizer.step()
