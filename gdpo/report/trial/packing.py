"""A world of the trial as it is kept: `world.json`, `runs.csv` and `verdicts.bin`.

`runs.csv` has one line a run, the untrained students first. `verdicts.bin` has the same runs in the same order, each as
the codes of its test items, column by column in the order of `world.json`: two bits an item, the first item in the
highest bits of a byte, each run filled up to whole bytes with zeros.

0: wrong. 1: right. 2: no answer could be read. 3: cut off at the longest answer that the column allows, and not right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, read_json, replacing, write_csv, write_json
from gdpo.core.result_files import REMAKE

WRONG, RIGHT, UNPARSEABLE, CUT = range(4)
IN_A_BYTE = 4

Codes = NDArray[np.uint8]
RunKey = tuple[str, str, str, str, int]  # student, training set, method, rate (empty: untrained), seed

COLUMNS = ["student", "trainset", "method", "rate", "seed", "steps", "kl_forward", "kl_reverse", "nll_text", "samples"]


def pack(codes: Codes) -> bytes:
    """Codes, (R, I), as bytes, R rows of ceil(I / 4).

    >>> pack(np.array([[1, 0, 2, 3, 1]], dtype=np.uint8)).hex()  # 01 00 10 11, 01 and six zeros
    '4b40'
    """
    rows, items = codes.shape
    whole = np.zeros((rows, -(-items // IN_A_BYTE) * IN_A_BYTE), dtype=np.uint8)
    whole[:, :items] = codes
    fours = whole.reshape(rows, -1, IN_A_BYTE)
    packed = fours[..., 0] << 6 | fours[..., 1] << 4 | fours[..., 2] << 2 | fours[..., 3]
    return packed.astype(np.uint8).tobytes()


def unpack(data: bytes, items: int) -> Codes:
    """The codes, (R, items), of what `pack` made."""
    packed = np.frombuffer(data, dtype=np.uint8).reshape(-1, -(-items // IN_A_BYTE))
    codes: Codes = np.stack([packed >> shift & 3 for shift in (6, 4, 2, 0)], axis=-1)
    return codes.reshape(len(packed), -1)[:, :items]


@dataclass(frozen=True)
class PackedWorld:
    """A world's runs.

    Attributes:
        about: What `world.json` holds: the world's seed, its columns, the sets' shares of skills, and its premises.
        runs: The rows of `runs.csv`, as text.
        codes: (R, I), the code of each run's test items.
    """

    about: Mapping[str, Any]
    runs: Sequence[Mapping[str, str]]
    codes: Codes

    @property
    def seed(self) -> int:
        return int(self.about["world"])

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """Each column's items, role, domain and chance, in order."""
        columns: dict[str, dict[str, Any]] = self.about["columns"]
        return columns

    def keys(self) -> list[RunKey]:
        """The runs, in the order of their rows."""
        return [(r["student"], r["trainset"], r["method"], r["rate"], int(r["seed"])) for r in self.runs]

    def of_column(self, name: str) -> slice:
        """Where a column's items are among all."""
        sizes = [entry["items"] for entry in self.columns.values()]
        place = list(self.columns).index(name)
        return slice(sum(sizes[:place]), sum(sizes[: place + 1]))

    def right(self) -> dict[str, NDArray[np.float64]]:
        """Column -> the share of its items that each run, (R,), has right."""
        return {name: (self.codes[:, self.of_column(name)] == RIGHT).mean(axis=1) for name in self.columns}


def write_world(directory: Path, world: PackedWorld) -> None:
    """Write a world's three files, all or none."""
    measured = [f"{kind}_{name}" for kind in ("validation", "nll") for name in world.columns]
    with replacing(directory) as temporary:
        temporary.mkdir()
        write_json(temporary / "world.json", world.about)
        write_csv(temporary / "runs.csv", COLUMNS + measured, [dict(run) for run in world.runs])
        (temporary / "verdicts.bin").write_bytes(pack(world.codes))


def read_world(directory: Path) -> PackedWorld:
    """The world kept in a directory.

    Raises UserError naming the file where one is not there, or where they do not belong together.
    """
    about = read_json(directory / "world.json")
    runs = read_csv(directory / "runs.csv", *COLUMNS)
    path = directory / "verdicts.bin"
    if not path.is_file():
        raise UserError("no such file", path=path, expected="a world's packed verdicts", hint=REMAKE)
    items = sum(entry["items"] for entry in about["columns"].values())
    data, wanted = path.read_bytes(), len(runs) * -(-items // IN_A_BYTE)
    if len(data) != wanted:
        expected = f"{wanted}, of {len(runs)} runs and {items} items"
        raise UserError(path=path, found=f"{len(data)} bytes", expected=expected, hint=REMAKE)
    return PackedWorld(about, runs, unpack(data, items))
