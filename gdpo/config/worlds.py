"""The worlds of a scale that has several: which seeds may run, and what follows from a world's seed.

A world's seed draws everything. Each other seed of the scale's file is one within its world: `SEEDS_OF_A_WORLD` times
the world's seed is added to it. `world=N` chooses a world; absent, it is the `world.seed` of the scale's file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from gdpo.config.fields import MOST_SEEDS, Seed
from gdpo.config.strict import Strict
from gdpo.config.written import replaced
from gdpo.core.errors import UserError

SEEDS_OF_A_WORLD = 1000
UNSEALED = "GDPO_TRIAL"  # `make trial` sets it to yes


class Worlds(Strict):
    """The seeds of worlds that may be looked at, and of those that run once, after the protocol is committed."""

    development: list[Seed] = Field(min_length=1)
    sealed: list[Seed] = Field(default_factory=list)
    reserve: list[Seed] = Field(default_factory=list)  # in their order, each takes the place of a sealed world given up


def in_world(raw: dict[str, Any], world: int | None, path: Path) -> dict[str, Any]:
    """`raw`, a scale's mapping, in the world `world`, with every other seed moved into it.

    A value that is no mapping, list or number stays as it is; validation names it. Raises UserError where the scale has
    no `worlds`, where they do not hold the seed, and where it is of a sealed world outside of the trial.
    """
    worlds, settings = raw.get("worlds"), raw.get("world")
    if not isinstance(worlds, dict) or not isinstance(settings, dict):
        if world is not None:
            raise UserError(path=path, key="world", found=world, expected="no world: this scale has no 'worlds'")
        return raw
    seed = settings.get("seed") if world is None else world
    known = {name: worlds[name] for name in ("development", "sealed", "reserve") if isinstance(worlds.get(name), list)}
    allowed(seed, known.get("development", []), [*known.get("sealed", []), *known.get("reserve", [])], path)
    raw = replaced(raw, {"world": replaced(settings, {"seed": seed})})
    # A mapping that an alias repeats is one object, and moves once.
    for holder, key in {(id(holder), key): (holder, key) for holder, key in _seeds(raw)}.values():
        value = holder[key]
        holder[key] = [_moved(one, seed) for one in value] if isinstance(value, list) else _moved(value, seed)
    return raw


def allowed(seed: object, development: list[int], sealed: list[int], path: Path) -> None:
    """Raise UserError unless `seed` is that of a development world, or of a sealed one within the trial."""
    if seed in sealed and os.environ.get(UNSEALED) != "yes":
        raise UserError(
            path=path, key="world", found=f"{seed}, which is sealed", expected="a development world",
            hint="`make trial` runs the sealed worlds, once",
        )  # fmt: skip
    if seed not in (*development, *sealed) or isinstance(seed, bool):
        listed = ", ".join(map(str, development))
        raise UserError(path=path, key="world", found=seed, expected=f"one of the development worlds {listed}")


def _moved(seed: Any, world: Any) -> Any:
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    return (world * SEEDS_OF_A_WORLD + seed) % MOST_SEEDS if whole and seed >= 0 else seed


def _seeds(raw: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every mapping of a scale with the key of a seed in it, but for the world's own and the bootstrap's."""
    places = [
        (raw, "seeds"),
        (raw.get("sweep"), "seeds"),
        (raw.get("respond"), "seed"),
        (raw.get("proficiency"), "seed"),
        (raw.get("measures"), "seed"),
    ]
    places += [(model.get("pretrain"), "seed") for model in _entries(raw, "models")]
    places += [(entry, "seed") for entry in _entries(raw, "trainsets")]
    places += [(entry.get("respond"), "seed") for entry in _entries(raw, "trainsets")]
    return ((holder, key) for holder, key in places if isinstance(holder, dict) and key in holder)


def _entries(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = raw.get(key)
    return [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else []
