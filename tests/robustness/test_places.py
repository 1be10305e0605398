"""Paths, permissions, options, limits and tables as users have them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.cli.main import parser
from gdpo.config.loader import load_scale
from gdpo.config.models import Import, TrainSet
from gdpo.core.errors import UserError
from gdpo.core.files import read_jsonl, replacing
from gdpo.ops.verify.target import scale_of, target
from gdpo.teach.imports import read_imported

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_permissions_of_every_other_file(tmp_path, umask, mode):
    import numpy as np
    from safetensors.numpy import save_file

    before = os.umask(umask)
    try:
        with replacing(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "config.json").write_text("{}")
            save_file({"a": np.zeros(2)}, temporary / "model.safetensors")
            (temporary / "linked").symlink_to(sys.executable)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "model").iterdir() if not path.is_symlink()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        "config.json": mode, "model.safetensors": mode,
    }  # fmt: skip


def test_a_table_that_was_never_made_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = Path("results/table2.csv")
    with pytest.raises(UserError, match=r"^results/table2\.csv: not made yet at scale micro; .*scale=micro`"):
        target(load_scale("micro"), result)
    with pytest.raises(UserError, match=r"not made yet at scale tiny-limit5; .* scale=tiny limit=5` makes it"):
        target(load_scale("tiny", 5), result)
    with pytest.raises(UserError, match=r"not made yet; `snakemake --cores all results/table2\.csv` makes it"):
        scale_of(result)
    result.parent.mkdir()
    result.write_text("row\n")
    assert target(load_scale("micro"), result).name == "table2"
    with pytest.raises(UserError, match="expected a table's provenance"):
        scale_of(result)


STEPS = ["benchmark", *(f"metakl {name}" for name in ("sources", "decontaminate", "annotate", "quality", "merge"))]
STEPS += ["metakl proficiency", "metakl card", "metakl export", "metakl select --trainset x", "metakl answer --model x"]
STEPS += [f"teach {name} --trainset x" for name in ("respond", "import", "part", "reward")] + [
    "judge",
    "model --name x",
]
STEPS += [f"{name} --student x --trainset x --method x --seeds 0" for name in ("train", "evaluate")]


@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_a_chain_takes_the_same_options(step):
    given = parser().parse_args([*step.split(), "--scale", "smol", "--limit", "5", "--mirror", "/a b", "--log", "l"])
    assert (given.scale, given.limit, given.mirror, given.log) == ("smol", 5, "/a b", Path("l"))


def test_a_step_that_reads_no_source_passes_over_the_mirror(tmp_path):
    command = [
        sys.executable,
        "-m",
        "gdpo.cli",
        "metakl",
        "decontaminate",
        "--scale",
        "smol",
        "--mirror",
        "not/there",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "pool.jsonl: no such file" in done.stderr


def test_a_limit_holds_for_sources_of_ones_own(tmp_path):
    entry = (
        "{domain: math, grader: math, licence: MIT, mirror: x.jsonl, fields: {question: q, answer: a}, pool: true%s}"
    )
    text = f"sources:\n  own: {entry % ''}\n  few: {entry % ', rows: 7'}\n  many: {entry % ', rows: 5000'}\n"
    path = tmp_path / "own.yaml"
    path.write_text(f"scale: own\nextends: smol\ndescription: d\n{text}")
    rows = {
        limit: [load_scale(path, limit).sources[n].rows for n in ("own", "few", "many")] for limit in (None, 40, 300)
    }
    assert rows == {None: [None, 7, 5000], 40: [100, 7, 100], 300: [300, 7, 300]}


def test_imported_prompts_stay_as_given_unless_asked_for(tmp_path):
    path = tmp_path / "g.jsonl"
    path.write_text('{"prompt": "2 + 2?", "completions": ["4", "5"], "rewards": [1, 0]}\n')
    made = {"display": "", "select": "import", "size": 1, "domain": "math", "paths": ["g.jsonl"]}
    assert TrainSet(**made).instruction is False and "instruction" not in TrainSet(**made).model_dump()
    assert read_imported([path], [Import(rewards="rewards")])[0].prompt[0]["content"] == "2 + 2?"


def test_the_documented_script_makes_groups_of_labelled_pairs(tmp_path):
    script = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)[-1]
    (tmp_path / "prompts.jsonl").write_text('{"context": "Two twos.", "ask": "The sum?"}\n')
    (tmp_path / "pairs.jsonl").write_text('{"prompt_id": 0, "one": "4", "two": "5", "label": "A>B"}\n')
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert [row for _, row in read_jsonl(tmp_path / "groups.jsonl")] == [
        {"prompt": "Two twos.\n\nThe sum?", "completions": ["4", "5"], "rewards": [1.0, 0.0]}
    ]
    assert len(read_imported([tmp_path / "groups.jsonl"], [Import(rewards="rewards")])[0].completions) == 2


def test_make_passes_on_a_mirror_with_a_space_and_makes_do_without_a_home():
    command = ["make", "-n", "metakl", "SCALE=smol", "MIRROR=/a b/c"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert "mirror='/a b/c'" in told
    text = (ROOT / "Makefile").read_text() + "\nhome:\n\t@echo $$HOME\n"
    for home, expected in (("/not/there", f"{ROOT}/.cache/home"), ("/tmp", "/tmp")):
        environment = os.environ | {"HOME": home}
        command = ["make", "-s", "-f", "-", "home"]
        done = subprocess.run(command, cwd=ROOT, input=text, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected


def test_a_checkout_whose_name_holds_braces_and_a_space(tmp_path):
    checkout = tmp_path / "a {b} c"
    kept = shutil.ignore_patterns(".git", ".venv*", "results", ".snakemake", ".cache", "reference")
    shutil.copytree(ROOT, checkout, ignore=kept)
    command = [sys.executable, "-m", "snakemake", "results/micro/pool.jsonl", "-n", "--config", "scale=micro"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
