"""Reading and writing the files that flow between steps: JSON Lines, JSON, CSV, always whole or not at all.

A file is written under a temporary name in the same directory and renamed, so that a killed step leaves
either the old file or the new one.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gdpo.core.errors import UserError, first_line, writing
from gdpo.core.progress import report
from gdpo.core.terminal import say

LONE_SURROGATE = re.compile(
    r"\\u[dD][89a-fA-F]"
)  # how JSON spells halves of characters, of which two in a row are a whole one


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Works for files and directories; an existing directory at `path` is replaced. Raises UserError where the disk is
    full or read-only.
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("partial", "old.partial"))
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(temporary)  # of a killed process that had this one's number
            yield temporary
            _by_umask(temporary)
            if temporary.is_dir() and path.exists():
                _remove(old)
                os.replace(path, old)  # removed in place, a kill would leave half of it
            os.replace(temporary, path)
    finally:
        _remove(temporary)
        _remove(old)


def _by_umask(directory: Path) -> None:
    """Let whoever may read a directory's files read all of them: safetensors writes weights for their owner alone."""
    closed = [p for p in directory.rglob("*") if not p.is_symlink() and p.is_file() and p.stat().st_mode & 0o077 == 0]
    if not closed:
        return
    probe = directory / ".by-umask"  # asking for the umask would change it, for other threads too
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in closed:
        path.chmod(mode)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.unlink()


def write_text(path: Path | str, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON; records and settings in it are written as mappings."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda model: model.model_dump(mode="json"))
    write_text(path, text + "\n")


def write_jsonl(path: Path | str, rows: Iterable[dict]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_csv(path: Path | str, columns: list[str], rows: Iterable[dict]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path | str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {_unread(error)}") from None


def read_jsonl(path: Path | str) -> Iterator[tuple[int, dict]]:
    """Yield (line number, object) for every non-empty line of a JSON Lines file, gzipped or not.

    Raises UserError naming file and line where a line is not a JSON object.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line, object_pairs_hook=_each_once)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: expected a JSON object, found {_unread(error)}") from None
                if not isinstance(row, dict):
                    found = type(row).__name__
                    raise UserError(f"{path}, line {number}: expected a JSON object, found {found}")
                if LONE_SURROGATE.search(line) and not _encodable(row):
                    raise UserError(f"{path}, line {number}: expected UTF-8, found half of a character (\\ud800 alone)")
                yield number, row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected JSON Lines") from None
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: expected UTF-8 JSON Lines, found {error}") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a key that occurs twice is an error, since the first entry would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' a second time")
    return found


def _encodable(row: dict) -> bool:
    try:
        return bool(json.dumps(row, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def _unread(error: ValueError | RecursionError) -> str:
    """What JSON's reader met: broken JSON, too deep a nesting, or a number of thousands of digits."""
    return "brackets nested too deeply" if isinstance(error, RecursionError) else first_line(error)


def finished_rows(path: Path) -> list[dict]:
    """The rows of a JSON Lines file that a killed process may have been appending to; none where there is no file.

    A line cut off by the kill is removed, so that appending stays safe, in place, since the disk may be full. Raises
    UserError naming any other line that is no JSON object, since nobody can tell what it was.
    """
    if not path.exists():
        return []
    *whole, torn = path.read_bytes().split(b"\n")
    if torn:
        with writing(path):
            os.truncate(path, path.stat().st_size - len(torn))
    return [_whole(line, f"{path}, line {number}") for number, line in enumerate(whole, start=1)]


def _whole(line: bytes, where: str) -> dict:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        found = _unread(error)
    else:
        if isinstance(row, dict):
            return row
        found = type(row).__name__
    raise UserError(f"{where}: expected a JSON object, found {found}; delete the file to make all of it again")


class State(Protocol):
    """What a batch is made from beside its number: where the random numbers stand."""

    def save(self) -> str: ...

    def load(self, saved: str) -> None: ...


def resumable_batches(
    path: Path | None,
    key: str,
    count: int,
    batches: Callable[[int], Iterable[tuple[list[int], list[Any]]]],
    state: State | None = None,
) -> list[Any]:
    """`count` entries that are made batch by batch, in order; what a killed process had finished is not made again.

    `batches(done)` yields (indices, their entries) of each batch but the first `done`. `path` is a JSON Lines file that
    is appended to as batches finish; entries stand under `key`, and beside them the `state` that the next batch begins
    with. Without a path nothing is kept. Raises UserError where the file holds something else.
    """
    found: dict[int, Any] = {}
    what = key.replace("_", " ")
    if path is None:
        for indices, entries in batches(0):
            found.update(zip(indices, entries, strict=True))
            report(len(found), count, what)
        return [found[index] for index in range(count)]
    finished = finished_rows(path)
    for number, batch in enumerate(finished, start=1):
        try:
            found.update(zip(batch["indices"], batch[key], strict=True))
        except (KeyError, TypeError, ValueError):
            expected = f"expected 'indices' and as many '{key}'"
            raise UserError(
                f"{path}, line {number}: {expected}, found other entries; delete the file to make all of it again"
            ) from None
    if finished:
        say(f"{path} holds {len(found):,} of {count:,} {what}, which are not made again")
    if len(found) < count:
        if finished and state is not None:
            _load(state, finished[-1], f"{path}, line {len(finished)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path), path.open("a", encoding="utf-8") as file:
            for indices, entries in batches(len(finished)):
                found.update(zip(indices, entries, strict=True))
                left = {} if state is None else {"state": state.save()}
                file.write(json.dumps({"indices": indices, key: entries, **left}, ensure_ascii=False) + "\n")
                file.flush()
                report(len(found), count, what)
    return [found[index] for index in range(count)]


def _load(state: State, row: dict, where: str) -> None:
    try:
        state.load(row["state"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{where}: expected the 'state' of random numbers, found none; delete the file to make all of it again"
        ) from None


def sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected one to hash") from None


def read_csv(path: Path | str, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file by its header.

    Raises UserError where it is none, lacks one of `columns`, or has a row of another length.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected CSV") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected UTF-8 CSV, found {error}") from None
    fields = reader.fieldnames or ()
    if missing := [column for column in columns if column not in fields]:
        raise UserError(f"{path}: found no column '{missing[0]}', expected {', '.join(columns)}")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(f"{path}, row {number}: expected {len(fields)} fields, found another number")
    return rows
