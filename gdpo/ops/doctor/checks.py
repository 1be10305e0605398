"""The checks of `gdpo doctor`: what a scale needs, what is on this machine, and how to fix the difference.

Each check is independent. The network and torch, which may hang, have a time limit. Keys are never shown.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import BaseModel

from gdpo.config.endpoint import Endpoint
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.project import IN_CHECKOUT, PROJECT
from gdpo.metakl.sources import mirror_dir
from gdpo.models.checkpoints import CACHE
from gdpo.models.dtypes import weights_dtype
from gdpo.models.shapes import GIB, LOW, SAVED, shape_of
from gdpo.runtime.vllm_environment import VLLM

NETWORK_SECONDS = 4.0  # ours: a server that works answers in less
TORCH_SECONDS = 8.0  # ours: torch is imported in some 3 s; all checks together stay below ten
PYTHON = (3, 11)  # pyproject.toml's requires-python
LOCK = PROJECT / "envs" / "cpu.lock"
SETUP = "run `make setup`, or `pip install -r envs/cpu.lock`" if IN_CHECKOUT else "run `pip install 'gdpo[all]'`"
SLURM = ("sbatch", "squeue", "sacct", "scancel")

Level = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """One line of the report: what was checked, what was found, and how to fix it where it is not ok."""

    level: Level
    name: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8}{self.name}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def python(scale: Scale) -> Iterator[Check]:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        yield Check("missing", "python", running, f"install Python {'.'.join(map(str, PYTHON))} or a later one")
    else:
        yield Check("ok", "python", running)


def packages(scale: Scale) -> Iterator[Check]:
    """Whether the packages of pyproject.toml, with all extras, are installed, in the versions that the lock pins."""
    try:
        requirements = [Requirement(text) for text in requires("gdpo") or ()]
    except PackageNotFoundError:
        yield Check("missing", "packages", "gdpo is not installed", SETUP)
        return
    requirements = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": "all"})]
    missing, unpinned, pinned = [], [], pins(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    for requirement in requirements:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"no {requirement.name}{requirement.specifier}")
            continue
        pin = pinned.get(canonicalize_name(requirement.name))
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{requirement.name} {installed}, not {requirement.specifier}")
        elif pin and Version(installed).public != Version(pin).public:
            unpinned.append(f"{requirement.name} {installed}, not {pin}")
    if missing:
        yield Check("missing", "packages", ", ".join(missing), SETUP)
    elif unpinned:
        fix = f"numbers may differ in their last digits; {SETUP}"
        yield Check("warning", "packages", f"other than envs/cpu.lock pins: {', '.join(unpinned)}", fix)
    else:
        fit = f"all {len(requirements)} fit pyproject.toml" + (" and the lock" if pinned else "")
        yield Check("ok", "packages", fit)


def pins(lock: str) -> dict[str, str]:
    """Package -> version, of a lock's lines `name==version`."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    return {canonicalize_name(name): pinned for name, pinned in lines}


def gpus(scale: Scale) -> Iterator[Check]:
    """The GPUs that torch sees. Torch is imported, by another process, only where the scale has jobs for GPUs."""
    needed = max((needs.gpus for needs in scale.needs.values()), default=0)
    if not needed:
        yield Check("ok", "GPU", "the scale asks for none")
        return
    code = "import torch; print(torch.__version__, torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    try:
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        yield Check("warning", "GPU", f"torch did not answer in {TORCH_SECONDS:.0f} s", "ask `nvidia-smi`")
        return
    if process.returncode or len(process.stdout.split()) != 2:
        yield Check("missing", "GPU", "torch cannot be imported", SETUP)
        return
    torch_version, count = process.stdout.split()
    seen = f"torch {torch_version} sees {count} of the {needed} that a job asks for"
    if int(count) >= needed:
        yield Check("ok", "GPU", seen)
    else:
        build = "install a CUDA build of torch (docs/running-elsewhere/environments.md), or "
        install = build if torch_version.endswith("+cpu") else ""
        fix = f"{install}submit to a cluster's nodes (docs/running-elsewhere/cluster.md)"
        required = scale.launch.processes > 1 or any(model.engine == "vllm" for model in scale.models.values())
        level: Level = "missing" if required else "warning"
        yield Check(level, "GPU", seen, fix + ("" if required else "; on the CPU it takes very much longer"))


def memory(scale: Scale) -> Iterator[Check]:
    needed = max((needs.memory_gb for needs in scale.needs.values()), default=0)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    compared = f"{installed:.0f} GiB" + (f", of {needed:.0f} that a job asks for" if needed else "")
    if installed < needed:
        fix = "run it on a larger machine, or submit to one (docs/running-elsewhere/cluster.md)"
        yield Check("missing", "memory", compared, fix)
    else:
        yield Check("ok", "memory", compared)


def disk(scale: Scale) -> Iterator[Check]:
    """Whether the weights that are still to be written fit; models of unknown size are named."""
    layout, needed, unknown = Layout(scale), 0, set()
    runs = {run for table in scale.tables.values() for run in layout.selected_runs(table)}
    runs = {run for run in runs if scale.keep_weights or run.is_origin}
    for run in runs:
        if layout.run(run).exists():
            continue
        if (shape := shape_of(scale, run.student)) is None:
            unknown.add(run.student)
        else:
            float32 = weights_dtype(scale.model(run.student).dtype) == "float32"
            needed += (SAVED if float32 else LOW) * shape.parameters
    free = shutil.disk_usage(Path.cwd()).free
    space = f"{free / GIB:.0f} GiB free, {needed / GIB:.1f} for the weights of {len(runs)} runs of all tables"
    if unknown:
        space += f", without those of {', '.join(sorted(unknown))}, whose size is not known"
    if free < needed:
        yield Check("missing", "disk", space, "free some, work on another disk, or set keep_weights: false")
    else:
        yield Check("ok", "disk", space)


