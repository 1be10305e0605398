"""Loading a scale: its YAML file, the file that it extends, the shared tables, studies and sources, and a limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdpo.config.scale import Scale
from gdpo.config.worlds import in_world
from gdpo.config.written import located, merge, replaced, type_name, where
from gdpo.config.yaml_loader import first_problem, parsed
from gdpo.core.errors import UserError, suggest
from gdpo.core.project import CONFIG, scale_names

DROPPABLE = ("tables", "studies", "benchmarks")  # entries that a scale sets to null it does not have
LIMITED_ROWS = 100  # ours: questions of a source of one's own under a limit, as smol's; more where the limit is more


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = parsed(path)
    except FileNotFoundError:
        raise UserError("no such scale", path=path, hint=suggest(path.stem, scale_names())) from None
    if not isinstance(value, dict):
        kind = "nothing" if value is None else type_name(value)
        raise UserError(path=path, found=kind, expected="a mapping at the top")
    placed: dict[str, Any] = located(value, path)
    return placed


def _limited(raw: dict[str, Any], limit: int, path: Path) -> dict[str, Any]:
    """`raw` with at most `limit` questions per training set and items per benchmark, and its own `limited` part.

    A value that is no number stays as it is; validation names it.
    """
    absent = {key: {n for n, e in _mapping(raw.get(key), path, key).items() if e is None} for key in DROPPABLE}
    raw = merge(raw, _mapping(raw.get("limited"), path, "limited"))
    for key, names in absent.items():
        raw[key] = merge(_mapping(raw.get(key), path, key), dict.fromkeys(names))
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
    return merge(raw, {"limit": limit})


def _mappings(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries below `key` that are mappings, as they should be."""
    entries = raw.get(key)
    return [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else []


def _lower(entry: dict[str, Any], key: str, limit: int) -> None:
    if isinstance(entry.get(key), int):
        entry[key] = min(entry[key], limit)


def _with_bases(entries: dict[str, Any], path: Path, kind: str) -> dict[str, Any]:
    """Methods or training sets, those with `extends` merged over the entry of that name.

    Such an entry without a `display` is shown by its own name.
    """

    def whole(name: str, below: tuple[str, ...] = ()) -> Any:
        entry = entries[name]
        if not isinstance(entry, dict) or "extends" not in entry:
            return entry
        base, key = entry["extends"], f"{kind}.{name}.extends"
        if not isinstance(base, str) or base not in entries:
            found = f"'{base}'" if isinstance(base, str) else type_name(base)
            raise _refused(entries, path, key, kind, found=found, hint=suggest(str(base), map(str, entries)))
        if base in (*below, name):
            raise _refused(entries, path, key, kind, found="a loop", expected="an entry that does not extend this one")
        extended = merge(whole(base, (*below, name)), merge({"display": name}, entry))
        del extended["extends"]
        return extended

    return replaced(entries, {name: whole(name) for name in entries})


def _with_added_rows(entries: dict[str, Any], path: Path, kind: str) -> dict[str, Any]:
    """Tables or studies, the rows of `add_rows` behind their `rows`."""
    changed = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or "add_rows" not in entry:
            continue
        added = entry["add_rows"]
        if not isinstance(added, list):
            found = type_name(added)
            raise _refused(entries, path, f"{kind}.{name}.add_rows", kind, found=found, expected="a list of rows")
        if not isinstance(entry.get("rows"), list):
            known = [other for other in entries if other != name]
            problem = "'add_rows' beside no 'rows' to add to"
            raise _refused(entries, path, f"{kind}.{name}", kind, problem=problem, hint=suggest(str(name), known))
        changed[name] = merge(entry, {"rows": [*entry["rows"], *added]})
    return replaced(entries, changed)


def _refused(entries: dict[str, Any], path: Path, key: str, kind: str, **fields: Any) -> UserError:
    """The error at `key`, which begins with `kind`, naming the file and the key at which it was written."""
    path, key = where({kind: entries}, key, path)
    return UserError(path=path, key=key, **fields)


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
        raise UserError(path=path, key="extends", found=type_name(extends), expected="the name of a scale")
    name = f"{extends}.yaml"
    beside = path.parent / name
    return merge(_extended(beside if os.path.exists(beside) else CONFIG / name, (*above, place)), raw)


def load_scale(name: str | Path, limit: int | None = None, world: int | None = None) -> Scale:
    """The scale called `name`, or the scale file at path `name`.

    A scale file may extend another, one beside it or one of this project (`extends: tiny`). The scale's tables and
    studies are merged over those of tables.yaml and studies.yaml, and its sources over their entries in sources.yaml.
    A table, study or benchmark that is null is left out. `add_rows` of a table or study are put behind its `rows`, and
    a method or training set may extend another one of the scale (`extends: sft`). `world` is the seed of
    one of the scale's `worlds`.

    Raises UserError naming the file and the key at which it was written, where it is missing or does not fit.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    raw = _extended(path)
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:  # Snakemake passes on what --config has
            raise UserError(key="limit", found=limit, expected="a whole number above 0")
        raw = _limited(raw, limit, path)
    for key in ("tables", "studies"):
        entries = merge(read_yaml(CONFIG / f"{key}.yaml"), _mapping(raw.get(key), path, key))
        raw[key] = _with_added_rows(entries, path, key)
    for key in ("methods", "trainsets"):
        if isinstance(raw.get(key), dict):
            raw[key] = _with_bases(raw[key], path, key)
    for key in DROPPABLE:
        entries = _mapping(raw.get(key), path, key)
        raw[key] = replaced({}, {name: entry for name, entry in entries.items() if entry is not None}, entries)
    if raw.get("sources"):
        catalogue = read_yaml(CONFIG / "sources.yaml")["sources"]
        entries = _mapping(raw["sources"], path, "sources")
        given = {n: _mapping(entry, path, f"sources.{n}") for n, entry in entries.items()}
        raw["sources"] = replaced(entries, {n: merge(catalogue.get(n, {}), entry) for n, entry in given.items()})
        for name in raw["sources"].keys() - catalogue.keys() if limit is not None else ():
            raw["sources"][name].setdefault("rows", max(limit or 0, LIMITED_ROWS))
            _lower(raw["sources"][name], "rows", max(limit or 0, LIMITED_ROWS))
    raw = in_world(raw, world, path)
    try:
        return Scale.model_validate(raw)
    except ValidationError as error:
        problem = first_problem(error, Scale)
        path, key = where(raw, problem["key"] or "", path)
        raise UserError(path=path, **problem | {"key": key or None}) from None


def _mapping(value: Any, path: Path, key: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UserError(path=path, key=key, found=type_name(value), expected="a mapping")
    return value or {}
