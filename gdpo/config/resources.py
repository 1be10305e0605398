"""What a scale's jobs run on, as typed models: what each step asks a scheduler for, and how training runs are started.

None of it changes a result by more than rounding, so none of it is part of a result's settings.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gdpo.config.fields import Positive, Rate
from gdpo.config.strict import Strict

# The steps that compute with a model or hold a large part of the data; all others ask for a scheduler's default.
Step = Literal[
    "model", "benchmark", "sources", "decontaminate", "annotate", "quality", "merge", "answer", "respond", "train",
    "noise", "evaluate", "drift", "judge",
]  # fmt: skip


class Needs(Strict):
    """What a job of one step asks a scheduler for, on each of its nodes; CPUs are the scale's `threads` a process.

    `memory_gb` and `hours` are the first attempt's; a further one is given as much again.
    """

    gpus: int = Field(0, ge=0)
    memory_gb: Rate
    hours: Rate


class Launch(Strict):
    """In how many processes a training run goes: `processes` on each of `nodes`, one a GPU.

    `strategy`: every process holds the whole model (ddp), or its share of weights, gradients and optimizer (fsdp2).
    """

    strategy: Literal["ddp", "fsdp2"] = "ddp"
    processes: Positive = 1
    nodes: Positive = 1
