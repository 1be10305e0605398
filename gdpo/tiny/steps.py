"""`gdpo pretrain` and `gdpo bases`: base models pretrained again and compared with the shipped ones.

Base models are data, since another processor pretrains others from the same seed (docs/guarantees/determinism.md).
After a change
of the world or of the pretraining they are pretrained again, and `gdpo bases` shows what changed.
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
    """Pretrain a base model again, beside the one that the scale uses."""
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
    """Compare each base model that was pretrained again with the shipped one; with `ship`, replace the shipped one.

    Writes `bases.csv` and prints it. For a model that differs it also prints the line that the scale's file would need.
    """
    layout = Layout(scale)
    names = [name for name, model in scale.models.items() if model.pretrain and model.shipped]
    if not names:
        found = "no model with both 'reference' and 'pretrain'"
        raise UserError(key=scale.name, found=found, expected="one")
    with recorded(layout.bases, "bases", [scale.model_settings(name) for name in names]):
        write_csv(layout.bases, COLUMNS, [_compare(layout, name, ship) for name in names])
    for row in read_csv(layout.bases):
        difference = (
            f", greatest difference of one weight {row['greatest_difference']}" if row["greatest_difference"] else ""
        )
        files = f"; other files that differ: {row['other_files']}" if row["other_files"] else ""
        display(f"{row['model']}: weights {row['weights']}{difference}{files}; made in {row['seconds']} s")
        if row["shipped_sha256"] != row["made_sha256"]:
            place, _ = _shipped(scale, row["model"])
            display(f"  models.{row['model']}.reference of what was made: dir:{place}#sha256={row['made_sha256']}")
    display(f"{layout.bases}: the same as a table")


def _shipped(scale: Scale, name: str) -> tuple[str, str]:
    shipped = scale.model(name).shipped
    assert shipped is not None  # the caller has checked
    return shipped


def _compare(layout: Layout, name: str, ship: bool) -> dict[str, Any]:
    made, shipped = layout.pretrained(name), located(_shipped(layout.scale, name)[0])
    if not provenance_path(made).exists():
        raise UserError(path=made, found="no model", expected=f"one that `gdpo pretrain --name {name}` makes")
    seconds = read_stored(provenance_path(made), Provenance)["wall_seconds"]
    row: dict[str, Any] = {"model": name, "seconds": seconds, "made_sha256": digest(made)}
    row["shipped_sha256"] = digest(shipped) if shipped.is_dir() else ""
    row["weights"], row["greatest_difference"] = _compare_weights(made / WEIGHTS, shipped / WEIGHTS)
    old = {path.name: path for path in checkpoint_files(shipped)}
    new = {path.name: path for path in checkpoint_files(made)}
    differing = [n for n in sorted(new.keys() | old.keys()) if n != WEIGHTS and not _same(new.get(n), old.get(n))]
    row["other_files"] = " ".join(differing)
    if ship and row["made_sha256"] != row["shipped_sha256"]:
        with replacing(shipped) as temporary:
            temporary.mkdir()
            for path in [*checkpoint_files(made), *(made / record for record in RECORDS if (made / record).exists())]:
                shutil.copyfile(path, temporary / path.name)
    return row


def _same(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.read_bytes() == other.read_bytes()


def _compare_weights(made: Path, shipped: Path) -> tuple[str, str]:
    """How two files of weights compare: `equal`, `differ` or `of another shape`; and the greatest difference."""
    from safetensors.numpy import load_file

    if not shipped.exists():
        return "not shipped", ""
    if made.read_bytes() == shipped.read_bytes():
        return "equal", ""
    new, old = load_file(made), load_file(shipped)
    if {name: tensor.shape for name, tensor in new.items()} != {name: tensor.shape for name, tensor in old.items()}:
        return "of another shape", ""
    return "differ", f"{max(abs(new[name] - old[name]).max() for name in new):.3g}"
