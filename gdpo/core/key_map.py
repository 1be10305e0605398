"""Keys of the configuration that version 0.2.0 renamed, for files of the user and for results of version 0.1.0.

A scale's YAML file that has an old key is refused with the new one (gdpo.config.yaml_loader). Results stay valid: the
settings that their provenance stores are read with the new keys (`current_settings`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

SINCE = "0.2.0"


class RenamedKey(NamedTuple):
    """`old` is called `new` in the mappings that have the key `beside`, which marks them."""

    old: str
    new: str
    beside: str


RENAMED_KEYS = (
    RenamedKey("retained", "mastered_threshold", beside="scale"),  # of a whole scale
    RenamedKey("reminders", "replay_per_unit", beside="keep_units"),  # selection
    RenamedKey("asks", "max_rephrasings", beside="base_url"),  # an endpoint
    RenamedKey("least", "min_skills", beside="margin"),  # annotate.taxonomy
    RenamedKey("most", "max_skills", beside="margin"),
    RenamedKey("further", "extended_rates", beside="learning_rates"),  # sweep
    RenamedKey("gold", "include_gold", beside="group_size"),  # respond
)


def current_settings(settings: Any) -> Any:
    """Settings that a provenance file stores, with the keys of this version; those that have them are returned equal.

    Values and the order of keys stay as they are.
    """
    if isinstance(settings, dict):
        new = {each.old: each.new for each in RENAMED_KEYS if each.beside in settings and each.new not in settings}
        return {new.get(key, key): current_settings(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [current_settings(each) for each in settings]
    return settings
