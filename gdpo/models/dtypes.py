"""What a model's configured dtype means: the dtype of its weights, and the dtype that training computes in.

`mixed` is float32 weights everywhere, with bfloat16 autocast in training where there is a GPU; on a CPU it is float32.
"""

from __future__ import annotations

from gdpo.config.fields import Dtype


def weights_dtype(name: Dtype) -> str:
    """The torch dtype in which weights of dtype `name` are loaded, sampled from and saved."""
    return "float32" if name == "mixed" else name


def autocasts(name: Dtype, cuda: bool) -> bool:
    """Whether training a model of dtype `name` computes in bfloat16 over float32 weights; `cuda`: there is a GPU."""
    return name == "bfloat16" or (name == "mixed" and cuda)
