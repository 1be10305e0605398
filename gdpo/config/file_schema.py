"""The JSON schema of a scale's YAML file, by which an editor completes keys and marks mistakes while one types.

A file says less than the scale that it makes: what it extends has the rest. So nothing but the name is required here.
What entries must be to each other (gdpo.config.validation) no schema says; loading a scale checks it.
"""

from __future__ import annotations

import json
from typing import Any

from gdpo.config.loader import DROPPABLE
from gdpo.config.scale import Scale

TITLE = "A scale of gdpo: one file of workflow/config"


def schema() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12."""
    made = _partial(Scale.model_json_schema())
    properties = made["properties"]
    # Null leaves out an entry of the scale that is extended; of a source, it takes the catalogue's as it is.
    for key in (*DROPPABLE, "sources"):
        patterns = properties[key]["patternProperties"]
        properties[key]["patternProperties"] = {
            name: {"anyOf": [entry, {"type": "null"}]} for name, entry in patterns.items()
        }
    changes = {"type": "object", "properties": properties, "additionalProperties": False}
    properties["limited"] = {
        "anyOf": [{"$ref": "#/$defs/Changes"}, {"type": "null"}],
        "description": "What is otherwise under a limit.",
    }
    extends = {"type": "string", "description": "A scale beside this file, or one of this project, that this changes."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "type": "object",
        "required": ["scale"],
        "properties": {"extends": extends, **properties},
        "additionalProperties": False,
        "$defs": {**made["$defs"], "Changes": changes},
    }


def text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _partial(node: Any) -> Any:
    """`node` without what says that something must be there, and without names that repeat a key."""
    if isinstance(node, list):
        return [_partial(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if "properties" in node and isinstance(node["properties"], dict):
        kept = {k: v for k, v in node.items() if k not in ("required", "title", "properties")}
        return {**{k: _partial(v) for k, v in kept.items()}, "properties": _entries(node["properties"])}
    return {
        k: _entries(v) if k in ("$defs", "patternProperties") else _partial(v)
        for k, v in node.items()
        if k not in ("required", "title", "minProperties")
    }


def _entries(named: dict[str, Any]) -> dict[str, Any]:
    """A mapping of names to schemas: a name may be spelt as a keyword is, such as `title`."""
    return {name: _partial(entry) for name, entry in named.items()}
