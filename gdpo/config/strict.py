"""The base of every typed model of YAML: unknown keys are refused, and a truth value is no number.

A validator of such a model raises InvalidSetting, which says in fields what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypedDict, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

from gdpo.core.errors import sentence


class Problem(TypedDict, total=False):
    """The fields of a UserError (gdpo.core.errors) that say what is wrong with a key of a file."""

    problem: str | None
    key: str | None
    found: object
    expected: str | None
    hint: str | None


class InvalidSetting(ValueError):
    """What a validator finds wrong, in the fields of a UserError.

    `key` is relative to the model that is validated: None names the model itself. The reader of the file adds the
    path, and the place of the model in it (gdpo.config.yaml_loader.first_problem).
    """

    def __init__(
        self,
        problem: str | None = None,
        *,
        key: str | None = None,
        found: object = None,
        expected: str | None = None,
        hint: str | None = None,
    ):
        self.fields = Problem(problem=problem, key=key, found=found, expected=expected, hint=hint)
        super().__init__(sentence(problem, None, None, key, found, expected, hint))


def omit_if_default(default: Any) -> dict[str, Any]:
    """A field that a dump leaves out where it has its default, so that entries without it keep their hash."""
    return {"default": default, "exclude_if": lambda value: value == default}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Keys that a file may have beside the fields: the reader resolves them before it validates (gdpo.config.loader).
    resolved_keys: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any) -> Any:
        """True is 1 to pydantic, and YAML reads `yes`, `no`, `on` and `off` as truth values."""
        if not isinstance(given, Mapping):
            return given
        fields = cls.model_fields
        return {k: without_truth_values(v, fields[k].annotation) if k in fields else v for k, v in given.items()}


TRUTH_VALUE = "a truth value (yes, no, on, off, true or false)"


def without_truth_values(value: Any, kind: Any) -> Any:
    """`value` with TRUTH_VALUE, which pydantic takes for no number, where type `kind` has a number and not a bool."""
    arms = list(_arms(kind))
    if isinstance(value, bool):
        return TRUTH_VALUE if {int, float} & set(arms) and bool not in arms and Any not in arms else value
    if isinstance(value, dict):
        within = [get_args(arm) for arm in arms if get_origin(arm) is dict]
        return {k: without_truth_values(v, within[0][1]) for k, v in value.items()} if within else value
    if isinstance(value, list):
        within = [get_args(arm) for arm in arms if get_origin(arm) in (list, tuple)]
        return [without_truth_values(v, within[0][0]) for v in value] if within else value
    return value


def _arms(kind: Any) -> Iterator[Any]:
    """The types of which `kind` is a union, without what is annotated; of literals, the types of what they allow."""
    if get_origin(kind) is Annotated:
        yield from _arms(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for arm in get_args(kind):
            yield from _arms(arm)
    elif get_origin(kind) is Literal:
        yield from map(type, get_args(kind))
    else:
        yield kind
