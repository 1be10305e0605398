"""The reader `fields`: a row becomes a Question by paths alone, so that a data set is added in YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gdpo.config.data import Mapped
from gdpo.core.records import LETTERS
from gdpo.metakl.readers import BadField, Fields, RawRow, letter_of, response, topics_of


def value_at(row: Any, path: str, field: str) -> Any:
    """The value at a path of keys and indices joined by dots; None where a key is missing.

    Raises BadField where the path leads through a value that is neither a mapping nor a list long enough.
    """
    value = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif value is None:
            return None
        else:
            raise BadField(f"{field} ({path})", value, f"something that has '{part}'")
    return value


def is_no_answer(value: Any, no_answer: Sequence[str | None] | None) -> bool:
    """Whether `value` is one of `no_answer`, the values that a source writes for no answer; case does not matter."""
    texts = [None if text is None else text.strip().lower() for text in no_answer or ()]
    return (None if value is None else str(value).strip().lower()) in texts


def map_fields(
    row: RawRow, paths: Mapping[Mapped, str], refused: bool, no_answer: Sequence[str | None] | None = None
) -> Fields | None:
    """The fields of a Question, read from a row at `paths`. The index of a choice becomes its letter.

    Questions that are to be `refused` need no answer. None where the answer is one of `no_answer`.
    """
    values = {field: value_at(row, path, field) for field, path in paths.items()}
    if not refused and is_no_answer(values["answer"], no_answer):
        return None
    fields: Fields = {"question": _text_at(values["question"], "question", paths), "answer": ""}
    choices = values.get("choices")
    if "choices" in paths:
        if not isinstance(choices, (list, tuple)) or not 0 < len(choices) <= len(LETTERS):
            raise BadField(_place("choices", paths), choices, f"a list of at most {len(LETTERS)} choices")
        fields["choices"] = [_text_at(choice, "choices", paths) for choice in choices]
    if not refused:
        fields["answer"] = _answer(values["answer"], fields.get("choices"), _place("answer", paths))
    if values.get("solution") is not None:
        solution = _text_at(values["solution"], "solution", paths)
        fields["solution"] = solution if refused or "<think>" in solution else response(solution, fields["answer"])
    if (level := values.get("difficulty")) is not None:
        number = re.search(r"\d+(\.\d+)?", str(level))
        if not number:
            raise BadField(_place("difficulty", paths), level, "a number")
        fields["difficulty"] = float(number[0])
    return fields | {"topics": topics_of(values.get("topics"))}


def _place(field: Mapped, paths: Mapping[Mapped, str]) -> str:
    return f"{field} ({paths[field]})"


def _text_at(value: Any, field: Mapped, paths: Mapping[Mapped, str]) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadField(_place(field, paths), value, "text")
    return value.strip()


def _answer(value: Any, choices: list[str] | None, field: str) -> str:
    """A letter where there are choices, given as it is, by its index, or by the choice's own text; else the text.

    Raises BadField too where a number or letter names one choice and is another's text.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise BadField(field, value, "text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadField(field, value, "text or a finite number")
    if choices is None:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    if isinstance(value, int):
        letter = letter_of(value, choices, field)
        if (text := str(value)) in choices and choices.index(text) != value:
            other = LETTERS[choices.index(text)]
            raise BadField(field, value, f"a letter or text, since as a number it may mean {letter} or {other}")
        return letter
    letters = LETTERS[: len(choices)]
    text = str(value).strip()
    named = [letter for letter, choice in zip(letters, choices, strict=True) if text in (letter, choice)]
    if len(named) > 1:
        way = "an index" if text in letters else "a letter or an index"
        raise BadField(field, value, f"{way}, since as it stands it may mean {' or '.join(named)}")
    if named:
        return named[0]
    raise BadField(field, value, f"one of {', '.join(letters)}, an index, or a choice")
