"""Stored outputs, read and graded anew: each item's verdict, each benchmark's score, and what was dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdpo.config.benchmarks import Benchmark
from gdpo.config.layout import Layout, Run
from gdpo.core.errors import UserError
from gdpo.core.files import read_json, read_jsonl
from gdpo.core.records import LETTERS, Question, Verdict, read_records
from gdpo.evaluate.samples import SampleRow, outputs, score, verdicts
from gdpo.evaluate.steps import trained_on
from gdpo.grading.grade import grade_many
from gdpo.ops.verify.findings import Findings
from gdpo.report.scores import Scores

Rows = dict[tuple[Run, str], list[dict[str, Any]]]
Graded = dict[tuple[str, str, str], Verdict]  # by benchmark, item and answer

ONCE, SEVERAL = {"output", "verdict"}, {"outputs", "verdicts"}
SAID = {"id", "doc_hash", "prompt_hash"}


class Regraded(Scores):
    """Scores by verdicts that were given anew, in place of the stored ones."""

    def __init__(self, layout: Layout, rows: Rows):
        super().__init__(layout)
        self.rows = rows

    def items(self, run: Run, benchmark: str) -> Sequence[SampleRow] | None:
        return self.rows.get((run, benchmark))


class Outputs:
    """The samples and scores of `runs`; `rows` are those that could be read, with their verdicts given anew."""

    def __init__(self, layout: Layout, runs: Iterable[Run], findings: Findings):
        self.layout, self.runs, self.findings = layout, list(runs), findings
        self.complete = True  # whether a table can be made from `rows`
        self.questions: dict[str, list[Question]] = {}
        self.unread: set[str] = set()  # benchmarks whose questions cannot be read
        self.hashes: dict[str, list[set[str]]] = {}
        self.prompts: dict[tuple[str, str, str], tuple[str, Path]] = {}
        self.closed: dict[str, dict[str, str] | None] = {}
        self.rows: Rows = {}

    def check(self) -> None:
        scores = {run: found for run in self.runs if (found := self._score(run)) is not None}
        for run, found in scores.items():
            self._read(run, found["benchmarks"])
        graded = self._graded()
        for (run, name), rows in self.rows.items():
            self.rows[run, name] = [self._judged(run, name, n, row, graded) for n, row in enumerate(rows, start=1)]
        for run, found in scores.items():
            self._compare(run, found)

    def _wrong(self, sentence: str, blocks: bool = False) -> None:
        self.findings.wrong.append(sentence)
        self.complete = self.complete and not blocks

    def _score(self, run: Run) -> dict[str, Any] | None:
        path = self.layout.score(run, "test")
        try:
            found = read_json(path)
        except UserError as error:
            self._wrong(str(error), blocks=True)
            return None
        kinds = {"run": dict, "split": str, "benchmarks": dict, "dropped": dict}
        if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
            self._wrong(f"{path}: expected an object with {', '.join(kinds)}", blocks=True)
            return None
        if found["run"] != run.__dict__ or found["split"] != "test":
            self._wrong(f"{path}: found run {found['run']}, {found['split']}, expected {run.__dict__}, test")
        return found

    def _read(self, run: Run, scored: Mapping[str, Any]) -> None:
        """The rows of a run, with whatever does not fit their questions."""
        directory = self.layout.samples(run, "test")
        for path in sorted(directory.glob("*.jsonl")):
            if path.stem not in scored:
                self._wrong(f"{path}: found samples, expected none beside a score that has no '{path.stem}'")
        for name in scored:
            path = directory / f"{name}.jsonl"
            if name not in self.layout.scale.benchmarks:
                score_path = self.layout.score(run, "test")
                self._wrong(f"{score_path}, benchmarks: found '{name}', expected one of the scale's", blocks=True)
                continue
            try:
                rows = [row for _, row in read_jsonl(path)]
            except UserError as error:
                self._wrong(str(error), blocks=True)
                continue
            if self._fit(run, name, path, rows):
                self.rows[run, name] = rows
            else:
                self.complete = False

    def _fit(self, run: Run, name: str, path: Path, rows: list[dict[str, Any]]) -> bool:
        """Whether every row can be graded; what does not fit its question is told."""
        questions = self._items(name)
        if questions is None:
            return False
        if len(rows) != len(questions) or not rows:
            self._wrong(f"{path}: found {len(rows)} items, expected the {len(questions)} of the benchmark")
            return False
        usable = True
        for number, (row, question) in enumerate(zip(rows, questions, strict=True), start=1):
            if sentence := why_not_gradable(row, question, self.layout.scale.benchmark(name)):
                self._wrong(f"{path}, line {number}, {sentence}")
                usable = False
                continue
            if row["doc_hash"] not in self.hashes[name][number - 1]:
                asked = self.layout.benchmark(name, "test")
                self._wrong(f"{path}, line {number}, {question.id}: its doc_hash is not that of {asked}, line {number}")
            self._same_prompt(run, name, path, number, row)
        self.findings.checked["items' outputs"] += sum(len(outputs(row)) for row in rows) if usable else 0
        return usable

    def _items(self, name: str) -> list[Question] | None:
        """A benchmark's questions; None, told once, where they cannot be read."""
        if name not in self.questions and name not in self.unread:
            path = self.layout.benchmark(name, "test")
            try:
                questions = read_records(path, Question)
                # As written and as read today: a record may have got a field since.
                written = [row for _, row in read_jsonl(path)]
                pairs = zip(written, questions, strict=True)
                self.hashes[name] = [{doc_hash(row), doc_hash(question.model_dump())} for row, question in pairs]
                self.questions[name] = questions
            except UserError as error:
                self._wrong(str(error), blocks=True)
                self.unread.add(name)
        return self.questions.get(name)

    def _same_prompt(self, run: Run, name: str, path: Path, number: int, row: Mapping[str, Any]) -> None:
        """All runs of a student are asked alike."""
        key = (run.student, name, row["id"])
        before, where = self.prompts.setdefault(key, (row["prompt_hash"], path))
        if row["prompt_hash"] != before:
            self._wrong(f"{path}, line {number}, {row['id']}: its prompt_hash is not that of {where}, line {number}")

    def _graded(self) -> Graded:
        """Every answer that our graders judge, once."""
        asked: dict[tuple[str, str, str], tuple[Question, str]] = {}
        for (_, name), rows in self.rows.items():
            if self.layout.scale.benchmark(name).kind == "generate":
                for row, question in zip(rows, self.questions[name], strict=True):
                    if not self._judged_elsewhere(question):
                        asked |= {(name, question.id, text): (question, text) for text in outputs(row)}
        return dict(zip(asked, grade_many(list(asked.values())), strict=True))

    def _judged_elsewhere(self, question: Question) -> bool:
        """Whether a guard or classifier judged it, which is a model."""
        return question.grader == "refusal" and self.layout.scale.judge.backend != "rules"

    def _judged(self, run: Run, name: str, number: int, row: dict[str, Any], graded: Graded) -> dict[str, Any]:
        """`row` with verdicts given anew; one that differs is told."""
        question, found = self.questions[name][number - 1], verdicts(row)
        expected: list[Verdict]
        if self.layout.scale.benchmark(name).kind != "generate":
            expected = ["right" if letter == question.answer else "wrong" for letter in outputs(row)]
            self.findings.unseen["choices, whose likelihoods are not kept: their letters are graded"] += len(found)
        elif self._judged_elsewhere(question):
            expected = found
            judge = self.layout.scale.judge.backend
            self.findings.unseen[f"verdicts of a {judge}, which is a model: they are kept as they are"] += len(found)
        else:
            expected = [graded[name, question.id, text] for text in outputs(row)]
        if found != expected:
            path = self.layout.samples(run, "test") / f"{name}.jsonl"
            told = f"found verdict {', '.join(found)}, expected {', '.join(expected)}"
            self._wrong(f"{path}, line {number}, {question.id}: {told} on the stored output")
        return {**row, "verdicts": expected} if "verdicts" in row else {**row, "verdict": expected[0]}

    def _compare(self, run: Run, found: Mapping[str, Any]) -> None:
        """A run's scores with those of its rows, and what was dropped with what its training set asks."""
        path = self.layout.score(run, "test")
        for name, entry in found["benchmarks"].items():
            if (run, name) not in self.rows:
                continue
            if entry != (expected := score(self.rows[run, name])):
                self._wrong(f"{path}, benchmarks.{name}: found {entry}, expected {expected}")
            self.findings.checked["scores"] += 1
        if missing := set(self.layout.scale.benchmarks) - {*found["benchmarks"], *found["dropped"]}:
            self._wrong(f"{path}: found no score of {', '.join(sorted(missing))}, expected one, or why it was dropped")
        closed = self._closed(run)
        if closed is not None and found["dropped"] != closed:
            self._wrong(f"{path}, dropped: found {found['dropped']}, expected {closed}")

    def _closed(self, run: Run) -> dict[str, str] | None:
        """What a run may not be scored on; None where the groups or items that say so are not here."""
        if run.trainset not in self.closed:
            try:
                self.closed[run.trainset] = {**self.layout.unavailable(), **trained_on(self.layout, run, "test")}
            except UserError:
                self.closed[run.trainset] = None
                self.findings.unseen[f"columns that {run.trainset} closes, whose groups or items cannot be read"] = 0
        return self.closed[run.trainset]


