"""One seed draws a world: what follows from it, where its results lie, and which seeds are refused."""

from __future__ import annotations

import pytest
import yaml

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.worlds import UNSEALED
from tests.refusal import refused


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "sealed.yaml"
    worlds = {"development": [7], "sealed": [900]}
    path.write_text(yaml.safe_dump({"extends": "trial", "scale": "sealed", "worlds": worlds, "world": {"seed": 7}}))
    return path


def seeds_of(scale):
    models = {name: model.pretrain.seed for name, model in scale.models.items() if model.pretrain}
    sets = {name: entry.seed for name, entry in scale.trainsets.items() if entry.seed is not None}
    return [scale.seeds, scale.sweep.seeds, models, sets, scale.respond.seed]


def test_a_worlds_seed_draws_every_other_seed():
    """World 101 adds 101,000 to each seed of the file: training 0, bases 1, 2 and 4, responses 11."""
    scale = load_scale("trial", world=101)
    assert (scale.seeds, scale.sweep.seeds, scale.respond.seed) == ([101000], [101000], 101011)
    bases = [scale.models[name].pretrain.seed for name in ("tiny-s", "tiny-m", "tiny-teacher")]
    assert bases == [101001, 101002, 101004]
    other = load_scale("trial", world=102)
    for one, two in zip(seeds_of(scale), seeds_of(other), strict=True):
        assert one != two
    assert scale.model_settings("tiny-s") != other.model_settings("tiny-s")


def test_results_of_a_world_lie_in_its_own_directory():
    assert Layout(load_scale("trial", world=102)).root.as_posix() == "results/trial/world-102"
    assert Layout(load_scale("trial", limit=8, world=7)).root.as_posix() == "results/trial-limit8/world-7"
    assert Layout(load_scale("tiny")).root.as_posix() == "results/tiny"


@pytest.mark.parametrize("world", [9, True, "x"])
def test_only_a_listed_world_runs(world):
    with refused(key="world", found=world, expected="development worlds 7, 101"):
        load_scale("trial", world=world)


def test_a_scale_of_one_world_has_no_other():
    with refused(key="world", found=7, expected="no 'worlds'"):
        load_scale("tiny", world=7)


def test_a_sealed_world_runs_within_the_trial_alone(sealed, monkeypatch):
    monkeypatch.delenv(UNSEALED, raising=False)
    with refused(key="world", found="900, which is sealed", hint="make trial"):
        load_scale(sealed, world=900)
    assert load_scale(sealed, world=7).world.seed == 7
    monkeypatch.setenv(UNSEALED, "yes")
    assert load_scale(sealed, world=900).world.seed == 900


def test_no_untaught_skill_is_in_the_pool_or_in_a_selection():
    """Of every set but those of pretraining text, by configuration: no pool question, source or domain is untaught."""
    scale = load_scale("trial")
    untaught = {b.source for b in scale.benchmarks.values() if b.role != "taught"}
    assert len([b for b in scale.benchmarks.values() if b.role == "untaught"]) >= 4
    assert {name for name in untaught if scale.world.skills[name].pool} == set()
    assert {name for name in untaught if scale.world.skills[name].mix["teacher"]} == set()
    assert not any(untaught & set(entry.sources) for entry in scale.trainsets.values())


def test_scales_of_one_world_keep_their_settings():
    """What `tiny` hashes has none of the new keys, so that no result of it becomes stale."""
    scale = load_scale("tiny")
    new = {"things", "role", "chance", "partial", "steps", "right_only", "shuffled_rewards", "kept_change", "pushes"}
    dumped = yaml.safe_dump(scale.model_dump(mode="json", include={"world", "benchmarks", "reward", "methods"}))
    assert not any(f" {key}:" in dumped for key in new)
