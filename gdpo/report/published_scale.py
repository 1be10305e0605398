"""The scale of a published result, from its provenance: results/ has the tables of the scale that ran last."""

from __future__ import annotations

from pathlib import Path

from gdpo.core.errors import UserError, suggest
from gdpo.core.files import read_json
from gdpo.core.project import scale_names
from gdpo.core.provenance import provenance_path
from gdpo.report import tables


def directory_of(result: Path) -> str:
    """The directory below results/ that a table was made in, named by scale and limit.

    Raises UserError where the provenance of `result`, a file of a table, does not name it.
    """
    if result.suffix not in tables.ALL_ENDS:
        raise UserError(path=result, expected="a table's CSV, Markdown or LaTeX, such as results/table2.csv")
    path = provenance_path(result.with_suffix(".csv"))
    if not path.exists() and not result.exists():
        raise UserError("not made yet", path=result, hint=f"`snakemake --cores all {result}` makes it")
    if not path.exists():
        raise UserError("no such file", path=path, expected="a table's provenance, or its scale by --scale")
    made = read_json(path)
    parts = Path(str(made.get("result") if isinstance(made, dict) else None)).parts
    if len(parts) != 4 or (parts[0], parts[2]) != ("results", "tables"):
        found = f"'{'/'.join(parts)}'"
        raise UserError(path=path, key="result", found=found, expected="results/SCALE/tables/TABLE.csv")
    return parts[1]


def scale_of(result: Path) -> tuple[str, int | None]:
    """The scale and the limit that the table `result` was made at.

    Raises UserError where its provenance does not name them, or names an unknown scale.
    """
    known = scale_names()
    name, limit = directory_of(result), None
    if name not in known and name.rpartition("-limit")[2].isdecimal():
        name, _, digits = name.rpartition("-limit")
        limit = int(digits)
    if name not in known:
        path = provenance_path(result.with_suffix(".csv"))
        raise UserError(
            path=path,
            key="result",
            found=f"scale '{name}'",
            expected="its file by --scale",
            hint=suggest(name, known),
        )
    return name, limit
