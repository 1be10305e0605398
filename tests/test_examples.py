"""The examples as a user runs them: on a tiny random model, with good groups and with bad ones."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluate.spelling import speller

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPT = EXAMPLES / "train_on_jsonl.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random Llama that reads bytes, and so any text, with a chat template."""
    return speller(tmp_path_factory.mktemp("model"))


def start(model, groups, out) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), str(model), str(groups), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def written(path, *rows) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


GOOD = {"prompt": "3 + 4 =", "completions": ["7", "8"], "rewards": [1.0, 0.0]}


def test_command_line_trains_and_refuses(model, tmp_path):
    """The groups of this directory train; a bad line ends in one sentence, exit code 1 and no traceback."""
    import torch
    from safetensors.torch import load_file

    wrong = written(tmp_path / "wrong.jsonl", GOOD, GOOD | {"rewards": [1.0]})
    good = start(model, EXAMPLES / "groups.jsonl", tmp_path / "out")
    bad = start(model, wrong, tmp_path / "bad")
    output, errors = good.communicate()
    assert good.returncode == 0, errors
    assert "rewards/accuracies" in output
    before, after = (load_file(path / "model.safetensors") for path in (model, tmp_path / "out"))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "out" / "tokenizer.json").exists()
    _, errors = bad.communicate()
    assert bad.returncode == 1 and "Traceback" not in errors
    sentence = "train_on_jsonl: row 1: found 2 completions and 1 rewards, expected a reward per completion"
    assert errors.strip().splitlines()[-1] == sentence


BAD = [
    ("{not json\n", r"wrong\.jsonl, line 2: found .*, expected a JSON object"),
    ("[1, 2]\n", r"wrong\.jsonl, line 2: found list, expected a JSON object"),
    ({"prompt": "1"}, "row 1: found prompt, expected a column 'completions'"),
    (GOOD | {"rewards": [1.0, float("nan")]}, r"row 1, rewards\[1\]: found nan, expected a finite number"),
    (GOOD | {"completions": ["7", ""]}, r"row 1, completions\[1\]: found '', expected text"),
    (GOOD | {"completions": ["7"], "rewards": [1]}, "row 1, completions: found 1, expected at least 2"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_groups_end_in_one_sentence(row, message, model, tmp_path, monkeypatch):
    groups = written(tmp_path / "wrong.jsonl", GOOD, row)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(model), str(groups), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=f"^train_on_jsonl: .*{message}") as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_missing_file_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(model), str(tmp_path / "none.jsonl"), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"none\.jsonl: no such file, expected JSON Lines"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_example_is_short():
    assert len(SCRIPT.read_text().splitlines()) < 20


def test_readme_snippets_run(model, tmp_path, monkeypatch):
    """Its JSON lines are good groups and its Python runs as it stands, a model's path apart."""
    from transformers import AutoTokenizer

    from gdpo import GDPOConfig, GDPOTrainer
    from gdpo.trainer.dataset import tokenize_groups

    text = (EXAMPLES / "README.md").read_text()
    (lines,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    groups = tokenize_groups(map(json.loads, lines.splitlines()), AutoTokenizer.from_pretrained(model))
    assert [len(group["rewards"]) for group in groups] == [3, 2]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"GDPOTrainer": GDPOTrainer, "GDPOConfig": GDPOConfig}
    exec(code.replace('"MODEL"', repr(str(model))), names)
    assert names["trainer"].train_dataset["rewards"][0] == [1.0, 0.0]
