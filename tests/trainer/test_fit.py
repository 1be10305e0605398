"""`gdpo fit`: a model trained on a file of groups, by the command and its options."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from gdpo.cli import fit as command
from gdpo.cli import main as cli
from gdpo.trainer import fit
from gdpo.trainer.gdpo_config import CHOICES, GDPOConfig
from tests.evaluate.spelling import speller
from tests.refusal import refused

GROUPS = Path(__file__).resolve().parents[2] / "examples" / "groups.jsonl"
GOOD = {"prompt": "3 + 4 =", "completions": ["7", "8"], "rewards": [1.0, 0.0]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random Llama that reads bytes, and so any text, with a chat template."""
    return speller(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))


def called(*arguments: object) -> None:
    cli.run(cli.parser().parse_args(["fit", *map(str, arguments)]))


def written(name: str, *rows: object) -> Path:
    path = Path(name)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def weights(directory: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


def equal(one: dict, other: dict) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


BRIEF = ("--batch-size", 3, "--learning-rate", 1e-3, "--epochs", 3, "--save-steps", 2)  # 12 steps on GROUPS


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A training that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        called("--model", model, "--data", GROUPS, "--out", out, "--eval-data", GROUPS, *BRIEF)
    return out


def test_it_writes_a_trained_model_with_its_provenance(model, whole):
    assert not equal(weights(model), weights(whole))
    assert (whole / "tokenizer.json").exists() and (whole / "chat_template.jinja").exists()
    provenance = json.loads((whole / "provenance.json").read_text())
    assert provenance["step"] == "fit" and provenance["seeds"] == {"run": 0} and provenance["steps"] == 12
    settings = provenance["settings"]
    assert settings["learning_rate"] == 1e-3 and settings["advantage"] == "shifted" and settings["beta"] == 0.1
    assert settings["data"] == settings["eval_data"] != None and settings["data"].startswith("sha256=")  # noqa: E711
    assert {"code", "packages", "hardware", "start", "wall_seconds"} <= set(provenance)
    log = json.loads((whole / "train.json").read_text())["log"]
    assert sum("eval_loss" in entry for entry in log) == 3
    assert not whole.with_name("out.work").exists()


def test_a_killed_training_resumes_to_the_same_weights(model, whole, monkeypatch, capsys):
    """It stops behind the checkpoint of step 6; the same call begins there."""
    lines = fit.Lines.on_log

    def stopping(self, args, state, control, logs=None, **given):
        lines(self, args, state, control, logs, **given)
        if state.global_step == 7:
            raise KeyboardInterrupt

    ask = ("--model", model, "--data", GROUPS, "--out", "out", "--eval-data", GROUPS, *BRIEF)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit.Lines, "on_log", stopping)
        called(*ask)
    assert not Path("out").exists() and Path("out.work/checkpoint-6").is_dir()
    capsys.readouterr()
    with refused(path="out.work", key="learning_rate", found="checkpoints of 0.001", hint="--out"):
        called(*ask, "--learning-rate", "2e-3")
    called(*ask)
    said = capsys.readouterr().err
    assert "Resuming from out.work/checkpoint-6" in said and "step 8 of 12" in said and "step 6 of 12" not in said
    assert equal(weights(Path("out")), weights(whole))
    losses = [json.loads((out / "train.json").read_text())["train_loss"] for out in (Path("out"), whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)


def test_an_adapter_is_merged_into_a_whole_model(model, whole):
    ask = ("--model", model, "--data", GROUPS, "--batch-size", 6, "--epochs", 1)
    called(*ask, "--out", "out", "--lora-rank", 4)
    assert not Path("out/adapter_config.json").exists()
    assert weights(Path("out")).keys() == weights(model).keys() and not equal(weights(Path("out")), weights(model))
    settings = json.loads(Path("out/provenance.json").read_text())["settings"]
    assert (settings["lora_rank"], settings["learning_rate"]) == (4, command.LORA_LEARNING_RATE)


def test_progress_says_groups_steps_and_what_is_left_out(model, capsys):
    data = written("groups.jsonl", *(GOOD for _ in range(4)), GOOD | {"rewards": [1.0, 1.0]})
    called("--model", model, "--data", data, "--epochs", 1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "fit: 4 groups, 1 with equal rewards left out; 1 steps on cpu"
    assert "a smaller --batch-size or more --epochs" in said[1]
    assert said[2].startswith("fit: step 1 of 1: loss ") and said[2].endswith("0 s left")
    assert said[-1] == "fit: the trained model is trained, with its provenance in trained/provenance.json"


BAD = [
    ("{not json\n", {"line": 2, "expected": "a JSON object"}),
    ({"prompt": "1"}, {"line": 2, "found": "prompt", "expected": "a column 'completions'"}),
    (GOOD | {"rewards": [1.0]}, {"line": 2, "expected": "a reward per completion"}),
    (GOOD | {"rewards": [1.0, float("nan")]}, {"line": 2, "key": "rewards[1]", "expected": "a finite number"}),
    (GOOD | {"prompt": "x" * 2000}, {"line": 2, "key": "prompt", "found": "2000 tokens", "expected": "--max-length"}),
]


@pytest.mark.parametrize(("row", "fields"), BAD, ids=[str(fields["expected"]) for _, fields in BAD])
@pytest.mark.parametrize("option", ["--data", "--eval-data"])
def test_a_bad_group_is_named_by_file_and_line_before_weights_are_loaded(option, row, fields, model, monkeypatch):
    monkeypatch.setattr(fit, "GDPOTrainer", None)
    bad, good = written("bad.jsonl", GOOD, row), written("good.jsonl", GOOD)
    files = {"--data": good, option: bad}
    with refused(path="bad.jsonl", **fields):
        called("--model", model, *(word for pair in files.items() for word in pair))
    assert {path.name for path in Path().iterdir()} == {"bad.jsonl", "good.jsonl"}


def test_other_bad_input_is_one_sentence(model):
    data = written("groups.jsonl", GOOD)
    with refused(path="none.jsonl", problem="no such file"):
        called("--model", model, "--data", "none.jsonl")
    with refused(path="empty.jsonl", found="no group"):
        called("--model", model, "--data", written("empty.jsonl"))
    with refused(path="tied.jsonl", key="rewards", expected="a group with two that differ"):
        called("--model", model, "--data", written("tied.jsonl", GOOD | {"rewards": [1, 1]}))
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text("{}")
    with refused(key="--model", found="an adapter"):
        called("--model", "adapter", "--data", data)
    Path("bare").mkdir()
    with refused(key="--model", found="no config.json", expected="a checkpoint's directory"):
        called("--model", "bare", "--data", data)
    with refused(key="--model", found="'no/such/model'", expected="a checkpoint's directory"):
        called("--model", "no/such/model", "--data", data)
    with refused(key="--out", path="bare", found="something there", hint="--out"):
        called("--model", model, "--data", data, "--out", "bare")
    with refused(key="--out", found="'zz/..'", expected="the path of a new directory, with its name"):
        called("--model", model, "--data", data, "--out", "zz/..")
    for option, value in (("--lora-rank", 10**9), ("--lora-alpha", 10**400)):
        with refused(key="peft_config", path=None):
            called("--model", model, "--data", data, "--lora-rank", 2, option, value, "--out", f"lora{option}")


def test_options_are_the_trainers():
    """The parser repeats GDPOConfig's names, choices and defaults, since importing that takes seconds."""
    (leaf,) = [leaf for leaf in cli.parser().leaves() if leaf.command == "fit"]
    config = {field.name: field.default for field in dataclasses.fields(GDPOConfig)}
    options = {action.dest: action for action in leaf.options().values()}
    for name in ("beta", "pairs", "link", "advantage", "length", "max_length", "max_activation_tokens"):
        assert options[name].default == config[name], name
    for name in ("pairs", "link", "advantage", "length"):
        assert tuple(options[name].choices) == CHOICES[name]
    assert config["learning_rate"] == command.LEARNING_RATE
    assert {field.name for field in dataclasses.fields(fit.Fit)} == set(options) - {"help"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1 +", "completions": ["1", "2"], "rewards": [1, 0], "tools": "{no"},
        {"prompt": [{"role": "user", "content": "1"}], "completions": ["1", "2"], "rewards": [1, 0],
         "chat_template_kwargs": {"continue_final_message": True}},
    ],
    ids=["tools", "template"],
)  # fmt: skip
def test_row_that_its_template_refuses_is_named_by_its_line(model, row):
    with refused(path=written("bad.jsonl", GOOD, row), line=2):
        called("--model", model, "--data", "bad.jsonl")


def test_training_that_diverges_writes_no_model(model, tmp_path):
    with refused(key="fit", found="the training diverged", hint="a lower --learning-rate, and --out anew"):
        called("--model", model, "--data", GROUPS, "--out", "diverged", *BRIEF[:2], "--learning-rate", 1e30)
    assert not (tmp_path / "diverged").exists() and not list(tmp_path.glob("diverged.work/checkpoint-*"))


def test_huge_micro_batch_is_the_whole_batch(model):
    called("--model", model, "--data", GROUPS, "--out", "huge", *BRIEF[:2], "--epochs", 1, "--micro-batch-size", 10**9)
    assert Path("huge/model.safetensors").exists()
