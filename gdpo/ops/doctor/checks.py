"""The checks of `gdpo doctor`, each on its own: what a scale needs, what is here, and what mends the difference.

Nothing that may hang is waited for: the network and torch are asked under a time limit. Keys are never shown.
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

from gdpo.config.layout import Layout
from gdpo.config.models import Endpoint
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.project import IN_CHECKOUT, PROJECT
from gdpo.metakl.sources import mirror_dir
from gdpo.models.checkpoints import CACHE
from gdpo.models.dtypes import weights_dtype
from gdpo.models.shapes import GIB, LOW, SAVED, shape_of
from gdpo.runtime.vllm_environment import VLLM

NETWORK_SECONDS = 4.0  # ours: a server that is there answers in less
TORCH_SECONDS = 8.0  # ours: torch is imported in some 3 s; with the rest it stays below ten
PYTHON = (3, 11)  # pyproject.toml's requires-python
LOCK = PROJECT / "envs" / "cpu.lock"
SETUP = "run `make setup`, or `pip install -r envs/cpu.lock`" if IN_CHECKOUT else "run `pip install 'gdpo[all]'`"
SLURM = ("sbatch", "squeue", "sacct", "scancel")

Level = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, and how it is mended where it is not ok."""

    level: Level
    name: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8}{self.name}: {self.found}" + (f"; {self.mend}" if self.mend else "")


def python(scale: Scale) -> Iterator[Check]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        yield Check("missing", "python", found, f"install Python {'.'.join(map(str, PYTHON))} or a later one")
    else:
        yield Check("ok", "python", found)


