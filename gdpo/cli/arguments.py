"""What a command's arguments mean at a scale: the names that exist, the runs that they name, the mirror."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.cli.parser import Arguments
from gdpo.core.errors import UserError, suggest

if TYPE_CHECKING:
    from gdpo.config.layout import Run
    from gdpo.config.scale import Scale


def check_names(scale: Scale, arguments: Arguments) -> None:
    """Raises UserError where the arguments name a model, training set, method or seed that does not exist."""
    from gdpo.config.fields import MOST_SEEDS

    given = vars(arguments)
    if given.get("model") is not None:
        scale.model(given["model"])
    if "student" not in given:
        if given.get("trainset") is not None:
            scale.trainset(given["trainset"])
        return
    student, trainset = given["student"], given["trainset"]
    for option, name, known in (
        ("--student", student, scale.models), ("--trainset", trainset, ["none", *scale.trainsets]),
    ):  # fmt: skip
        if name not in known:
            raise UserError(key=option, found=f"'{name}'", hint=suggest(name, known))
    for method in given["method"]:
        if method != "origin":
            scale.method(method, student, trainset)
    for seed in given["seeds"]:
        if not 0 <= seed < MOST_SEEDS:
            raise UserError(key="--seeds", found=seed, expected=f"whole numbers from 0 to {MOST_SEEDS - 1}")


def runs(arguments: Arguments) -> list[Run]:
    """The runs of a command's cell: each method at each seed."""
    from gdpo.config.layout import Run

    student, trainset = arguments.student, arguments.trainset
    return [Run(student, trainset, method, seed) for method in arguments.method for seed in arguments.seeds]


def mirror(scale: Scale, arguments: Arguments) -> Path | None:
    """The directory that data sets are read from; None means the Hub. A made-up world reads none."""
    if scale.world:
        return Path(arguments.mirror) if arguments.mirror else None
    from gdpo.metakl.sources import mirror_dir

    return mirror_dir(arguments.mirror, scale)
