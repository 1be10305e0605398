"""Several processes on one run, as `accelerate launch` and `torchrun` start them: the first one writes, all wait."""

from __future__ import annotations

import os


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    return rank() == 0


def wait() -> None:
    """Return when every process is here."""
    if processes() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
