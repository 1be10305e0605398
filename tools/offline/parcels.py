"""Parcels: files cut into pieces and laid into directories of a bounded size, with the sha256 of every piece.

It runs before anything is installed: of gdpo it imports only modules of `core` that have no dependencies.
"""

from __future__ import annotations

import shutil
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gdpo.core.errors import UserError
from gdpo.core.files import read_json, replacing, sha256, write_json

MIB = 2**20
MANIFEST = "manifest.json"
PIECES = "pieces"
TIMESTAMP = ".snakemake_timestamp"  # Snakemake's own: when a directory was made
METADATA = Path(".snakemake/metadata")
BLOCK = 2**20
OVERHEAD = MIB // 2  # the scripts and the manifest, which lie in every parcel, are well below
# What a parcel needs to unpack itself, wherever it lies.
CORE = ("__init__", "errors", "files", "process_group", "progress", "redaction", "terminal")
SCRIPTS = ["gdpo/__init__.py", *(f"gdpo/core/{name}.py" for name in CORE)]
SCRIPTS += [f"tools/offline/{name}.py" for name in ("carry", "node", "parcels")]


@dataclass(frozen=True)
class Piece:
    """A part of a file, or all of it; `parcel` is the directory that it travels in."""

    name: str
    sha256: str
    size: int
    parcel: str


@dataclass(frozen=True)
class File:
    """A file that travels, in its pieces' order; `role` says what is done with it there."""

    name: str
    role: str
    sha256: str
    pieces: list[Piece]


@dataclass(frozen=True)
class Model:
    """A model that is made again there from its wheels; `made` is when it was made here, in epoch nanoseconds."""

    name: str
    made: int


@dataclass(frozen=True)
class Manifest:
    """All that travels; every parcel holds the whole of it."""

    scale: str
    limit: int | None
    root: str
    code: str
    files: list[File]
    models: list[Model] = field(default_factory=list)

    @property
    def parcels(self) -> list[str]:
        return sorted({piece.parcel for file in self.files for piece in file.pieces}, key=_number)


def _number(parcel: str) -> int:
    return int(parcel.rpartition("-")[2])


def read_manifest(path: Path) -> Manifest:
    """Raises UserError where `path` is not a manifest."""
    told = read_json(path)
    try:
        files = [File(**f | {"pieces": [Piece(**piece) for piece in f["pieces"]]}) for f in told["files"]]
        return Manifest(**told | {"files": files, "models": [Model(**model) for model in told["models"]]})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: expected a manifest of parcels, found {error}") from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    write_json(path, asdict(manifest))


