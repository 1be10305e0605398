"""Write the conda environments of `envs/` from their locks, so that pip and conda install the same versions.

`make lock` calls it. An environment is Python and pip from conda-forge, and every pin of its lock from PyPI, where
torch on Linux is the CUDA build.
"""

from __future__ import annotations

from pathlib import Path

import yaml

ENVS = Path(__file__).resolve().parents[1] / "envs"
LOCKS = {"gdpo": "cpu.lock", "vllm": "vllm.lock"}  # the environment, and the lock that it wraps
PYTHON = "3.11"  # the locks are resolved for it
PAGE = "docs/running-elsewhere/environments.md"
HEADER = f"# From envs/{{lock}} by tools/environments.py (`make lock`); {PAGE} says how it is used.\n"


def pins(lock: str) -> list[str]:
    """The lines NAME==VERSION of a lock's text, in its order."""
    lines = [line.strip() for line in lock.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def environment(name: str) -> str:
    """The text of `envs/NAME.yaml`."""
    lock = LOCKS[name]
    content = {
        "name": name,
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": pins((ENVS / lock).read_text(encoding="utf-8"))}],
    }
    return HEADER.format(lock=lock) + yaml.safe_dump(content, sort_keys=False)


def main() -> None:
    for name in LOCKS:
        (ENVS / f"{name}.yaml").write_text(environment(name), encoding="utf-8")


if __name__ == "__main__":
    main()
