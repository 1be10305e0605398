"""The one error a user is meant to see: a single sentence, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the file, the line or key, what was found and what was expected."""


class Unreachable(UserError):
    """What could not be downloaded: nothing is wrong with what was asked for, as far as is known."""


def first_line(error: Exception) -> str:
    """What another library's error says, on one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(said: str) -> str:
    """What a command that failed said last, to quote in a sentence."""
    return next(iter(reversed(said.strip().splitlines())), "nothing")


def suggest(name: str, known: Iterable[str]) -> str:
    """`known` in words, led by the closest match to a misspelt `name`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
