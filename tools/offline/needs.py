"""Which packages another Python lacks for gdpo, and their wheels from the package index.

What is needed follows from pyproject.toml and the metadata of what is installed here; the versions are the lock's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from gdpo.core.errors import UserError, last_line

# The machine's own torch fits its GPU; the items of reasoning-gym are made before anything is carried; the report is
# set from what comes back; no job is submitted from there; setuptools is asked for by packages that do without, and is
# in no `pip freeze`.
LEFT_OUT = {"torch", "reasoning-gym", "typst", "snakemake-executor-plugin-slurm", "setuptools"}
# Their version decides what a checkpoint computes and how it is trained: the lock's is carried wherever another, or an
# unknown one, is there.
COUPLED = {"accelerate", "huggingface-hub", "peft", "safetensors", "tokenizers", "transformers"}
# pip takes a platform at its word, one tag for each glibc; the oldest comes first, since it runs on most machines.
PLATFORMS = ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
PLATFORMS += [f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 39)]


def pins(path: Path) -> dict[str, str | None]:
    """Package -> version of each line NAME or NAME==VERSION, as `pip freeze` writes them; None without a version.

    Raises UserError where a line is neither.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected lines NAME or NAME==VERSION") from None
    found: dict[str, str | None] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].partition(" @ ")[0].strip()
        if not text:
            continue
        name, _, version = (part.strip() for part in text.partition("=="))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"{path}, line {number}: found '{line}', expected NAME or NAME==VERSION")
        found[canonicalize_name(name)] = version or None
    return found


def declared(project: Path, extras: Iterable[str] = ("all",)) -> list[str]:
    """The requirements that pyproject.toml states for the package with `extras`, and with the extras these include."""
    stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = stated.get("optional-dependencies", {})
    wanted = list(extras)
    for extra in wanted:  # which grows
        included = [Requirement(text) for text in optional.get(extra, []) if text.startswith("gdpo[")]
        wanted += [name for requirement in included for name in sorted(requirement.extras) if name not in wanted]
    optional = [text for extra in wanted for text in optional.get(extra, []) if not text.startswith("gdpo[")]
    return list(dict.fromkeys([*stated["dependencies"], *optional]))


def installed(name: str) -> list[str]:
    """What the package of that name, as it is installed here, needs; nothing where it is not."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def lacking(
    roots: Iterable[str],
    have: dict[str, str | None],
    locked: dict[str, str | None],
    python: str,
    requires: Callable[[str], list[str]] = installed,
) -> dict[str, str]:
    """Package -> version of all that `roots` need, and what those need, beside what is there (`have`).

    What is there stays if no requirement rules its version out; of COUPLED only the lock's version stays, and of a
    package without a stated version nothing is checked. Raises UserError where the lock lacks a package.
    """
    there = {name: version for name, version in have.items() if _stays(name, version, locked)}
    found: dict[str, str] = {}
    while True:  # a package that turns out too old is carried, and what it needs in turn is looked at too
        asked = _closure(roots, set(there), python, requires)
        unfit = [
            n for n, wanted in asked.items() if there.get(n) and not all(w.contains(there[n], True) for w in wanted)
        ]
        if not unfit:
            break
        for name in unfit:
            del there[name]
    for name in sorted(set(asked) - set(there)):
        if not locked.get(name):
            raise UserError(f"envs/cpu.lock: found no version of '{name}', expected all that gdpo needs to be locked")
        found[name] = locked[name]
    return found


def _stays(name: str, version: str | None, locked: dict[str, str | None]) -> bool:
    return name not in COUPLED or (version is not None and version == locked.get(name))


def _closure(roots, there: set[str], python: str, requires) -> dict[str, list]:
    """Package -> the version ranges asked of it, through every package that is not there."""
    target = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "os_name": "posix",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    asked: dict[str, list] = {}
    followed: set[tuple[str, str]] = set()
    open_ = [(text, "") for text in roots]
    while open_:
        text, extra = open_.pop()
        requirement = _requirement(text)
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT or (requirement.marker and not requirement.marker.evaluate(target | {"extra": extra})):
            continue
        asked.setdefault(name, []).append(requirement.specifier)
        if name in there:
            continue
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in followed:
                followed.add((name, wanted))
                open_ += [(needed, wanted) for needed in requires(name)]
    return asked


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise UserError(f"'{text}': expected a requirement, found {error}".splitlines()[0]) from None


def wheels(needed: dict[str, str], cache: Path, python: str) -> list[Path]:
    """A wheel of each package for that Python on Linux: from `cache`, or else from the package index.

    A package of which the index has no wheel is built into one here, if it is pure Python. Raises UserError where one
    cannot be had.
    """
    cache.mkdir(parents=True, exist_ok=True)
    missing = {n: v for n, v in needed.items() if not _cached(cache, n, v)}
    while missing:
        lost = _download(missing, cache, python)
        if lost is None:
            break
        _build(lost, missing.pop(lost), cache)
    found = {name: _cached(cache, name, version) for name, version in needed.items()}
    for name, path in found.items():
        if path is None:
            raise UserError(f"{name}=={needed[name]}: found no wheel of it in {cache} after its download, expected one")
    return list(found.values())


def _cached(cache: Path, name: str, version: str) -> Path | None:
    for path in sorted(cache.glob("*.whl")):
        found, number, _, _ = parse_wheel_filename(path.name)
        if found == name and number == Version(version):
            return path
    return None


def _download(missing: dict[str, str], cache: Path, python: str) -> str | None:
    """Download all of `missing`, or say of which package the index has no wheel; nothing is kept then."""
    command = ["download", "--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = _pip(*command, "--dest", str(cache), *(f"{n}=={v}" for n, v in missing.items()))
    if not done.returncode:
        return None
    lost = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)==", done.stderr)
    if lost and (name := canonicalize_name(lost.group(1))) in missing:
        return name
    raise UserError(
        f"{len(missing)} wheels, {next(iter(missing))} first: expected to download them from the package index, found: "
        f"{last_line(done.stderr)} (without network, put them into {cache})"
    )


def _build(name: str, version: str, cache: Path) -> None:
    done = _pip("wheel", "--no-deps", "--wheel-dir", str(cache), f"{name}=={version}")
    path = _cached(cache, name, version)
    if done.returncode or path is None:
        found = last_line(done.stderr)
        raise UserError(f"{name}=={version}: expected a wheel or a source to build one of, found: {found}")
    if not path.name.endswith("-none-any.whl"):
        path.unlink()
        raise UserError(f"{name}=={version}: found compiled code and no wheel of it, expected pure Python")


def _pip(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
