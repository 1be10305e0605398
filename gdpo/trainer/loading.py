"""Models and tokenizers by path or Hub name: no code of their own is run, and what cannot be loaded is one sentence."""

from __future__ import annotations

import os
from typing import Any

from safetensors import SafetensorError

from gdpo.core.errors import ArgumentError

# What transformers raises of a checkpoint that is cut off, holds other shapes, or whose JSON is something else.
BROKEN = (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError, SafetensorError)


def load_pretrained(key: str, path: str | os.PathLike[str], auto: Any, what: str, **options: Any) -> Any:
    """`auto.from_pretrained(path, **options)`. Raises ArgumentError of the argument `key` where that gives no `what`.

    Args:
        key: the argument that names `path`.
        path: a directory or a Hub name.
        auto: one of transformers' auto classes.
        what: what is expected, in words, such as "a reward model".
        options: keywords for `from_pretrained`.
    """
    try:
        return auto.from_pretrained(os.fspath(path), trust_remote_code=False, **options)
    except BROKEN as error:
        reason = next(iter(str(error).strip().splitlines()), None)
        expected = f"the path or Hub name of {what}"
        raise ArgumentError(key=key, found=repr(os.fspath(path)), expected=expected, hint=reason) from error
