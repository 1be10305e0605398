"""Real questions, from a mirror directory or from the Hub (paper, MetaKL step 1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from gdpo.errors import UserError, suggest
from gdpo.files import read_jsonl
from gdpo.metakl.readers import READERS, BadField, Row
from gdpo.records import Question
from gdpo.schema import Source

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "mirror"


def mirror_dir(given: str | None) -> Path | None:
    """Where the sources' files lie: `given`, else $GDPO_MIRROR, else ../shared/mirror if it exists.

    None means the Hub.

    Raises UserError where a directory that was asked for does not exist.
    """
    asked = given or os.environ.get("GDPO_MIRROR")
    if asked is None:
        return BESIDE if BESIDE.is_dir() else None
    if not Path(asked).is_dir():
        name = "mirror" if given else "GDPO_MIRROR"
        raise UserError(f"{name}: found '{asked}', expected a directory with the sources' files")
    return Path(asked)


def read_source(name: str, source: Source, mirror: Path | None) -> list[Question]:
    """The questions of one source, in its order; ids are NAME-LINE, so that they name the row they came from.

    Read from `mirror` where the source has a file there, else from the Hub.
    Raises UserError naming file, line and field of a bad row.
    """
    if source.reader not in READERS:
        raise UserError(f"sources.{name}.reader: found '{source.reader}'; {suggest(source.reader, READERS)}")
    if mirror is not None and source.mirror:
        path = mirror / source.mirror
        questions = _questions(name, source, str(path), read_jsonl(path))
    else:
        where = f"hub:{source.hub.path}" if source.hub else "the Hub"
        questions = _questions(name, source, where, _hub_rows(name, source))
    read = list(islice(questions, source.rows))
    if not read:
        raise UserError(f"sources.{name}: reader '{source.reader}' found no question, expected at least one")
    return read


def _questions(name: str, source: Source, where: str, rows: Iterable[tuple[int, Row]]) -> Iterator[Question]:
    reader = READERS[source.reader]
    for number, row in rows:
        try:
            fields = reader(row)
        except BadField as error:
            raise UserError(f"{where}, line {number}, {error}") from None
        if fields is None:
            continue
        if source.instruction:
            fields["question"] = f"{fields['question']}\n\n{source.instruction}"
        yield Question(id=f"{name}-{number}", domain=source.domain, source=name, grader=source.grader, **fields)


def _hub_rows(name: str, source: Source) -> Iterator[tuple[int, Row]]:
    if source.hub is None:
        raise UserError(f"sources.{name}: found no 'hub' entry, expected one or a mirror directory with its file")
    from datasets import load_dataset

    hub = source.hub
    try:
        rows = load_dataset(hub.path, hub.name, data_dir=hub.data_dir, split=hub.split, revision=hub.revision)
    except Exception as error:  # datasets, the Hub's client and httpx each raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"sources.{name}: expected to load {hub.path} from the Hub, found: {reason}") from None
    yield from enumerate(rows, start=1)
