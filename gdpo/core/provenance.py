"""The provenance file of each result: the step, its code, settings, seeds, packages, hardware and time."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gdpo import __version__
from gdpo.core.device import peak_memory
from gdpo.core.files import write_json
from gdpo.core.hashing import fingerprint
from gdpo.core.project import PACKAGE

PACKAGES = (
    "torch",
    "transformers",
    "vllm",
    "trl",
    "peft",
    "datasets",
    "lm_eval",
    "snakemake",
    "math-verify",
    "numpy",
)


def provenance_path(result: Path) -> Path:
    """`DIR/provenance.json` for a directory, `FILE.provenance.json` for a file."""
    return result / "provenance.json" if result.is_dir() else result.with_name(f"{result.name}.provenance.json")


def provenance_below(root: Path) -> list[Path]:
    """The provenance files of all results of a scale, sorted.

    Those in work/, where results come from, are left out, and those of results that a kill left half-written
    (gdpo.core.files.replacing).
    """
    files = ((path, path.relative_to(root).parts) for path in root.rglob("*provenance.json"))
    return sorted(
        path for path, parts in files if parts[0] != "work" and not any(part.endswith(".partial") for part in parts)
    )


@contextmanager
def recorded(result: Path, step: str, settings: Any, seeds: dict[str, int] | None = None) -> Iterator[dict]:
    """Time the block that makes `result`, and write its provenance; the block may add to the yielded mapping."""
    started, cpu = time.monotonic(), time.process_time()
    extra: dict[str, Any] = {}
    yield extra
    write_json(
        provenance_path(Path(result)),
        {
            "step": step,
            "result": Path(os.path.relpath(result)).as_posix(),
            "config_hash": fingerprint(settings),
            "settings": settings,
            "seeds": seeds or {},
            "code": code_version(),
            "packages": _packages(),
            "hardware": _hardware(),
            "wall_seconds": round(time.monotonic() - started, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "peak_memory_mb": peak_memory("cpu") // 2**20,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **extra,
        },
    )


def code_version() -> str:
    """The package's version and, in a git checkout, the commit and whether the tree differs from it."""
    try:
        described = subprocess.run(
            ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return f"{__version__}+{described.stdout.strip()}"
    except (OSError, subprocess.SubprocessError):
        return __version__


def _packages() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {"machine": platform.machine(), "cpus": os.cpu_count(), "cpu": _cpu_name()}
    torch = sys.modules.get("torch")
    if torch is not None:
        hardware["torch_threads"] = torch.get_num_threads()
        hardware["cpu_capability"] = torch.backends.cpu.get_cpu_capability()  # which kernels torch picks
        if torch.cuda.is_available():
            hardware["gpu"] = torch.cuda.get_device_name()
            hardware["gpu_peak_memory_mb"] = torch.cuda.max_memory_allocated() // 2**20
    return hardware


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
