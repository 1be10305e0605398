"""Real questions, from a mirror directory or from the Hub (paper, MetaKL step 1)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gdpo.config.data import HubSource, Source
from gdpo.config.loader import read_yaml
from gdpo.config.scale import Scale
from gdpo.config.yaml_loader import first_problem
from gdpo.core.errors import UserError, first_line, suggest
from gdpo.core.files import read_json, read_jsonl, sha256
from gdpo.core.project import CONFIG
from gdpo.core.records import Question, first_validation_error
from gdpo.metakl.fields import mapped, stands_for_none
from gdpo.metakl.gym import made
from gdpo.metakl.readers import READERS, BadField, Fields, Row
from gdpo.models import hub_revisions

# What sources write where a row has no answer; NuminaMath 1.5 has the first two.
NO_ANSWER = (
    "proof", "notfound", "not found", "no answer", "none", "null", "nan", "n/a", "unknown", "tbd", "?", "-",
)  # fmt: skip
ANSWER_SECONDS = 10  # how long the Hub may take to say which commit a branch is at


class Unavailable(UserError):
    """A gated source that cannot be had here; `reason` says why in one sentence, for who reads an empty column."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason, key=f"sources.{name}")
        self.reason = reason


@dataclass
class Read:
    """The questions of one source, in its order; of `rows` that were gone through, `unusable` ones gave none.

    `revision` says what was read: the mirror's file and its hash, the Hub's data set and its commit, or the package
    that made the rows and its version.
    """

    revision: str
    questions: list[Question] = field(default_factory=list)
    rows: int = 0
    unusable: int = 0


def catalogue() -> dict[str, Source]:
    """Every source of sources.yaml by its name, without what a scale changes.

    Raises UserError naming the source and key that does not fit.
    """
    path, found = CONFIG / "sources.yaml", {}
    for name, entry in read_yaml(path)["sources"].items():
        try:
            found[name] = Source.model_validate(entry)
        except ValidationError as error:
            raise UserError(path=path, **first_problem(error, Source, f"sources.{name}")) from None
    return found


def mirror_dir(given: str | None, scale: Scale) -> Path | None:
    """Where the sources' files lie: `given`, else $GDPO_MIRROR, else the scale's `mirror`. None means the Hub.

    Raises UserError where that is no directory with a manifest.
    """
    named = [
        ("mirror", given),
        ("GDPO_MIRROR", os.environ.get("GDPO_MIRROR")),
        (f"{scale.scale}: mirror", scale.mirror),
    ]
    name, asked = next(((name, value) for name, value in named if value), ("", None))
    if asked is None:
        return None
    if not Path(asked).is_dir():
        raise UserError(key=name, found=f"'{asked}'", expected="a directory with the sources' files")
    if not (Path(asked) / "manifest.json").is_file():
        found, expected = f"no manifest.json in '{asked}'", "one with file, rows and sha256 of each"
        raise UserError(key=name, found=found, expected=expected)
    return Path(asked)


def read_source(name: str, source: Source, mirror: Path | None) -> list[Question]:
    """The questions of one source; see `read`."""
    return read(name, source, mirror).questions


def read(name: str, source: Source, mirror: Path | None) -> Read:
    """The first `rows` questions of one source; ids are NAME-LINE, so that they name the row they came from.

    Read from `mirror` where its manifest has the source's file, else made by `gym` or read from the Hub.
    Raises UserError naming file, line and field of a bad row, or a file that is not the manifest's; Unavailable where
    a gated source is in no mirror and the Hub does not give it.
    """
    reader = reader_of(name, source)
    rows: Iterator[tuple[int, Row]]
    if mirror is not None and source.mirror and (expected := _expected(name, source, mirror)):
        path, digest = _checked(source.mirror, mirror, expected)
        found, where, rows = Read(f"mirror:{source.mirror}@sha256:{digest}"), str(path), read_jsonl(path)
    elif source.gym:
        where, rows = made(name, source.gym)
        found = Read(where)
    else:
        hub, rows = _hub_rows(name, source)
        found, where = Read(f"hub:{hub.path}@{hub.revision}"), f"hub:{hub.path}"
    for question in _questions(name, source, reader, where, rows):
        found.rows += 1
        if question is None:
            found.unusable += 1
        else:
            found.questions.append(question)
        if len(found.questions) == source.rows:
            break
    if not found.questions:
        found_none = f"no question by reader '{source.reader}'"
        raise UserError(key=f"sources.{name}", found=found_none, expected="at least one")
    return found


def reader_of(name: str, source: Source) -> Callable[[Row], Fields | None]:
    """The function that reads the rows of the source called `name`.

    Raises UserError where its `reader` is none.
    """
    if source.reader == "fields":
        refused = source.grader == "refusal"
        return partial(mapped, paths=source.fields, refused=refused, no_answer=source.no_answer)
    if source.reader not in READERS:
        hint = suggest(source.reader, ["fields", *READERS])
        raise UserError(key=f"sources.{name}.reader", found=f"'{source.reader}'", hint=hint)
    return READERS[source.reader]


