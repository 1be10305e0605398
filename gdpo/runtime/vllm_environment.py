"""Which environment a step runs in: one that samples with vLLM goes to vLLM's own, which pins other versions.

Without conda the rules call one and the same `gdpo`, whose text is part of every finished result's record: it cannot
name an environment without making all of them again. So `gdpo` itself hands such a step over.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gdpo.config.scale import Scale
from gdpo.core.project import PROJECT

VLLM = PROJECT / ".venv-vllm" / "bin" / "gdpo"  # as `make vllm` makes it


def sampled(scale: Scale, given: dict[str, Any]) -> str | None:
    """The model that a step samples, by the command's arguments; None of a step that samples none, or its own way."""
    match given.get("step"), given.get("substep"):
        case "evaluate", _:
            return str(given["student"])
        case "metakl", "answer":
            return str(given["model"])
        case "teach", "respond":
            return scale.respond_of(given["trainset"]).teacher
    return None


def enter(scale: Scale, given: dict[str, Any]) -> None:
    """Go on in vLLM's environment where the step's model is sampled by vLLM, which is not here but there.

    Without such an environment nothing happens, and the step says what it misses.
    """
    name = sampled(scale, given)
    there = Path(sys.prefix).resolve() == VLLM.parents[1].resolve()  # half made, it would enter itself for ever
    if name and scale.model(name).engine == "vllm" and find_spec("vllm") is None and VLLM.exists() and not there:
        os.execv(VLLM, [str(VLLM), *sys.argv[1:]])
