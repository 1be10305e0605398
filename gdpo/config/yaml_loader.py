"""Reading YAML that people write, and saying in one sentence what is wrong with it: its syntax, or a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel, ValidationError

from gdpo.config.strict import InvalidSetting, Problem
from gdpo.config.written import type_name
from gdpo.core.errors import UserError, suggest
from gdpo.core.key_map import RENAMED_KEYS, SINCE

SECRETIVE = {"key", "base_url", "endpoint"}  # where somebody may have written the key of an endpoint by mistake
UNSHOWN = "what was found is not shown, since it may hold a key"


class Loader(yaml.SafeLoader):
    """A key that occurs twice is an error: the first entry would be lost without a word.

    Numbers are those of YAML 1.2: to YAML 1.1, 1:30 is 90 and 010 is 8.
    """

    # types-PyYAML has a mapping for the anchor, which is a name or None.
    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:  # type: ignore[override]
        # Composed, not constructed: what `<<` brings in is there to be given again.
        node = super().compose_mapping_node(anchor)  # type: ignore[arg-type]
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name and name in seen:
                problem = f"'{key.value}' a second time; expected each key once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return node


INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (INT, FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# As PyYAML's, without base 60 and octals: these stay text, which a field for a number takes or refuses.
Loader.add_implicit_resolver(
    INT, re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)\Z"), list("-+0123456789")
)
Loader.add_implicit_resolver(
    FLOAT,
    re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?\Z"
        r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    list("-+.0123456789"),
)


def parsed(path: Path) -> Any:
    """What the YAML file at `path` holds.

    Raises FileNotFoundError where there is none, and UserError naming file and line where it cannot be read.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(path=path, found=f"{error.reason} at byte {error.start}", expected="UTF-8") from None
    except OSError as error:
        raise UserError(path=path, found=f"'{error.strerror}'", expected="a YAML file") from None
    except yaml.YAMLError as error:
        # The error's own text quotes the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "characters that it does not allow"
        line = mark.line + 1 if mark else None
        raise UserError(f"not readable as YAML: {what}", path=path, line=line) from None
    except RecursionError:
        raise UserError("not readable as YAML: nested too deep", path=path) from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # what its constructors make of `!!int x`
        found = f"a scalar that its tag does not fit ({error})"
        raise UserError(path=path, found=found, expected="YAML") from None


def first_problem(error: ValidationError, kind: type[BaseModel], below: str = "") -> Problem:
    """The first key at which a file does not fit `kind`, and why, as fields of a UserError.

    A misspelt key comes with the closest that is known, a renamed one with its new name. `below` is the key of the
    entry that `kind` is, where it is not the whole file.
    """
    first = _most_telling(error)
    place = first["loc"]
    parts = [below, *(str(part) for part in place if part != "[key]")]
    key = ".".join(part if part.isprintable() else repr(part) for part in parts if part) or None
    if first["type"] == "extra_forbidden":
        models = list(_models(kind, place[:-1]))
        known = sorted({name for m in models for name in (*m.model_fields, *getattr(m, "resolved_keys", ()))})
        if new := next((each.new for each in RENAMED_KEYS if each.old == place[-1] and each.new in known), None):
            return Problem(key=key, problem=f"'{place[-1]}' is called '{new}' since {SINCE}")
        return Problem(key=key, problem="unknown key", hint=suggest(str(place[-1]), known))
    if first["type"] == "union_tag_invalid":
        chosen, tags = first["ctx"]["discriminator"].strip("'"), first["ctx"]["expected_tags"]
        close = get_close_matches(first["ctx"]["tag"], re.findall(r"'([^']*)'", tags), n=1)
        hint = f"did you mean '{close[0]}'?" if close else None
        return Problem(key=f"{key}.{chosen}", found=f"'{first['ctx']['tag']}'", expected=f"one of {tags}", hint=hint)
    if first["type"] == "value_error":
        return _raised(first, key)
    if place[-1:] == ("key",):
        name = "the NAME of an environment variable, such as OPENAI_API_KEY, never the key itself"
        return Problem(key=key, expected=name, hint=UNSHOWN)
    if place[-1:] == ("base_url",) and first["type"] == "string_pattern_mismatch":
        return Problem(
            key=key, expected="http:// or https:// and a host, with no name, password, '?' or '#'", hint=UNSHOWN
        )
    if SECRETIVE & set(place[-1:]):
        return Problem(key=key, **_expected(first), hint=UNSHOWN)
    if first["type"] == "missing":
        return Problem(key=key, problem=first["msg"])
    close = get_close_matches(str(first["input"]), _choices(first), n=1) if first["type"] == "literal_error" else []
    hint = f"did you mean '{close[0]}'?" if close else None
    return Problem(key=key, **_expected(first), found=_shown(first), hint=hint)


def _most_telling(error: ValidationError) -> Any:
    """The first of pydantic's errors; of a key that is missing, the one of an unknown key beside it, if any."""
    first, *others = error.errors()
    if first["type"] == "missing":  # probably under the misspelt name
        beside = [e for e in others if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1]]
        first = next(iter(beside), first)
    return first


def _raised(first: Any, key: str | None) -> Problem:
    """What a validator raised, its key below the one of what it validated."""
    raised = first["ctx"]["error"]
    if not isinstance(raised, InvalidSetting):
        return Problem(key=key, problem=str(raised))
    return raised.fields | Problem(key=".".join(part for part in (key, raised.fields["key"]) if part) or None)


def _expected(first: Any) -> Problem:
    """Pydantic's message, as what it expected where it says so."""
    if not first["msg"].startswith("Input should be "):
        return Problem(problem=first["msg"])
    expected = first["msg"].removeprefix("Input should be ").partition(", unable to parse")[0]
    return Problem(expected=f"a number {expected}" if expected.startswith(("greater", "less")) else expected)


def _choices(problem: Any) -> list[str]:
    return re.findall(r"'([^']*)'", problem["ctx"]["expected"])


def _shown(problem: Any) -> str:
    """What was found; of a list or a mapping, below which a key may stand, its type alone."""
    found = problem["input"]
    return f"a {type_name(found)}" if isinstance(found, dict | list) else repr(found)


def _models(kind: Any, place: tuple[int | str, ...]) -> Iterator[type[BaseModel]]:
    """The models that `kind` may have at `place`; a step that is no field names an arm of a union, and is passed."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        yield from _models(arguments[0], place)
    elif get_origin(kind) in (Union, UnionType):
        for arm in arguments:
            yield from _models(arm, place)
    elif get_origin(kind) in (dict, list, tuple) and place:
        yield from _models(arguments[get_origin(kind) is dict], place[1:])
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        if issubclass(kind, RootModel):
            yield from _models(kind.model_fields["root"].annotation, place)
        elif not place:
            yield kind
        elif place[0] in kind.model_fields:
            yield from _models(kind.model_fields[place[0]].annotation, place[1:])
        else:
            yield from _models(kind, place[1:])
