"""A target that no rule makes is named with the closest one that a rule makes. The rules stand in for Snakemake's."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field

import pytest

from gdpo.display import targets
from tests.refusal import refused


@dataclass
class MadeRule:
    """A rule with the files that it makes; `{name}` stands for any text without a slash."""

    name: str
    output: list[str] = field(default_factory=list)

    def is_producer(self, target: str) -> bool:
        return any(re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), target) for path in self.output)


RULES = [
    MadeRule("tables"),
    MadeRule("table", ["results/table2.csv"]),
    MadeRule("groups", ["groups/metakl.jsonl", "groups/union.jsonl"]),
    MadeRule("models", ["models/{model}/model.safetensors"]),
]
NAMES = ["metakl", "union", "table2"]


@pytest.mark.parametrize(
    "target", ["tables", "results/table2.csv", "groups/union.jsonl", "models/any/model.safetensors"]
)
def test_a_made_target_passes(target):
    targets.check([target], RULES, NAMES, "micro")


def test_a_file_that_is_there_passes(tmp_path):
    (tmp_path / "own.csv").touch()
    targets.check([str(tmp_path / "own.csv")], RULES, NAMES, "micro")


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("tabels", "did you mean 'tables'?"),
        ("groups/metalk.jsonl", "did you mean 'groups/metakl.jsonl'?"),
        ("results/tabel2.csv", "did you mean 'results/table2.csv'?"),
        ("xyzzy", "docs/reference.md lists what is"),
    ],
)
def test_an_unmade_target_is_refused_with_the_closest(target, hint):
    with refused(problem="not made at scale micro", path=target, hint=hint):
        targets.check(["tables", target], RULES, NAMES, "micro")


def test_targets_are_those_of_snakemakes_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake", "--cores", "2", "tables", "./a/../b.csv", "--config", "scale=micro"])
    assert targets.requested() == ["b.csv", "tables"]
    monkeypatch.setattr(sys, "argv", ["pytest", "tables"])
    assert targets.requested() == []
