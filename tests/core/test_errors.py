"""The sentence of an error for users, made from its fields: the one test of its wording."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdpo.core.errors import UserError

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
    "seeds; did you mean 'seed'?": dict(key="seeds", hint="did you mean 'seed'?"),
}


@pytest.mark.parametrize("wording", WORDINGS)
def test_sentence_is_made_of_the_fields(wording):
    error = UserError(**WORDINGS[wording])
    assert str(error) == wording
    given = {name: getattr(error, name) for name in ("problem", "path", "line", "key", "found", "expected", "hint")}
    assert given == {**dict.fromkeys(given), **WORDINGS[wording]}
