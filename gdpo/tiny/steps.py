"""`gdpo pretrain` and `gdpo bases`: the shipped base models, made anew and compared with the shipped ones (ours).

Base models are data, since another processor pretrains others from the same seed (docs/determinism.md). Whoever changes
the world or the pretraining makes them anew, and sees here what changed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, replacing, write_csv
from gdpo.core.provenance import provenance_path, recorded
from gdpo.core.result_files import Provenance, read_stored
from gdpo.core.terminal import display, say
from gdpo.models.checkpoints import RECORDS, WEIGHTS, checkpoint_files, digest, located

COLUMNS = ["model", "weights", "greatest_difference", "other_files", "seconds", "shipped_sha256", "made_sha256"]


def pretrain(scale: Scale, name: str) -> None:
    """Pretrain a base model anew, beside the one that the scale uses."""
    from gdpo.tiny.pretrain import pretrain as train

    settings = scale.model(name).pretrain
    if settings is None or scale.world is None:
        expected = "a model that is pretrained here"
        raise UserError(key=f"models.{name}", found="no 'pretrain'", expected=expected)
    out = Layout(scale).pretrained(name)
    with (
        recorded(out, "pretrain", scale.pretrain_settings(name), {"pretrain": settings.seed}),
        replacing(out) as temporary,
    ):
        train(settings, scale.world, temporary)
    say(f"pretrain {name}: {out}")


def bases(scale: Scale, ship: bool) -> None:
    """Compare each base model that was pretrained anew with the shipped one; with `ship`, put it in that one's place.

    Writes `bases.csv` and prints it with, for models that differ, the line that the scale's file would need.
    """
    layout = Layout(scale)
    named = [name for name, model in scale.models.items() if model.pretrain and model.shipped]
    if not named:
        found = "no model with both 'reference' and 'pretrain'"
        raise UserError(key=scale.name, found=found, expected="one")
    with recorded(layout.bases, "bases", [scale.model_settings(name) for name in named]):
        write_csv(layout.bases, COLUMNS, [_compared(layout, name, ship) for name in named])
    for row in read_csv(layout.bases):
        apart = (
            f", greatest difference of one weight {row['greatest_difference']}" if row["greatest_difference"] else ""
        )
        files = f"; other files that differ: {row['other_files']}" if row["other_files"] else ""
        display(f"{row['model']}: weights {row['weights']}{apart}{files}; made in {row['seconds']} s")
        if row["shipped_sha256"] != row["made_sha256"]:
            place, _ = _shipped(scale, row["model"])
            display(f"  models.{row['model']}.reference of what was made: dir:{place}#sha256={row['made_sha256']}")
    display(f"{layout.bases}: the same as a table")


def _shipped(scale: Scale, name: str) -> tuple[str, str]:
    found = scale.model(name).shipped
    assert found is not None  # as the caller has looked
    return found


def _compared(layout: Layout, name: str, ship: bool) -> dict[str, Any]:
    made, shipped = layout.pretrained(name), located(_shipped(layout.scale, name)[0])
    if not provenance_path(made).exists():
        raise UserError(path=made, found="no model", expected=f"one that `gdpo pretrain --name {name}` makes")
    seconds = read_stored(provenance_path(made), Provenance)["wall_seconds"]
    row: dict[str, Any] = {"model": name, "seconds": seconds, "made_sha256": digest(made)}
    row["shipped_sha256"] = digest(shipped) if shipped.is_dir() else ""
    row["weights"], row["greatest_difference"] = _weights_apart(made / WEIGHTS, shipped / WEIGHTS)
    theirs = {path.name: path for path in checkpoint_files(shipped)}
    ours = {path.name: path for path in checkpoint_files(made)}
    apart = [n for n in sorted(ours.keys() | theirs.keys()) if n != WEIGHTS and not _same(ours.get(n), theirs.get(n))]
    row["other_files"] = " ".join(apart)
    if ship and row["made_sha256"] != row["shipped_sha256"]:
        with replacing(shipped) as temporary:
            temporary.mkdir()
            for path in [*checkpoint_files(made), *(made / record for record in RECORDS if (made / record).exists())]:
                shutil.copyfile(path, temporary / path.name)
    return row


def _same(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.read_bytes() == other.read_bytes()


def _weights_apart(made: Path, shipped: Path) -> tuple[str, str]:
    """What two files of weights are to each other: `equal`, `differ` or `of another shape`; and the difference."""
    from safetensors.numpy import load_file

    if not shipped.exists():
        return "not shipped", ""
    if made.read_bytes() == shipped.read_bytes():
        return "equal", ""
    ours, theirs = load_file(made), load_file(shipped)
    if {n: t.shape for n, t in ours.items()} != {n: t.shape for n, t in theirs.items()}:
        return "of another shape", ""
    return "differ", f"{max(abs(ours[n] - theirs[n]).max() for n in ours):.3g}"
