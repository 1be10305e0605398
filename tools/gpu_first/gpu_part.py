"""One part of the first half hour on a GPU, in its process: `python -m tools.gpu_first.gpu_part SIZES PART OUT`.

Writes OUT, `{"rows": [...], "machine": {...}}`, or beside it OUT's `.error`, the reason in one sentence.
"""

from __future__ import annotations

import os
import platform
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from gdpo.core import process_group
from gdpo.core.errors import UserError, first_line
from gdpo.core.files import write_json, write_text
from gdpo.runtime import parent_watchdog
from tools.gpu_first.gpu_plan import Plan, load

PROJECT = Path(__file__).resolve().parents[2]
# What `does` may name; each is `function(plan, project, **given)` and returns rows, mappings of one layout.
DOES = {
    "machine": "gpu_part",
    "reference": "gpu_trainers", "parity": "gpu_trainers", "resume": "gpu_trainers", "collectives": "gpu_trainers",
    "sharded": "gpu_trainers",
    "measure": "gpu_shapes",
    "rows": "gpu_rows", "pretrain": "gpu_rows",
    "collect": "gpu_rows",
}  # fmt: skip
WITHOUT = ("machine", "reference", "collect")  # what runs without the device, too


def about() -> dict[str, Any]:
    """The device as torch sees it, and what torch was built with; nothing is asked of a torch that is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": card.name, "capability": f"{card.major}.{card.minor}", "memory_gib": card.total_memory / 2**30,
        }  # fmt: skip
        if torch.distributed.is_nccl_available():
            found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def run(plan: Plan, name: str) -> list[dict[str, Any]]:
    """The rows of part `name`. Raises UserError where it has none, or torch sees no GPU and the plan wants one."""
    _, part = plan.parts()[name]
    if part.does not in DOES:
        raise UserError(f"{name}.does: found '{part.does}', expected one of {', '.join(DOES)}")
    if plan.device == "cuda" and part.does not in WITHOUT:
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"device: torch {torch.__version__} sees no GPU, expected one")
    function = getattr(import_module(f"tools.gpu_first.{DOES[part.does]}"), part.does)
    return function(plan, PROJECT, **part.given)


def machine(plan: Plan, project: Path) -> list[dict[str, Any]]:
    """A row for each package that gdpo asks for, and for what the device is: what is there is read, not assumed."""
    import torch  # noqa: F401 - which `about` asks

    from tools.gpu_first.gpu_versions import versions

    rows = [{"what": "python", "found": platform.python_version(), "fits": True, "carried": False}]
    for package, told in versions(project).items():
        rows.append({"what": package, "found": told["version"], "fits": told["fits"], "carried": told.get("carried")})
    rows += [{"what": key, "found": value, "fits": True, "carried": False} for key, value in about().items()]
    return rows


def main(arguments: list[str]) -> int:
    file, name, out = Path(arguments[0]), arguments[1], Path(arguments[2])
    parent_watchdog.watch()  # ends with the runner, however that ends
    try:
        plan = load(file)
        if plan.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a rehearsal is one, on whatever machine
        rows = run(plan, name)
    except Exception as error:
        traceback.print_exc()
        if process_group.is_main_process() and getattr(
            error, "rows", None
        ):  # of a part that was stopped: what is there already
            write_json(out, {"rows": error.rows, "machine": about()})
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        if process_group.is_main_process():
            write_text(out.with_suffix(".error"), said + "\n")
        return 2 if isinstance(error, UserError) else 1
    if process_group.is_main_process():
        write_json(out, {"rows": rows, "machine": about()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