def shares(size: int, limit: int) -> list[int]:
    """`size` bytes in the fewest pieces of at most `limit` that differ by one byte at most."""
    count = max(1, -(-size // limit))
    return [size // count + (index < size % count) for index in range(count)]


def laid(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Pieces in parcels of at most `limit` bytes, the largest first, each into the first parcel with room for it."""
    parcels: list[list[str]] = []
    room: list[int] = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fits = next((index for index, left in enumerate(room) if left >= sizes[name]), None)
        if fits is None:
            fits = len(parcels)
            parcels.append([])
            room.append(limit)
        parcels[fits].append(name)
        room[fits] -= sizes[name]
    return parcels


def write(files: list[tuple[str, Path]], out: Path, most: int, project: Path, **told) -> Manifest:
    """Write parcels of at most `most` bytes at `out`, in place of what is there; `files` are (role, path).

    `told` is the rest of the manifest. Each parcel holds the scripts that unpack it, taken from `project`.
    """
    with replacing(out) as temporary:
        store = temporary / PIECES
        store.mkdir(parents=True)
        room = max(most - OVERHEAD, 1)
        cut = {path: _cut(path, store, room) for _, path in files}
        parcels = laid({p.name: p.stat().st_size for pieces in cut.values() for p in pieces}, room)
        carried = {name: f"parcel-{number}" for number, names in enumerate(parcels, start=1) for name in names}
        listed = [
            File(
                path.name, role, sha256(path),
                [Piece(p.name, sha256(p), p.stat().st_size, carried[p.name]) for p in cut[path]],
            )
            for role, path in files
        ]  # fmt: skip
        manifest = Manifest(files=listed, **told)
        for parcel in manifest.parcels:
            for name in SCRIPTS:
                (temporary / parcel / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(project / name, temporary / parcel / name)
            write_manifest(temporary / parcel / MANIFEST, manifest)
            (temporary / parcel / PIECES).mkdir()
        for name, parcel in carried.items():
            (store / name).rename(temporary / parcel / PIECES / name)
        store.rmdir()
    return manifest


def _cut(path: Path, store: Path, limit: int) -> list[Path]:
    """The pieces of `path` in `store`; a file that fits is one piece under its own name."""
    sizes = shares(path.stat().st_size, limit)
    if len(sizes) == 1:
        return [Path(shutil.copy(path, store / path.name))]
    pieces = []
    with path.open("rb") as source:
        for number, size in enumerate(sizes):
            pieces.append(store / f"{path.name}.part{number:02d}")
            with pieces[-1].open("wb") as target:
                _copy(source, target, size)
    return pieces


def _copy(source, target, size: int) -> None:
    while size:
        block = source.read(min(BLOCK, size))
        target.write(block)
        size -= len(block)


def gather(parcels: list[Path], store: Path) -> tuple[Manifest, list[str]]:
    """Copy the pieces of `parcels` to `store`, each checked; returns the manifest and the parcels still to come.

    Raises UserError where a piece is not what the manifest says, or a parcel is not one of the parcels in `store`.
    """
    for parcel in parcels:
        if not (parcel / MANIFEST).exists():
            raise UserError(f"{parcel}: found no {MANIFEST}, expected a parcel")
        manifest = read_manifest(parcel / MANIFEST)
        if (store / MANIFEST).exists() and read_manifest(store / MANIFEST) != manifest:
            raise UserError(f"{parcel}: found a parcel of another pack than in {store}; delete that to begin anew")
        write_manifest(store / MANIFEST, manifest)
        for piece in _pieces(manifest):
            if (path := parcel / PIECES / piece.name).exists():
                _check(path, piece.sha256)
                with replacing(store / piece.name) as temporary:
                    shutil.copy(path, temporary)
    manifest = read_manifest(store / MANIFEST)
    absent = {piece.parcel for piece in _pieces(manifest) if not (store / piece.name).exists()}
    return manifest, sorted(absent, key=_number)


def _pieces(manifest: Manifest) -> Iterator[Piece]:
    return (piece for file in manifest.files for piece in file.pieces)


def join(file: File, store: Path, out: Path) -> None:
    """The file of pieces in `store` at `out`. Raises UserError where it is not what was packed."""
    with replacing(out) as temporary:
        with temporary.open("wb") as target:
            for piece in file.pieces:
                with (store / piece.name).open("rb") as source:
                    shutil.copyfileobj(source, target)
        _check(temporary, file.sha256)


def _check(path: Path, expected: str) -> None:
    if (found := sha256(path)) != expected:
        raise UserError(f"{path}: found sha256 {found}, expected {expected}; carry it again")


def manifest_text(manifest: Manifest) -> str:
    """What travels, in a line for each parcel."""
    lines = []
    for parcel in manifest.parcels:
        pieces = [piece for piece in _pieces(manifest) if piece.parcel == parcel]
        lines.append(f"{parcel}: {sum(p.size for p in pieces) / MIB:.1f} MiB in {len(pieces)} pieces")
    return "\n".join(lines)


def records(root: Path, project: Path) -> list[Path]:
    """Snakemake's records of the files under `root`: by them it knows the settings that each was made with."""
    found = []
    for path in sorted((project / METADATA).rglob("*")):
        if path.is_file() and _described(path.relative_to(project / METADATA)).startswith(f"{root.as_posix()}/"):
            found.append(path.relative_to(project))
    return found


def _described(record: Path) -> str:
    """The result that a record is of: its path in base64, a long one in directories that begin with @."""
    text = "".join(part.removeprefix("@") for part in record.parts)
    return urlsafe_b64decode(text).decode(errors="replace")
