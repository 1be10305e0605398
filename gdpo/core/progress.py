"""How far a step is: a small file beside its log, which a display of the workflow reads (ours).

Only a step that has a log has the file: LOG.progress, one JSON object, replaced at most twice a second and removed when
the step ends. It is for people alone: no result depends on it, and a disk that does not take it is no error.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".progress"
SECONDS = 0.5  # ours: between two writings; a display is redrawn as often


class Progress(NamedTuple):
    """`done` of `total` of `what`, such as answers; `part`: which of several runs, in words."""

    done: int
    total: int
    what: str
    part: str = ""


class _Told:
    """What this process tells: into which file, when it last did, and which part of the step it is at."""

    file: Path | None = None
    last = 0.0
    part = ""


def file_of(log: Path) -> Path:
    return log.with_name(log.name + SUFFIX)


def begin(log: Path) -> None:
    """From here on this process tells how far it is, beside `log`; what a killed one has left there is removed."""
    _Told.file, _Told.last, _Told.part = file_of(log), 0.0, ""
    _remove(_Told.file)
    atexit.register(end)


def end() -> None:
    """Remove the file and tell nothing any more."""
    file, _Told.file = _Told.file, None
    if file is not None:
        _remove(file)


def part(number: int, of: int, what: str) -> None:
    """What follows is about the `number`th, from 1, of several parts, such as runs; of one part nothing is told."""
    _Told.part = f"{what} {number} of {of}" if of > 1 else ""


def report(done: int, total: int, what: str) -> None:
    """Tell that `done` of `total` are done; `what` they are is a few plain words, such as "answers"."""
    now = time.monotonic()
    if _Told.file is None or now - _Told.last < SECONDS:
        return
    _Told.last = now
    partial = _Told.file.with_name(f".{_Told.file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(Progress(done, total, what, _Told.part)._asdict()), encoding="utf-8")
        os.replace(partial, _Told.file)
    except OSError:  # a full or forbidden disk, which the step's own files will meet as well
        _remove(partial)


def read(log: Path, since: float = 0.0) -> Progress | None:
    """What the step with this log told last; None where it told nothing since `since`, in seconds since the epoch."""
    file = file_of(log)
    try:
        if file.stat().st_mtime < since:  # of an earlier process, which was killed
            return None
        told = json.loads(file.read_text(encoding="utf-8"))
        return Progress(int(told["done"]), int(told["total"]), str(told["what"]), str(told["part"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
