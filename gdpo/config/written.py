"""Where each entry of a configuration was written: the file, and the key in it under which a person finds it.

A scale is merged from several files, one YAML anchor is used in several places, and rows of `add_rows` join the rows of
a table. An error must name what was written, so each mapping of YAML remembers where its entries are from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A key in a file, as its parts."""

    path: Path
    key: tuple[str, ...]

    def below(self, part: object) -> Place:
        return Place(self.path, (*self.key, str(part)))


class Written(dict[Any, Any]):
    """A mapping of YAML with its own place and that of each entry; what an alias repeats is where its anchor is."""

    place: Place
    places: dict[Any, Place]

    def __init__(self, entries: Mapping[Any, Any], place: Place, places: Mapping[Any, Place]):
        super().__init__(entries)
        self.place, self.places = place, dict(places)


def type_name(value: Any) -> str:
    """The type of what YAML holds, for an error."""
    return "dict" if isinstance(value, dict) else type(value).__name__


def located(value: Any, path: Path) -> Any:
    """`value`, which the YAML file at `path` holds, with every mapping as Written."""
    return _located(value, Place(path, ()), {})


def _located(value: Any, place: Place, known: dict[int, Any]) -> Any:
    if not isinstance(value, dict | list):
        return value
    if id(value) in known:  # an alias: YAML has given the anchor's own object again
        return known[id(value)]
    if isinstance(value, list):
        entries = known[id(value)] = []
        entries += [_located(entry, place.below(number), known) for number, entry in enumerate(value)]
        return entries
    found = known[id(value)] = Written({}, place, {key: place.below(key) for key in value})
    found.update({key: _located(entry, place.below(key), known) for key, entry in value.items()})
    return found


def merge(base: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    """`base` with `changes` merged into it, mapping by mapping; lists and scalars are replaced.

    The list `add_rows` is no replacement: it is added to that of `base`, until `changes` has other `rows`.
    """
    merged = Written(base, _place(changes) or _place(base) or NOWHERE, {**_places(base), **_places(changes)})
    if "rows" in changes:
        merged.pop("add_rows", None)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[key] = merge(before, value)
        elif key == "add_rows" and isinstance(value, list) and isinstance(before, list):
            merged[key] = [*before, *value]
        else:
            merged[key] = value
    return merged


def replaced(base: dict[Any, Any], changes: dict[Any, Any], of: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """`base` with `changes` in place of its entries, which stay where they were written: in `of`, absent: in `base`."""
    of = base if of is None else of
    return Written({**base, **changes}, _place(of) or NOWHERE, _places(of))


NOWHERE = Place(Path(), ())


def _place(value: Any) -> Place | None:
    return value.place if isinstance(value, Written) else None


def _places(value: Any) -> dict[Any, Place]:
    return value.places if isinstance(value, Written) else {}


def where(value: Any, key: str, path: Path) -> tuple[Path, str]:
    """The file and the key at which the entry `key` of the merged `value` was written.

    `key` is made of names and of places in lists, joined by dots; a name may have dots of its own. What is not written
    anywhere, such as a missing entry, is below what it is missing from, and else in the file at `path`.
    """
    place, rest, beyond, name = Place(path, ()), key.split("."), tuple[str, ...](), ""
    while rest:
        taken = _longest(value, rest)
        if not taken and isinstance(value, dict) and len(rest) > 1 and rest[0] in {name, *map(str, value.values())}:
            rest = rest[1:]  # the arm of a union, which the entry chooses: a step of the validation, and no key
            continue
        if not taken:
            break
        name, rest = ".".join(rest[:taken]), rest[taken:]
        inner = value[int(name)] if isinstance(value, list) else value[name]
        found = _place(inner) if isinstance(value, list) else _places(value).get(name)
        place, beyond = (found, ()) if found else (place, (*beyond, name))
        value = inner
    return place.path, ".".join((*place.key, *beyond, *rest))


def _longest(value: Any, parts: list[str]) -> int:
    """How many of `parts` name an entry of `value` together; 0 where none do."""
    if isinstance(value, list):
        return int(parts[0].isdecimal() and int(parts[0]) < len(value))
    if not isinstance(value, dict):
        return 0
    return next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in value), 0)
