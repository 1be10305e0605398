"""Which table a path names, and which of its files are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, suggest
from gdpo.core.provenance import provenance_path
from gdpo.report import tables
from gdpo.report.published_scale import scale_of as scale_of


@dataclass(frozen=True)
class Target:
    """Table `name`, and its files to compare; `stem` is their path without a part's suffix and an ending."""

    name: str
    stem: Path
    files: tuple[Path, ...]

    def part(self, suffix: str) -> Path:
        return self.stem.with_name(f"{self.name}{suffix}.csv")


def target(scale: Scale, result: Path) -> Target:
    """The table of `scale` that `result` is a file of.

    Where tables are made and published all of its files have to be there; a copy elsewhere may hold some of them.
    Raises UserError where `result` is no file of a table of `scale`.
    """
    stems = {f"{name}{part}": name for name, table in scale.tables.items() for part in tables.parts(table)}
    if result.stem not in stems or result.suffix not in tables.ALL_ENDS:
        hint = suggest(result.stem, scale.tables)
        raise UserError(path=result, expected="a table's CSV, Markdown or LaTeX", hint=hint)
    name = stems[result.stem]
    stem = result.with_name(name)
    files = tables.files(scale.tables[name], stem)
    if not any(path.exists() for path in [*files, provenance_path(stem.with_suffix(".csv"))]):
        limit = f" limit={scale.limit}" if scale.limit else ""
        hint = f"`snakemake --cores all {result} --config scale={scale.scale}{limit}` makes it"
        raise UserError(path=result, problem=f"not made yet at scale {scale.name}", hint=hint)
    complete = {directory.resolve() for directory in (Path("results"), Layout(scale).table(name).parent)}
    if result.parent.resolve() not in complete:
        files = [path for path in files if path == result or path.exists()]
    return Target(name, stem, tuple(files))
