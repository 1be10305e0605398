"""A truth value or a time of day is no number, wherever a scale has one; a truth value stays what it is."""

from __future__ import annotations

import re

import pytest
import yaml

from gdpo.config.loader import load_scale
from gdpo.config.yaml_loader import Loader
from gdpo.core.project import CONFIG
from tests.refusal import refused


def loaded(tmp_path, text, limit=None, base="tiny"):
    path = tmp_path / "own.yaml"
    path.write_text(f"scale: own\nextends: {base}\ndescription: d\n{text}\n")
    return load_scale(path, limit)


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true", "False"])
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("bootstrap_draws", "bootstrap_draws: {}"),
        ("mastered_threshold", "mastered_threshold: {}"),
        ("respond.temperature", "respond: {{temperature: {}}}"),
        ("respond.top_p", "respond: {{top_p: {}}}"),
        ("seeds", "seeds: [0, {}]"),
        ("sweep.learning_rates", "sweep: {{learning_rates: [{}]}}"),
        ("world.popularity", "world: {{popularity: {{student: {}}}}}"),
        ("limit", "limit: {}"),
        ("benchmarks.hop.items", "benchmarks: {{hop: {{items: {}}}}}"),
        ("sweep.seeds", "sweep: {{seeds: [{}]}}"),
    ],
)
def test_truth_value_is_no_number(tmp_path, key, text, word):
    with refused(path="own.yaml", key=key, found="'a truth value", expected=re.compile("a valid (integer|number)")):
        loaded(tmp_path, text.format(word))


def test_truth_value_is_no_number_below_a_union(tmp_path):
    with refused(path="own.yaml", key="proficiency.questions"):
        loaded(tmp_path, "proficiency: {questions: {math: yes}}")


def test_truth_value_is_no_number_under_a_limit(tmp_path):
    with refused(key="benchmarks.hop.items", found="a truth value"):
        loaded(tmp_path, "benchmarks: {hop: {items: no}}", limit=5)
    with refused(key="limit", found=True, expected="a whole number above 0"):
        load_scale("tiny", True)


@pytest.mark.parametrize("value", ["1:30", "190:20:30", "1:30.5", "-1:30"])
@pytest.mark.parametrize("key", ["bootstrap_draws", "mastered_threshold"])
def test_time_of_day_is_no_number(tmp_path, key, value):
    with refused(path="own.yaml", key=key, found=f"'{value}'", expected="a valid"):
        loaded(tmp_path, f"{key}: {value}")


@pytest.mark.parametrize("word", ["yes", "on", "true", "no", "off", "false"])
def test_truth_value_of_a_flag(tmp_path, word):
    assert loaded(tmp_path, f"respond: {{include_gold: {word}}}").respond.include_gold == (
        word in ("yes", "on", "true")
    )


NUMBERS = [
    "0",
    "7",
    "-3",
    "+4",
    "1_000",
    "0x1F",
    "0b11",
    "0.5",
    "-0.5",
    ".5",
    "3.",
    "1.0e-5",
    "1.5e+3",
    ".inf",
    "-.inf",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_read_as_by_pyyaml(text):
    found = yaml.load(text, Loader)
    assert (found, type(found)) == (yaml.safe_load(text), type(yaml.safe_load(text)))


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("0.25", 0.25), ('"0.25"', 0.25), ("1", 1.0)])
def test_numbers_of_a_scale(tmp_path, text, value):
    assert loaded(tmp_path, f"mastered_threshold: {text}").mastered_threshold == value
    assert loaded(tmp_path, "bootstrap_draws: 0010").bootstrap_draws == 10  # to YAML 1.1 it was 8


def test_config_files_are_read_as_by_pyyaml():
    for path in CONFIG.glob("*.yaml"):
        text = path.read_text()
        assert yaml.load(text, Loader) == yaml.safe_load(text)
