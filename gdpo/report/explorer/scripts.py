"""Data as scripts: JavaScript that hands a value to the page, and from which no text of a model can break out."""

from __future__ import annotations

import json
from typing import Any

# Within a string of JSON each may be written as an escape; HTML takes `<` for the beginning of a tag or a comment.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def script(name: str, value: Any) -> str:
    """The text of `data/NAME.js`, in ASCII: lone surrogates and line separators are escapes in it.

    Raises ValueError for a number that JSON has not.
    """
    text = f"explorer.load({json.dumps(name)}, {json.dumps(value, separators=(',', ':'), allow_nan=False)});\n"
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return text
