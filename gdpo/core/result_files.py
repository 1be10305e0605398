"""Results as later steps read them: sample rows, scores, provenance and logs, checked as they are read.

Results may be months old, copied, cut off or edited. What does not fit raises UserError naming the file and the key.
A key that is not declared here may be absent; reading it then raises the same error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdpo.core.errors import ArgumentError, UserError
from gdpo.core.files import read_json, read_jsonl
from gdpo.core.records import Verdict, validation_fields

REMAKE = "make the result again"


class Stored(BaseModel):
    """The keys of a result that are read again; it may have others."""

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
            raise ArgumentError(expected="either a verdict or several")
        if self.outputs is not None and len(self.outputs) != len(self.verdicts or ()):
            raise ArgumentError(expected="as many outputs as verdicts")
        return self


class BenchmarkScore(Stored):
    """A benchmark's score: shares of the items that are right and that could not be graded, and how many there are."""

    score: float = Field(ge=0, le=1)
    n: int = 0


class RunScores(Stored):
    """A run's scores; `dropped`: benchmark -> why the run may not be scored on it."""

    benchmarks: dict[str, BenchmarkScore] = {}
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


class WatchedReward(Stored):
    """A run's reward on validation items while it was trained."""

    step: int
    reward: float
    seconds: float = 0
    completions: float = 0


class TrainLog(Stored):
    """train.json: what a run took and how it went; a number may be null where it could not be measured."""

    steps: float | None = None
    seconds: float | None = None
    tokens: float | None = None
    groups: float | None = None
    memory_mb: dict[str, float | None] = {}
    watch: list[WatchedReward] | None = None
    log: list[dict[str, Any]] = []


class NoiseResult(Stored):
    """How much a method's gradient differs between mini-batches, with its interval; null with too few groups."""

    noise: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None


class DriftResult(Stored):
    kl: float = 0.0


class Likelihoods(Stored):
    """The nats and tokens of each item's gold answer; null and 0 where it has none."""

    nll: list[float | None]
    tokens: list[int]


class MeasuredRun(Stored):
    """What was measured of a run besides its scores; `cut`: benchmark -> the places of answers that were cut off."""

    gold: dict[str, Likelihoods] = {}
    text: Likelihoods = Likelihoods(nll=[], tokens=[])
    kl: dict[str, Any] = {}
    cut: dict[str, list[int]] = {}
    new_task: list[str] = []


class Graded(Stored):
    verdict: Verdict


class QuestionOrGroup(Stored):
    """A question, or a group of answers to one."""

    domain: str = ""
    source: str = ""
    completions: list[str] = []
    rewards: list[float] = []
    parts: list[Graded] = []
    gold: int = 0


class _StoredMapping(dict[str, Any]):
    """A mapping of a result, which raises UserError where a key is read that it does not have.

    `path` and `line` are of its file, `key` is the mapping's own key in it.
    """

    def __init__(self, value: dict[str, Any], path: Path, line: int | None = None, key: str = ""):
        super().__init__(value)
        self.path, self.line, self.key = path, line, key

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(
            path=self.path, line=self.line, key=_below(self.key, key), found="none", expected="one", hint=REMAKE
        )


def read_stored(path: Path, kind: type[Stored]) -> dict[str, Any]:
    """The JSON object at `path`, every key of it. Raises UserError where it is none, or a key does not fit `kind`."""
    result = _validated(read_json(path), kind, path)
    try:
        wrapped: dict[str, Any] = _wrapped(result, path, "")
    except RecursionError:
        raise UserError(path=path, found="brackets nested too deeply", expected="a result") from None
    return wrapped


def read_rows(path: Path, kind: type[Stored]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, as `read_stored` reads one."""
    for number, row in read_jsonl(path):
        yield _StoredMapping(_validated(row, kind, path, number), path, number)


def _wrapped(value: Any, path: Path, key: str) -> Any:
    """`value` with each of its mappings, at any depth, as a `_StoredMapping`."""
    if isinstance(value, dict):
        entries = {name: _wrapped(entry, path, _below(key, name)) for name, entry in value.items()}
        return _StoredMapping(entries, path, key=key)
    if isinstance(value, list):
        return [_wrapped(entry, path, _below(key, number)) for number, entry in enumerate(value)]
    return value


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _validated(value: Any, kind: type[Stored], path: Path, line: int | None = None) -> dict[str, Any]:
    """`value`, unchanged. Raises UserError where it is no JSON object, or does not fit `kind`."""
    if not isinstance(value, dict):
        raise UserError(path=path, line=line, found=type(value).__name__, expected="a JSON object")
    try:
        kind.model_validate(value, strict=True)
    except ValidationError as error:
        raise UserError(path=path, line=line, **validation_fields(error, kind), hint=REMAKE) from None
    return value
