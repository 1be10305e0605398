"""Several processes on one run, as `accelerate launch` and `torchrun` start them. The first one writes, all wait."""

from __future__ import annotations

import os
from datetime import timedelta

# ours: a process may score a shard of the reference, or write a model, while the others wait. NCCL's ten minutes would
# end the run. The launcher sees a process that dies, and ends the others at once.
DISTRIBUTED_TIMEOUT = timedelta(hours=6)


def processes() -> int:
    """How many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    return rank() == 0


def barrier() -> None:
    """Wait until every process has called this."""
    if processes() > 1:
        import torch
        from accelerate import PartialState

        # The first call of a run sets the timeout of every later exchange, those of the trainers included.
        PartialState(cpu=not torch.cuda.is_available(), timeout=DISTRIBUTED_TIMEOUT).wait_for_everyone()
