"""Loading a scale: its YAML file, the file that it extends, the shared tables, studies and sources, and a limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdpo.config.scale import Scale
from gdpo.config.worlds import in_world
from gdpo.config.yaml_loader import first_problem, parsed
from gdpo.core.errors import UserError, suggest
from gdpo.core.project import CONFIG

DROPPABLE = ("tables", "studies", "benchmarks")  # entries that a scale sets to null it does not have
LIMITED_ROWS = 100  # ours: questions of a source of one's own under a limit, as smol's; more where the limit is more
SHARED = ("tables", "studies", "claims", "figures", "sources")  # of all scales


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = parsed(path)
    except FileNotFoundError:
        known = [p.stem for p in CONFIG.glob("*.yaml") if p.stem not in SHARED]
        raise UserError("no such scale", path=path, hint=suggest(path.stem, known)) from None
    if not isinstance(value, dict):
        kind = "nothing" if value is None else type(value).__name__
        raise UserError(path=path, found=kind, expected="a mapping at the top")
    return value


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` merged into it, mapping by mapping; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _limited(raw: dict[str, Any], limit: int, path: Path) -> dict[str, Any]:
    """`raw` with at most `limit` questions per training set and items per benchmark, and its own `limited` part.

    A value that is no number stays as it is; validation names it.
    """
    absent = {key: {n for n, e in _mapping(raw.get(key), path, key).items() if e is None} for key in DROPPABLE}
    raw = merge(raw, _mapping(raw.get("limited"), path, "limited"))
    for key, names in absent.items():
        raw[key] = {n: None if n in names else e for n, e in _mapping(raw.get(key), path, key).items()}
    for trainset in _mappings(raw, "trainsets"):
        _lower(trainset, "size", limit)
    for tuned in (model["tuned"] for model in _mappings(raw, "models") if isinstance(model.get("tuned"), dict)):
        _lower(tuned, "questions", limit)
    for benchmark in _mappings(raw, "benchmarks"):
        if benchmark.get("items") is None:
            benchmark["items"] = limit
        benchmark.setdefault("validation_items", 0)
        _lower(benchmark, "items", limit)
        _lower(benchmark, "validation_items", limit)
    return raw | {"limit": limit}


def _mappings(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries below `key` that are mappings, as they should be."""
    entries = raw.get(key)
    return [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else []


def _lower(entry: dict[str, Any], key: str, limit: int) -> None:
    if isinstance(entry.get(key), int):
        entry[key] = min(entry[key], limit)


def _extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The YAML at `path`, merged over the scale that it extends: a file beside it, or else one of this project."""
    place = Path(os.path.realpath(path))  # which, unlike Path.resolve, leaves a loop of links for the reader to name
    if place in above:
        raise UserError("the scale extends itself", path=path, key="extends")
    raw = read_yaml(path)
    if "extends" not in raw:
        return raw
    extends = raw.pop("extends")
    if not isinstance(extends, str) or not extends.isprintable():
        raise UserError(path=path, key="extends", found=type(extends).__name__, expected="the name of a scale")
    name = f"{extends}.yaml"
    beside = path.parent / name
    return merge(_extended(beside if os.path.exists(beside) else CONFIG / name, (*above, place)), raw)


def load_scale(name: str | Path, limit: int | None = None, world: int | None = None) -> Scale:
    """The scale called `name`, or the scale file at path `name`.

    A scale file may extend another, one beside it or one of this project (`extends: tiny`). The scale's tables and
    studies are merged over those of tables.yaml and studies.yaml, and its sources over their entries in sources.yaml.
    A table, study or benchmark that is null is left out. `world` is the seed of one of the scale's `worlds`.

    Raises UserError naming file and key where the file is missing or does not fit.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    raw = _extended(path)
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:  # Snakemake passes on what --config has
            raise UserError(key="limit", found=limit, expected="a whole number above 0")
        raw = _limited(raw, limit, path)
    for key in ("tables", "studies"):
        raw[key] = merge(read_yaml(CONFIG / f"{key}.yaml"), _mapping(raw.get(key), path, key))
    for key in DROPPABLE:
        raw[key] = {name: entry for name, entry in _mapping(raw.get(key), path, key).items() if entry is not None}
    if raw.get("sources"):
        catalogue = read_yaml(CONFIG / "sources.yaml")["sources"]
        entries = _mapping(raw["sources"], path, "sources")
        entries = {n: _mapping(entry, path, f"sources.{n}") for n, entry in entries.items()}
        raw["sources"] = {n: merge(catalogue.get(n, {}), entry) for n, entry in entries.items()}
        for name in raw["sources"].keys() - catalogue.keys() if limit is not None else ():
            raw["sources"][name].setdefault("rows", max(limit or 0, LIMITED_ROWS))
            _lower(raw["sources"][name], "rows", max(limit or 0, LIMITED_ROWS))
    raw = in_world(raw, world, path)
    try:
        return Scale.model_validate(raw)
    except ValidationError as error:
        raise UserError(path=path, **first_problem(error, Scale)) from None


def _mapping(value: Any, path: Path, key: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UserError(path=path, key=key, found=type(value).__name__, expected="a mapping")
    return value or {}
