"""How far a step is: a small file beside its log, which a display of the workflow reads.

Only a step that has a log has the file. It is LOG.progress, one JSON object, replaced at most twice a second and
removed when the step ends. It is for display alone: no result depends on it, and failing to write it is no error.
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
SECONDS = 0.5  # ours: between two writes; a display is redrawn as often


class Progress(NamedTuple):
    """`done` of `total` of `what`, such as answers; `part`: which of several runs, in words."""

    done: int
    total: int
    what: str
    part: str = ""


class _Reporter:
    """This process's progress file, the time of its last write, and the part of the step that it is at."""

    file: Path | None = None
    last = 0.0
    part = ""


def file_of(log: Path) -> Path:
    """The progress file of the step with this log."""
    return log.with_name(log.name + SUFFIX)


def begin(log: Path) -> None:
    """Report this process's progress beside `log` from here on. A file that a killed process left is removed."""
    _Reporter.file, _Reporter.last, _Reporter.part = file_of(log), 0.0, ""
    _remove(_Reporter.file)
    atexit.register(end)


def end() -> None:
    """Remove the file and report nothing any more."""
    file, _Reporter.file = _Reporter.file, None
    if file is not None:
        _remove(file)


def part(number: int, of: int, what: str) -> None:
    """Set which of several parts, such as runs, is reported from here on: the `number`th, from 1."""
    _Reporter.part = f"{what} {number} of {of}" if of > 1 else ""


def report(done: int, total: int, what: str) -> None:
    """Report that `done` of `total` are done; `what` they are is a few plain words, such as "answers"."""
    now = time.monotonic()
    if _Reporter.file is None or now - _Reporter.last < SECONDS:
        return
    _Reporter.last = now
    partial = _Reporter.file.with_name(f".{_Reporter.file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(Progress(done, total, what, _Reporter.part)._asdict()), encoding="utf-8")
        os.replace(partial, _Reporter.file)
    except OSError:  # a full or read-only disk, on which the step's own files will fail
        _remove(partial)


def read(log: Path, since: float = 0.0) -> Progress | None:
    """The last progress of the step with this log; None without any since `since`, in seconds since the epoch."""
    file = file_of(log)
    try:
        if file.stat().st_mtime < since:  # left by an earlier process, which was killed
            return None
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Progress(int(stored["done"]), int(stored["total"]), str(stored["what"]), str(stored["part"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
