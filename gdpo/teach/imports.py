"""Groups from published responses, sampled and perhaps graded by others, in place of the scale's own teacher.

Files are read as they are: a training set's `fields` say where a row has its prompt, its completions and what grades
them (gdpo.config.models.Import). A file may answer items of a benchmark, as OpenAI's and ToRA's solutions of GSM8K's
test problems do. A student trained on those cannot be scored on that benchmark (`contaminating_benchmarks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from gdpo.config.models import Import, Reward, TrainSet
from gdpo.core.errors import UserError
from gdpo.core.files import read_jsonl
from gdpo.core.records import Group, Question, Verdict
from gdpo.grading.grade import grade_many
from gdpo.metakl.contamination import ItemIndex
from gdpo.teach.reward import reward


@dataclass(frozen=True)
class Completion:
    """A completion with what grades it: its `reward`, whether it is `right`, or the right `answer`."""

    text: str
    reward: float | None = None
    right: bool | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Imported:
    """A prompt with its completions, not graded yet; `path` and `line` are those of its first row."""

    id: str
    path: Path
    line: int
    prompt: list[dict[str, str]]
    completions: list[Completion]


class BadRow(Exception):
    """A row that does not fit its layout. `key` is a path in the row, empty where the caller adds it."""

    def __init__(self, key: str, found: str, expected: str) -> None:
        self.key, self.found, self.expected = key, found, expected
        super().__init__(f"{key}: found {found}, expected {expected}")


Value = TypeVar("Value")
Trail = tuple[str | int, ...]  # the keys and indices that the stars of a path matched


def values_at(row: Mapping[str, Any], path: str) -> dict[Trail, Any]:
    """The values at `path` in `row`, by the keys and indices that its stars matched, in the row's order.

    A step of the path is a key, an index, or `*` for every entry of a mapping or list. Entries that lack the rest of
    the path are left out. Without a star, the one value has the empty trail.
    """
    values: dict[Trail, Any] = {(): row}
    for step in path.split("."):
        values = {trail + matched: below for trail, value in values.items() for matched, below in _take(value, step)}
    return values


def _take(value: Any, step: str) -> list[tuple[Trail, Any]]:
    """What one step of a path leads to, each with the key or index that a star matched."""
    if step == "*":
        entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        return [((key,), entry) for key, entry in entries]
    if isinstance(value, Mapping):
        return [((), value[step])] if step in value else []
    if isinstance(value, list) and step.isdigit() and int(step) < len(value):
        return [((), value[int(step)])]
    return []


def _entries(row: Mapping[str, Any], path: str) -> dict[Trail, Any]:
    """`values_at`, with each list at the end of the path replaced by its entries."""
    entries: dict[Trail, Any] = {}
    for trail, value in values_at(row, path).items():
        entries |= {(*trail, i): entry for i, entry in enumerate(value)} if isinstance(value, list) else {trail: value}
    return entries


def _single_value(row: Mapping[str, Any], path: str) -> Any:
    values = list(values_at(row, path).values())
    if len(values) != 1:
        raise BadRow(path, f"{len(values) or 'no'} values", "one")
    return values[0]


def _number(value: Any) -> float:
    try:
        finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that is no float
        finite = False
    if not finite:
        raise BadRow("", f"{value!r:.80}", "a finite number")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadRow("", f"{value!r}", "true or false")
    return bool(value)


def _answer(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow("", f"{value!r}", "text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRow("", f"{value!r}", "text or a finite number")
    return str(value)


def completions(row: Mapping[str, Any], fields: Import) -> list[Completion]:
    """A row's completions, verbatim, each with what grades it. Raises BadRow where the row does not fit `fields`."""
    texts = _entries(row, fields.completions)
    if not texts:
        raise BadRow(fields.completions, "no completion", "at least one")
    for text in texts.values():
        if not isinstance(text, str):
            raise BadRow(fields.completions, type(text).__name__, "text")
    if fields.answer is not None:
        answer = _convert(_answer, _single_value(row, fields.answer), fields.answer)
        return [Completion(text, answer=answer) for text in texts.values()]
    if fields.right is not None:
        right = _aligned(row, fields.right, texts, fields.completions, _boolean)
        return [Completion(text, right=value) for text, value in zip(texts.values(), right, strict=True)]
    assert fields.rewards is not None  # gdpo.config.models.Import has one of the three
    rewards = _aligned(row, fields.rewards, texts, fields.completions, _number)
    return [Completion(text, reward=value) for text, value in zip(texts.values(), rewards, strict=True)]


def _aligned(
    row: Mapping[str, Any], path: str, texts: dict[Trail, str], place: str, reader: Callable[[Any], Value]
) -> list[Value]:
    """The value at `path` for each of `texts`, which are those at the path `place`, in their order."""
    entries = _entries(row, path)
    if entries.keys() != texts.keys():
        found = f"{len(entries)} entries beside {len(texts)} completions at {place}"
        raise BadRow(path, found, "one for each")
    return [_convert(reader, entries[trail], path) for trail in texts]


