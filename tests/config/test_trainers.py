"""Trainers are the modules of gdpo/students with a `train(run)`; its further parameters are a method's options."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from gdpo.config import trainers
from gdpo.config.loader import load_scale
from gdpo.config.models import Method
from gdpo.config.strict import InvalidSetting
from gdpo.core.hashing import fingerprint
from tests.refusal import refused


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A trainer with an option that is needed and two with defaults, beside what is no trainer."""
    text = "def train(run, kept: float, times: int = 1, *, mode: str = 'x'):\n    pass\n"
    (tmp_path / "averaged.py").write_text(text)
    (tmp_path / "steps.py").write_text("def train(scale, runs):\n    pass\n")
    monkeypatch.setattr(trainers, "STUDENTS", tmp_path)
    trainers.trainers.cache_clear()
    yield
    trainers.trainers.cache_clear()


def test_every_trainer_of_the_package_is_known() -> None:
    assert trainers.trainers() == {"dpo": {}, "gdpo": {}, "grpo": {}, "sft": {}}
    assert all(callable(import_module(f"gdpo.students.{name}").train) for name in trainers.trainers())


def test_options_are_read_from_the_signature(own) -> None:
    known = trainers.trainers()
    assert list(known) == ["averaged"]
    assert known["averaged"] == {"kept": ("float", False), "times": ("int", True), "mode": ("str", True)}
    trainers.check_options("averaged", {"kept": 1})
    trainers.check_options("averaged", {"kept": 0.5, "times": 2, "mode": "y"})


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"key": "options.kept", "problem": "trainer averaged needs this option"}),
        ({"kept": 1, "tmes": 2}, {"key": "options.tmes", "hint": "did you mean 'times'"}),
        ({"kept": "half"}, {"key": "options.kept", "found": "'half'", "expected": "a number"}),
        ({"kept": True}, {"key": "options.kept", "found": "True", "expected": "a number"}),
        ({"kept": 1, "times": 0.5}, {"key": "options.times", "expected": "a whole number"}),
    ],
)
def test_options_that_do_not_fit_are_refused(own, options, fields) -> None:
    with pytest.raises(InvalidSetting) as caught:
        trainers.check_options("averaged", options)
    for name, wanted in fields.items():
        assert wanted in str(caught.value.fields[name])


def test_misspelt_trainer_and_option_of_a_scale_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("extends: micro\nmethods: {a: {extends: sft, trainer: stf}}\n")
    with refused(path=str(path), key="methods.a.trainer", found="'stf'", hint="did you mean 'sft'?"):
        load_scale(path)
    path.write_text("extends: micro\nmethods: {a: {extends: sft, options: {kept: 0.5}}}\n")
    with refused(path=str(path), key="methods.a.options.kept", problem="no option of trainer sft"):
        load_scale(path)


def test_method_without_options_has_the_hash_of_one_before_there_were_any() -> None:
    method = load_scale("micro").methods["sft"]
    assert "options" not in method.model_dump()
    assert fingerprint(method) != fingerprint(Method.model_construct(**{**method.__dict__, "options": {"kept": 1}}))


def test_a_trainer_that_is_no_python_is_named_with_its_line(own, tmp_path) -> None:
    (tmp_path / "averaged.py").write_text("def train(run):\n    x = (\n")
    with pytest.raises(SyntaxError) as caught:
        trainers.trainers()
    assert (caught.value.filename, caught.value.lineno) == (str(tmp_path / "averaged.py"), 2)
