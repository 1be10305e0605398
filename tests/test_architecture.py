"""docs/architecture.md shows the code as it is, and the sizes of a tree are counted as the page says."""

from __future__ import annotations

import re

import pytest

from gdpo.config.loader import load_scale
from tests.refusal import refused
from tools import architecture

SIZES = re.compile(r"^(\| `\w+` \|.*?) \| (\d+) \| (\d+) \|", re.MULTILINE)


def test_page_is_current():
    """But for modules and statements, which may be a tenth off: not every change of the code must change the page."""
    page = architecture.PAGE.read_text(encoding="utf-8")
    drawn = architecture.drawn(page)
    assert SIZES.sub(r"\1", page) == SIZES.sub(r"\1", drawn), "run `make architecture`"
    for old, new in zip(SIZES.findall(page), SIZES.findall(drawn), strict=True):
        for was, counted in zip(old[1:], new[1:], strict=True):
            assert abs(int(was) - int(counted)) <= max(1, int(counted) // 10), f"{old[0]}: run `make architecture`"


def test_rooms_follow_the_contract():
    found, layers = architecture.rooms(architecture.ROOT / "gdpo"), architecture.contract(architecture.ROOT)
    order = [name for layer in layers for name in layer]
    assert sorted(order) == sorted(found)
    level = {name: number for number, layer in enumerate(layers) for name in layer}
    assert [(n, below) for n, room in found.items() for below in room.imports if level[below] <= level[n]] == []


@pytest.fixture
def tree(tmp_path):
    """gdpo/ with a package a, a module b, which import each other and c, and d, which imports for type checkers."""
    files = {
        "gdpo/__init__.py": "import gdpo.d\n",
        "gdpo/a/__init__.py": '"""One\nsentence.\n\nMore."""\n',
        "gdpo/a/x.py": "from .. import b\nfrom . import y\n",
        "gdpo/a/y.py": "def f():\n    from gdpo.c import g\n    return g\n",
        "gdpo/b.py": "import gdpo.a.x\nimport os\nfrom gdpo import c\n",
        "gdpo/c.py": "X = 1\n",
        "gdpo/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gdpo.a\n",
        "gdpo/templates/plain.jinja": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_rooms_are_packages_and_modules_with_their_imports(tree):
    found = architecture.rooms(tree / "gdpo")
    assert {name: room.imports for name, room in found.items()} == {
        "a": {"b", "c"}, "b": {"a", "c"}, "c": set(), "d": set(),
    }  # fmt: skip
    assert (found["a"].sentence, found["a"].modules) == ("One sentence.", 3)
    assert found["a"].statements == 1 + 2 + 3  # the docstring; two imports; def, import, return


def test_size_of_a_tree(tree):
    """Two floors, since the rooms of a circle share theirs; arrows a-b, a-c, b-a, b-c."""
    lines = architecture.measured(tree).splitlines()
    assert [" ".join(line.split()[:2]) for line in lines] == [
        "rooms 4", "floors 2", "arrows 4", "circles 1", "statements 13", "a 6", "b 3", "d 3", "c 1",
    ]  # fmt: skip
    assert lines[3].endswith("a <-> b")


def test_tree_without_the_package_is_refused(tmp_path):
    with refused(path=str(tmp_path), found="no gdpo/"):
        architecture.measured(tmp_path)


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"top": {"middle", "low"}, "middle": {"low"}, "low": set()}
    assert architecture.reduced(graph) == {"top": {"middle"}, "middle": {"low"}, "low": set()}
    assert architecture.floors(graph) == {"top": 2, "middle": 1, "low": 0}


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("results/micro/runs/tiny-s/union/sft~0.001/100", "runs/{model}/{trainset}/{method}/{seed}"),
        ("results/micro/scores/tiny-s/none/origin/0.json", "scores/{model}/{trainset}/{method}/{seed}.json"),
        ("results/micro/benchmarks/test/chains.jsonl", "benchmarks/{split}/{benchmark}.jsonl"),
        ("results/micro/tables/table2_retention.csv", "tables/{table}_retention.csv"),
        ("results/micro/figures/lengths.pdf", "figures/{figure}.pdf"),
        ("results/micro/proficiency/tiny-s.jsonl", "proficiency/{model}.jsonl"),
        ("results/micro/proficiency.csv", "proficiency.csv"),
        ("results/table2.csv", "./results/{table}.csv"),
        ("paper/report.pdf", "./paper/report.pdf"),
        (f"{architecture.ROOT}/docs/objective/a.csv", "./docs/**/*.csv"),
    ],
)
def test_pattern_of_a_path(path, pattern):
    scale = load_scale("micro")
    assert architecture.pattern(path.replace("chains", next(iter(scale.benchmarks))), scale) == pattern


def test_jobs_of_a_dry_run():
    text = (
        "rule one:\n    input: a, b\n    output: c\n    log: d\nShell command: gdpo metakl merge --scale micro\n"
        "localrule all:\n    input: c\nShell command: None\n"
        "rule two:\n    output: e\nShell command: gdpo audit --log f\n"
    )
    assert list(architecture.jobs(text)) == [("metakl merge", ["a", "b"], ["c"]), ("audit", [], ["e"])]
