"""The page's items: what each run of a table of scores answered, and the groups that it was trained on.

Of a cell the first seed is shown, beside the untrained student. A benchmark's texts are one list, each text once; the
items name places in it. The list is cut into pieces, so that a page loads those alone that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.tables import Table
from gdpo.core.errors import UserError
from gdpo.core.records import Group, Question, chat, read_records
from gdpo.core.result_files import MeasuredRun, read_stored
from gdpo.evaluate.samples import SampleRow, outputs, verdicts
from gdpo.report import tables
from gdpo.report.columns import column_title
from gdpo.report.score_tables import TableRow, table_rows
from gdpo.report.scores import Scores
from gdpo.report.tables import is_origin

PIECE = 1_000_000  # ours: characters of a piece of texts, a megabyte that loads at once
GROUPS = 200  # ours: groups of a training set that are shown, the first ones
CODES = {"right": "r", "wrong": "w", "ungradable": "u"}
PARTS = ("correctness", "partial", "format", "length")

Chunk = tuple[str, Any]  # the name of a script below data/, and its value


class Texts:
    """Texts in the order in which they are first named, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self._places.setdefault(text, len(self._places))

    def pieces(self, limit: int = PIECE) -> Iterator[tuple[int, list[str]]]:
        """(place of the first, texts) of each piece: as many as have `limit` characters together, one at least."""
        start, piece, size = 0, list[str](), 0
        for place, text in enumerate(self._places):
            if piece and size + len(text) > limit:
                yield start, piece
                start, piece, size = place, [], 0
            piece.append(text)
            size += len(text)
        if piece:
            yield start, piece


def score_tables(layout: Layout) -> dict[str, Table]:
    return {name: table for name, table in layout.scale.tables.items() if table.kind == "scores"}


def shown_rows(layout: Layout) -> list[TableRow]:
    return [line for table in score_tables(layout).values() for line in table_rows(layout, table)]


def shown_runs(layout: Layout) -> list[Run]:
    """The first seed's run of each row of a table of scores, and the untrained students; each once."""
    return list(dict.fromkeys(run for line in shown_rows(layout) for run in (*origin(line.student), line.runs[0])))


def shown_benchmarks(layout: Layout) -> list[str]:
    """The benchmarks of the tables of scores whose items can be had."""
    empty, scale = layout.unavailable(), layout.scale
    named = [name for table in score_tables(layout).values() for name in tables.shown_benchmarks(scale, table)]
    return [name for name in dict.fromkeys(named) if name not in empty]


def shown_trainsets(layout: Layout) -> list[str]:
    """The training sets of the rows of the tables of scores."""
    cells = [line.cell for line in shown_rows(layout)]
    return list(dict.fromkeys(cell.trainset for cell in cells if not is_origin(cell) and not cell.model))


def chunks(scores: Scores) -> Iterator[Chunk]:
    """Of each benchmark `items/NAME`, its items with each run's answers, and its texts as `texts/NAME-PIECE`."""
    for name in shown_benchmarks(scores.layout):
        texts = Texts()
        if value := benchmark_items(scores, name, texts):
            yield from _with_texts(f"items/{name}", value, texts)


def benchmark_items(scores: Scores, name: str, texts: Texts) -> dict[str, Any] | None:
    """A benchmark's items and what each shown run answered; None where no run was scored on it.

    Raises UserError where runs answered different items, or one that the benchmark has not.
    """
    layout = scores.layout
    rows = {run: scores.items(run, name) for run in shown_runs(layout)}
    answered = {run: found for run, found in rows.items() if found is not None}
    if not answered:
        return None
    path = layout.benchmark(name, "test")
    questions = {question.id: question for question in read_records(path, Question)}
    ids = [row["id"] for row in next(iter(answered.values()))]
    if missing := [one for one in ids if one not in questions]:
        raise UserError(path=path, found=f"no item '{missing[0]}'", expected="each item that samples answer")
    for run, found in answered.items():
        if [row["id"] for row in found] != ids:
            path = layout.samples(run, "test") / f"{name}.jsonl"
            raise UserError(path=path, found="other items than in another run's", expected="the same in order")
    asked = [questions[one] for one in ids]
    entries = [[one.id, texts.place(chat(one)[-1]["content"]), texts.place(reference(one))] for one in asked]
    return {
        "name": name,
        "title": column_title(layout.scale, name),
        "items": entries,
        "runs": {str(run): _answers(layout, run, name, found, texts) for run, found in answered.items()},
    }


def reference(question: Question) -> str:
    """What is right to answer, for people; of a lettered choice its text, too."""
    if question.grader == "refusal" and not question.answer:
        return "a refusal"
    return question.answer


def _answers(layout: Layout, run: Run, name: str, rows: Sequence[SampleRow], texts: Texts) -> dict[str, Any]:
    """`v`: the verdicts of each item, a letter an answer; `t`: the places of the answers; `c`: items that were cut."""
    places = [[texts.place(output or "") for output in outputs(row)] for row in rows]
    found: dict[str, Any] = {
        "v": " ".join("".join(CODES[verdict] for verdict in verdicts(row)) for row in rows),
        "t": [place[0] if len(place) == 1 else place for place in places],
    }
    measures = layout.measures(run, "test")
    cut = read_stored(measures, MeasuredRun).get("cut", {}).get(name) if measures.exists() else None
    return found | ({"c": cut} if cut else {})


def group_chunks(layout: Layout) -> Iterator[Chunk]:
    """Of each training set `groups/NAME`: its first groups with the reward of each completion, and its texts."""
    for name in shown_trainsets(layout):
        texts, groups = Texts(), read_records(layout.groups(name), Group)
        value = {
            "title": layout.scale.trainset(name).display,
            "total": len(groups),
            "groups": [_group(group, texts) for group in groups[:GROUPS]],
        }
        yield from _with_texts(f"groups/{name}", value, texts)


def _group(group: Group, texts: Texts) -> list[Any]:
    """[id, place of the question, completions]; one is [its place, reward] and, where it was graded, its parts."""
    prompt = texts.place(group.prompt[-1]["content"] if group.prompt else "")
    completions: list[list[Any]] = [
        [texts.place(text), reward] for text, reward in zip(group.completions, group.rewards, strict=True)
    ]
    for entry, part in zip(completions, group.parts, strict=False):
        entry += [CODES[part.verdict], *(getattr(part, key) for key in PARTS)]
    return [group.id, prompt, completions]


def _with_texts(name: str, value: dict[str, Any], texts: Texts) -> Iterable[Chunk]:
    """A chunk and its texts' pieces, whose first places it has as `pieces`."""
    pieces = list(texts.pieces())
    yield name, value | {"pieces": [start for start, _ in pieces]}
    for number, (_, piece) in enumerate(pieces):
        yield f"texts/{name}-{number}", piece
