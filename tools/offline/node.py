"""On a machine without a network: lay out what parcels carry, run the workflow in bounded calls, collect what it made.

Standard library alone, since nothing else is installed when it begins.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from gdpo.core.errors import UserError, last_line
from gdpo.core.files import replacing
from tools.offline.parcels import (
    MANIFEST,
    MIB,
    TIMESTAMP,
    Manifest,
    Model,
    gather,
    join,
    read_manifest,
    records,
    write_manifest,
)  # fmt: skip

CARRIED = Path(".carry")  # below the project there: the wheels' packages, a `gdpo` command and the manifest
DONE, FAILED, UNFINISHED = 0, 1, 75  # 75: sysexits' EX_TEMPFAIL, call again
# Of a call's time, kept back for the jobs to stop and for the plan of what remains: a fifth, at most 45 seconds.
KEPT_BACK, MOST_KEPT_BACK = 0.2, 45.0
TABLES = (
    "tables",
    "figures",
    "claims",
    "cost",
    "runs.csv",
    "reproduced",
    "published",
    "judge",
    "numbers",
    "metakl_card",
)
WEIGHTS = (".safetensors", ".bin", ".pt", ".partial")
TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def unpack(options) -> int:
    """Check and keep the pieces of the parcels given; with the last one, lay everything out at `options.into`."""
    into = options.into.resolve()
    store = into / CARRIED / "pieces"
    manifest, absent = gather(options.parcels, store)
    if absent:
        say(f"kept; still to come: {', '.join(absent)}")
        return DONE
    wheels, cache = into / CARRIED / "wheels", into / ".cache/wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    for file in manifest.files:
        if file.role == "tree":
            join(file, store, store / file.name)
            with tarfile.open(store / file.name) as tar:
                tar.extractall(into, filter="data")
        else:
            join(file, store, (wheels if file.role == "wheel" else cache) / file.name)
    _install(into, sorted(wheels.glob("*.whl")))
    for model in manifest.models:
        _remake(into, manifest, model)
    write_manifest(into / CARRIED / MANIFEST, manifest)
    for directory in (store, wheels):
        shutil.rmtree(directory, ignore_errors=True)
    say(f"{manifest.scale} is laid out in {into}")
    return DONE


def _install(into: Path, wheels: list[Path]) -> None:
    """The wheels' packages, and a `gdpo` command for the workflow's rules."""
    with replacing(into / CARRIED / "site") as site:
        site.mkdir()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        command += ["--no-deps", "--no-compile", "--target", str(site), *map(str, wheels)]
        done = subprocess.run(command, capture_output=True, text=True) if wheels else None
        if done and done.returncode:
            found = last_line(done.stderr)
            raise UserError(f"{len(wheels)} wheels: expected to install them into {site}, found: {found}")
    command = into / CARRIED / "bin" / "gdpo"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gdpo.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)


def _remake(into: Path, manifest: Manifest, model: Model) -> None:
    """Make a model from its wheels, as old as it was where it was packed, so that what was made with it stays."""
    out = into / manifest.root / "models" / model.name
    arguments = ["model", "--name", model.name, "--scale", manifest.scale]
    arguments += ["--limit", str(manifest.limit)] if manifest.limit else []
    arguments += ["--log", f"{manifest.root}/logs/model/{model.name}.log"]
    done = subprocess.run([sys.executable, "-m", "gdpo.cli", *arguments], cwd=into, env=environment(into))
    if done.returncode:
        raise UserError(f"{model.name}: expected `gdpo {' '.join(arguments)}` to make it of its wheels, which failed")
    (out / TIMESTAMP).touch()
    for path in (out / TIMESTAMP, out):
        os.utime(path, ns=(model.made, model.made))


def environment(into: Path) -> dict[str, str]:
    """The carried packages before the machine's own, where some were carried, and nobody asked anything."""
    carried = into / CARRIED
    paths = [str(carried / "bin"), str(carried / "site" / "bin"), os.environ.get("PATH", "")]
    offline = {name: "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")}
    return os.environ | offline | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join([str(into), str(carried / "site")]),
    }  # fmt: skip


def _laid_out(project: Path, scale: str | None) -> Manifest:
    """The manifest of what lies in `project`. Raises UserError where nothing does, or another scale."""
    path = project / CARRIED / MANIFEST
    if not path.exists():
        raise UserError(f"{project}: found nothing unpacked, expected all parcels of a pack (carry.py unpack)")
    manifest = read_manifest(path)
    if scale not in (None, manifest.scale):
        raise UserError(f"--scale {scale}: found the parcels of {manifest.scale}, expected those of {scale}")
    return manifest


def run(options, project: Path) -> int:
    """Run the workflow to `options.targets` for at most `options.minutes`; what is finished stays.

    Returns DONE, UNFINISHED where time ran out, or FAILED where a job failed.
    """
    manifest = _laid_out(project, options.scale)
    return workflow(project, manifest.scale, manifest.limit, options.targets, options.jobs, options.minutes)


