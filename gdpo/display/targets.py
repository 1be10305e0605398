"""What was asked for on Snakemake's command line: a target that no rule makes is one sentence, with the closest one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.core.errors import UserError
from gdpo.display.snakemake_compat import command_line_targets, makes

if TYPE_CHECKING:
    from snakemake.rules import Rule


def requested() -> list[str]:
    """The targets on the command line, paths relative to the current directory; none where it is not Snakemake's."""
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return []
    targets = command_line_targets(sys.argv[1:])
    return [target if os.path.isabs(target) else os.path.relpath(target) for target in targets]


def check(targets: Iterable[str], rules: Sequence[Rule], names: Iterable[str], scale: str) -> None:
    """Raises UserError for the first target that is no file and that no rule makes.

    Args:
        names: The names that are parts of targets: of models, training sets, tables and so on.
        scale: The scale's name, for the sentence.
    """
    names = set(names)
    for target in targets:
        if not _is_made(target, rules) and not Path(target).exists():
            close = closest(target, rules, names)
            hint = f"did you mean '{close}'?" if close else "docs/reference.md lists what is"
            raise UserError(f"not made at scale {scale}", path=target, hint=hint)


def closest(target: str, rules: Sequence[Rule], names: Iterable[str]) -> str | None:
    """The target nearest to `target`; None where none is near."""
    for path in _corrected(target, names):
        if _is_made(path, rules):
            return path
    alone = [rule.name for rule in rules if not rule.output]
    made = [str(path) for rule in rules for path in rule.output]
    plain = [path for path in made if "{" not in path]
    return next(iter(get_close_matches(target, [*alone, *plain], n=1)), None)


def _is_made(target: str, rules: Sequence[Rule]) -> bool:
    return any(makes(rule, target) for rule in rules)


def _corrected(target: str, names: Iterable[str]) -> Iterator[str]:
    """`target` with one of its parts replaced by a name that is close to it."""
    parts = Path(target).parts
    for place, part in enumerate(parts):
        stem, end = os.path.splitext(part)
        for name in get_close_matches(stem, names, n=1):
            yield str(Path(*parts[:place], name + end, *parts[place + 1 :]))