def directories(scale: Scale) -> Iterator[Check]:
    for name in ("results", ".cache"):
        path = Path(name)
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=existing, prefix=".doctor"):
                pass
        except OSError as error:
            fix = f"give yourself the right to write to {existing}, or work in another directory"
            yield Check("missing", name, f"cannot be written to: {error.strerror}", fix)
        else:
            yield Check("ok", name, "can be written to" + ("" if path.exists() else ", once it is made"))


def network(scale: Scale) -> Iterator[Check]:
    """The mirror, or the Hub and the package index, where something has to be fetched from them."""
    layout = Layout(scale)
    references = [model.reference for name, model in scale.models.items() if not layout.model(name).exists()]
    kinds = {reference.partition(":")[0] for reference in references if reference}
    reads_sources = bool(scale.sources) and not layout.pool.exists()
    try:
        mirror = mirror_dir(None, scale) if scale.sources else None
    except UserError as error:
        yield Check("missing", "mirror", str(error), "name another directory, or none to read from the Hub")
        mirror, reads_sources = None, False
    if mirror:
        yield Check("ok", "mirror", f"{mirror} has a manifest")
    if "hub" in kinds or (reads_sources and not mirror):
        url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        fix = "check the network or HF_ENDPOINT, or name a mirror of the data sets (GDPO_MIRROR)"
        yield check_server("Hub", url, fix)
    if "wheel" in kinds and not list(CACHE.glob("*.whl")):
        url = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
        yield check_server("package index", url, "check the network or pip's configuration")


def check_server(name: str, url: str, fix: str) -> Check:
    """Whether a server answers at all; a name, a password and a query in its address are neither sent nor shown."""
    shown = re.sub(r"//.*@", "//", re.sub(r"[?#].*", "", url))
    try:
        host = re.sub(r"^\w+://|[:/].*$", "", shown)
        with urllib.request.urlopen(urllib.request.Request(shown, method="HEAD"), timeout=NETWORK_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code in (403, 407) or error.code >= 500:
            return Check("missing", name, f"{shown} answers with {error.code}", fix)
    except (OSError, ValueError, http.client.HTTPException) as error:
        timed_out = isinstance(error, socket.timeout)
        reason = "it does not answer in time" if timed_out else getattr(error, "reason", error)
        return Check("missing", name, f"{host} cannot be reached: {reason}", fix)
    return Check("ok", name, f"{shown} answers")


def keys(scale: Scale) -> Iterator[Check]:
    """Whether the keys of the scale's endpoints are set; a key itself is not shown."""
    for name in sorted({endpoint.key for endpoint in endpoints(scale) if endpoint.key}):
        if os.environ.get(name):
            yield Check("ok", name, "is set")
        else:
            yield Check(
                "missing", name, "is not set, though an endpoint of the scale asks for it", f"export {name}=..."
            )


def endpoints(value: Any) -> list[Endpoint]:
    """Every endpoint anywhere in settings."""
    if isinstance(value, Endpoint):
        return [value]
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [endpoint for entry in entries for endpoint in endpoints(entry)]


def commands(scale: Scale) -> Iterator[Check]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    snakemake = shutil.which("snakemake", path=path)
    if snakemake:
        yield Check("ok", "snakemake", snakemake)
    else:
        yield Check("missing", "snakemake", "not found", SETUP)
    if shutil.which("git"):
        yield Check("ok", "git", "found")
    else:
        yield Check("warning", "git", "not found", "install it: provenance then names the commit that made a result")


def lock(scale: Scale) -> Iterator[Check]:
    """A lock of Snakemake on this directory, which a running or a killed run holds."""
    if list(Path(".snakemake/locks").glob("*.lock")):
        fix = "if none runs here, `snakemake --unlock --config scale=NAME`, then go on with --rerun-incomplete"
        yield Check("warning", "Snakemake's lock", "this directory is locked by a run, or by one that was killed", fix)
    else:
        yield Check("ok", "Snakemake's lock", "none")


def slurm(scale: Scale) -> Iterator[Check]:
    """Slurm's commands and Snakemake's plugin for it, checked with --slurm."""
    missing = [command for command in SLURM if not shutil.which(command)]
    if not find_spec("snakemake_executor_plugin_slurm"):
        missing.append("snakemake-executor-plugin-slurm")
    if missing:
        fix = "call it on a submit host; `pip install 'gdpo[cluster]'` (docs/running-elsewhere/cluster.md)"
        yield Check("missing", "Slurm", f"not found: {', '.join(missing)}", fix)
    else:
        yield Check("ok", "Slurm", "its commands and Snakemake's plugin are here")


def vllm(scale: Scale) -> Iterator[Check]:
    models = [name for name, model in scale.models.items() if model.engine == "vllm"]
    if not models:
        return
    if find_spec("vllm") or VLLM.exists():
        yield Check("ok", "vLLM", f"is here, for {len(models)} models")
    else:
        yield Check("missing", "vLLM", f"not found, though {len(models)} models are sampled by it", "run `make vllm`")
