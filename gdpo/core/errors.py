"""Errors of one sentence, made of fields. A user of the command sees the sentence of a UserError, and no traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIELDS = ("problem", "path", "line", "key", "found", "expected", "hint")


class DescribedError(Exception):
    """An error in one sentence: `{path}, line {line}, {key}: found {found}, expected {expected}; {hint}`.

    Args:
        problem: What is wrong, in words, where it is not something found in the place of something else.
        path: The file or directory.
        line: The number of the line in it, from 1.
        key: The key, option, column or argument.
        found: What is there, as it is to be shown.
        expected: What should be there.
        hint: What to do: the closest known name, or the next command.

    Each is kept as a field, None where it was not given, and all of them in `fields`. With `problem` alone the error is
    a sentence without fields.

    Example:
        >>> str(UserError(path="a.yaml", key="seeds", found=0, expected="a list of whole numbers"))
        'a.yaml, seeds: found 0, expected a list of whole numbers'
    """

    def __init__(
        self,
        problem: str | None = None,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
        found: object = None,
        expected: str | None = None,
        hint: str | None = None,
    ):
        self.problem, self.path, self.line, self.key = problem, path, line, key
        self.found, self.expected, self.hint = found, expected, hint
        super().__init__(sentence(problem, path, line, key, found, expected, hint))

    @property
    def fields(self) -> dict[str, Any]:
        """The arguments that make this error again."""
        return {name: getattr(self, name) for name in FIELDS}


class UserError(DescribedError):
    """Bad input to a command. The command prints the sentence and ends with exit code 2."""


class ArgumentError(DescribedError, ValueError):
    """An argument of a function or class that does not fit; a ValueError, as Python's own libraries raise."""


def sentence(
    problem: str | None,
    path: Path | str | None,
    line: int | None,
    key: str | None,
    found: object,
    expected: str | None,
    hint: str | None,
) -> str:
    """The one sentence of an error with these fields (DescribedError), on one line whatever a key or a path holds."""
    place = ", ".join(str(part) for part in (path, line and f"line {line}", key) if part)
    body = [problem, None if found is None else f"found {found}", expected and f"expected {expected}"]
    statement = ", ".join(part for part in body if part)
    start = f"{place}: {statement}" if place and statement else place or statement
    return _printable("; ".join(part for part in (start, hint) if part))


def _printable(text: str) -> str:
    """The text with line ends, control characters and the like as Python writes them in a string."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class Unreachable(UserError):
    """A download failed. Nothing is wrong with the request, as far as is known."""


# Errors that come from where a file is, rather than from a mistake in the code.
_DISK_ERRORS = {
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
    """Within the block, a disk that fails raises UserError naming the system's file, or `path` where it names none."""
    try:
        yield
    except Exception as error:
        if (refusal := disk_error(error, path)) is None:
            raise
        raise refusal from error


def disk_error(error: Exception, path: Path | str = "a file") -> UserError | None:
    """What a full, read-only or forbidden disk did to `path`; None where no disk is to blame."""
    message, expected = None, "a disk with room and the rights to it"
    if isinstance(error, OSError):
        expected = _EXPECTED.get(error.errno or 0, expected)
        message = os.strerror(error.errno) if error.errno in _DISK_ERRORS else None
        path = error.filename or path
    elif type(error).__name__ == "SafetensorError" and "os error" in str(error):
        message = first_line(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
    elif isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch could not write
        message = first_line(error)
    return UserError(path=path, found=f"'{message}'", expected=expected) if message else None


def first_line(error: Exception) -> str:
    """The first line of another library's error."""
    from gdpo.core.redaction import scrubbed

    return next(iter(scrubbed(str(error)).strip().splitlines()), type(error).__name__)


def last_line(output: str) -> str:
    """The last line that a failed command wrote, to quote in a sentence."""
    from gdpo.core.redaction import scrubbed

    return next(iter(reversed(scrubbed(output).strip().splitlines())), "nothing")


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt `name`: the closest of `known`, where one is close, and all of `known`."""
    import difflib  # which alone takes as long to import as this module

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
