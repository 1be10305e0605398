"""What chance has changed: a scale, lines between steps, stored results, the command line, through their readers.

Only success and UserError, in one sentence, are allowed; whatever else a reader raises is a bug.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdpo.cli import main as cli
from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale, merge
from gdpo.config.models import Import
from gdpo.config.yaml_loader import parsed
from gdpo.core.errors import UserError
from gdpo.core.project import CONFIG
from gdpo.core.records import Answers, Group, HeldoutItem, Question, Responses, Skills, read_records
from gdpo.core.result_files import (
    DriftResult,
    MeasuredRun,
    NoiseResult,
    Provenance,
    QuestionOrGroup,
    RunScores,
    Sample,
    TrainLog,
    read_rows,
    read_stored,
)
from gdpo.ops.verify.findings import Findings
from gdpo.ops.verify.outputs import Outputs
from gdpo.ops.verify.records import Records
from gdpo.ops.verify.target import target
from gdpo.teach.imports import read_imported
from tests.ops.test_verify import LIMIT, ROOT, RUN, TABLE, finished  # noqa: F401

MICRO = merge(*(parsed(CONFIG / f"{name}.yaml") for name in ("tiny", "micro"))) | {"scale": "fuzzed"}
del MICRO["extends"]
SMOL = parsed(CONFIG / "smol.yaml")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", " ", "\0", "a/b", "../x", "1e400", "2024-13-45", "0x", "~", "=", "<<", "\ud800"]),
    st.sampled_from([-1, 0, 2**70]),
    st.dates(),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=2),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.none()), st.integers(), max_size=2),
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below `value`."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, entry in list(pairs) for place in [(value, key), *places(entry)]]


@st.composite
def mutated(draw: Callable, start: Any) -> Any:
    """`start` with one to four changes: an entry dropped, replaced, wrapped, moved, or its key renamed or copied."""
    changed = copy.deepcopy(start)
    for _ in range(draw(st.integers(1, 4))):
        found = places(changed)
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        entry = container[key]
        change = draw(st.sampled_from(["drop", "replace", "replace", "wrap", "rename", "copy", "swap"]))
        if change == "drop":
            del container[key]
        elif change == "replace":
            container[key] = draw(ODD)
        elif change == "wrap":
            container[key] = [entry] if draw(st.booleans()) else {"a": entry}
        elif change == "swap":
            other, at = found[draw(st.integers(0, len(found) - 1))]
            container[key] = copy.deepcopy(other[at])
        elif isinstance(container, list):
            container.append(copy.deepcopy(entry))
        else:
            container[draw(st.one_of(st.text(max_size=4), st.integers()))] = copy.deepcopy(entry)
            if change == "rename":
                del container[key]
    return changed


@st.composite
def broken(draw: Callable, text: bytes) -> bytes:
    """`text` as it is, or cut off, or with a few bytes changed or a line twice."""
    how = draw(st.sampled_from(["whole", "whole", "cut", "bytes", "twice"]))
    if how == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if how == "twice":
        lines = text.splitlines(keepends=True)
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        return b"".join([*lines[:at], *lines[at : at + 1] * 2, *lines[at + 1 :]])
    if how == "bytes" and text:
        changed = bytearray(text)
        for _ in range(draw(st.integers(1, 3))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    return text


def survives(call: Callable[[], Any]) -> None:
    try:
        call()
    except UserError as error:
        assert "\n" not in str(error)
    except SystemExit as ended:  # of a command that only groups others, which prints its help
        assert not ended.code


def fuzzed(examples: int) -> Callable:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def check_scales(directory: Path, examples: int) -> None:
    @fuzzed(examples)
    @given(st.data(), st.sampled_from([MICRO, SMOL]), st.sampled_from([None, 4]))
    def check(data: st.DataObject, start: Mapping, limit: int | None) -> None:
        changed = data.draw(mutated(start))
        text = yaml.dump(changed, allow_unicode=True, Dumper=yaml.Dumper).encode("utf-8", "surrogatepass")
        path = directory / "fuzzed.yaml"
        path.write_bytes(data.draw(broken(text)))
        survives(lambda: load_scale(path, limit))

    check()


QUESTION = {
    "id": "a", "domain": "math", "source": "s", "question": "q?", "choices": ["x", "y"], "answer": "A",
    "grader": "letter", "solution": "A", "difficulty": 0.5, "topics": ["t"], "units": ["u"],
}  # fmt: skip
PARTS = {"verdict": "right", "correctness": 1.0, "format": 0.5, "length": 0.5, "total": 2.0}
ROWS: dict[type, dict[str, Any]] = {
    Question: QUESTION,
    HeldoutItem: {"benchmark": "b", "item": QUESTION},
    Skills: {"id": "a", "skills": {"add": "two numbers"}},
    Answers: {"id": "a", "outputs": ["1"], "verdicts": ["right"], "accuracy": 1.0},
    Responses: {"id": "a", "model": "m", "completions": ["1", "2"], "gold": 1},
    Group: {
        "id": "a", "domain": "math", "prompt": [{"role": "user", "content": "q"}], "completions": ["1"],
        "rewards": [2.0], "parts": [PARTS],
    },
}  # fmt: skip
OURS = {"prompt": [{"role": "user", "content": "q"}], "completions": ["1", "2"], "rewards": [1.0, 0.0]}
THEIRS = {"question": "q", "answers": {"m": {"text": "1", "ok": True}, "n": {"text": "2", "ok": 0}}}
LAYOUTS = [
    (OURS, Import(rewards="rewards")),
    (THEIRS, Import(prompt="question", completions="answers.*.text", right="answers.*.ok")),
    (OURS, Import(completions="completions.0", answer="rewards.0")),
]


def check_lines(directory: Path, examples: int) -> None:
    @fuzzed(examples)
    @given(st.data(), st.sampled_from([*ROWS.items(), *LAYOUTS]))
    def check(data: st.DataObject, chosen: tuple) -> None:
        start = next(part for part in chosen if isinstance(part, dict))
        rows = [start, data.draw(mutated(start)), data.draw(mutated(start))]
        text = "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()
        path = directory / "fuzzed.jsonl"
        path.write_bytes(data.draw(broken(text)))
        if isinstance(chosen[0], type):
            survives(lambda: read_records(path, chosen[0]))
        else:
            survives(lambda: read_imported([path], [chosen[1]], "Say it."))

    check()


STORED = {
    Sample: {"id": "a", "doc_hash": "h", "prompt_hash": "p", "outputs": ["1", "2"], "verdicts": ["right", "wrong"]},
    RunScores: {
        "run": {}, "split": "test", "benchmarks": {"b": {"score": 0.5, "ungradable": 0.0, "n": 2}}, "dropped": {},
    },
    Provenance: {
        "step": "train", "result": "r", "config_hash": "h", "settings": {}, "wall_seconds": 1.5, "cpu_seconds": 1,
        "peak_memory_mb": 3, "hardware": {"cpus": 2}, "packages": {"torch": "2"}, "code": "c",
    },
    TrainLog: {
        "run": {}, "steps": 2, "seconds": 1.0, "groups": 3, "memory_mb": {"peak": 1.0}, "log": [{"loss": 1.0}],
        "watch": [{"step": 1, "reward": 0.5, "seconds": 1.0, "completions": 0}],
    },
    NoiseResult: {"noise": 1.0, "noise_low": 0.5, "noise_high": None},
    DriftResult: {"kl": 0.1},
    MeasuredRun: {
        "gold": {"b": {"nll": [1.5, None], "tokens": [2, 0]}}, "text": {"nll": [], "tokens": []}, "cut": {"b": [1]},
        "kl": {"forward": 0.1, "reverse": None, "tokens": [3, 0]}, "new_task": ["b"],
    },
    QuestionOrGroup: {"domain": "math", "completions": ["1"], "rewards": [1.0], "parts": [{"verdict": "right"}]},
}  # fmt: skip


def check_stored(directory: Path, examples: int) -> None:
    @fuzzed(examples)
    @given(st.data(), st.sampled_from(list(STORED.items())))
    def check(data: st.DataObject, chosen: tuple) -> None:
        kind, start = chosen
        text = json.dumps(data.draw(mutated(start)), default=str).encode()
        path = directory / "fuzzed.json"
        path.write_bytes(data.draw(broken(text)) + b"\n")
        survives(lambda: read_stored(path, kind))
        survives(lambda: list(read_rows(path, kind)))

    check()


def check_verified(directory: Path, examples: int) -> None:
    """One run of a finished table: a file of it is changed, and all is read of it that `gdpo verify` reads."""
    layout = Layout(load_scale("micro", LIMIT))
    runs = [Run(*RUN.split("/")[:3], int(RUN.split("/")[3]))]
    places = [
        *sorted((directory / ROOT / "samples" / RUN).glob("*.jsonl")), directory / ROOT / f"scores/{RUN}.json",
        directory / ROOT / f"scores/{RUN}.json.provenance.json", directory / ROOT / f"runs/{RUN}/provenance.json",
        directory / ROOT / f"runs/{RUN}/train.json", directory / f"{TABLE}.provenance.json",
    ]  # fmt: skip

    def verified() -> None:
        findings = Findings()
        Records(layout, runs, target(layout.scale, TABLE), findings).check()
        Outputs(layout, runs, findings).check()
        assert all("\n" not in str(disagreement) for disagreement in findings.disagreements)

    @fuzzed(examples)
    @given(st.data(), st.sampled_from(places))
    def check(data: st.DataObject, path: Path) -> None:
        whole = path.read_bytes()
        try:
            if path.suffix == ".json":
                text = json.dumps(data.draw(mutated(json.loads(whole))), default=str).encode()
            else:
                rows = [json.loads(line) for line in whole.splitlines()]
                text = "".join(json.dumps(row, default=str) + "\n" for row in data.draw(mutated(rows))).encode()
            path.write_bytes(data.draw(broken(text)))
            survives(verified)
        finally:
            path.write_bytes(whole)

    check()


def vocabulary() -> tuple[list[str], list[str]]:
    """The words of the command line: steps and options, as the parser has them."""
    steps, options, below = [], [], [cli.parser()]
    while below:
        for action in below.pop()._actions:
            options += action.option_strings
            if isinstance(action.choices, dict):
                steps += action.choices
                below += action.choices.values()
    return sorted(set(steps)), sorted({*options} - {"-h", "--help", "--version"})


VALUES = [
    "micro", "tiny", "paper", "mirco", "own.yaml", "", "0", "-1", "3", "9" * 30, "x", "none", "origin", "tiny-s",
    "metakl", "sft", "sft~1", "sft~x", "table2", "results/table2.csv", "/", "..", "a/b", "é", "\ud800", "\x1b[2J",
    "test", "all",
]  # fmt: skip


def check_commands(directory: Path, examples: int, patch: pytest.MonkeyPatch) -> None:
    """Arguments up to the step itself, which is not called, nor anything that would start another process."""
    patch.chdir(directory)
    for name in (
        "runtime.launch.start", "runtime.vllm_environment.enter", "core.terminal.redirect",
        "runtime.parent_watchdog.watch",
    ):  # fmt: skip
        patch.setattr(f"gdpo.{name}", lambda *arguments: None)
    for room in (
        "tiny", "metakl", "teach", "students", "evaluate", "report", "ops.verify", "ops.doctor", "ops.plan",
    ):  # fmt: skip
        patch.setattr(f"gdpo.{room}.steps", Nothing(), raising=False)
    patch.setattr("gdpo.trainer.fit.fit", lambda given: None)
    patch.setattr(os, "environ", dict(os.environ))
    steps, options = vocabulary()
    words = st.one_of(st.sampled_from(options), st.sampled_from(VALUES), st.sampled_from(steps), st.text(max_size=4))
    words = words.filter(lambda word: "\0" not in word)  # which no command line can have

    @fuzzed(examples)
    @given(st.sampled_from(steps), st.lists(words, max_size=9))
    def check(first: str, more: list[str]) -> None:
        arguments = [first, *more]
        survives(lambda: cli.run(cli.parser().parse_args(arguments)))

    check()


class Nothing:
    """A room of which every step does nothing."""

    def __getattr__(self, name: str) -> Callable:
        return lambda *arguments, **options: None


def test_a_changed_scale_loads_or_ends_in_one_sentence(tmp_path: Path) -> None:
    check_scales(tmp_path, 100)


def test_changed_lines_are_read_or_end_in_one_sentence(tmp_path: Path) -> None:
    check_lines(tmp_path, 200)


def test_a_changed_result_is_read_or_ends_in_one_sentence(tmp_path: Path) -> None:
    check_stored(tmp_path, 200)


def test_a_command_line_is_obeyed_or_ends_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_commands(tmp_path, 100, monkeypatch)


@pytest.mark.long
def test_verify_reports_or_ends_in_one_sentence(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(request.getfixturevalue("finished"), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    check_verified(tmp_path / "copy", 300)


@pytest.mark.long
def test_many_changed_results_are_read_or_end_in_one_sentence(tmp_path: Path) -> None:
    check_stored(tmp_path, 2000)


@pytest.mark.long
def test_many_command_lines_are_obeyed_or_end_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_commands(tmp_path, 1000, monkeypatch)


@pytest.mark.long
def test_many_changed_scales_load_or_end_in_one_sentence(tmp_path: Path) -> None:
    check_scales(tmp_path, 2000)


@pytest.mark.long
def test_many_changed_lines_are_read_or_end_in_one_sentence(tmp_path: Path) -> None:
    check_lines(tmp_path, 3000)