def why_not_gradable(row: Mapping[str, Any], question: Question, benchmark: Benchmark) -> str | None:
    """What keeps `row` from being an answer to `question`, in words."""
    several = benchmark.kind == "generate" and benchmark.samples > 1
    keys = SAID | (SEVERAL if several else ONCE)
    if set(row) != keys:
        return f"{question.id}: found {', '.join(sorted(map(str, row)))}, expected {', '.join(sorted(keys))}"
    if row["id"] != question.id:
        return f"id: found '{row['id']}', expected '{question.id}'"
    texts, told = (row["outputs"], row["verdicts"]) if several else ([row["output"]], [row["verdict"]])
    count = benchmark.samples if several else 1
    if not all(isinstance(given, list) and len(given) == count for given in (texts, told)):
        return f"{question.id}: expected {count} outputs and verdicts"
    if not all(isinstance(text, str) for text in (*texts, *told, row["doc_hash"], row["prompt_hash"])):
        return f"{question.id}: expected outputs, verdicts and hashes that are text"
    letters = tuple(LETTERS[: len(question.choices)])
    if benchmark.kind != "generate" and texts[0] not in letters:
        return f"{question.id}, output: found '{texts[0]}', expected one of {', '.join(letters)}"
    return None


def doc_hash(item: Mapping[str, Any]) -> str:
    """The hash of an item as lm-eval logs it."""
    return hashlib.sha256(json.dumps(item, indent=2, ensure_ascii=False).encode()).hexdigest()
