"""What differs between two runs of one scale, from files to weights, answers and cells of table 2 (ours)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gdpo.core.files import read_csv, sha256

TABLE = "SCALE/tables/table2.csv"
APART = ("provenance.json", "train.json", ".snakemake_timestamp")  # which say when, and how long it took
COLUMNS = "files|weights, pretrained|weights, trained|teacher|students|verdicts|cells|points|half-intervals"
HEAD = f"""\
files of results/ that differ, of all; weights: greatest difference of one; teacher, students: completions that differ;
cells of table 2 that differ, the greatest difference in points and in halves of the first run's 95% interval

| what was otherwise | {" | ".join(COLUMNS.split("|"))} |
|{"---|" * 10}"""


def files(directory: Path) -> dict[str, Path]:
    """What a run made that should be the same again: path below results/, the scale's directory as SCALE -> file."""
    root = directory / "results"
    (scale,) = (path.name for path in root.iterdir() if (path / "tables").exists())
    found = {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        "/".join(["SCALE" if part == scale else part for part in name.parts]): path
        for name, path in found.items()
        if not path.name.endswith(APART) and not {"logs", "work"} & set(name.parts)
    }


def digests(directory: Path) -> dict:
    """What is kept of a run: the hardware and packages that its table's provenance names, and each file's SHA-256."""
    made = files(directory)
    model = next(path for name, path in made.items() if name.startswith("SCALE/models/"))
    told = json.loads((model.parent / "provenance.json").read_text(encoding="utf-8"))
    hardware = {key: told["hardware"][key] for key in ("cpu", "cpu_capability")}
    return {
        "hardware": hardware,
        "packages": told["packages"],
        "files": {name: sha256(path)[:16] for name, path in made.items()},
    }


def hashes_that_differ(kept: dict, found: dict) -> str:
    """A row of HEAD's table: of how many files hashes differ from the kept ones, with the machine of these."""
    names = kept["files"].keys() | found["files"].keys()
    other = sorted(name for name in names if kept["files"].get(name) != found["files"].get(name))
    kinds = Counter("/".join(name.split("/")[:2]) if name.startswith("SCALE") else "tables" for name in other)
    versions = [name for name, version in kept["packages"].items() if found["packages"].get(name) != version]
    told = [f"{' '.join(kept['hardware'].values())}, recorded"]
    told += [f"other {', '.join(versions)} here"] * bool(versions)
    told += [", ".join(f"{count} {kind}" for kind, count in kinds.items())] * bool(kinds)
    return f"| {'; '.join(told)} | {len(other)} of {len(names)} |" + " - |" * 8


@dataclass(frozen=True)
class Difference:
    """`files` that differ or are in one run alone, of `every`; greatest differences of a weight; shares in [0, 1]."""

    files: list[str]
    every: int
    pretrained: float
    trained: float
    teacher: float
    students: float
    verdicts: float
    cells: int
    points: float
    half_intervals: float

    @classmethod
    def between(cls, first: Path, second: Path) -> Difference:
        a, b = files(first), files(second)
        names = sorted(a.keys() | b.keys())
        other = [n for n in names if n not in a or n not in b or a[n].read_bytes() != b[n].read_bytes()]
        both = {name: (a[name], b[name]) for name in names if name in a and name in b}
        models, runs, groups, samples = (
            [pair for name, pair in both.items() if name.startswith(f"SCALE/{part}/")]
            for part in ("models", "runs", "groups", "samples")
        )
        said = [(x["output"], y["output"]) for x, y in _rows(samples)]
        told = [(x["verdict"], y["verdict"]) for x, y in _rows(samples)]
        sampled = [pair for x, y in _rows(groups) for pair in zip(x["completions"], y["completions"], strict=True)]
        shares = [_share(sampled), _share(said), _share(told)]
        return cls(other, len(names), _moved(models), _moved(runs), *shares, *_cells(*both[TABLE]))

    def row(self, name: str) -> str:
        """A row of HEAD's table."""
        shares = " | ".join(f"{share:.1%}" for share in (self.teacher, self.students, self.verdicts))
        weights = f"{self.pretrained:.2g} | {self.trained:.2g}"
        cells = f"{self.cells} | {self.points:.2f} | {self.half_intervals:.2f}"
        return f"| {name} | {len(self.files)} of {self.every} | {weights} | {shares} | {cells} |"


Pairs = list[tuple[Path, Path]]


def _moved(pairs: Pairs) -> float:
    """The greatest difference of a weight between checkpoints."""
    from safetensors.numpy import load_file

    loaded = [tuple(map(load_file, pair)) for pair in pairs if pair[0].suffix == ".safetensors"]
    return max((float(abs(a[name] - b[name]).max()) for a, b in loaded for name in a), default=0.0)


def _rows(pairs: Pairs) -> Iterable[tuple[dict, dict]]:
    """The rows of both runs' files, by position."""
    for pair in pairs:
        if pair[0].suffix == ".jsonl":
            yield from zip(*(map(json.loads, path.open(encoding="utf-8")) for path in pair), strict=False)


def _share(pairs: list[tuple[str, str]]) -> float:
    return sum(a != b for a, b in pairs) / max(1, len(pairs))


def _cells(first: Path, second: Path) -> tuple[int, float, float]:
    """How many cells differ, the greatest difference in points, and in half-intervals of cells that have one."""
    moved = [
        (abs(float(a[column]) - float(b[column])), (float(a[f"{column}_high"]) - float(a[f"{column}_low"])) / 2)
        for a, b in zip(read_csv(first), read_csv(second), strict=True)
        for column in a
        if f"{column}_low" in a and a[column] and b[column]
    ]
    points = [difference for difference, _ in moved]
    halves = [difference / half for difference, half in moved if half]
    return sum(p > 0 for p in points), max(points, default=0.0), max(halves, default=0.0)
