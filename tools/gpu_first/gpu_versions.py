"""Which packages this Python has, read where it runs: in place of `pip freeze`, and for the provenance.

Copied alone to another machine, `python gpu_versions.py > have.txt` lists what is there; standard library alone.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any


def freeze() -> list[str]:
    """NAME==VERSION of every package here, as `pip freeze` writes them; of several of one name the first found."""
    found: dict[str, str] = {}
    for one in metadata.distributions():
        name = (one.metadata["Name"] or "").lower()
        if name:
            found.setdefault(name, one.version)
    return [f"{name}=={found[name]}" for name in sorted(found)]


def versions(project: Path) -> dict[str, dict[str, Any]]:
    """Each package that pyproject.toml asks for: the version here, whether it fits, and whether it was carried."""
    from packaging.requirements import Requirement

    from tools.offline.needs import declared
    from tools.offline.node import CARRIED

    found: dict[str, dict[str, Any]] = {}
    for text in declared(project):
        wanted = Requirement(text)
        try:
            here = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            found[wanted.name] = {"version": None, "fits": False}
            continue
        place = Path(str(here.locate_file("")))
        found[wanted.name] = {
            "version": here.version,
            "fits": wanted.specifier.contains(here.version, prereleases=True),
            "carried": place.resolve().is_relative_to((project / CARRIED).resolve()),
        }
    return found


if __name__ == "__main__":
    print("\n".join(freeze()))
