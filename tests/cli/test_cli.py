"""The command line: fast to answer, one sentence for bad input."""

from __future__ import annotations

import subprocess
import sys

import pytest


def gdpo(*arguments, cwd=None):
    command = [sys.executable, "-m", "gdpo.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_help_imports_no_heavy_library():
    code = (
        "import sys; sys.argv = ['gdpo', '--help']\n"
        "from gdpo.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]")


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
