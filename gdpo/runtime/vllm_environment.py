"""Which environment a step runs in: one that samples with vLLM goes to vLLM's own, which pins other versions.

Without conda the rules call one and the same `gdpo`, whose text is part of every finished result's record: it cannot
name an environment without making all of them again. So `gdpo` itself hands such a step over.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from gdpo.config.scale import Scale
from gdpo.core.project import PROJECT

VLLM = PROJECT / ".venv-vllm" / "bin" / "gdpo"  # as `make vllm` makes it


def enter(scale: Scale, name: str) -> None:
    """Go on in vLLM's environment where model `name` is sampled by vLLM, and vLLM is not installed here but there.

    Without such an environment nothing happens, and the step says what it misses.
    """
    there = Path(sys.prefix).resolve() == VLLM.parents[1].resolve()  # half made, it would enter itself for ever
    if scale.model(name).engine == "vllm" and find_spec("vllm") is None and VLLM.exists() and not there:
        os.execv(VLLM, [str(VLLM), *sys.argv[1:]])
