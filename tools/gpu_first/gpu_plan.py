"""The stages of the first half hour on a GPU, read from a file of sizes (tools/gpu_first/*.yaml), each checked.

A rehearsal on a CPU is another file of sizes: the stages, their order and all code are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gdpo.config.fields import Name, Positive
from gdpo.config.strict import Strict
from gdpo.config.yaml_loader import first_problem, parsed
from gdpo.core.errors import UserError

SIZES = Path(__file__).resolve().parent


class Part(Strict):
    """A piece of a stage that is run in a process of its own, at most once to its end.

    `seconds` is what it is given; what earlier parts left over comes on top. `does` names a function of `gpu_part.py`
    and `given` its arguments; `command` is run in its place (tests). `launcher` starts it by torchrun (`nccl`) or by
    accelerate with the fsdp2 file. One that `resumes` keeps what it has done, so a call may begin it with less time
    than `seconds`, and a later call goes on.
    """

    name: Name
    seconds: Positive
    does: str = ""
    given: dict[str, Any] = Field(default_factory=dict)
    command: list[str] = Field(default_factory=list)
    launcher: Literal["nccl", "fsdp2"] | None = None
    resumes: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Part:
        if bool(self.does) == bool(self.command):
            raise ValueError("expected one of 'does' and 'command'")
        return self


class Stage(Strict):
    """Parts in order; together they have `seconds`, and what earlier stages left over."""

    name: Name
    seconds: Positive
    parts: Annotated[list[Part], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Stage:
        if (total := sum(part.seconds for part in self.parts)) > self.seconds:
            raise ValueError(f"expected parts of at most {self.seconds} seconds together, found {total}")
        return self


class Plan(Strict):
    """All stages; `call_minutes` bound one call, `results` is where journal, CSVs and logs lie, below the project."""

    name: Name
    rehearsal: bool
    device: Literal["cuda", "cpu"]
    results: str
    call_minutes: float = Field(gt=0)
    scales: list[Name] = Field(default_factory=list)
    stages: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Plan:
        names = [part.name for stage in self.stages for part in stage.parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected parts of different names, found '{twice[0]}' twice")
        return self

    def parts(self) -> dict[str, tuple[Stage, Part]]:
        """Every part by its name, in order, beside its stage."""
        return {part.name: (stage, part) for stage in self.stages for part in stage.parts}

    def ends(self, stage: Stage) -> int:
        """By how many seconds of the half hour `stage` is to have ended."""
        return sum(one.seconds for one in self.stages[: self.stages.index(stage) + 1])


def load(path: Path) -> Plan:
    """Raises UserError naming file and key where `path` holds no plan."""
    try:
        return Plan.model_validate(parsed(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a file of sizes, such as those in {SIZES}") from None
    except ValidationError as error:
        raise UserError(path=path, **first_problem(error, Plan)) from None
