"""A terminal for tests: a command on a pseudo-terminal, and what its screen shows after so much of its output."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|[\r\n]|[^\x1b\r\n]+")


def rendered(output: str) -> list[str]:
    """The lines that a terminal shows after `output`: of its control sequences those that rich writes."""
    lines, row, column = [""], 0, 0
    for token in _TOKEN.finditer(output):
        text = token[0]
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token[2] == "A":
            row = max(0, row - int(token[1] or 1))
        elif token[2] == "K":
            lines[row] = "" if token[1] == "2" else lines[row][:column]
        elif not text.startswith("\x1b"):
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines]


class Screen:
    """A command that runs on a pseudo-terminal of its own, as the leader of its group, and what it has written."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str], columns: int = 100, lines: int = 30) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        modes = termios.tcgetattr(theirs)
        modes[3] |= termios.NOFLSH  # else Ctrl-C may drop what a fast process writes in answer to it
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=lambda: _as_a_shell_would(theirs),
        )  # fmt: skip
        os.close(theirs)
        self.terminal, self.output = ours, ""

    def until(self, shows: Callable[[list[str]], bool], seconds: float = 60) -> list[str]:
        """What the screen shows as soon as `shows` is true of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read():
            if shows(lines := rendered(self.output)):
                return lines
        raise AssertionError("never shown; the screen shows:\n" + "\n".join(rendered(self.output)))

    def press(self, key: str) -> None:
        os.write(self.terminal, key.encode())

    def end(self) -> tuple[int, list[str]]:
        """The exit code, and what the screen shows at the end."""
        while self._read():
            pass
        os.close(self.terminal)
        return self.process.wait(), rendered(self.output)

    def _read(self) -> bool:
        if not select.select([self.terminal], [], [], 1.0)[0]:
            return True
        try:
            read = os.read(self.terminal, 65536)
        except OSError:  # how Linux tells that nobody has the other side any more
            return False
        self.output += read.decode(errors="replace")
        return bool(read)


def _as_a_shell_would(terminal: int) -> None:
    """Ctrl-C reaches the command and all that it starts, also where the tests themselves run in the background."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
