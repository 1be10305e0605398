"""What a method's `trainer` may name: each module of gdpo/students with a function `train(run)`, and its options.

What `train` takes besides the run is a method's `options`. Signatures are read from the source, since importing the
modules takes seconds and needs the trainers' packages.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from gdpo.config.strict import InvalidSetting
from gdpo.core.errors import suggest
from gdpo.core.project import PACKAGE

KINDS: dict[str, tuple[str, tuple[type, ...]]] = {  # by annotation: in words, and as YAML has it
    "float": ("a number", (int, float)),
    "int": ("a whole number", (int,)),
    "str": ("text", (str,)),
    "bool": ("true or false", (bool,)),
}
STUDENTS = PACKAGE / "students"


class Option(NamedTuple):
    """A parameter of a trainer's `train`: the name of its type, and whether it has a default."""

    kind: str
    optional: bool


@cache
def trainers() -> dict[str, dict[str, Option]]:
    """Each trainer's options by name."""
    found = {}
    for path in sorted(STUDENTS.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
            if isinstance(node, ast.FunctionDef) and node.name == "train" and _names(node.args)[:1] == ["run"]:
                found[path.stem] = _options(node.args)
    return found


def _names(arguments: ast.arguments) -> list[str]:
    return [argument.arg for argument in arguments.args]


def _options(arguments: ast.arguments) -> dict[str, Option]:
    named = arguments.args[1:]
    optional = {argument.arg for argument in named[len(named) - len(arguments.defaults) :]} if named else set()
    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    optional |= {argument.arg for argument, default in defaults if default is not None}
    return {
        argument.arg: Option(ast.unparse(argument.annotation) if argument.annotation else "", argument.arg in optional)
        for argument in [*named, *arguments.kwonlyargs]
    }


def check_options(trainer: str, options: Mapping[str, Any]) -> None:
    """Raises InvalidSetting where `options` are not those that the trainer's `train` takes."""
    known = trainers()[trainer]
    for name, value in options.items():
        if name not in known:
            hint = suggest(name, known)
            raise InvalidSetting(f"no option of trainer {trainer}", key=f"options.{name}", hint=hint)
        words, types = KINDS.get(known[name].kind, ("", ()))
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise InvalidSetting(key=f"options.{name}", found=repr(value), expected=words)
    for name, option in known.items():
        if not option.optional and name not in options:
            raise InvalidSetting(f"trainer {trainer} needs this option", key=f"options.{name}")
