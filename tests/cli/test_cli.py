"""The command line: fast to answer, it explains itself, and says one sentence for bad input."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from gdpo.cli import SOCKET
from gdpo.cli import main as cli
from gdpo.cli.parser import default_of
from tests.refusal import refused


def gdpo(*arguments, cwd=None):
    command = [sys.executable, "-m", "gdpo.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


LEAVES = list(cli.parser().leaves())
NAMES = [leaf.command for leaf in LEAVES]
# What `gdpo --help` must not import: libraries, rooms, and modules of Python that only a step needs.
HEAVY = {
    "torch", "transformers", "trl", "datasets", "numpy", "pydantic", "yaml", "snakemake", "rich", "json", "subprocess",
    "socket", "dataclasses", "inspect", "difflib", "importlib.metadata", "gdpo.config", "gdpo.trainer", "gdpo.runtime",
    "gdpo.metakl", "gdpo.report", "gdpo.ops", "gdpo.core.terminal", "gdpo.core.redaction", "gdpo.cli.preload",
}  # fmt: skip


def test_help_imports_nothing_that_only_a_step_needs():
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['gdpo', '--help']\n"
        "from gdpo.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & (set(sys.modules) - before)))"
    )
    environment = {name: value for name, value in os.environ.items() if name != SOCKET}  # of a preloaded parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip().endswith("[]")


def said(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args(arguments)
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("group", [(), ("metakl",), ("teach",)], ids=["gdpo", "metakl", "teach"])
def test_a_command_of_commands_alone_prints_its_help(group, capsys):
    assert said(capsys, *group) == said(capsys, *group, "--help")


def test_help_alone_ends_well():
    done = gdpo()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in NAMES)


def test_every_command_is_in_one_group():
    assert sorted(name for names in cli.GROUPS.values() for name in names) == sorted(NAMES)


def test_help_names_commands_in_the_order_of_work(capsys):
    """A step comes behind the one that makes what it reads."""
    text = said(capsys, "--help")
    work = ["doctor", "model", "benchmark", "metakl sources", "metakl decontaminate", "metakl annotate"]
    work += ["metakl merge", "metakl answer", "metakl proficiency", "metakl select", "teach respond", "teach reward"]
    work += ["train", "evaluate", "table", "figure", "claims", "paper", "verify"]
    places = [text.index(f"\n  {name} ") for name in work]
    assert places == sorted(places)


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_every_option_says_what_it_is_and_its_default(leaf):
    for name, action in leaf.options().items():
        assert action.help and len(action.help) > 4, name
        if name not in ("-h", "--help"):
            assert default_of(action) or "absent" in action.help, f"{name}: neither required, nor with a default"
    for action in leaf.positionals():
        assert action.help, action.dest
    assert not leaf.does.endswith(".") and len(leaf.does) > 10


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_every_command_has_examples_that_it_takes(leaf):
    """Behind a pipe, a redirection or `source`, the command is what is written."""
    title, *lines = leaf.epilog.splitlines()
    assert title in ("example:", "examples:") and lines
    for line in lines:
        written = line.strip().removeprefix("source <(").rstrip(")").partition(" > ")[0]
        program, *words = shlex.split(written)
        assert program == "gdpo" and written.startswith(f"gdpo {leaf.command}")
        assert cli.parser().parse_args(words).step == leaf.command.partition(" ")[0]


def test_help_shows_defaults_requirements_and_examples(capsys):
    text = said(capsys, "train", "--help")
    assert "(default: tiny)" in text and "(required)" in text and "\nexamples:\n  gdpo train --scale" in text


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["tabel"], {"problem": "found 'tabel'; did you mean 'table'?"}),
        (["annotate"], {"problem": "found 'annotate'; did you mean 'metakl annotate'?"}),
        (["metakl", "anotate"], {"problem": "did you mean 'annotate'?", "key": "metakl"}),
        (["--verison"], {"found": "'--verison'", "hint": "did you mean '--version'?"}),
        # Named although required options are missing, too.
        (["train", "--studnet", "x"], {"found": "'--studnet'", "hint": "did you mean '--student'?", "key": "train"}),
        (["table", "--nmae=x"], {"found": "'--nmae'", "hint": "did you mean '--name'?"}),
        # The beginning of an option is no option: another may begin so tomorrow.
        (["evaluate", "--seed", "0"], {"found": "'--seed'", "hint": "did you mean '--seeds'?"}),
        (["audit", "more"], {"found": "'more'", "key": "audit"}),
        (["fit", "--model", "m", "--data", "d", "--link", "sigmiod"], {"problem": "did you mean 'sigmoid'?"}),
        (["fit", "--model", "m", "--data", "d", "--epochs", "0"], {"problem": "expected a number above 0, found '0'"}),
        (["fit", "--model", "m", "--data", "d", "--seed", "-1"], {"problem": "expected a whole number from 0 to"}),
    ],
)
def test_a_misspelt_word_is_named_with_what_it_may_mean(arguments, fields):
    with refused(**fields):
        cli.parser().parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["metakl", "sources", "--scale", "tny"], "did you mean 'tiny'?"),
        (
            ["metakl", "sources", "--scale", "micro", "--limit", "0"],
            "limit: found 0, expected a whole number above 0",
        ),
        (["metakl", "annotate", "--scale", "micro"], "results/micro/decontaminated.jsonl: no such file"),
        (["metakl", "select", "--scale", "micro", "--trainset", "metalk"], "did you mean 'metakl'?"),
        (["model", "--scale", "micro", "--name", "tiny-x"], "models: found 'tiny-x'"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    done = gdpo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
