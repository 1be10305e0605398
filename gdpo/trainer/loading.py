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


def load_model(key: str, path: str | os.PathLike[str], auto: Any, what: str, **options: Any) -> Any:
    """`load_pretrained` of a model from safetensors.

    Raises ArgumentError also where the checkpoint lacks weights of it, which transformers would draw at random.
    """
    options |= {"use_safetensors": True, "output_loading_info": True}
    model, info = load_pretrained(key, path, auto, what, **options)
    if missing := sorted(info["missing_keys"]):
        found = f"no weights for {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise ArgumentError(key=key, found=found, expected=f"a checkpoint of {type(model).__name__} in {path}")
    return model
