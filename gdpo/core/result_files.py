"""What steps read again of the results of others: sample rows, scores, provenance and logs, checked as they are read.

Ours. Results may lie there for months, be copied, cut off or edited: what does not fit is one sentence that names the
file and the key. What nobody asks for may be absent; asked for all the same, it is that sentence, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdpo.core.errors import UserError
from gdpo.core.files import read_json, read_jsonl
from gdpo.core.records import Verdict, first_validation_error


class Stored(BaseModel):
    """The keys of a result as far as they are read again; others may stand beside them."""

    model_config = ConfigDict(extra="ignore")


class Sample(Stored):
    """One row of a samples file: an item with an `output` and its `verdict`, or several of each (evaluate.samples)."""

    id: str
    output: str | None = None
    verdict: Verdict | None = None
    outputs: list[str] | None = Field(None, min_length=1)
    verdicts: list[Verdict] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _judged(self) -> Sample:
        if (self.verdict is None) == (self.verdicts is None):
            raise ValueError("expected either a verdict or several")
        if self.outputs is not None and len(self.outputs) != len(self.verdicts or ()):
            raise ValueError("expected as many outputs as verdicts")
        return self


class Scored(Stored):
    """A benchmark's score: shares of the items that are right and that could not be graded, and how many there are."""

    score: float = Field(ge=0, le=1)
    n: int = 0


class Score(Stored):
    """A run's scores; `dropped`: benchmark -> why the run may not be scored on it."""

    benchmarks: dict[str, Scored] = {}
    dropped: dict[str, str] = {}


class Provenance(Stored):
    """How a result was made (gdpo.core.provenance)."""

    step: str = ""
    config_hash: str = ""
    wall_seconds: float = 0
    cpu_seconds: float = 0
    peak_memory_mb: float = 0
    hardware: dict[str, Any] = {}
    packages: dict[str, str] = {}
    code: str = ""
    unavailable: str | dict[str, str] = ""  # why a benchmark has no items; of all that is guarded, by source
    sources: dict[str, Any] = {}


class Watched(Stored):
    """A run's reward on validation items while it was trained."""

    step: int
    reward: float
    seconds: float = 0
    completions: float = 0


class Log(Stored):
    """train.json: what a run took and how it went; a number may be null where it could not be measured."""

    steps: float | None = None
    seconds: float | None = None
    tokens: float | None = None
    groups: float | None = None
    memory_mb: dict[str, float | None] = {}
    watch: list[Watched] | None = None
    log: list[dict[str, Any]] = []


class Noise(Stored):
    """How much a method's gradient differs between mini-batches, with its interval; null with too few groups."""

    noise: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None


class Drift(Stored):
    kl: float = 0.0


class Graded(Stored):
    verdict: Verdict


class Row(Stored):
    """A question, or a group of answers to one."""

    domain: str = ""
    source: str = ""
    completions: list[str] = []
    rewards: list[float] = []
    parts: list[Graded] = []
    gold: int = 0


class _Kept(dict[str, Any]):
    """A mapping of `path` that says so where a key is asked for that it does not have."""

    def __init__(self, path: str, value: dict[str, Any]):
        super().__init__(value)
        self.path = path

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(f"{self.path}, {key}: found none, expected one; make the result again")


def read_stored(path: Path, kind: type[Stored]) -> dict[str, Any]:
    """The JSON object at `path`, every key of it. Raises UserError where it is none, or a key does not fit `kind`."""
    found = _fitting(str(path), read_json(path), kind)
    try:
        return _Kept(str(path), {key: _below(f"{path}, {key}", value) for key, value in found.items()})
    except RecursionError:
        raise UserError(f"{path}: expected a result, found brackets nested too deeply") from None


def read_rows(path: Path, kind: type[Stored]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, as `read_stored` reads one."""
    for number, row in read_jsonl(path):
        yield _fitting(f"{path}, line {number}", row, kind)


def _below(where: str, value: Any) -> Any:
    """`value` with each of its mappings as one that names itself where it lacks a key."""
    if isinstance(value, dict):
        return _Kept(where, {key: _below(f"{where}.{key}", entry) for key, entry in value.items()})
    if isinstance(value, list):
        return [_below(f"{where}.{at}", entry) for at, entry in enumerate(value)]
    return value


def _fitting(where: str, value: Any, kind: type[Stored]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(value).__name__}")
    try:
        kind.model_validate(value, strict=True)
    except ValidationError as error:
        raise UserError(f"{where}, {first_validation_error(error, kind)}; make the result again") from None
    return _Kept(where, value)
