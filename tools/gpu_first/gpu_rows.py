"""Rows of real and from-scratch students, by the workflow with its own resume; the latter's pretraining; archives."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_json
from gdpo.core.provenance import recorded
from gdpo.core.terminal import say
from tools.gpu_first.gpu_plan import Plan
from tools.gpu_first.gpu_run import SECONDS
from tools.offline import node

Row = dict[str, Any]


def rows(
    plan: Plan,
    project: Path,
    scale: str,
    cells: list[list[str]],
    seeds: list[int],
    jobs: int,
    groups: list[str] | None = None,
    untrained: bool = True,
) -> list[Row]:
    """Train and score `cells`, pairs of training set and method, of every student over `seeds`; a row for each score.

    `untrained` students come first; a job makes all seeds of a cell that the scale has. `groups` names training sets to
    be answered in place of all that. Raises Unfinished, with what is there, where a job failed or the time is over.
    """
    loaded = load_scale(scale)
    layout = Layout(loaded)
    runs = [run for student in loaded.students for run in origin(student) if untrained]
    runs += [Run(student, *cell, seed) for seed in seeds for student in loaded.students for cell in cells]
    targets = [layout.groups(name) for name in groups or []] or [layout.score(run, "test") for run in runs]
    minutes = float(os.environ.get(SECONDS, "600")) / 60
    status = node.workflow(project, scale, None, [path.as_posix() for path in targets], jobs, minutes)
    if groups:
        found = [_answered(project, layout, name) for name in groups if (project / layout.groups(name)).exists()]
    else:
        found = [row for run in runs for row in _scored(project, loaded, layout, run)]
    if status != node.DONE:
        said = "a job failed" if status == node.FAILED else "its time is over"
        raise Unfinished(f"{scale}: {said}; {len(found)} rows are there", found)
    return found


class Unfinished(UserError):
    """What was to be made is not all there; `rows` is what is."""

    def __init__(self, said: str, rows: list[Row]):
        super().__init__(said)
        self.rows = rows


def _answered(project: Path, layout: Layout, name: str) -> Row:
    told = read_json(project / layout.groups(name).with_name(f"{name}.jsonl.provenance.json"))
    return {"trainset": name, "seconds": told["wall_seconds"], "cpu_seconds": told["cpu_seconds"]}


def _scored(project: Path, scale: Scale, layout: Layout, run: Run) -> list[Row]:
    """A row with the run's scores in percent: the mean over all columns, each domain's, and every column."""
    path = project / layout.score(run, "test")
    if not path.exists():
        return []
    scores = {name: round(100 * one["score"], 2) for name, one in read_json(path)["benchmarks"].items()}
    domains: dict[str, list[float]] = {}
    for name, score in scores.items():
        domains.setdefault(scale.benchmarks[name].domain, []).append(score)
    trained = project / layout.run(run) / "train.json"
    told = read_json(trained) if trained.exists() else {}
    return [
        {
            "scale": scale.name, "student": run.student, "trainset": run.trainset, "method": run.method,
            "seed": "" if run.is_origin else run.seed, "columns": len(scores),
            "mean": round(sum(scores.values()) / len(scores), 2),
            **{domain: round(sum(each) / len(each), 2) for domain, each in domains.items()},
            "train_seconds": told.get("seconds"), "steps": told.get("steps"), "device": told.get("device"), **scores,
        }
    ]  # fmt: skip


def pretrain(plan: Plan, project: Path, scale: str, sizes: dict[str, Row], out: str) -> list[Row]:
    """Pretrain a model of each of `sizes` on the world of `scale`, side by side on the device, as checkpoints at `out`.

    A size that is there already, whole, is not made again.
    """
    asked = [(scale, name, size, project / out / name, plan.device) for name, size in sizes.items()]
    with ProcessPoolExecutor(len(asked), mp_context=get_context("spawn")) as pool:
        return list(pool.map(pretrained, asked))


def pretrained(asked: tuple[str, str, Row, Path, str]) -> Row:
    """Pretrain one model on `device`; what it took, and its loss at the end."""
    from gdpo.config.models import Pretrain
    from gdpo.runtime import parent_watchdog
    from gdpo.tiny.pretrain import pretrain

    name_of_scale, name, size, out, device = asked
    parent_watchdog.watch()
    told = out / "provenance.json"
    if not told.exists():
        settings, world = Pretrain(**size), load_scale(name_of_scale).world
        assert world is not None
        with recorded(out, "gpu_first pretrain", [settings, world], {"pretrain": settings.seed}) as extra:
            extra |= {"name": name, **pretrain(settings, world, out, device)._asdict(), "device": device}
    kept = read_json(told)
    return {key: kept[key] for key in ("name", "parameters", "steps", "tokens", "loss", "seconds", "device")}


def archived(plan: Plan, project: Path, out: Path, files: int, file_mib: float) -> list[Path]:
    """Write what the stages made into at most `files` archives of `file_mib` at `out`: CSVs, journal and logs first.

    Then each scale's scores, provenance and samples; no weights, and nothing that was carried there.
    """
    told = project / node.CARRIED / node.MANIFEST
    since = told.stat().st_mtime if told.exists() else 0.0
    room = project / plan.results
    mine = [path for path in sorted(room.rglob("*")) if path.is_file() and "work" not in path.relative_to(room).parts]
    mine = [path for path in mine if "back" not in path.relative_to(room).parts and path.name != "lock"]
    scales = [path for name in plan.scales for path in node.results(project, Layout(load_scale(name)).root, since)]
    node.archive([*mine, *scales], project, out, files, file_mib)
    return sorted(out.iterdir())


def collect(plan: Plan, project: Path, files: int, file_mib: float) -> list[Row]:
    """A row for each archive that `archived` wrote below the results."""
    made = archived(plan, project, project / plan.results / "back", files, file_mib)
    say(f"{len(made)} archives in {plan.results}/back")
    return [{"archive": path.name, "mib": path.stat().st_size / node.MIB} for path in made]
