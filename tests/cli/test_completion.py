"""The completion scripts, as bash and zsh run them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gdpo.cli import main as cli
from gdpo.cli.completion import script
from gdpo.core.project import scale_names


def completed(*words: str) -> set[str]:
    """What bash offers for the last of the words behind `gdpo`."""
    line = " ".join(f"'{word}'" for word in ("gdpo", *words))
    ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _gdpo; printf "%s\\n" "${{COMPREPLY[@]}}"'
    text = script(cli.parser(), "bash") + ask
    done = subprocess.run(["bash", "-u", "-c", text], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tab"], {"table"}),
        (["metakl", "pro"], {"proficiency"}),
        (["teach", ""], {"respond", "reward", "import", "part", "--help"}),
        (["table", "--na"], {"--name"}),
        (["metakl", "select", "--train"], {"--trainset"}),
        (["evaluate", "--split", ""], {"test", "validation"}),
        (["evaluate", "--student", "x", "--scale", ""], set(scale_names())),
        (["fit", "--data", "x", "--advantage", "li"], {"literal"}),
        (["completion", "b"], {"bash"}),
        (["fit", "--data", "no-such-f"], set()),  # of a file's name the shell knows more
    ],
)
def test_bash_completes(words, offered):
    assert completed(*words) == offered


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_offers_every_command():
    assert completed("") == {*cli.parser().commands, "--help", "--version"}


def test_zsh_is_given_its_own_beginning():
    text = script(cli.parser(), "zsh")
    assert text.startswith("autoload -U +X bashcompinit") and text.endswith(
        "complete -o bashdefault -o default -F _gdpo gdpo\n"
    )


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_it(tmp_path):
    path = tmp_path / "completion"
    path.write_text(script(cli.parser(), "zsh"))
    code = f"autoload -Uz compinit; compinit -D; source {path}; print $_comps[gdpo]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "bash_complete" in done.stdout
