"""What a user sees while a step runs: short lines on the terminal, everything else in the step's log."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gdpo import together

_terminal = sys.stderr


def redirect(log: Path) -> None:
    """Send this process's stdout and stderr, libraries' progress bars included, to `log`.

    `say` still reaches the terminal, so that several steps at once stay readable. Of several processes on one step,
    each but the first has a log of its own, LOG.RANK.
    """
    global _terminal
    if not together.first():
        log = log.with_name(f"{log.name}.{together.rank()}")
    _terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def say(text: str) -> None:
    """One line for the user, and the same line in the log where there is one; of several processes, the first's."""
    if not together.first():
        return
    print(text, file=_terminal, flush=True)
    if _terminal is not sys.stderr:
        print(text, file=sys.stderr, flush=True)
