"""The device that models run on, and a process's memory in bytes: resident on a CPU, the allocator's on CUDA."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")


def to_device(model: Module, device: str | torch.device) -> Module:
    """`model`, moved to `device`. transformers hides the types of its own `to` behind a decorator."""
    return model.to(device)


def default_device() -> str:
    """The device that models run on: `cuda` if there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """The name of the GPU, or `cpu`."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return device


def memory_held(device: str) -> int:
    """Bytes held now; the peak so far where the system does not tell."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated()
    try:
        import resource

        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return peak_memory(device)


def reset_peak_memory(device: str) -> None:
    """Reset the peak counter of CUDA. The system's own, of a process on a CPU, cannot be reset."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """The most bytes held at once since the process began or its CUDA peak was reset; 0 if the system does not tell."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
