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

# How JSON spells half of a character. Two halves in a row are a whole one.
LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
REMAKE = "delete the file to make all of it again"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`. Rename it to `path` on success, remove it on failure.

    `path` may be a file or a directory; a directory that exists is replaced. Raises UserError where the disk is full
    or read-only.
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("partial", "old.partial"))
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(temporary)  # left by a killed process that had this one's number
            yield temporary
            _apply_umask(temporary)
            if temporary.is_dir() and path.exists():
                _remove(old)
                os.replace(path, old)  # a kill while it is removed in place would leave half of it
            os.replace(temporary, path)
    finally:
        _remove(temporary)
        _remove(old)


def _apply_umask(directory: Path) -> None:
    """Give a directory's private files the permissions of others: safetensors writes weights for their owner alone."""
    private = [p for p in directory.rglob("*") if not p.is_symlink() and p.is_file() and p.stat().st_mode & 0o077 == 0]
    if not private:
        return
    probe = directory / ".by-umask"  # reading the umask would change it, for other threads too
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in private:
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
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected="a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(path=path, found=_json_error(error), expected="JSON") from None


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
                    row = json.loads(line, object_pairs_hook=_unique_keys)
                except (ValueError, RecursionError) as error:
                    found = _json_error(error)
                    raise UserError(path=path, line=number, found=found, expected="a JSON object") from None
                if not isinstance(row, dict):
                    found = type(row).__name__
                    raise UserError(path=path, line=number, found=found, expected="a JSON object")
                if LONE_SURROGATE.search(line) and not _encodable(row):
                    found = "half of a character (\\ud800 alone)"
                    raise UserError(path=path, line=number, found=found, expected="UTF-8")
                yield number, row
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected="JSON Lines") from None
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(path=path, found=error, expected="UTF-8 JSON Lines") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. A key that occurs twice is an error, since its first entry would be lost in silence."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' a second time")
    return entries


def _encodable(row: dict) -> bool:
    try:
        return bool(json.dumps(row, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def _json_error(error: ValueError | RecursionError) -> str:
    """What stopped the JSON reader: broken JSON, too deep a nesting, or a number of thousands of digits."""
    return "brackets nested too deeply" if isinstance(error, RecursionError) else first_line(error)


def finished_rows(path: Path) -> list[dict]:
    """The rows of a JSON Lines file that a killed process may have been appending to; none where there is no file.

    A line that the kill cut off is removed, so that appending stays safe; in place, since the disk may be full. Raises
    UserError naming any other line that is no JSON object, since nothing tells what it was.
    """
    if not path.exists():
        return []
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        with writing(path):
            os.truncate(path, path.stat().st_size - len(torn))
    return [_finished_row(line, path, number) for number, line in enumerate(lines, start=1)]


def _finished_row(line: bytes, path: Path, number: int) -> dict:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        found = _json_error(error)
    else:
        if isinstance(row, dict):
            return row
        found = type(row).__name__
    raise UserError(path=path, line=number, found=found, expected="a JSON object", hint=REMAKE)


class State(Protocol):
    """The state of the random numbers that a batch is drawn from."""

    def save(self) -> str: ...

    def load(self, saved: str) -> None: ...


def resumable_batches(
    path: Path | None,
    key: str,
    count: int,
    batches: Callable[[int], Iterable[tuple[list[int], list[Any]]]],
    state: State | None = None,
) -> list[Any]:
    """`count` entries, in order, made batch by batch. Batches that a killed process had finished are not made again.

    `batches(done)` yields (indices, their entries) of each batch but the first `done`. `path` is a JSON Lines file,
    appended to as batches finish: `indices`, the entries under `key`, and the `state` that the next batch begins with.
    Without a path nothing is stored. Raises UserError where the file holds something else.
    """
    made: dict[int, Any] = {}
    what = key.replace("_", " ")
    if path is None:
        for indices, entries in batches(0):
            made.update(zip(indices, entries, strict=True))
            report(len(made), count, what)
        return [made[index] for index in range(count)]
    finished = finished_rows(path)
    for number, batch in enumerate(finished, start=1):
        try:
            made.update(zip(batch["indices"], batch[key], strict=True))
        except (KeyError, TypeError, ValueError):
            expected = f"'indices' and as many '{key}'"
            raise UserError(path=path, line=number, found="other entries", expected=expected, hint=REMAKE) from None
    if finished:
        say(f"{path} holds {len(made):,} of {count:,} {what}, which are not made again")
    if len(made) < count:
        if finished and state is not None:
            _load(state, finished[-1], path, len(finished))
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path), path.open("a", encoding="utf-8") as file:
            for indices, entries in batches(len(finished)):
                made.update(zip(indices, entries, strict=True))
                after = {} if state is None else {"state": state.save()}
                file.write(json.dumps({"indices": indices, key: entries, **after}, ensure_ascii=False) + "\n")
                file.flush()
                report(len(made), count, what)
    return [made[index] for index in range(count)]


def _load(state: State, row: dict, path: Path, line: int) -> None:
    try:
        state.load(row["state"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        expected = "the 'state' of random numbers"
        raise UserError(path=path, line=line, found="none", expected=expected, hint=REMAKE) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected="one to hash") from None


def read_csv(path: Path | str, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file by its header.

    Raises UserError where it is none, lacks one of `columns`, or has a row of another length.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected="CSV") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(path=path, found=error, expected="UTF-8 CSV") from None
    fields = reader.fieldnames or ()
    if missing := [column for column in columns if column not in fields]:
        raise UserError(path=path, found=f"no column '{missing[0]}'", expected=", ".join(columns))
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            expected = f"{len(fields)} fields"
            raise UserError(path=path, key=f"row {number}", found="another number", expected=expected)
    return rows
