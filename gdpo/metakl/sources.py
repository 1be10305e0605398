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
from gdpo.metakl.fields import is_no_answer, map_fields
from gdpo.metakl.gym import generate_rows
from gdpo.metakl.readers import READERS, BadField, Fields, RawRow
from gdpo.models import hub_revisions

# What sources write in rows without an answer; NuminaMath 1.5 has the first two.
NO_ANSWER = (
    "proof", "notfound", "not found", "no answer", "none", "null", "nan", "n/a", "unknown", "tbd", "?", "-",
)  # fmt: skip
HUB_TIMEOUT = 10  # seconds that the Hub may take to say which commit a branch is at


class Unavailable(UserError):
    """A gated source that cannot be downloaded; `reason` is a sentence for readers of its empty column."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason, key=f"sources.{name}")
        self.reason = reason


@dataclass
class LoadedSource:
    """The questions of one source, in its order.

    Attributes:
        revision: What was read: the mirror's file and its hash, the Hub's data set and its commit, or the package that
            made the rows and its version.
        rows: How many rows were read.
        unusable: How many of them gave no question.
    """

    revision: str
    questions: list[Question] = field(default_factory=list)
    rows: int = 0
    unusable: int = 0


def catalogue() -> dict[str, Source]:
    """Every source of sources.yaml by its name, without the changes of a scale.

    Raises UserError naming the source and key that is invalid.
    """
    path, sources = CONFIG / "sources.yaml", {}
    for name, entry in read_yaml(path)["sources"].items():
        try:
            sources[name] = Source.model_validate(entry)
        except ValidationError as error:
            raise UserError(path=path, **first_problem(error, Source, f"sources.{name}")) from None
    return sources


def mirror_dir(given: str | None, scale: Scale) -> Path | None:
    """The directory of the sources' files: `given`, else $GDPO_MIRROR, else the scale's `mirror`. None means the Hub.

    Raises UserError where that is no directory with a manifest.
    """
    settings = [
        ("mirror", given),
        ("GDPO_MIRROR", os.environ.get("GDPO_MIRROR")),
        (f"{scale.scale}: mirror", scale.mirror),
    ]
    name, directory = next(((name, value) for name, value in settings if value), ("", None))
    if directory is None:
        return None
    if not Path(directory).is_dir():
        raise UserError(key=name, found=f"'{directory}'", expected="a directory with the sources' files")
    if not (Path(directory) / "manifest.json").is_file():
        found, expected = f"no manifest.json in '{directory}'", "one with file, rows and sha256 of each"
        raise UserError(key=name, found=found, expected=expected)
    return Path(directory)


def read_source(name: str, source: Source, mirror: Path | None) -> list[Question]:
    """The questions of one source; see `load_source`."""
    return load_source(name, source, mirror).questions


def load_source(name: str, source: Source, mirror: Path | None) -> LoadedSource:
    """The first `rows` questions of one source. Their ids are NAME-LINE, after the row they come from.

    The source is read from `mirror` where its manifest has the source's file, else made by `gym`, else read from the
    Hub. Raises UserError naming file, line and field of a bad row, or a file that differs from the manifest.
    Raises Unavailable where a gated source is in no mirror and the Hub refuses it.
    """
    reader = reader_of(name, source)
    rows: Iterator[tuple[int, RawRow]]
    if mirror is not None and source.mirror and (expected := _manifest_hash(name, source, mirror)):
        path, digest = _verified_file(source.mirror, mirror, expected)
        loaded, place, rows = LoadedSource(f"mirror:{source.mirror}@sha256:{digest}"), str(path), read_jsonl(path)
    elif source.gym:
        place, rows = generate_rows(name, source.gym)
        loaded = LoadedSource(place)
    else:
        hub, rows = _load_hub_rows(name, source)
        loaded, place = LoadedSource(f"hub:{hub.path}@{hub.revision}"), f"hub:{hub.path}"
    for question in _questions(name, source, reader, place, rows):
        loaded.rows += 1
        if question is None:
            loaded.unusable += 1
        else:
            loaded.questions.append(question)
        if len(loaded.questions) == source.rows:
            break
    if not loaded.questions:
        found = f"no question by reader '{source.reader}'"
        raise UserError(key=f"sources.{name}", found=found, expected="at least one")
    return loaded


def reader_of(name: str, source: Source) -> Callable[[RawRow], Fields | None]:
    """The function that reads the rows of the source called `name`.

    Raises UserError where its `reader` is unknown.
    """
    if source.reader == "fields":
        refused = source.grader == "refusal"
        return partial(map_fields, paths=source.fields, refused=refused, no_answer=source.no_answer)
    if source.reader not in READERS:
        hint = suggest(source.reader, ["fields", *READERS])
        raise UserError(key=f"sources.{name}.reader", found=f"'{source.reader}'", hint=hint)
    return READERS[source.reader]


def _questions(
    name: str, source: Source, reader: Callable[[RawRow], Fields | None], place: str, rows: Iterable[tuple[int, RawRow]]
) -> Iterator[Question | None]:
    """The question of each row, None where it gives none; `place` is the file or data set that an error names."""
    for number, row in rows:
        if source.reader != "fields" and "answer" in row and is_no_answer(row["answer"], source.no_answer):
            yield None
            continue
        try:
            fields = reader(row)
            _check_answer(source, row, fields)
        except BadField as error:
            raise UserError(
                path=place, line=number, key=error.field, found=error.found, expected=error.expected
            ) from None
        if fields is None:
            yield None
            continue
        if source.instruction:
            fields["question"] = f"{fields['question']}\n\n{source.instruction}"
        try:
            yield Question(id=f"{name}-{number}", domain=source.domain, source=name, grader=source.grader, **fields)
        except ValidationError as error:
            raise UserError(first_validation_error(error, Question), path=place, line=number) from None


def _check_answer(source: Source, row: RawRow, fields: Fields | None) -> None:
    """Raises BadField where a row's mathematical answer looks as if it stood for no answer."""
    boxed = source.reader == "problem" and row.get("answer") is None  # from the solution, not from a column
    if fields is None or source.grader != "math" or source.no_answer is not None or boxed:
        return
    if (answer := str(fields["answer"]).strip()).lower() in NO_ANSWER:
        expected = (
            f"an answer; 'no_answer: [{answer}]' leaves such rows out, and 'no_answer: []' takes them as they are"
        )
        raise BadField("answer", answer, expected)


