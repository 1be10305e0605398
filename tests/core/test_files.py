"""Files are written whole or not at all, and bad lines are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from gdpo.core.files import finished_rows, read_jsonl, replacing, write_text
from gdpo.core.records import Question, Skills, normalised, read_records
from gdpo.core.result_files import TrainLog, read_stored
from tests.refusal import refused


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_replacing_replaces_a_whole_directory(tmp_path):
    path = tmp_path / "d"
    for name in ("first", "second"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["second"]


def test_kill_while_replacing_a_directory_keeps_the_old_one_whole(tmp_path, monkeypatch):
    """Killed at the second of two renames: the old one is whole, under a name that nothing reads."""
    path = tmp_path / "d"
    write_text(path / "first", "1")
    write_text(path / "second", "2")
    seen = []

    def killed(source, target):
        if Path(target) == path:
            seen.append({p.name: sorted(q.name for q in p.iterdir()) for p in tmp_path.iterdir()})
            raise KeyboardInterrupt
        os.rename(source, target)

    monkeypatch.setattr("gdpo.core.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "third").write_text("3")
    before = f".d.{os.getpid()}"
    assert seen == [{f"{before}.partial": ["third"], f"{before}.old.partial": ["first", "second"]}]


def test_replacing_removes_the_partial_of_a_killed_process_with_the_same_pid(tmp_path):
    """In a container numbers come again, so what it left stands under this process's temporary name."""
    path = tmp_path / "d"
    write_text(tmp_path / f".d.{os.getpid()}.partial" / "model-00003-of-00003.safetensors", "half")
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "model.safetensors").write_text("whole")
    assert [p.name for p in path.iterdir()] == ["model.safetensors"]


GOOD = '{"id": "1", "domain": "math", "source": "s", "question": "x", "answer": "1", "grader": "exact"}'


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("{", {"found": "Expecting property name", "expected": "a JSON object"}),
        ("[1]", {"found": "list", "expected": "a JSON object"}),
        ('{"id": "q"}', {"key": "domain", "problem": "Field required"}),
        (GOOD, {"key": "id", "found": "'1'", "expected": "another than line 1 has"}),
        (
            GOOD.replace('"answer": "1"', '"answer": " "'),
            {"key": "answer", "found": "none", "expected": "one for grader 'exact'"},
        ),
    ],
)
def test_read_records_names_a_bad_line(tmp_path, line, fields):
    path = tmp_path / "q.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with refused(path=path, line=2, **fields):
        read_records(path, Question)


def test_read_jsonl_names_a_missing_file(tmp_path):
    with refused(path="none.jsonl", problem="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_finished_rows_cuts_off_a_torn_last_line_and_keeps_line_separators(tmp_path):
    """A line separator within a text is no end of a line; a kill may tear even a character (here é)."""
    path = tmp_path / "cache.jsonl"
    assert finished_rows(path) == []
    whole = '{"text": "a\u2028b"}\n'.encode()
    path.write_bytes(whole + '{"text": "é'.encode()[:-1])
    assert finished_rows(path) == [{"text": "a\u2028b"}]
    assert path.read_bytes() == whole


def test_normalised_keeps_operators():
    assert normalised("What is 3 + 5?") == normalised("what is  3+5")
    assert normalised("3 + 5") != normalised("3 - 5")


@pytest.mark.parametrize(
    ("grader", "answer", "choices", "fits"),
    [
        ("letter", "B", ["x", "y"], True),
        ("letter", "C", ["x", "y"], False),
        ("letter", "AB", ["x", "y"], False),
        ("letter", "C", [], True),
        ("math", "", [], False),
        ("refusal", "", [], True),
    ],
)
def test_question_answer_fits_its_grader(grader, answer, choices, fits):
    def made():
        return Question(id="q", domain="math", source="s", question="x", answer=answer, grader=grader, choices=choices)

    if fits:
        assert made().answer == answer
    else:
        with pytest.raises(ValidationError, match=f"answer: found '{answer}'" if answer else "answer: found none"):
            made()


def test_skills_refuse_a_blank_name():
    with pytest.raises(ValidationError):
        Skills(id="q", skills={" ": "why"})
    assert Skills(id="q", skills={"a b": ""}).skills == {"a b": ""}


def test_read_stored_names_the_key_that_a_result_lacks(tmp_path):
    path = tmp_path / "train.json"
    write_text(path, '{"steps": 2, "watch": [{"step": 1, "reward": 0.5}]}')
    log = read_stored(path, TrainLog)
    assert (log["steps"], log["watch"][0]["reward"]) == (2, 0.5)
    with refused(path=path, key="loss", found="none", hint="make the result again"):
        log["loss"]
    with refused(path=path, key="watch.0.loss", found="none"):
        log["watch"][0]["loss"]
    write_text(path, '{"watch": [{"step": 1}]}')
    with refused(path=path, key="watch.0.reward", problem="Field required", hint="make the result again"):
        read_stored(path, TrainLog)
