"""Stored outputs, read and graded again: each item's verdict, each benchmark's score, and what was dropped."""

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
Verdicts = dict[tuple[str, str, str], Verdict]  # by benchmark, item and output

ROW_KEYS = {"id", "doc_hash", "prompt_hash"}
ONE_OUTPUT, SEVERAL_OUTPUTS = {"output", "verdict"}, {"outputs", "verdicts"}


class Regraded(Scores):
    """Scores by the verdicts of rows that were graded again, in place of the stored ones."""

    def __init__(self, layout: Layout, rows: Rows):
        super().__init__(layout)
        self.rows = rows

    def items(self, run: Run, benchmark: str) -> Sequence[SampleRow] | None:
        return self.rows.get((run, benchmark))


class Outputs:
    """The samples and scores of `runs`; `rows` are those that could be read, with their verdicts given again."""

    def __init__(self, layout: Layout, runs: Iterable[Run], findings: Findings):
        self.layout, self.runs, self.findings = layout, list(runs), findings
        self.complete = True  # whether a table can be made from `rows`
        self.questions: dict[str, list[Question]] = {}
        self.unreadable: set[str] = set()  # benchmarks whose questions cannot be read
        self.hashes: dict[str, list[set[str]]] = {}
        self.prompts: dict[tuple[str, str, str], tuple[str, Path]] = {}
        self.dropped: dict[str, dict[str, str] | None] = {}  # training set -> benchmark -> why it is not scored
        self.rows: Rows = {}

    def check(self) -> None:
        scores = {run: score for run in self.runs if (score := self._score(run)) is not None}
        for run, stored in scores.items():
            self._read(run, stored["benchmarks"])
        graded = self._grade()
        for (run, name), rows in self.rows.items():
            self.rows[run, name] = [self._regraded(run, name, n, row, graded) for n, row in enumerate(rows, start=1)]
        for run, stored in scores.items():
            self._compare(run, stored)

    def _incomplete(self, error: UserError) -> None:
        """Note what keeps the table from being made."""
        self.findings.disagreements.append(error)
        self.complete = False

    def _score(self, run: Run) -> dict[str, Any] | None:
        path = self.layout.score(run, "test")
        try:
            stored = read_json(path)
        except UserError as error:
            self._incomplete(error)
            return None
        kinds = {"run": dict, "split": str, "benchmarks": dict, "dropped": dict}
        if not isinstance(stored, dict) or not all(isinstance(stored.get(key), kind) for key, kind in kinds.items()):
            self._incomplete(UserError(path=path, expected=f"an object with {', '.join(kinds)}"))
            return None
        if stored["run"] != run.__dict__ or stored["split"] != "test":
            found = f"run {stored['run']}, {stored['split']}"
            self.findings.disagree(path=path, found=found, expected=f"{run.__dict__}, test")
        return stored

    def _read(self, run: Run, scored: Mapping[str, Any]) -> None:
        """Read the rows of a run, and note what does not fit their questions."""
        directory = self.layout.samples(run, "test")
        for path in sorted(directory.glob("*.jsonl")):
            if path.stem not in scored:
                expected = f"none beside a score that has no '{path.stem}'"
                self.findings.disagree(path=path, found="samples", expected=expected)
        for name in scored:
            path = directory / f"{name}.jsonl"
            if name not in self.layout.scale.benchmarks:
                score_path = self.layout.score(run, "test")
                expected = "one of the scale's"
                self._incomplete(UserError(path=score_path, key="benchmarks", found=f"'{name}'", expected=expected))
                continue
            try:
                rows = [row for _, row in read_jsonl(path)]
            except UserError as error:
                self._incomplete(error)
                continue
            if self._fit(run, name, path, rows):
                self.rows[run, name] = rows
            else:
                self.complete = False

    def _fit(self, run: Run, name: str, path: Path, rows: list[dict[str, Any]]) -> bool:
        """Whether every row can be graded; notes what does not fit its question."""
        questions = self._items(name)
        if questions is None:
            return False
        if len(rows) != len(questions) or not rows:
            expected = f"the {len(questions)} of the benchmark"
            self.findings.disagree(path=path, found=f"{len(rows)} items", expected=expected)
            return False
        gradable = True
        for number, (row, question) in enumerate(zip(rows, questions, strict=True), start=1):
            if fields := why_not_gradable(row, question, self.layout.scale.benchmark(name)):
                self.findings.disagree(path=path, line=number, **fields)
                gradable = False
                continue
            if row["doc_hash"] not in self.hashes[name][number - 1]:
                problem = f"its doc_hash is not that of {self.layout.benchmark(name, 'test')}, line {number}"
                self.findings.disagree(problem, path=path, line=number, key=question.id)
            self._same_prompt(run, name, path, number, row)
        self.findings.checked["items' outputs"] += sum(len(outputs(row)) for row in rows) if gradable else 0
        return gradable

    def _items(self, name: str) -> list[Question] | None:
        """A benchmark's questions; None where they cannot be read, which the first call notes."""
        if name not in self.questions and name not in self.unreadable:
            path = self.layout.benchmark(name, "test")
            try:
                questions = read_records(path, Question)
                # As written and as read today: a record may have got a field since.
                written = [row for _, row in read_jsonl(path)]
                pairs = zip(written, questions, strict=True)
                self.hashes[name] = [{doc_hash(row), doc_hash(question.model_dump())} for row, question in pairs]
                self.questions[name] = questions
            except UserError as error:
                self._incomplete(error)
                self.unreadable.add(name)
        return self.questions.get(name)

    def _same_prompt(self, run: Run, name: str, path: Path, number: int, row: Mapping[str, Any]) -> None:
        """All runs of a student get the same prompt for an item."""
        key = (run.student, name, row["id"])
        prompt_hash, first_path = self.prompts.setdefault(key, (row["prompt_hash"], path))
        if row["prompt_hash"] != prompt_hash:
            problem = f"its prompt_hash is not that of {first_path}, line {number}"
            self.findings.disagree(problem, path=path, line=number, key=row["id"])

    def _grade(self) -> Verdicts:
        """The verdict on every output that a rule grades, once each."""
        answers: dict[tuple[str, str, str], tuple[Question, str]] = {}
        for (_, name), rows in self.rows.items():
            if self.layout.scale.benchmark(name).kind == "generate":
                for row, question in zip(rows, self.questions[name], strict=True):
                    if not self._graded_by_model(question):
                        answers |= {(name, question.id, text): (question, text) for text in outputs(row)}
        return dict(zip(answers, grade_many(list(answers.values())), strict=True))

    def _graded_by_model(self, question: Question) -> bool:
        """Whether a guard or classifier, which is a model, judges the question's answers."""
        return question.grader == "refusal" and self.layout.scale.judge.backend != "rules"

    def _regraded(self, run: Run, name: str, number: int, row: dict[str, Any], graded: Verdicts) -> dict[str, Any]:
        """`row` with its verdicts given again; notes those that differ."""
        question, stored = self.questions[name][number - 1], verdicts(row)
        expected: list[Verdict]
        if self.layout.scale.benchmark(name).kind != "generate":
            expected = ["right" if letter == question.answer else "wrong" for letter in outputs(row)]
            unproved = "choices, whose likelihoods are not kept: their letters are graded"
            self.findings.unproved[unproved] += len(stored)
        elif self._graded_by_model(question):
            expected = stored
            judge = self.layout.scale.judge.backend
            unproved = f"verdicts of a {judge}, which is a model: they are kept as they are"
            self.findings.unproved[unproved] += len(stored)
        else:
            expected = [graded[name, question.id, text] for text in outputs(row)]
        if stored != expected:
            self.findings.disagree(
                path=self.layout.samples(run, "test") / f"{name}.jsonl",
                line=number,
                key=question.id,
                found=f"verdict {', '.join(stored)}",
                expected=f"{', '.join(expected)} on the stored output",
            )
        return {**row, "verdicts": expected} if "verdicts" in row else {**row, "verdict": expected[0]}

    def _compare(self, run: Run, stored: Mapping[str, Any]) -> None:
        """Compare a run's scores with those of its rows, and what it dropped with what its training set asks."""
        path = self.layout.score(run, "test")
        for name, entry in stored["benchmarks"].items():
            if (run, name) not in self.rows:
                continue
            if entry != (expected := score(self.rows[run, name])):
                self.findings.disagree(path=path, key=f"benchmarks.{name}", found=str(entry), expected=str(expected))
            self.findings.checked["scores"] += 1
        if missing := set(self.layout.scale.benchmarks) - {*stored["benchmarks"], *stored["dropped"]}:
            found = f"no score of {', '.join(sorted(missing))}"
            self.findings.disagree(path=path, found=found, expected="one, or why it was dropped")
        dropped = self._dropped(run)
        if dropped is not None and stored["dropped"] != dropped:
            self.findings.disagree(path=path, key="dropped", found=str(stored["dropped"]), expected=str(dropped))

    def _dropped(self, run: Run) -> dict[str, str] | None:
        """What a run may not be scored on, and why; None where the groups or items that tell cannot be read."""
        if run.trainset not in self.dropped:
            try:
                reasons = {**self.layout.unavailable(), **trained_on(self.layout, run, "test")}
                self.dropped[run.trainset] = reasons
            except UserError:
                self.dropped[run.trainset] = None
                unproved = f"columns that {run.trainset} closes, whose groups or items cannot be read"
                self.findings.unproved[unproved] = 0
        return self.dropped[run.trainset]


