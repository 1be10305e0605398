"""Hashes of settings: what keys a cache and tells one result's configuration from another's."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(settings: Any) -> str:
    """A short hash of resolved settings: the key of caches and the config hash of provenance.

    The names that entries have in print (`display`) are left out: a new name must not train anything again. What shows
    names also hashes `Scale.names`.
    """
    return hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # a pydantic model; the trainer is installed without pydantic
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items() if key != "display"}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
