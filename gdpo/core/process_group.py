"""Several processes on one run, as `accelerate launch` and `torchrun` start them: the first one writes, all wait."""

from __future__ import annotations

import os
from datetime import timedelta

# ours: a process may score a shard of the reference, or write a model, while the others wait; NCCL's ten minutes would
# end the run. One that dies is seen by its launcher, which ends the others at once.
DISTRIBUTED_TIMEOUT = timedelta(hours=6)


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    return rank() == 0


def barrier() -> None:
    """Return when every process is here."""
    if processes() > 1:
        import torch
        from accelerate import PartialState

        # The first call of a run sets how long every later exchange may take, the trainers' among them.
        PartialState(cpu=not torch.cuda.is_available(), timeout=DISTRIBUTED_TIMEOUT).wait_for_everyone()