def _manifest_hash(name: str, source: Source, mirror: Path) -> str | None:
    """The manifest's hash of a source's file; None where it lacks the file and the Hub has the source."""
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


def _verified_file(file: str, mirror: Path, expected: str) -> tuple[Path, str]:
    """The path of a mirror's file and its hash. Raises UserError where it is not the expected one."""
    path, manifest = mirror / file, mirror / "manifest.json"
    try:
        digest = sha256(path)
    except (OSError, UserError):
        raise UserError("no such file", path=path, hint=f"{manifest} has it") from None
    if digest != expected:
        raise UserError(path=path, found=f"sha256 {digest}", expected=f"{expected} as {manifest} says")
    return path, digest


def _load_hub_rows(name: str, source: Source) -> tuple[HubSource, Iterator[tuple[int, RawRow]]]:
    """The data set at the commit that is read, and its rows."""
    if source.hub is None:
        expected = "one or a mirror directory with its file"
        raise UserError(key=f"sources.{name}", found="no 'hub' entry", expected=expected)
    from datasets import load_dataset

    if source.hub.gated and (reason := _why_gated(source.hub)):
        raise Unavailable(name, f"{source.hub.path} is gated on the Hub, {reason}")
    hub = source.hub.model_copy(update={"revision": _resolve_commit(source.hub)})
    options: dict[str, Any] = {"data_dir": hub.data_dir, "split": hub.split, "revision": hub.revision}
    if hub.data_files:
        options["data_files"] = hub.data_files
    try:
        rows = load_dataset(hub.path, hub.name, **options)
    except Exception as error:  # datasets, the Hub's client and httpx each raise their own
        message = first_line(error)
        if hub.gated:
            raise Unavailable(name, f"{hub.path} is gated on the Hub and was not to be loaded: {message}") from None
        expected = f"to load {hub.path} from the Hub"
        raise UserError(key=f"sources.{name}", found=f"'{message}'", expected=expected) from None
    return hub, enumerate(rows, start=1)


def _why_gated(hub: HubSource) -> str:
    """Why the Hub refuses a gated data set. Empty where it does not, and offline, where a cache may have it.

    Loading would find out as well, but retries an absent network many times.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        HfApi().dataset_info(hub.path, revision=hub.revision, timeout=HUB_TIMEOUT)  # anybody may ask for this
        HfApi().auth_check(hub.path, repo_type="dataset")
    except OfflineModeIsEnabled:
        return ""
    except RepositoryNotFoundError:  # GatedRepoError is a subclass: the terms are not accepted
        return "and nobody who has accepted its terms is logged in"
    except HfHubHTTPError as error:
        return f"which says: {first_line(error)}"
    except Exception:  # the Hub's client and httpx each raise their own
        return "which does not answer"
    return ""


def _resolve_commit(hub: HubSource) -> str | None:
    """The commit of the revision at its first use here; the revision itself where the Hub does not say."""
    revision = hub.revision or "main"
    if hub_revisions.COMMIT.fullmatch(pinned := hub_revisions.pinned_revision("dataset", hub.path, revision)):
        return pinned
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(hub.path, revision=hub.revision, timeout=HUB_TIMEOUT).sha
    except Exception:  # offline, the cache of the branch can still be read; else loading says why not
        commit = None
    if commit:
        hub_revisions.pin("dataset", hub.path, revision, commit)
    return commit or hub.revision
