"""A step whose input is missing says which command makes it."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from gdpo.cli import main as cli
from gdpo.cli.made_by import GROUPS, MAKERS, maker, naming_the_maker
from gdpo.core.errors import UserError
from tests.refusal import refused

ROOT = Path(__file__).resolve().parents[2]
GDPO = str(Path(sys.executable).with_name("gdpo"))
MICRO = Path("results/micro")


def written_by_the_workflow() -> set[tuple[str, str]]:
    """(step, file) of every file below results/SCALE, as docs/architecture.md has them from dry runs."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `gdpo ([^`]+)` \| [^|]+ \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    found = set()
    for step, cell in rows:
        for entry in re.findall(r"`([^`]+)`", cell):
            first, *endings = entry.split(", ")
            stem = first.rpartition(".")[0]
            found |= {(step, path) for path in (first, *(stem + ending for ending in endings))}
    return {(step, path) for step, path in found if not path.startswith("./")}


def test_every_file_of_the_workflow_has_its_maker():
    """But for a table's further files, the mark of a sweep, and groups by the other ways to make them."""
    found = written_by_the_workflow()
    assert len(found) > 40
    for step, path in found:
        if re.match(r"tables/\{table\}(_|\.md|\.tex)", path) or path == "sweep.done" or step in GROUPS.values():
            continue
        assert any(command.startswith(step) for pattern, command in MAKERS.items() if alike(pattern) == alike(path)), (
            step, path,
        )  # fmt: skip


def test_no_maker_is_of_another_step():
    found = {alike(path): step for step, path in written_by_the_workflow()}
    known = {alike(pattern): command for pattern, command in MAKERS.items() if alike(pattern) in found}
    assert len(known) > 30
    for pattern, command in known.items():
        steps = {step for step, path in written_by_the_workflow() if alike(path) == pattern}
        assert any(command.startswith(step) for step in steps), (pattern, command)


def alike(pattern: str) -> str:
    """The pattern whatever its names in braces are called, and a training set's card by its ending."""
    return re.sub(r"^\{\}_card|^metakl_card", "{}_card", re.sub(r"\{\w+\}", "{}", pattern))


@pytest.mark.parametrize("command", sorted(set(MAKERS.values())))
def test_every_maker_is_a_call_that_the_parser_takes(command):
    words = re.sub(r"\{seed\}", "0", re.sub(r"\{(?!seed)\w+\}", "x", command)).split()
    assert cli.parser().parse_args(words).scale == "tiny"


@pytest.mark.parametrize(
    ("path", "command", "made"),
    [
        ("trainsets/metakl.jsonl", "metakl select --trainset metakl", "trainsets/metakl.jsonl"),
        ("models/tiny-s/provenance.json", "model --name tiny-s", "models/tiny-s"),
        (
            "samples/tiny-s/metakl/sft~0.001/0/hop.jsonl",
            "evaluate --student tiny-s --trainset metakl --method sft~0.001 --seeds 0",
            "samples/tiny-s/metakl/sft~0.001/0",
        ),
        (
            "validation/scores/s/t/m/100.json",
            "evaluate --student s --trainset t --method m --seeds 100 --split validation",
            "validation/scores/s/t/m/100.json",
        ),
        ("benchmarks/test/hop.jsonl.provenance.json", "benchmark", "benchmarks/test/hop.jsonl"),
    ],
)  # fmt: skip
def test_the_maker_of_a_path(path, command, made):
    assert maker(MICRO / path, MICRO) == (command, MICRO / made)


def test_a_file_of_no_step_has_no_maker():
    assert maker(Path("elsewhere/pool.jsonl"), MICRO) is None
    assert maker(MICRO / "work/x.jsonl", MICRO) is None
    assert maker(Path("results/tiny/pool.jsonl"), MICRO) is None


def asked(**more) -> Namespace:
    return Namespace(**{"scale": "micro", "limit": None, "step": "train"} | more)


def test_the_sentence_has_the_command_and_the_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hint = (
        "`gdpo metakl sources --scale micro --limit 5` makes it, and with all that it needs "
        "`snakemake --cores all results/micro-limit5/pool.jsonl --config scale=micro limit=5`"
    )
    root = Path("results/micro-limit5")
    with refused(path="pool.jsonl", hint=hint), naming_the_maker(root, asked(limit=5)):
        raise UserError("no such file", path=root / "pool.jsonl")
    with refused(path="pool.jsonl", hint=hint), naming_the_maker(root, asked(limit=5)):
        (root / "pool.jsonl").read_text()


def test_other_errors_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MICRO.mkdir(parents=True)
    (MICRO / "pool.jsonl").touch()
    for error in (
        UserError(path=MICRO / "pool.jsonl", found="nothing"), UserError(key="x"),
        UserError(path=MICRO / "units.json", hint="known"), FileNotFoundError(2, "no", "other.txt"),
    ):  # fmt: skip
        with pytest.raises(type(error)) as caught, naming_the_maker(MICRO, asked()):
            raise error
        assert caught.value is error


CELL = "--student tiny-s --trainset metakl --method gdpo --seeds 0"
MISSING = {  # a step called where nothing is made yet -> the command that it names
    "metakl decontaminate": "gdpo metakl sources",
    "metakl annotate": "gdpo metakl decontaminate",
    "metakl merge": "gdpo metakl decontaminate",
    "metakl answer --model tiny-s": "gdpo metakl decontaminate",
    "metakl proficiency": "gdpo metakl answer --model tiny-s",
    "metakl select --trainset metakl": "gdpo metakl merge",
    "metakl card": "gdpo metakl sources",
    "teach respond --trainset metakl": "gdpo metakl select --trainset metakl",
    "teach reward --trainset metakl": "gdpo metakl select --trainset metakl",
    "teach part --trainset metakl-half": "gdpo metakl select --trainset metakl-half",
    f"train {CELL}": "gdpo teach reward --trainset metakl",
    f"noise {CELL}": "gdpo teach reward --trainset metakl",
    f"drift {CELL}": "gdpo benchmark",
    f"evaluate {CELL}": "gdpo benchmark",
    "bases": "gdpo pretrain --name tiny-s",
    "table --name table2": "snakemake --cores all results/micro/tables/table2.csv",
    "figure --name proficiency": "gdpo metakl proficiency",
    "publish --name table2": "gdpo table --name table2",
    "show": "gdpo publish --name table2",
    "claims": "gdpo metakl proficiency",
    "sweep": "gdpo evaluate --student tiny-s --trainset hard-only",
}


@pytest.mark.parametrize("step", MISSING)
def test_a_step_without_its_input_names_the_command_that_makes_it(step, preloaded, tmp_path):
    command = [GDPO, *step.split(), "--scale", "micro"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=preloaded)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"`{MISSING[step]}" in done.stderr and "--config scale=micro" in done.stderr


def test_a_missing_model_names_the_command_that_makes_it(preloaded, tmp_path):
    """Behind the benchmark's items, which are there."""
    for step in ("benchmark", "metakl sources", "metakl decontaminate"):
        subprocess.run([GDPO, *step.split(), "--scale", "micro"], cwd=tmp_path, env=preloaded, check=True)
    untrained = "--student tiny-s --trainset none --method origin --seeds 0"
    for step in (f"evaluate {untrained}", "metakl answer --model tiny-s"):
        command = [GDPO, *step.split(), "--scale", "micro"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=preloaded)
        assert done.returncode == 2 and "`gdpo model --name tiny-s --scale micro`" in done.stderr, done.stderr
