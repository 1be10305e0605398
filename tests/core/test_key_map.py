"""Settings that version 0.1.0 stored are those of today under the keys of today."""

from __future__ import annotations

import pytest

from gdpo.config.loader import load_scale
from gdpo.core.files import read_json
from gdpo.core.hashing import fingerprint
from gdpo.core.key_map import RENAMED_KEYS, current_settings
from gdpo.core.project import CONFIG, PROJECT

STORED = PROJECT / "results" / "reference" / "smol"


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        (STORED / "skills.jsonl.provenance.json", lambda scale: [scale.annotate, scale.encoder]),
        (
            STORED / "metakl.jsonl.provenance.json",
            lambda scale: [scale.trainset("metakl"), scale.selection, scale.mastered_threshold],
        ),
        (CONFIG / "sweep" / "tiny.csv.provenance.json", lambda scale: scale.sweep),
    ],
    ids=["annotate", "select", "sweep"],
)
def test_stored_settings_with_old_keys_hash_as_current_settings(path, settings):
    """Files of version 0.1.0: their hash is that of the old keys, and after the map that of the scale's settings."""
    record, scale = read_json(path), load_scale("tiny" if "tiny" in path.name else "smol")
    assert fingerprint(record["settings"]) == record["config_hash"]
    assert fingerprint(current_settings(record["settings"])) == fingerprint(settings(scale)) != record["config_hash"]


def test_every_renamed_key_is_mapped_beside_its_companion_only():
    for each in RENAMED_KEYS:
        assert current_settings([{each.old: 1, each.beside: 2}]) == [{each.new: 1, each.beside: 2}]
        assert current_settings({"a": {each.old: 1}}) == {"a": {each.old: 1}}


def test_values_and_current_settings_stay_as_they_are():
    settings = [load_scale("smol").model_dump(mode="json"), "gold", {"test": "retained", "of": ["most"]}]
    assert current_settings(settings) == settings
