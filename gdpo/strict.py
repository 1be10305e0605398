"""The base of every typed model of YAML: unknown keys are refused, and a truth value is no number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


def unsaid(default: Any) -> dict[str, Any]:
    """A field that a dump leaves out where it has its default, so that entries without it keep their hash."""
    return {"default": default, "exclude_if": lambda value: value == default}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """True is 1 to pydantic, and YAML reads `yes`, `no`, `on` and `off` as truth values."""
        assert info.field_name is not None  # a validator of fields
        if misread(value, cls.model_fields[info.field_name].annotation):
            raise ValueError("expected a number, found a truth value (yes, no, on, off, true or false)")
        return value


def misread(value: Any, kind: Any) -> bool:
    """Whether a truth value stands in `value` where `kind`, a type, has a number."""
    arms = list(_arms(kind))
    if isinstance(value, bool):
        return bool({int, float} & set(arms)) and bool not in arms and Any not in arms
    if isinstance(value, Mapping):
        within = [get_args(arm) for arm in arms if get_origin(arm) is dict]
        return any(misread(key, k) or misread(entry, v) for k, v in within for key, entry in value.items())
    if isinstance(value, list | tuple):
        within = [get_args(arm) for arm in arms if get_origin(arm) in (list, tuple, set)]
        return any(misread(entry, kind) for kinds in within for kind in kinds for entry in value)
    return False


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