def workflow(project: Path, scale: str, limit: int | None, targets: list[str], jobs: int, minutes: float) -> int:
    """Run the workflow to `targets` of `scale`, so many jobs side by side, for at most `minutes`; as `run` returns."""
    ends = time.monotonic() + minutes * 60
    told = ["--config", f"scale={scale}", *([f"limit={limit}"] if limit else [])]
    snakemake = [sys.executable, "-m", "snakemake", "--directory", str(project)]
    there = environment(project)
    if any((project / ".snakemake" / "locks").glob("*")):  # of a call that was killed
        subprocess.run([*snakemake, "--unlock", *told], cwd=project, env=there, capture_output=True)
    side_by_side = ["--cores", str(jobs), "--resources", f"gpu={jobs}", "--keep-going", "--rerun-incomplete"]
    command = [*snakemake, *targets, *side_by_side, "--quiet", "rules", *told]
    stopped, status = _bounded(command, project, there, ends)
    if not stopped:
        say("nothing remains" if not status else "a job failed; its log is named above")
        return FAILED if status else DONE
    plan = [*snakemake, *targets, "-n", "--rerun-incomplete", "--quiet", "rules", *told]
    say(f"stopped after {minutes:g} minutes; {_remaining(plan, project, there)}")
    return UNFINISHED


def _bounded(command: list[str], project: Path, there: dict[str, str], ends: float) -> tuple[bool, int]:
    """Run `command`, interrupted to end by `ends` (time.monotonic); was it, and its status."""
    kept_back = min(MOST_KEPT_BACK, KEPT_BACK * (ends - time.monotonic()))
    # A shell starts what it puts into the background deaf to SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=project, env=there, start_new_session=True)
    try:
        return False, process.wait(timeout=max(ends - kept_back - time.monotonic(), 0))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGINT)  # the jobs too, as a terminal does: they keep what can be resumed
        try:
            return True, process.wait(timeout=kept_back / 2)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
    finally:
        _end(process.pid)
    return True, process.wait()


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remaining(plan: list[str], project: Path, there: dict[str, str]) -> str:
    """What a dry run plans, in words: the jobs of each rule."""
    done = subprocess.run(plan, cwd=project, env=there, capture_output=True, text=True)
    jobs = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    counts = {rule: count for rule, count in jobs if rule != "total"}
    each = ", ".join(f"{rule} {count}" for rule, count in counts.items())
    return f"{sum(map(int, counts.values()))} jobs remain: {each}" if counts else "what remains is not known"


def collect(options, project: Path) -> int:
    """Write what was made here, without weights, in at most `options.files` archives of `options.file_mib` each.

    Tables come first, then what they cost and follow from, then each item's samples; what does not fit is named.
    """
    manifest = _laid_out(project, options.scale)
    told = project / CARRIED / MANIFEST
    found = results(project, Path(manifest.root), told.stat().st_mtime)
    archive([told, *found], project, options.out, options.files, options.file_mib)
    return DONE


def results(project: Path, root: Path, since: float) -> list[Path]:
    """What was made at `root` after `since` and is to come back, tables first, with Snakemake's records before it."""
    made = [path for path in (project / root).rglob("*") if path.is_file() and path.stat().st_mtime > since]
    found = [path for path in made if _comes_back(path.relative_to(project / root))]
    found.sort(key=lambda path: (_rank(path.relative_to(project / root)), path))
    return [*(project / path for path in records(root, project)), *found]


def archive(found: list[Path], project: Path, out: Path, files: int, file_mib: float) -> None:
    """Write `found`, in order, into at most `files` archives of `file_mib` at `out`; what does not fit is named."""
    with replacing(out) as temporary:
        temporary.mkdir()
        left = list(_archived(found, project, temporary, int(file_mib * MIB), files))
        for path in sorted(temporary.iterdir()):
            say(f"{path.name}: {path.stat().st_size / MIB:.1f} MiB")
    if left:
        amount = sum(path.stat().st_size for path in left) / MIB
        say(f"{len(left)} files of {amount:.1f} MiB did not fit, {left[0].relative_to(project)} first")


def _archived(paths: list[Path], project: Path, out: Path, limit: int, count: int) -> Iterator[Path]:
    """Write `paths` into archives of at most `limit` bytes, in order, and yield those for which `count` do not do."""
    waiting = paths
    for number in range(1, count + 1):
        later = []
        with (out / f"results-{number}.tar.gz").open("wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for path in waiting:
                # As if nothing were compressed: a file's headers, and what the compressor still holds, come on top.
                if raw.tell() + path.stat().st_size + MIB // 4 > limit:
                    later.append(path)
                else:
                    tar.add(path, path.relative_to(project).as_posix())
        if not (waiting := later):
            return
    yield from waiting


def _comes_back(path: Path) -> bool:
    """Whether a result of the scale is wanted: neither weights nor what is drawn of figures' numbers."""
    if path.parts[0] == "work" or (path.parts[0] == "models" and path.name != "provenance.json"):
        return False
    return not (path.suffix in WEIGHTS or path.name in TOKENIZER or path.suffix in (".png", ".pdf"))


def _rank(path: Path) -> int:
    """0: tables and the like; 1: scores, provenance, logs of training; 2: what else there is, samples above all."""
    if path.parts[0].startswith(TABLES):
        return 0
    small = {"scores", "runs", "logs", "noise", "drift"} & set(path.parts)
    return 1 if small or path.name.endswith("provenance.json") else 2
