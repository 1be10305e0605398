"""Disks that are full, read-only or have lost the end of a file: one sentence, and nothing half-written under a name.

A write that fails is a system's write to a file system of some pages where root may mount one, or to /dev/full.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.cli import main as cli
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import Model
from gdpo.core.errors import UserError, disk_error
from gdpo.core.files import finished_rows, replacing, resumable_batches, write_csv, write_json, write_jsonl, write_text
from gdpo.core.project import PROJECT
from gdpo.core.records import Answers, Group, HeldoutItem, Question, Responses, Skills, read_records
from gdpo.models import checkpoints
from gdpo.models.request_log import Entry, Journal
from tests.refusal import refused
from tests.robustness.test_hostile import copied

FULL = r"found 'No space left on device', expected a disk with room and the rights to it"
SMALL = 64 * 1024  # bytes of a disk that is soon full


@pytest.fixture
def small(tmp_path):
    """A directory on a file system of SMALL bytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root, and not in every container, may mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def save_safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        temporary.mkdir()
        save_file({"a": torch.zeros(SMALL)}, temporary / "model.safetensors")


def save_torch(path: Path) -> None:
    import torch

    with replacing(path) as temporary:
        torch.save({"a": torch.zeros(SMALL)}, temporary)


WRITTEN = {
    "JSONL": lambda path: write_jsonl(path, ({"text": "x" * 1000} for _ in range(SMALL))),
    "JSON": lambda path: write_json(path, ["x" * 1000] * SMALL),
    "CSV": lambda path: write_csv(path, ["a"], ({"a": "x" * 1000} for _ in range(SMALL))),
    "text": lambda path: write_text(path, "x" * 10 * SMALL),
    "safetensors": save_safetensors,
}


@pytest.mark.outcome("old file whole, no other")
@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(small, write, old):
    path = small / "result"
    if old:
        path.write_text("old")
    with pytest.raises(UserError, match=rf"small/.*result\S*: {FULL}"):
        write(path)
    assert [(file.name, file.read_text()) for file in small.iterdir()] == ([("result", "old")] if old else [])


