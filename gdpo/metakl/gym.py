"""Rows that the package reasoning-gym makes, by rule and seed (ours: columns that the paper does not have)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from gdpo.config.data import Gym
from gdpo.core.errors import UserError, first_line
from gdpo.metakl.readers import RawRow

PACKAGE = "reasoning-gym"


def generate_rows(name: str, gym: Gym) -> tuple[str, Iterator[tuple[int, RawRow]]]:
    """The package and version that make the rows of the source called `name`, and the rows with their numbers, from 1.

    A row has `question`, `answer` and `metadata`. Of rows with the same question the first is kept.
    Raises UserError where the package is missing or refuses the settings of `gym`.
    """
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        raise UserError(key=f"sources.{name}.gym", found=f"no package {PACKAGE}", expected="it installed") from None
    try:
        rows = create_dataset(gym.dataset, size=gym.size, seed=gym.seed, **gym.config)
    except (ValueError, TypeError, AssertionError) as error:
        expected = f"what {PACKAGE} takes for {gym.dataset}"
        raise UserError(key=f"sources.{name}.gym", found=f"'{first_line(error)}'", expected=expected) from None
    return f"gym:{PACKAGE}=={version(PACKAGE)}/{gym.dataset}", _unique(rows)


def _unique(rows: Iterator[RawRow]) -> Iterator[tuple[int, RawRow]]:
    questions = set()
    for number, row in enumerate(rows, start=1):
        if row["question"] not in questions:
            questions.add(row["question"])
            yield number, row
