"""Which extra of pyproject.toml a room of gdpo needs, and which extra has a package that is missing.

The base install is the trainer's. A command that imports a package of an extra that is not installed ends in one
sentence, which names the extra (`missing_package`).
"""

from __future__ import annotations

from importlib.util import find_spec
from types import TracebackType

from gdpo.core.errors import UserError

EXTRAS = ("workflow", "data", "train", "eval", "report")  # of pyproject.toml; `cluster` and `all` have no room

# Room -> the extra that has what its modules import beyond the base install; each extra includes `workflow`.
ROOMS = {
    "core": "workflow", "config": "workflow", "models": "workflow", "runtime": "workflow", "display": "workflow",
    "tiny": "workflow", "grading": "workflow", "ops": "workflow", "cli": "workflow",
    "metakl": "data", "teach": "data", "students": "train", "evaluate": "eval", "report": "report",
}  # fmt: skip

# Package, as it is imported -> the extras that have it.
PACKAGES = {
    "gguf": ("workflow",),
    "huggingface_hub": ("workflow",),
    "jinja2": ("workflow",),
    "lm_eval": ("eval",),
    "math_verify": ("workflow",),
    "matplotlib": ("report",),
    "nltk": ("data",),
    "openai": ("workflow",),
    "packaging": ("workflow",),
    "plotly": ("report",),
    "pydantic": ("workflow",),
    "reasoning_gym": ("data",),
    "rich": ("workflow",),
    "scipy": ("data", "eval", "report"),
    "seaborn": ("report",),
    "sklearn": ("data", "report"),
    "snakemake": ("workflow",),
    "snakemake_interface_logger_plugins": ("workflow",),
    "sympy": ("workflow",),
    "threadpoolctl": ("report",),
    "tokenizers": ("workflow",),
    "trl": ("train",),
    "typst": ("report",),
    "yaml": ("workflow",),
}


def require(package: str) -> None:
    """Raises ModuleNotFoundError where a package that another process or library imports is not installed."""
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)


def missing_package(error: ModuleNotFoundError, step: str | None) -> UserError | None:
    """What to tell the user of `gdpo step` whose import failed; None where the package is of no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        return None
    extras, wanted = PACKAGES[package], ROOMS.get(importing_room(error.__traceback__) or "")
    extra = wanted if wanted in extras else extras[0]
    return UserError(key=step, found=f"no package {package}", expected="it", hint=f"pip install 'gdpo[{extra}]'")


def importing_room(traceback: TracebackType | None) -> str | None:
    """The room of the innermost module of gdpo in a traceback."""
    room = None
    while traceback:
        module = traceback.tb_frame.f_globals.get("__name__", "").split(".")
        if module[0] == "gdpo" and len(module) > 1:
            room = module[1]
        traceback = traceback.tb_next
    return room
