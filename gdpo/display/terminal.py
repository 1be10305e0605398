"""The terminal of a workflow, kept for its display: all other output goes to Snakemake's log file.

Jobs inherit this process's streams, and so what they and their libraries say ends in the log as well. Ctrl-C is
remembered, so that the end of the call is one sentence and exit code 130. `python -m gdpo.display.terminal`, which make
calls, is Snakemake, and has that sentence also while it is being imported.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  # what a shell makes of a process that Ctrl-C ended
USER_COMMAND = "GDPO_AGAIN"  # the command that a user gave where it was not Snakemake's, such as make's
RERUN_OPTION = "--rerun-incomplete"  # without it Snakemake refuses what an ended job has left


class Terminal:
    """A copy of stderr, for the display; `give_up` sends the process's own streams elsewhere until `take_back`."""

    def __init__(self) -> None:
        self.file: TextIO = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
        self._kept: list[tuple[int, int]] = []

    def console(self, nocolor: bool) -> Console:
        """What to draw on; NO_COLOR is respected by rich, and so are TERM=dumb and a file in the terminal's place."""
        from rich.console import Console

        return Console(file=self.file, no_color=nocolor or None, markup=False, highlight=False, emoji=False)

    def size(self) -> tuple[int, int] | None:
        """Columns and lines; None where it is no terminal. Rich would ask stdin, stdout and stderr alone."""
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return None
        return columns, lines

    def give_up(self, log: Path) -> None:
        """Append to `log` what this process and those that it starts say on stdout and stderr."""
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            self._kept.append((os.dup(number), number))
            os.dup2(target, number)
        os.close(target)

    def take_back(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for kept, number in self._kept:
            os.dup2(kept, number)
            os.close(kept)
        self._kept.clear()


class Interrupts:
    """Whether the user has pressed Ctrl-C, which goes on to do what it does."""

    def __init__(self) -> None:
        self.pressed = threading.Event()
        main = threading.current_thread() is threading.main_thread()
        # Ignored, as in the background of a script, it stays ignored.
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._press)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed.set()
        signal.default_int_handler(number, frame)


def log_file(logger: logging.Logger) -> Path | None:
    """Snakemake's own log file of this call; None where it writes none."""
    names = [handler.baseFilename for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    return Path(os.path.relpath(names[0])) if names else None


def stopped() -> str:
    """The sentence for a user who has pressed Ctrl-C: with the command that goes on, the user's own."""
    arguments = sys.argv[1:]
    on = [] if {RERUN_OPTION, "--ri"} & set(arguments) else [RERUN_OPTION]
    command = os.environ.get(USER_COMMAND, "").strip() or shlex.join(["snakemake", *on, *arguments])
    return f"Stopped; all that was finished is kept, and this goes on from there: {command}"


def main() -> None:
    sys.argv[0] = "snakemake"  # by which the workflow knows that the arguments are Snakemake's
    try:
        from snakemake.cli import main as snakemake

        snakemake()
    except KeyboardInterrupt:
        print(stopped(), file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