def _questions(
    name: str, source: Source, reader: Callable[[Row], Fields | None], where: str, rows: Iterable[tuple[int, Row]]
) -> Iterator[Question | None]:
    for number, row in rows:
        if source.reader != "fields" and "answer" in row and stands_for_none(row["answer"], source.no_answer):
            yield None
            continue
        try:
            fields = reader(row)
            _answered(source, row, fields)
        except BadField as error:
            raise UserError(
                path=where, line=number, key=error.field, found=error.found, expected=error.expected
            ) from None
        if fields is None:
            yield None
            continue
        if source.instruction:
            fields["question"] = f"{fields['question']}\n\n{source.instruction}"
        try:
            yield Question(id=f"{name}-{number}", domain=source.domain, source=name, grader=source.grader, **fields)
        except ValidationError as error:
            raise UserError(first_validation_error(error, Question), path=where, line=number) from None


def _answered(source: Source, row: Row, fields: Fields | None) -> None:
    """Raises BadField where a mathematical answer that a row gives looks as if it stood for none."""
    boxed = source.reader == "problem" and row.get("answer") is None  # which a solution says, not a column
    if fields is None or source.grader != "math" or source.no_answer is not None or boxed:
        return
    if (answer := str(fields["answer"]).strip()).lower() in NO_ANSWER:
        expected = (
            f"an answer; 'no_answer: [{answer}]' leaves such rows out, and 'no_answer: []' takes them as they are"
        )
        raise BadField("answer", answer, expected)


def _expected(name: str, source: Source, mirror: Path) -> str | None:
    """The hash that the manifest states of a source's file; None where it lacks the file and the Hub has the source."""
    manifest = mirror / "manifest.json"
    content = read_json(manifest)
    entries = content.get("entries") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        expected = "one with file, rows and sha256 of each file"
        raise UserError(path=manifest, found="no list 'entries'", expected=expected)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("file", "sha256")):
            found = f"{entry!r:.80}"
            raise UserError(path=manifest, key=f"entries.{number}", found=found, expected="file and sha256 as text")
    hashes = {entry["file"]: entry["sha256"] for entry in entries}
    if source.mirror not in hashes and source.hub is None:
        raise UserError(key=f"sources.{name}.mirror", found=f"'{source.mirror}'", expected=f"a file of {manifest}")
    return hashes.get(source.mirror)


def _checked(file: str, mirror: Path, expected: str) -> tuple[Path, str]:
    """The path of a mirror's file and its hash, which is the expected one."""
    path, manifest = mirror / file, mirror / "manifest.json"
    try:
        digest = sha256(path)
    except (OSError, UserError):
        raise UserError("no such file", path=path, hint=f"{manifest} has it") from None
    if digest != expected:
        raise UserError(path=path, found=f"sha256 {digest}", expected=f"{expected} as {manifest} says")
    return path, digest


def _hub_rows(name: str, source: Source) -> tuple[HubSource, Iterator[tuple[int, Row]]]:
    """The data set at the commit that is read, and its rows."""
    if source.hub is None:
        expected = "one or a mirror directory with its file"
        raise UserError(key=f"sources.{name}", found="no 'hub' entry", expected=expected)
    from datasets import load_dataset

    if source.hub.gated and (closed := _closed(source.hub)):
        raise Unavailable(name, f"{source.hub.path} is gated on the Hub, {closed}")
    hub = source.hub.model_copy(update={"revision": _commit(source.hub)})
    options: dict[str, Any] = {"data_dir": hub.data_dir, "split": hub.split, "revision": hub.revision}
    if hub.data_files:
        options["data_files"] = hub.data_files
    try:
        rows = load_dataset(hub.path, hub.name, **options)
    except Exception as error:  # datasets, the Hub's client and httpx each raise their own
        found = first_line(error)
        if hub.gated:
            raise Unavailable(name, f"{hub.path} is gated on the Hub and was not to be loaded: {found}") from None
        expected = f"to load {hub.path} from the Hub"
        raise UserError(key=f"sources.{name}", found=f"'{found}'", expected=expected) from None
    return hub, enumerate(rows, start=1)


def _closed(hub: HubSource) -> str:
    """Why the Hub would not give a gated data set; empty where it would, and offline, where a cache may have it.

    Loading would find out as well, but asks an absent network again and again.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        HfApi().dataset_info(hub.path, revision=hub.revision, timeout=ANSWER_SECONDS)  # which anybody may ask
        HfApi().auth_check(hub.path, repo_type="dataset")
    except OfflineModeIsEnabled:
        return ""
    except RepositoryNotFoundError:  # of which the answer to who has not accepted is a kind
        return "and nobody who has accepted its terms is logged in"
    except HfHubHTTPError as error:
        return f"which says: {first_line(error)}"
    except Exception:  # the Hub's client and httpx each raise their own
        return "which does not answer"
    return ""


def _commit(hub: HubSource) -> str | None:
    """The commit that the revision stood for at its first use here; the revision itself where the Hub does not say."""
    named = hub.revision or "main"
    if hub_revisions.COMMIT.fullmatch(at := hub_revisions.pinned_revision("dataset", hub.path, named)):
        return at
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(hub.path, revision=hub.revision, timeout=ANSWER_SECONDS).sha
    except Exception:  # offline, what is cached under the branch's name can still be read; else loading says why not
        found = None
    if found:
        hub_revisions.pin("dataset", hub.path, named, found)
    return found or hub.revision
