"""Malformed input of every kind (`malformed/`): each ends in one sentence, exit code 2, and nothing written.

A sentence names the file, the line or the key, what was found and what was expected; of a misspelt name, the closest.
Directories that a step makes before it finds what is wrong may stay, empty; no file does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from gdpo.cli.main import main
from gdpo.config.loader import load_scale
from gdpo.core import terminal
from gdpo.core.errors import UserError
from gdpo.core.project import CONFIG
from gdpo.report import claims
from gdpo.report.figures import settings
from tests.robustness.malformed.case import LOOP, Case, Files
from tests.robustness.malformed.commands import COMMANDS
from tests.robustness.malformed.data import IMPORTS, SOURCES
from tests.robustness.malformed.models import MODELS
from tests.robustness.malformed.scales import ENDPOINTS, SCALES
from tests.robustness.malformed.steps import RESULTS, STEPS

ROOT = Path(__file__).resolve().parents[2]

CASES = [*SCALES, *MODELS, *IMPORTS, *STEPS, *RESULTS, *COMMANDS, *ENDPOINTS, *SOURCES]


def lay(directory: Path, files: Files) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
            continue
        if content is LOOP:
            path.symlink_to(path.name)
            continue
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(content.replace(b"FOLDER", directory.name.encode()))


def lying(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def check_said(said: str, says: str) -> str:
    """The sentence, after a look whether it is the one expected."""
    assert "Traceback" not in said
    *before, sentence = said.strip().splitlines()
    assert all("source/s]" in line for line in before)  # a progress bar's
    assert sentence.startswith("gdpo: ")
    assert re.search(says, sentence), sentence
    assert "canary" not in sentence
    return sentence.removeprefix("gdpo: ")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_malformed_input_ends_in_one_sentence_and_nothing_written(
    case: Case, tmp_path, monkeypatch, capsys, record_property
) -> None:
    lay(tmp_path, case.files)
    before = lying(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gdpo", *case.arguments.split()])
    monkeypatch.setattr(terminal, "_terminal", sys.stderr)
    with mock.patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        os.environ.pop("GDPO_MIRROR", None)
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    record_property("said", check_said(said.err, case.says))
    assert not said.out
    assert lying(tmp_path) == before


SHARED = [
    (
        "claims.yaml",
        "a: {statment: x, statement: s, source: s, test: difference, a: {}, direction: less}",
        r"claims\.yaml, a\..*statment: unknown key; did you mean 'statement'",
    ),
    (
        "claims.yaml",
        "a: {statement: s, source: s, test: differnce}",
        r"claims\.yaml, a\.test: found 'differnce', .*; did you mean 'difference'",
    ),
    (
        "claims.yaml",
        "a: {statement: s, source: s, test: difference, a: {trainset: metalk}, direction: less}",
        r"a\.trainset: found 'metalk'; did you mean 'metakl",
    ),
    ("claims.yaml", "[a]", r"claims\.yaml: found list, expected a mapping at the top"),
    ("figures.yaml", "stile: {}", r"figures\.yaml, stile: unknown key; did you mean 'style'"),
    ("figures.yaml", "style: {dip: 3}", r"figures\.yaml, style\.\w+: "),
    ("figures.yaml", "a: 1\na: 2", r"figures\.yaml, line 2: .*'a' a second time"),
    ("figures.yaml", "", r"figures\.yaml: found nothing, expected a mapping at the top"),
]


@pytest.mark.parametrize(("name", "text", "says"), SHARED)
def test_shared_settings_that_do_not_fit_are_named(name: str, text: str, says: str, tmp_path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        claims.load(load_scale("micro"), path) if name == "claims.yaml" else settings.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tables", "table1: {titel: T}", r"/tables\.yaml, table1\.titel: unknown key; did you mean 'title'"),
        (
            "tables",
            "table1: {title: T, kind: score}",
            r"/tables\.yaml, table1\.kind: found 'score', .*; did you mean 'scores'",
        ),
        ("studies", "group_size: {rows: 3}", r"/studies\.yaml, group_size\.rows: .*found 3"),
    ],
)
def test_so_are_tables_and_studies(name: str, text: str, says: str, tmp_path, monkeypatch) -> None:
    for path in CONFIG.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "own.yaml").write_text("extends: micro\ntables: null\nstudies: null\n")
    monkeypatch.setattr("gdpo.config.loader.CONFIG", tmp_path)
    with pytest.raises(UserError, match=says):
        load_scale("own")


BY_HAND = ["scale: unknown key below", "command: unknown", "import: NaN", "model: only pickled weights"]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in BY_HAND], ids=lambda case: case.name)
def test_so_it_is_by_the_command_itself(case: Case, tmp_path, record_property, preloaded) -> None:
    lay(tmp_path, case.files)
    before = lying(tmp_path)
    command = [str(Path(sys.executable).with_name("gdpo")), *case.arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=preloaded)
    assert done.returncode == 2
    record_property("said", check_said(done.stderr, case.says))
    assert lying(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("respond: {temprature: 1}", r"^gdpo: own\.yaml, respond\.temprature: unknown key; did you mean 'temperature'"),
        ("models: {tiny-s: {reference: 'dir:m', pretrain: null}}", r"^gdpo: .*m/config\.json: no such file, expected"),
    ],
    ids=["before any job", "in a job"],
)
def test_through_snakemake_the_sentence_is_what_is_said_last(text: str, says: str, tmp_path, record_property) -> None:
    (tmp_path / "own.yaml").write_text(f"extends: micro\nscale: own\n{text}\n")
    done = snakemake(tmp_path, "results/own/models/tiny-s", "--config", "scale=own.yaml")
    record_property("said", said_last(done, says))


def snakemake(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "--cores", "1"]
    given = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=given)


def said_last(done: subprocess.CompletedProcess[str], says: str) -> str:
    assert done.returncode
    assert "Traceback" not in done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert re.search(says, sentence), done.stderr
    return sentence.removeprefix("gdpo: ")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            "results/tableA99.csv --config scale=micro",
            r"^gdpo: results/tableA99\.csv: .*did you mean 'results/tableA9\.csv'",
        ),
        ("tabels --config scale=micro", r"^gdpo: tabels: not made at scale micro; did you mean 'tables'"),
        (
            "results/micro/groups/metalk.jsonl --config scale=micro",
            r"^gdpo: .*did you mean 'results/micro/groups/metakl\.jsonl'",
        ),
        ("xyzzy --config scale=micro", r"^gdpo: xyzzy: not made at scale micro; docs/reference\.md lists what is$"),
        ("all --config scale=mirco", r"^gdpo: .*mirco\.yaml: no such scale; did you mean 'micro'"),
        ("all --config scale=", r"^gdpo: --config scale=: found nothing, expected a value$"),
        ("all --config limit=x", r"^gdpo: limit: found x, expected a whole number above 0$"),
        ("all --config scale=micro limt=3", r"^gdpo: --config: found 'limt'; did you mean 'limit'"),
    ],
)
def test_so_is_what_snakemake_is_asked_for(asked: str, says: str, tmp_path, record_property) -> None:
    record_property("said", said_last(snakemake(tmp_path, *asked.split()), says))
