"""Which table a path names, of which scale, and which of its files lie there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdpo.config import CONFIG, SHARED, Scale
from gdpo.errors import UserError, suggest
from gdpo.files import read_json
from gdpo.layout import Layout
from gdpo.provenance import provenance_path
from gdpo.report import tables


@dataclass(frozen=True)
class Target:
    """Table `name`, and its files to compare; `stem` is their path without a part's suffix and an ending."""

    name: str
    stem: Path
    files: tuple[Path, ...]

    def part(self, suffix: str) -> Path:
        return self.stem.with_name(f"{self.name}{suffix}.csv")


def scale_of(result: Path) -> tuple[str, int | None]:
    """The scale and limit whose table `result` is, from the provenance beside it.

    Raises UserError where that does not say, or names a scale that is none of ours.
    """
    if result.suffix not in tables.ALL_ENDS:
        raise UserError(f"{result}: expected a table's CSV, Markdown or LaTeX, such as results/table2.csv")
    path = provenance_path(result.with_suffix(".csv"))
    if not path.exists():
        raise UserError(f"{path}: no such file; expected a table's provenance, or its scale by --scale")
    made = read_json(path)
    parts = Path(str(made.get("result") if isinstance(made, dict) else None)).parts
    if len(parts) != 4 or (parts[0], parts[2]) != ("results", "tables"):
        raise UserError(f"{path}, result: found '{'/'.join(parts)}', expected results/SCALE/tables/TABLE.csv")
    known = {file.stem for file in CONFIG.glob("*.yaml")} - set(SHARED)
    name, limit = parts[1], None
    if name not in known and name.rpartition("-limit")[2].isdecimal():
        name, _, digits = name.rpartition("-limit")
        limit = int(digits)
    if name not in known:
        raise UserError(f"{path}, result: found scale '{name}', expected its file by --scale; {suggest(name, known)}")
    return name, limit


def target(scale: Scale, result: Path) -> Target:
    """The table of `scale` that `result` is a file of. Where tables are made and published all of its files have to be
    there; a copy elsewhere may hold some of them.

    Raises UserError where `result` is no file of a table of `scale`.
    """
    stems = {f"{name}{part}": name for name, table in scale.tables.items() for part in tables.parts(table)}
    if result.stem not in stems or result.suffix not in tables.ALL_ENDS:
        raise UserError(f"{result}: expected a table's CSV, Markdown or LaTeX; {suggest(result.stem, scale.tables)}")
    name = stems[result.stem]
    stem = result.with_name(name)
    files = tables.files(scale.tables[name], stem)
    made = {place.resolve() for place in (Path("results"), Layout(scale).table(name).parent)}
    if result.parent.resolve() not in made:
        files = [path for path in files if path == result or path.exists()]
    return Target(name, stem, tuple(files))
