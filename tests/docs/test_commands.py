"""Every command in the pages is run, dry-run or at least parsed, by what its first word is.

make: `make -n`, so that the target and the variables exist. gdpo: its own parser; the cheap ones run. snakemake: its
own parser, and among the long tests a dry run. python: the script is there and knows each option. pip: extras exist.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gdpo.cli.main import parser
from tests.docs.pages import PAGES, ROOT, blocks, prose_lines

# Run here, on micro: cheap, and nothing is written outside of the directory.
RUN = ["gdpo doctor --scale micro", "gdpo audit"]

# Neither run nor dry-run here, and why.
NOT_RUN = {
    "lm_eval ": "asks a model of 135M; tests/evaluate/test_harness.py runs lm-eval on the same tasks",
    "for ": "shell around what comes back from another machine; its syntax is checked",
    "snakemake --cores all results/table2.csv --sdm conda": "needs conda",
    "snakemake all --workflow-profile": "needs Slurm; tests/workflow/test_slurm.py runs the profile",
    "snakemake --cores all results/mine/": "needs mine.yaml; tests/docs/test_readme.py loads it",
    "snakemake --unlock": "changes the directory; tests/workflow/test_terminal.py has a lock",
}


def commands() -> list[tuple[str, str]]:
    """Each command of a console block, with its page; where a block has prompts, only what stands behind them."""
    found = {}
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                lines = block.text.replace("\\\n", " ").splitlines()
                prompted = [line[2:] for line in lines if line.startswith("$ ")]
                for line in prompted or lines:
                    command = " ".join(re.sub(r"(^|\s)#\s.*", "", line).split())
                    if command:
                        found.setdefault(command, str(page.relative_to(ROOT)))
    return list(found.items())


COMMANDS = commands()
FIRST = {"make", "gdpo", "snakemake", "python", "pip", "lm_eval", "for", "export"}


def of(first: str) -> list:
    return [pytest.param(command, id=f"{page}: {command}") for command, page in COMMANDS if command.split()[0] == first]


def call(*command: str, **given) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, capture_output=True, text=True, cwd=given.get("cwd", ROOT), env=environment)


def test_every_command_is_of_a_kind_that_is_checked():
    assert {command.split()[0] for command, _ in COMMANDS} <= FIRST


def test_every_exception_is_used():
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command, _ in COMMANDS)] == []
    assert [command for command in RUN if command not in dict(COMMANDS)] == []


@pytest.mark.parametrize("command", of("make"))
def test_make_command_has_its_target_and_variables(command):
    done = call("make", "-n", *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", of("gdpo"))
def test_gdpo_command_is_parsed(command):
    parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("command", RUN)
def test_cheap_command_runs(command, tmp_path):
    done = call(sys.executable, "-m", "gdpo.cli", *shlex.split(command)[1:], cwd=tmp_path)
    assert "Traceback" not in done.stderr and done.returncode in (0, 1), done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", of("snakemake"))
def test_snakemake_command_is_parsed(command):
    from snakemake.cli import parse_args

    parse_args(shlex.split(command)[1:])


@pytest.mark.long
@pytest.mark.parametrize("command", [c for c in of("snakemake") if not c.values[0].startswith(tuple(NOT_RUN))])
def test_snakemake_command_is_dry_run(command, tmp_path):
    arguments = shlex.split(command)[1:]
    done = call("snakemake", "-n", "-q", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", of("python"))
def test_script_knows_its_options(command):
    words = shlex.split(command)[1:]
    if words[0] == "-m":
        script = ROOT / f"{words[1].replace('.', '/')}.py"
    else:
        script = ROOT / re.sub(r"^parcel-\d/", "", words[0])  # a parcel holds the project
    sources = "".join(path.read_text() for path in [script, *script.parent.glob("*.py")])
    options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
    assert [option for option in options if f'"{option}"' not in sources] == []


@pytest.mark.parametrize("command", of("pip"))
def test_pip_command_names_extras_that_exist(command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra for names in re.findall(r"\[([\w,]+)\]", command) for extra in names.split(",")}
    assert extras <= set(project["optional-dependencies"])


@pytest.mark.parametrize("command", [*of("for"), *of("export")])
def test_shell_command_has_no_syntax_error(command):
    assert call("bash", "-n", "-c", command).returncode == 0


def test_commands_within_the_text_exist():
    """`make TARGET` and `gdpo COMMAND` in backticks."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = _steps()
    lost = set()
    for page in PAGES:
        text = "\n".join(prose_lines(page))
        lost |= {
            f"{page.name}: make {name}" for name in re.findall(r"`make ([a-z][a-z0-9-]*)", text) if name not in targets
        }
        lost |= {
            f"{page.name}: gdpo {name}" for name in re.findall(r"`gdpo ([a-z][a-z0-9-]*)", text) if name not in steps
        }
    assert lost == set()


def _steps() -> set[str]:
    (action,) = (action for action in parser()._actions if action.dest == "step")
    return set(action.choices or ())
