"""What flows between steps, one JSON line each: Question, Skills, HeldoutItem, Responses, Group.

`Group` is also the public data format of GDPOTrainer: `prompt`, `completions`, `rewards` are all it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from gdpo.core.errors import ArgumentError, DescribedError, UserError
from gdpo.core.files import read_jsonl, write_jsonl

Domain = Literal["math", "general", "safety"]
Grader = Literal["exact", "math", "letter", "refusal"]
Verdict = Literal["right", "wrong", "ungradable"]

LETTERS = "ABCDEFGHIJ"  # of choices, in the order in which they are asked
DROPPED = re.compile(r"(?:[^\w+\-*/<>=^()|!]|_|(?<![\d)\]}])!)+")  # what `normalised` drops: spelling, not meaning
ALONE = re.compile(r"(_|frac)(\d)(?=\d)")  # TeX takes one digit: \log_381 is \log_3 81, \frac12 is \frac{1}{2}


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(Record):
    """One question of the pool, a training set or a benchmark.

    `answer` is what `grader` compares with: the text itself (exact), a LaTeX or numeric value (math), the
    letter of the right choice (letter), or the empty string where refusing is right (refusal).
    `solution` is a worked response in the student's format, think block included, where a source has one.
    `topics` are what the source says of its own row (a subject, a type, a category), in the form of unit names.
    `units` are the knowledge units the question needs; a real source's are empty before annotation.
    """

    id: str
    domain: Domain
    source: str
    question: str
    choices: list[str] = []
    answer: str
    grader: Grader
    solution: str | None = None
    difficulty: FiniteFloat = 0.0
    topics: list[str] = []
    units: list[str] = []

    @model_validator(mode="after")
    def _answerable(self) -> Question:
        if self.grader == "refusal":
            return self
        if not self.answer.strip():
            raise ArgumentError(key="answer", found="none", expected=f"one for grader '{self.grader}'")
        letters = LETTERS[: len(self.choices)]
        if self.grader == "letter" and letters and self.answer not in tuple(letters):
            raise ArgumentError(key="answer", found=f"'{self.answer}'", expected=f"one of {', '.join(letters)}")
        return self


class HeldoutItem(Record):
    """An item that no training question may ask: of a benchmark, or of a source that is protected like one."""

    benchmark: str
    item: Question


class Skills(Record):
    """The skills that an annotator names for one question, each with its short reason, before they are merged."""

    id: str
    skills: dict[Annotated[str, StringConstraints(pattern=r"\S")], str] = Field(min_length=1)


class Answers(Record):
    """What a base model answers to one question of the pool; `accuracy` is the share of right `outputs`."""

    id: str
    outputs: list[str]
    verdicts: list[Verdict]
    accuracy: float = Field(ge=0, le=1)


class Responses(Record):
    """The raw completions of one question by one model, before grading."""

    id: str
    model: str
    completions: list[str]
    gold: int = 0  # how many of the first completions are gold solutions, not samples


class Parts(Record):
    """The graded parts of one completion's reward; `total` is their weighted sum, in [0, 2]."""

    verdict: Verdict
    correctness: FiniteFloat
    # None of a data set directory, whose rows all have every column.
    partial: Annotated[FiniteFloat, BeforeValidator(lambda share: 0.0 if share is None else share)] = Field(
        default=0.0, exclude_if=lambda share: share == 0.0
    )
    format: FiniteFloat
    length: FiniteFloat
    total: FiniteFloat


class Group(Record):
    """A question's G completions with rewards: what DPO, GDPO and SFT train on. Imported rewards have no parts."""

    id: str
    domain: Domain
    prompt: list[dict[str, str]]
    completions: list[str] = Field(min_length=1)
    rewards: list[FiniteFloat]
    parts: list[Parts] = []

    @model_validator(mode="after")
    def _aligned(self) -> Group:
        sizes = {len(self.completions), len(self.rewards), len(self.parts or self.rewards)}
        if len(sizes) != 1:
            raise ArgumentError(found=f"lengths {sorted(sizes)}", expected="a reward per completion")
        return self


R = TypeVar("R", bound=Record)


def read_records(path: Path | str, kind: type[R]) -> list[R]:
    """Every record of a JSON Lines file.

    Raises UserError naming file, line and field where a line is not a valid `kind`, or has the `id` of an earlier one.
    """
    records = []
    lines: dict[str, int] = {}  # the line of each id
    for number, row in read_jsonl(path):
        try:
            record = kind.model_validate(row)
        except ValidationError as error:
            raise UserError(path=path, line=number, **validation_fields(error, kind)) from None
        if (name := getattr(record, "id", None)) is not None and lines.setdefault(name, number) != number:
            expected = f"another than line {lines[name]} has"
            raise UserError(path=path, line=number, key="id", found=f"'{name}'", expected=expected)
        records.append(record)
    return records


def validation_fields(error: ValidationError, kind: type[BaseModel]) -> dict[str, Any]:
    """The fields of the error (`gdpo.core.errors`) that made pydantic refuse a `kind`; of several, the first."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, DescribedError):
        fields = {name: value for name, value in cause.fields.items() if value is not None}
        key = ".".join(part for part in (key, fields.get("key")) if part)
        return fields | ({"key": key} if key else {})
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not key:
        return {"problem": problem}
    return {"problem": problem, "key": key or kind.__name__}


def first_validation_error(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first field that made pydantic refuse a `kind`, and why."""
    return str(DescribedError(**validation_fields(error, kind)))


def write_records(path: Path | str, records: Iterable[Record]) -> None:
    write_jsonl(path, (record.model_dump() for record in records))


def chat(question: Question) -> list[dict[str, str]]:
    """The conversation that asks `question`, its choices in lettered lines below it."""
    text = question.question
    if question.choices:
        lettered = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)]
        text = "\n".join([text, *lettered])
    return [{"role": "user", "content": text}]


def gold_of(question: Question) -> str | None:
    """The gold completion of `question`: its solution, or else its right choice by letter and text; None without any.

    A question that is right to refuse, without a solution that shows how, has none: a refusal would be made up.
    """
    if question.solution:
        return question.solution
    if question.grader == "letter" and question.choices:
        return f"{question.answer}. {question.choices[LETTERS.index(question.answer)]}"
    return None


def normalised(text: str) -> str:
    """`text` as contamination is compared: lower case; only letters, digits and signs that carry meaning.

    Operators, brackets and bars are kept, since questions that differ in them alone are different questions. So is the
    `!` of a factorial, after a digit or a closing bracket. Whatever separates two digits becomes a comma: 22.5 is not
    225, nor 1, 2 the same as 12.
    """
    separated = DROPPED.sub(" ", ALONE.sub(r"\1\2 ", text.lower()))
    return re.sub(r"(?<=\d) (?=\d)", ",", separated).replace(" ", "")
