"""What a model's dtype means for its weights and its training."""

from __future__ import annotations

from typing import get_args

import torch

from gdpo.config.fields import Dtype
from gdpo.models.dtypes import autocasts, weights_dtype


def test_every_dtype_has_weights_that_torch_knows():
    """Only `mixed` is no dtype of torch."""
    found = {name: weights_dtype(name) for name in get_args(Dtype)}
    assert {name for name, weights in found.items() if name != weights} == {"mixed"}
    assert found["mixed"] == "float32"
    assert all(isinstance(getattr(torch, weights), torch.dtype) for weights in found.values())


def test_mixed_autocasts_on_a_gpu_alone():
    found = {(name, cuda) for name in get_args(Dtype) for cuda in (False, True) if autocasts(name, cuda)}
    assert found == {("bfloat16", False), ("bfloat16", True), ("mixed", True)}
