"""The sentence of a missing package: which extra it names, and what is left to a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gdpo.core import extras


def error_of(package: str, room: str = "report") -> ModuleNotFoundError:
    """The error of `import package` in a module of a room."""
    code = compile(f"import {package}", "module.py", "exec")
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(code, {"__name__": f"gdpo.{room}.module"})
    return caught.value


@pytest.fixture
def nothing_installed(monkeypatch):
    for package in extras.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("package", "room", "extra"),
    [
        ("trl", "students", "train"),
        ("scipy.stats", "evaluate", "eval"),
        ("scipy", "report", "report"),
        ("scipy", "metakl", "data"),
        ("pydantic", "config", "workflow"),
        ("lm_eval.api", "cli", "eval"),
    ],
)
def test_extra_is_that_of_the_importing_room(nothing_installed, package, room, extra):
    name = package.partition(".")[0]
    told = extras.missing_package(error_of(package, room), "train")
    assert str(told) == f"train: found no package {name}, expected it; pip install 'gdpo[{extra}]'"


def test_unknown_package_is_no_missing_extra():
    assert extras.missing_package(error_of("no_such_package"), "train") is None


def test_require_raises_what_an_import_would(monkeypatch):
    extras.require("sys")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        extras.require("gguf")
    assert caught.value.name == "gguf"


def test_command_names_the_missing_extra_and_ends_with_code_2():
    code = (
        "import sys\n"
        "sys.modules['pydantic'] = None\n"
        "sys.argv = ['gdpo', 'doctor', '--scale', 'tiny']\n"
        "from gdpo.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    sentence = "gdpo: doctor: found no package pydantic, expected it; pip install 'gdpo[workflow]'\n"
    assert (done.returncode, done.stderr) == (2, sentence)
