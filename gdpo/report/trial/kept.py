"""Where finished worlds of a trial are kept, and which of them answer (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv
from gdpo.core.project import PROJECT


def kept(scale: Scale) -> Path:
    """The directory of a scale's finished worlds, world-N/ each, which are committed."""
    return PROJECT / "results" / "reference" / scale.scale


def given_up(directory: Path) -> list[int]:
    """The seeds of worlds that were given up before anything was trained on them, by `replaced.csv` in `directory`."""
    path = directory / "replaced.csv"
    return [int(row["world"]) for row in read_csv(path, "world", "left")] if path.exists() else []


def in_turn(sealed: Sequence[int], reserve: Sequence[int], replaced: Sequence[int]) -> list[int]:
    """The worlds that answer: the sealed ones, each given-up one replaced by the next reserve seed.

    >>> in_turn([1, 2, 3], [8, 9], [2])
    [1, 3, 8]
    """
    wanted = [seed for seed in (*sealed, *reserve) if seed not in replaced]
    return wanted[: len(sealed)]


def packed_worlds(scale: Scale, kind: str) -> dict[int, Path]:
    """Seed -> the directory of each packed world of a kind: in results/reference/<scale>, where finished worlds are
    kept, or in results/<scale>.

    Raises UserError where a sealed world is missing, since nobody looks at some of them, and where there are fewer than
    two development worlds.
    """
    assert scale.worlds is not None  # a trial has them
    worlds, directory = scale.worlds, kept(scale)
    sealed = kind == "sealed"
    seeds = in_turn(worlds.sealed, worlds.reserve, given_up(directory)) if sealed else worlds.development
    found = {}
    for seed in seeds:
        places = (directory / f"world-{seed}", Path("results") / scale.scale / f"world-{seed}" / "world")
        if there := [place for place in places if (place / "world.json").exists()]:
            found[seed] = there[0]
    if sealed and (not seeds or len(found) < len(seeds)):
        what, expected = f"{len(found)} of {len(seeds)} packed worlds", "all of them before any is looked at"
        raise UserError(key="worlds.sealed", found=what, expected=expected, hint="`make trial` runs them")
    if len(found) < 2:
        hint = "snakemake makes results/SCALE/world-N/world"
        raise UserError(
            key="worlds.development", found=f"{len(found)} packed worlds", expected="two or more", hint=hint
        )
    return found
