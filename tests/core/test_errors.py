"""The sentence of an error for users, made from its fields: the one test of its wording."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gdpo.core.errors import FIELDS, ArgumentError, DescribedError, UserError, disk_error

WORDINGS = {
    "a.yaml, line 3, seeds: found 0, expected a list of whole numbers; see docs/x.md": dict(
        path=Path("a.yaml"), line=3, key="seeds", found=0, expected="a list of whole numbers", hint="see docs/x.md"
    ),
    "a.yaml: expected YAML": dict(path="a.yaml", expected="YAML"),
    "--seeds: found -1": dict(key="--seeds", found=-1),
    "a.csv: no such file; `gdpo audit` makes it": dict(
        problem="no such file", path="a.csv", hint="`gdpo audit` makes it"
    ),
    "no skill has a share": dict(problem="no skill has a share"),
    "a.jsonl, line 2, \\n\\x1b[31m\\u202e\\ud800 å: expected no such key": dict(
        path="a.jsonl", line=2, key="\n\x1b[31m\u202e\ud800 å", expected="no such key"
    ),
    "seeds; did you mean 'seed'?": dict(key="seeds", hint="did you mean 'seed'?"),
}


@pytest.mark.parametrize("wording", WORDINGS)
def test_sentence_is_made_of_the_fields(wording):
    error = UserError(**WORDINGS[wording])
    assert str(error) == wording
    assert error.fields == {**dict.fromkeys(FIELDS), **WORDINGS[wording]}
    assert all(getattr(error, name) == value for name, value in error.fields.items())


def test_argument_error_is_a_value_error_with_fields():
    error = ArgumentError(key="beta", found=0.0, expected="a number above 0")
    assert isinstance(error, ValueError) and isinstance(error, DescribedError) and not isinstance(error, UserError)
    assert str(ArgumentError(**error.fields)) == str(error) == "beta: found 0.0, expected a number above 0"


def test_disk_error_names_the_file_of_the_system():
    full = OSError(errno.ENOSPC, "No space left on device", "/d/a.json")
    assert str(disk_error(full, "b")) == (
        "/d/a.json: found 'No space left on device', expected a disk with room and the rights to it"
    )
    assert disk_error(OSError(errno.ECONNRESET, "reset")) is None
