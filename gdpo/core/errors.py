"""The one error a user is meant to see: a single sentence, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gdpo.core.redaction import scrubbed


class UserError(Exception):
    """Bad input. The message names the file, the line or key, what was found and what was expected."""


class Unreachable(UserError):
    """What could not be downloaded: nothing is wrong with what was asked for, as far as is known."""


# What the place of a file is to blame for, and no code of ours.
_OF_THE_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
_EXPECTED = {
    errno.EISDIR: "the path of a file",
    errno.EEXIST: "a directory, or nothing yet",
    errno.ENOTDIR: "directories above it",
    errno.ENAMETOOLONG: "a shorter path",
    errno.ELOOP: "links that end somewhere",
}


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Raises UserError naming `path`, or the file that the system names, where the block meets a disk that fails."""
    try:
        yield
    except Exception as error:
        if (sentence := disk_error(error, path)) is None:
            raise
        raise UserError(sentence) from error


def disk_error(error: Exception, path: Path | str = "a file") -> str | None:
    """What a full, read-only or forbidden disk did to `path`, in a sentence; None where no disk is to blame."""
    said, expected = None, "a disk with room and the rights to it"
    if isinstance(error, OSError):
        expected = _EXPECTED.get(error.errno or 0, expected)
        said = os.strerror(error.errno) if error.errno in _OF_THE_DISK else None
        path = error.filename or path
    elif type(error).__name__ == "SafetensorError" and "os error" in str(error):
        said = first_line(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
    elif isinstance(error, RuntimeError) and "inline_container" in str(error):  # how torch says that it could not write
        said = first_line(error)
    return said and f"{path}: found '{said}', expected {expected}"


def first_line(error: Exception) -> str:
    """What another library's error says, on one line."""
    return next(iter(scrubbed(str(error)).strip().splitlines()), type(error).__name__)


def last_line(said: str) -> str:
    """What a command that failed said last, to quote in a sentence."""
    return next(iter(reversed(scrubbed(said).strip().splitlines())), "nothing")


def suggest(name: str, known: Iterable[str]) -> str:
    """`known` in words, led by the closest match to a misspelt `name`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