@pytest.mark.outcome("old file whole, no other")
def test_what_torch_says_of_a_full_disk_is_understood(small):
    with pytest.raises(UserError, match=r"small/result: found '.*inline_container.*', expected a disk with room"):
        save_torch(small / "result")
    assert not list(small.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_disk_is_to_blame_for_is_one_sentence(tmp_path, number):
    """And an error of ours is left one, with its traceback."""
    with (
        pytest.raises(UserError, match=rf"result: found '{os.strerror(number)}', expected"),
        replacing(tmp_path / "result"),
    ):
        raise OSError(number, os.strerror(number))
    for ours in (OSError(errno.ECONNRESET, "reset"), RuntimeError("ours"), FileNotFoundError(errno.ENOENT, "none")):
        assert disk_error(ours) is None
        with pytest.raises(type(ours)), replacing(tmp_path / "result"):
            raise ours
    assert not list(tmp_path.iterdir())


def run(monkeypatch, capsys, *arguments: str) -> str:
    """What `gdpo ARGUMENTS` says as it exits with 2."""
    monkeypatch.setattr("gdpo.core.terminal._terminal", sys.stderr)
    monkeypatch.setattr(sys, "argv", ["gdpo", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1, said
    return said


def test_a_read_only_results_directory_is_one_sentence(small, monkeypatch, capsys):
    monkeypatch.chdir(small)
    Path("results").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    said = run(monkeypatch, capsys, "metakl", "sources", "--scale", "micro")
    assert said.startswith("gdpo: results/micro") and "found 'Read-only file system'" in said
    command = [
        sys.executable,
        "-m",
        "gdpo.cli",
        "metakl",
        "sources",
        "--scale",
        "micro",
        "--log",
        "results/logs/a.log",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "logs: found 'Read-only file system', expected a disk with room" in done.stderr


def test_a_file_where_results_belong_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("results").write_text("")
    said = run(monkeypatch, capsys, "metakl", "sources", "--scale", "micro")
    assert said == "gdpo: results/micro: found 'Not a directory', expected directories above it\n"


@pytest.mark.outcome("recovered")
def test_a_disk_that_fills_amid_a_cache_keeps_what_was_whole(small):
    """The batch that did not fit is made again, and no other."""
    path, made = small / "cache.jsonl", []

    def batches(done):
        for number in range(done, 3):
            made.append(number)
            yield [number], ["x" * (1000 if number < 2 else 10 * SMALL)]

    with pytest.raises(UserError, match=FULL):
        resumable_batches(path, "entries", 3, batches)
    assert made == [0, 1, 2]
    assert len(finished_rows(path)) == 2
    with pytest.raises(UserError, match=FULL):
        resumable_batches(path, "entries", 3, batches)
    assert made == [0, 1, 2, 2]


@pytest.mark.outcome("recovered")
def test_a_disk_that_fills_amid_a_journal_keeps_what_was_paid_for(small):
    path = small / "journal"
    reply = Entry(event="replied", id="a", prompt=1, completion=1, reply="x" * 1000)
    with Journal(path) as journal:
        journal.write(reply)
    with pytest.raises(UserError, match=rf"journal: {FULL}"), Journal(path) as journal:
        journal.write(reply.model_copy(update={"id": "b", "reply": "x" * 10 * SMALL}))
    with Journal(path) as journal:
        assert list(journal.replies) == ["a"]
    assert len(path.read_bytes().splitlines()) == 1


# Models and checkpoints


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_model_that_lost_its_end_is_named(student, tmp_path, kept):
    """As a reference, and where it was fetched whole and lost its end since."""
    from gdpo.models.choice_likelihood import Scorer
    from gdpo.models.sampling_hf import Generator

    copy = copied(student, tmp_path / "model")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:kept])
    named = rf"{copy}/model\.safetensors: found .*, expected a whole safetensors file"
    with pytest.raises(UserError, match=named):
        checkpoints.fetch(Model(display="M", reference=f"dir:{copy}"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for load in (Generator, Scorer):
        with pytest.raises(UserError, match=named):
            load(copy, "float32")


@pytest.fixture
def trained(student, groups, tmp_path):
    """`train(work, out)`: SFT for two steps, each saved as a checkpoint."""
    import torch

    from gdpo.config.models import Method
    from gdpo.students import common, train_run

    torch.set_num_threads(1)
    settings = dict(load_scale("micro").methods["sft"].model_dump(), epochs=1, batch_size=4, micro_batch_size=4)

    def train(work: Path, out: Path):
        return train_run(base=student, method=Method(**settings), groups=groups, out=out, work=work, seed=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "CHECKPOINT_STEPS", 1)
        yield train


def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_leaves_no_model(trained, small, tmp_path):
    with pytest.raises(UserError, match=r"small/work.*expected a disk with room"):
        trained(small / "work", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.outcome("recovered")
@pytest.mark.parametrize("state", [None, "", '{"epoch": 1.0, "global_st', "{}"])
def test_a_half_written_checkpoint_is_never_read(trained, tmp_path, state, capfd):
    """Its weights are no weights at all: the run starts anew, and ends in the model that it would have ended in."""
    from safetensors.torch import load_file

    torn = tmp_path / "work" / "checkpoint-1"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"half")
    if state is not None:
        (torn / "trainer_state.json").write_text(state)
    trained(tmp_path / "work", tmp_path / "resumed")
    trained(tmp_path / "other", tmp_path / "straight")
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("resumed", "straight"))
    assert all(found[name].equal(expected[name]) for name in expected)


# Damaged lines

QUESTION = {"id": "q", "domain": "math", "source": "s", "question": "?", "answer": "1", "grader": "exact"}
ROWS = {
    Question: QUESTION,
    Skills: {"id": "q", "skills": {"a_skill": "why"}},
    HeldoutItem: {"benchmark": "b", "item": QUESTION},
    Answers: {"id": "q", "outputs": ["1"], "verdicts": ["right"], "accuracy": 1.0},
    Responses: {"id": "q", "model": "m", "completions": ["1"]},
    Group: {"id": "q", "domain": "math", "prompt": [], "completions": ["1"], "rewards": [1.0]},
}
DAMAGE = {
    "cut off": lambda line: line[: len(line) // 2],
    "zeros": lambda line: b"\0" * len(line),
    "no UTF-8": lambda line: line[:9] + b"\xff\xfe" + line[11:],
    "two in one": lambda line: line + line,
    "a list": lambda line: b"[" + line + b"]",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ROWS)
def test_a_damaged_line_of_a_result_is_named(tmp_path, kind, damage):
    lines = [json.dumps(ROWS[kind] | ({"id": f"q{n}"} if "id" in ROWS[kind] else {})).encode() for n in range(3)]
    assert kind is HeldoutItem or len(read_back(tmp_path / "whole.jsonl", lines, kind)) == 3
    with refused(path="f.jsonl", found="", expected="") as error:
        read_back(tmp_path / "f.jsonl", [lines[0], damage(lines[1]), lines[2]], kind)
    assert error.value.line in (None, 2, 3)
    assert "\n" not in str(error.value)


def read_back(path: Path, lines: list[bytes], kind):
    path.write_bytes(b"\n".join([*lines, b""]))
    return read_records(path, kind)


@pytest.mark.outcome("told, and its end made again")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_of_a_cache_is_named_and_its_end_is_made_again(tmp_path, damage):
    path = tmp_path / "cache.jsonl"
    lines = [json.dumps({"indices": [n], "completions": [[str(n)]]}).encode() for n in range(3)]

    def batches(done):
        for number in range(done, 3):
            yield [number], [[str(number)]]

    path.write_bytes(b"\n".join([*lines[:2], lines[2][:9]]))
    assert resumable_batches(path, "completions", 3, batches) == [["0"], ["1"], ["2"]]
    assert path.read_text().count("\n") == 3
    path.write_bytes(b"\n".join([lines[0], damage(lines[1]), lines[2], b""]))
    with refused(path="cache.jsonl", line=2, hint="delete the file to make all of it again"):
        resumable_batches(path, "completions", 3, batches)


def test_a_cache_of_something_else_is_named(tmp_path):
    write_jsonl(tmp_path / "cache.jsonl", [{"question": "?"}])
    with refused(line=1, found="other entries", expected="'indices' and as many 'completions'"):
        resumable_batches(tmp_path / "cache.jsonl", "completions", 1, lambda done: [])


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_of_a_journal_is_named(tmp_path, damage):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        for name in "abc":
            journal.write(Entry(event="replied", id=name, prompt=1, completion=1, reply="x"))
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, damage(second), third, b""]))
    before = path.read_bytes()
    with refused(path="journal", line=2, found="", expected="an entry of the journal"), Journal(path):
        pass
    assert path.read_bytes() == before


def test_a_truncated_archive_of_rows_is_named(tmp_path):
    import gzip

    whole = gzip.compress(b"".join(json.dumps(QUESTION | {"id": f"q{n}"}).encode() + b"\n" for n in range(500)))
    for damaged in (whole[: len(whole) // 2], whole[:20] + b"\xff" * 40 + whole[60:], b"not gzip at all"):
        (tmp_path / "f.jsonl.gz").write_bytes(damaged)
        with refused(path="f.jsonl.gz", expected=""):
            read_records(tmp_path / "f.jsonl.gz", Question)


# Snakemake


@pytest.mark.outcome("recovered")
@pytest.mark.long
def test_a_stale_lock_is_named_and_removed_by_what_snakemake_says(tmp_path):
    """A killed Snakemake leaves its lock: the next one says so and does nothing, and --unlock clears it."""
    project = PROJECT
    command = [sys.executable, "-m", "snakemake", "--snakefile", project / "Snakefile", "--cores", "1"]
    target = str(Layout(load_scale("micro")).pool)
    command = [*map(str, command), "--config", "scale=micro", "--directory", str(tmp_path)]
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(str((tmp_path / target).resolve()) + f"\n{target}\n")
    stopped = subprocess.run([*command, target], capture_output=True, text=True)
    assert stopped.returncode and "--unlock" in stopped.stdout + stopped.stderr
    assert not (tmp_path / target).exists()
    assert subprocess.run([*command, "--unlock", target], capture_output=True).returncode == 0
    assert not list(locks.glob("*"))