def packages(scale: Scale) -> Iterator[Check]:
    """What pyproject.toml asks for, with all extras, and whether it is what the lock pins."""
    try:
        asked = [Requirement(text) for text in requires("gdpo") or ()]
    except PackageNotFoundError:
        yield Check("missing", "packages", "gdpo is not installed", SETUP)
        return
    asked = [needed for needed in asked if needed.marker is None or needed.marker.evaluate({"extra": "all"})]
    lacking, other, locked = [], [], pins(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    for requirement in asked:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            lacking.append(f"no {requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            lacking.append(f"{requirement.name} {found}, not {requirement.specifier}")
        elif (pin := locked.get(canonicalize_name(requirement.name))) and Version(found).public != Version(pin).public:
            other.append(f"{requirement.name} {found}, not {pin}")
    if lacking:
        yield Check("missing", "packages", ", ".join(lacking), SETUP)
    elif other:
        mend = f"numbers may differ in their last digits; {SETUP}"
        yield Check("warning", "packages", f"other than envs/cpu.lock pins: {', '.join(other)}", mend)
    else:
        yield Check("ok", "packages", f"all {len(asked)} fit pyproject.toml" + (" and the lock" if locked else ""))


def pins(lock: str) -> dict[str, str]:
    """Package -> version, of a lock's lines `name==version`."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    return {canonicalize_name(name): pinned for name, pinned in found}


def gpus(scale: Scale) -> Iterator[Check]:
    """Torch is asked only where the scale has jobs for GPUs."""
    wanted = max((needs.gpus for needs in scale.needs.values()), default=0)
    if not wanted:
        yield Check("ok", "GPU", "the scale asks for none")
        return
    code = "import torch; print(torch.__version__, torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        yield Check("warning", "GPU", f"torch did not answer in {TORCH_SECONDS:.0f} s", "ask `nvidia-smi`")
        return
    if done.returncode or len(done.stdout.split()) != 2:
        yield Check("missing", "GPU", "torch cannot be imported", SETUP)
        return
    torch, count = done.stdout.split()
    found = f"torch {torch} sees {count} of the {wanted} that a job asks for"
    if int(count) >= wanted:
        yield Check("ok", "GPU", found)
    else:
        build = "install a CUDA build of torch (docs/environments.md), or " if torch.endswith("+cpu") else ""
        mend = f"{build}submit to a cluster's nodes (docs/cluster.md)"
        several = scale.launch.processes > 1 or any(model.engine == "vllm" for model in scale.models.values())
        level: Level = "missing" if several else "warning"
        yield Check(level, "GPU", found, mend + ("" if several else "; on the CPU it takes very much longer"))


def memory(scale: Scale) -> Iterator[Check]:
    wanted = max((needs.memory_gb for needs in scale.needs.values()), default=0)
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if here < wanted:
        mend = "run it on a larger machine, or submit to one (docs/cluster.md)"
        yield Check("missing", "memory", f"{here:.0f} GiB, of {wanted:.0f} that a job asks for", mend)
    else:
        yield Check("ok", "memory", f"{here:.0f} GiB" + (f", of {wanted:.0f} that a job asks for" if wanted else ""))


def disk(scale: Scale) -> Iterator[Check]:
    """Free space beside the weights that are still to be written; models of unknown size are named."""
    layout, sizes, unknown = Layout(scale), 0, set()
    runs = [run for table in scale.tables.values() for run in layout.selected_runs(table)]
    kept = {run for run in runs if scale.keep_weights or run.is_origin}
    for run in kept:
        if layout.run(run).exists():
            continue
        if (shape := shape_of(scale, run.student)) is None:
            unknown.add(run.student)
        else:
            wide = weights_dtype(scale.model(run.student).dtype) == "float32"
            sizes += (SAVED if wide else LOW) * shape.parameters
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIB:.0f} GiB free, {sizes / GIB:.1f} for the weights of {len(kept)} runs of all tables"
    if unknown:
        found += f", without those of {', '.join(sorted(unknown))}, whose size is not known"
    if free < sizes:
        yield Check("missing", "disk", found, "free some, work on another disk, or set keep_weights: false")
    else:
        yield Check("ok", "disk", found)


def directories(scale: Scale) -> Iterator[Check]:
    for name in ("results", ".cache"):
        path = Path(name)
        place = next(p for p in (path, *path.absolute().parents) if p.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor"):
                pass
        except OSError as error:
            mend = f"give yourself the right to write to {place}, or work in another directory"
            yield Check("missing", name, f"cannot be written to: {error.strerror}", mend)
        else:
            yield Check("ok", name, "can be written to" + ("" if path.exists() else ", once it is made"))


def network(scale: Scale) -> Iterator[Check]:
    """The mirror, or the Hub and the package index, where something of theirs is not here yet."""
    layout, named = Layout(scale), [scale.model(name).reference or "" for name in _absent(scale)]
    unread = bool(scale.sources) and not layout.pool.exists()
    try:
        mirror = mirror_dir(None, scale) if scale.sources else None
    except UserError as error:
        yield Check("missing", "mirror", str(error), "name another directory, or none to read from the Hub")
        mirror, unread = None, False
    if mirror:
        yield Check("ok", "mirror", f"{mirror} has a manifest")
    asked = [name.split(":")[0] for name in named]
    if "hub" in asked or (unread and not mirror):
        where = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        yield reached("Hub", where, "check the network or HF_ENDPOINT, or name a mirror of the data sets (GDPO_MIRROR)")
    if "wheel" in asked and not list(CACHE.glob("*.whl")):
        where = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
        yield reached("package index", where, "check the network or pip's configuration")


def _absent(scale: Scale) -> list[str]:
    """The models that have to be fetched."""
    layout = Layout(scale)
    return [name for name, model in scale.models.items() if model.reference and not layout.model(name).exists()]


def reached(name: str, url: str, mend: str) -> Check:
    """Whether a server answers at all; a name, a password and a query in its address are neither sent nor shown."""
    shown = re.sub(r"//.*@", "//", re.sub(r"[?#].*", "", url))
    try:
        host = re.sub(r"^\w+://|[:/].*$", "", shown)
        with urllib.request.urlopen(urllib.request.Request(shown, method="HEAD"), timeout=NETWORK_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code in (403, 407) or error.code >= 500:
            return Check("missing", name, f"{shown} answers with {error.code}", mend)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = "it does not answer in time" if isinstance(error, socket.timeout) else _reason(error)
        return Check("missing", name, f"{host} cannot be reached: {why}", mend)
    return Check("ok", name, f"{shown} answers")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error))


def keys(scale: Scale) -> Iterator[Check]:
    """Whether the keys of the scale's endpoints are set, and nothing else of them."""
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
        return [found for name in type(value).model_fields for found in endpoints(getattr(value, name))]
    if isinstance(value, dict):
        return [found for entry in value.values() for found in endpoints(entry)]
    return [found for entry in value for found in endpoints(entry)] if isinstance(value, list | tuple) else []


def commands(scale: Scale) -> Iterator[Check]:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    snakemake = shutil.which("snakemake", path=beside)
    if snakemake:
        yield Check("ok", "snakemake", snakemake)
    else:
        yield Check("missing", "snakemake", "not found", SETUP)
    if shutil.which("git"):
        yield Check("ok", "git", "found")
    else:
        yield Check("warning", "git", "not found", "install it: provenance then names the commit that made a result")


def lock(scale: Scale) -> Iterator[Check]:
    """A lock of Snakemake's on this directory: a run that goes on, or one that was killed."""
    held = list(Path(".snakemake/locks").glob("*.lock"))
    if held:
        mend = "if none runs here, `snakemake --unlock --config scale=NAME`, then go on with --rerun-incomplete"
        yield Check("warning", "Snakemake's lock", "this directory is locked by a run, or by one that was killed", mend)
    else:
        yield Check("ok", "Snakemake's lock", "none")


def slurm(scale: Scale) -> Iterator[Check]:
    """Asked for with --slurm."""
    lacking = [command for command in SLURM if not shutil.which(command)]
    if not find_spec("snakemake_executor_plugin_slurm"):
        lacking.append("snakemake-executor-plugin-slurm")
    if lacking:
        mend = "call it on a submit host; `pip install 'gdpo[cluster]'` (docs/cluster.md)"
        yield Check("missing", "Slurm", f"not found: {', '.join(lacking)}", mend)
    else:
        yield Check("ok", "Slurm", "its commands and Snakemake's plugin are here")


def vllm(scale: Scale) -> Iterator[Check]:
    asking = [name for name, model in scale.models.items() if model.engine == "vllm"]
    if not asking:
        return
    if find_spec("vllm") or VLLM.exists():
        yield Check("ok", "vLLM", f"is here, for {len(asking)} models")
    else:
        yield Check("missing", "vLLM", f"not found, though {len(asking)} models are sampled by it", "run `make vllm`")
