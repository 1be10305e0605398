"""What a user sees while a step runs: short lines on the terminal, everything else in the step's log.

Text of models and data sets may hold control characters, which could move a terminal's cursor, change its title or
hide text. Files keep them; the terminal gets their escapes.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from gdpo.core import process_group, progress
from gdpo.core.redaction import scrubbed

# All control characters but tab and line feed; marks that turn the direction of what follows; halves of characters.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_terminal = sys.stderr


def redirect(log: Path) -> None:
    """Send this process's stdout and stderr, libraries' progress bars included, to `log`.

    `say` still reaches the terminal, so that several steps at once stay readable. Of several processes on one step,
    each but the first has a log of its own, LOG.RANK. The first one reports its progress beside its log
    (gdpo.core.progress).
    """
    global _terminal
    if not process_group.is_main_process():
        log = log.with_name(f"{log.name}.{process_group.rank()}")
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    _terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    if process_group.is_main_process():
        progress.begin(log)


def install_redaction() -> None:
    """Mask keys from here on in what libraries log and in the traceback of an uncaught error."""

    def print_scrubbed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(scrubbed("".join(traceback.format_exception(kind, error, trace))))

    logging.setLogRecordFactory(_scrubbed_record)
    sys.excepthook = print_scrubbed


def _scrubbed_record(*arguments: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **options)
    try:
        message = record.getMessage()
    except Exception:  # its arguments do not fit; logging would print that with all of them
        message = f"{record.msg!r}, which its arguments do not fit"
    record.msg, record.args = scrubbed(message), ()
    if record.exc_info and record.exc_info[0]:  # formatters take exc_text
        record.exc_text = scrubbed("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")
    return record


def say(text: str) -> None:
    """Print one line for the user, and the same line to the log where there is one. Only the first process prints."""
    if not process_group.is_main_process():
        return
    text = printable(scrubbed(text))
    print(text, file=_terminal, flush=True)
    if _terminal is not sys.stderr:
        print(text, file=sys.stderr, flush=True)


def display(text: str) -> None:
    """Print `text`, a command's output of one or more lines, on stdout."""
    print(printable(text))


def printable(text: str) -> str:
    r"""`text` for a terminal: control characters become escapes, such as \x1b for ESC, but for tabs and line feeds."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