def _convert(reader: Callable[[Any], Value], value: Any, path: str) -> Value:
    try:
        return reader(value)
    except BadRow as error:
        raise BadRow(path, error.found, error.expected) from None


def _messages(prompt: Any, instruction: str, path: str) -> list[dict[str, str]]:
    """The conversation of a prompt: a text is a question, and gets the instruction; messages stay as they are."""
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": f"{prompt}\n\n{instruction}" if instruction else prompt}]
    texts = isinstance(prompt, list) and all(
        isinstance(message, dict) and all(isinstance(value, str) for value in message.values()) for message in prompt
    )
    if not texts or not all({"role", "content"} <= message.keys() for message in prompt) or not prompt:
        raise BadRow(path, type(prompt).__name__, "text or messages with role and content")
    messages: list[dict[str, str]] = prompt
    return messages


def read_imported(paths: Sequence[Path], fields: Sequence[Import], instruction: str = "") -> list[Imported]:
    """Every prompt of the files with all its completions, in the files' order; ids are FILE-LINE of the first row.

    `fields` has one entry for all files or one for each. Rows whose prompts are equal except for white space are one
    group. Nothing else is normalised, since 1.5 and 15 are different problems.
    Raises UserError naming file and line of a row that does not fit, or of a prompt with a single completion.
    """
    groups: dict[Any, Imported] = {}
    layouts = list(fields) * len(paths) if len(fields) == 1 else fields
    for name, path, layout in zip(_names(paths), paths, layouts, strict=True):
        for number, row in read_jsonl(path):
            try:
                prompt = _messages(_single_value(row, layout.prompt), instruction, layout.prompt)
                new = Imported(f"{name}-{number}", path, number, prompt, completions(row, layout))
            except BadRow as error:
                raise UserError(
                    path=path, line=number, key=error.key, found=error.found, expected=error.expected
                ) from None
            key = tuple((message["role"], " ".join(message["content"].split())) for message in prompt)
            before = groups.get(key)
            groups[key] = replace(before, completions=before.completions + new.completions) if before else new
    if not groups:
        raise UserError(path=", ".join(map(str, paths)), found="no row", expected="at least one")
    for group in groups.values():
        if len(group.completions) < 2:
            expected = "at least two of a prompt"
            raise UserError(path=group.path, line=group.line, found="one completion", expected=expected)
    return list(groups.values())


def _names(paths: Sequence[Path]) -> list[str]:
    """The name of each file in ids: without endings, and numbered from the second of one name on."""
    stems = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in paths]
    names: list[str] = []
    for stem in stems:
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}.{number}"
        names.append(name)
    return names


def contaminating_benchmarks(groups: Iterable[Imported], index: ItemIndex) -> dict[str, list[str]]:
    """id of each group that repeats benchmark items -> those benchmarks. Only the user's messages are compared."""
    contaminated = {}
    for group in groups:
        benchmarks = dict.fromkeys(match.benchmark for match in index.matches_prompt(group.prompt))
        if benchmarks:
            contaminated[group.id] = list(benchmarks)
    return contaminated


def to_groups(
    groups: Sequence[Imported], trainset: TrainSet, count: Callable[[str], int], settings: Reward
) -> list[Group]:
    """Groups to train on. Rewards of the file are kept, without parts; verdicts are rewarded as a teacher's are.

    `count` gives a completion's length in the student's tokens. Raises UserError for an empty right answer.
    """
    assert trainset.domain is not None  # gdpo.config.models.TrainSet: select: import has one
    domain, grader = trainset.domain, trainset.grader or "math"
    for group in groups:
        if grader != "refusal" and any(c.answer is not None and not c.answer.strip() for c in group.completions):
            expected = f"one for grader '{grader}'"
            raise UserError(path=group.path, line=group.line, found="an empty answer", expected=expected)
    pairs = [
        (Question(id=g.id, domain=domain, source=g.id, question="", answer=c.answer, grader=grader), c.text)
        for g in groups for c in g.completions if c.answer is not None
    ]  # fmt: skip
    verdicts = iter(grade_many(pairs, show_progress=True))
    return [_group(group, trainset, verdicts, count, settings) for group in groups]


def _group(
    group: Imported, trainset: TrainSet, graded: Iterator[Verdict], count: Callable[[str], int], settings: Reward
) -> Group:
    texts = [c.text for c in group.completions]
    fields: dict[str, Any] = {"id": group.id, "domain": trainset.domain, "prompt": group.prompt, "completions": texts}
    rewards = [c.reward for c in group.completions if c.reward is not None]
    if not rewards:
        verdicts = [next(graded) if c.right is None else _verdict(c.right) for c in group.completions]
        fields["parts"] = [reward(v, text, count(text), settings) for v, text in zip(verdicts, texts, strict=True)]
        rewards = [part.total for part in fields["parts"]]
    return Group(**fields, rewards=rewards)


def _verdict(right: bool) -> Verdict:
    return "right" if right else "wrong"