def why_not_gradable(row: Mapping[str, Any], question: Question, benchmark: Benchmark) -> dict[str, str]:
    """What keeps `row` from being an answer to `question`, as fields of UserError; none where it is one."""
    several = benchmark.kind == "generate" and benchmark.samples > 1
    keys = ROW_KEYS | (SEVERAL_OUTPUTS if several else ONE_OUTPUT)
    if set(row) != keys:
        found = ", ".join(sorted(map(str, row)))
        return {"key": question.id, "found": found, "expected": ", ".join(sorted(keys))}
    if row["id"] != question.id:
        return {"key": "id", "found": f"'{row['id']}'", "expected": f"'{question.id}'"}
    texts, given = (row["outputs"], row["verdicts"]) if several else ([row["output"]], [row["verdict"]])
    count = benchmark.samples if several else 1
    if not all(isinstance(values, list) and len(values) == count for values in (texts, given)):
        return {"key": question.id, "expected": f"{count} outputs and verdicts"}
    if not all(isinstance(text, str) for text in (*texts, *given, row["doc_hash"], row["prompt_hash"])):
        return {"key": question.id, "expected": "outputs, verdicts and hashes that are text"}
    letters = tuple(LETTERS[: len(question.choices)])
    if benchmark.kind != "generate" and texts[0] not in letters:
        key = f"{question.id}, output"
        return {"key": key, "found": f"'{texts[0]}'", "expected": f"one of {', '.join(letters)}"}
    return {}


def doc_hash(item: Mapping[str, Any]) -> str:
    """The hash of an item as lm-eval logs it."""
    return hashlib.sha256(json.dumps(item, indent=2, ensure_ascii=False).encode()).hexdigest()
