"""The reference's pass: kept in shards that a killed pass finds again, under a key of all that it depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gdpo.trainer import reference_cache
from gdpo.trainer.reference_cache import cache_key, reference_log_probs, reference_parameters

GROUPS = [
    {"prompt_ids": [number], "sequences": [[number, place] for place in range(size)]}
    for number, size in enumerate((2, 1, 3, 2, 4))
]


class Scorer:
    """Scores a sequence by its two ids, and remembers which groups it was asked about."""

    def __init__(self, dies_at: int | None = None):
        self.asked: list[int] = []
        self.dies_at = dies_at

    def __call__(self, groups):
        if self.dies_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked += [group["prompt_ids"][0] for group in groups]
        return torch.tensor([-10.0 * a - b for group in groups for a, b in group["sequences"]], dtype=torch.float64)


EXPECTED = [[-10.0 * a - b for a, b in group["sequences"]] for group in GROUPS]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """A group a shard, but for the second, of one completion, which the third joins."""
    monkeypatch.setattr(reference_cache, "SHARD_COMPLETIONS", 2)


def test_second_pass_reads_the_cache(tmp_path):
    first, second = Scorer(), Scorer()
    assert reference_log_probs(GROUPS, first, tmp_path) == EXPECTED
    assert first.asked == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"shard-0000{n}-of-00004.npy" for n in range(4)]
    assert reference_log_probs(GROUPS, second, tmp_path) == EXPECTED
    assert second.asked == []


def test_killed_pass_resumes(tmp_path):
    """Killed in its third shard, it scores the third and fourth when it is called again, and leaves no parts behind."""
    with pytest.raises(KeyboardInterrupt):
        reference_log_probs(GROUPS, Scorer(dies_at=3), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    again = Scorer()
    assert reference_log_probs(GROUPS, again, tmp_path) == EXPECTED
    assert again.asked == [3, 4]


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "short"])
def test_a_damaged_shard_is_scored_again(damage, tmp_path):
    reference_log_probs(GROUPS, Scorer(), tmp_path)
    path = tmp_path / "shard-00002-of-00004.npy"
    if damage == "short":
        np.save(path, np.zeros(1))
    else:
        path.write_bytes({"cut": path.read_bytes()[:-5], "empty": b"", "other": b"not numbers"}[damage])
    again = Scorer()
    assert reference_log_probs(GROUPS, again, tmp_path) == EXPECTED
    assert again.asked == [3]


def test_processes_deal_out_the_shards(tmp_path):
    """Of two processes the first takes the first and third shard and waits; then the second has the others to do."""
    first, second = Scorer(), Scorer()

    def wait():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        reference_log_probs(GROUPS, first, tmp_path, rank=0, processes=2, wait=wait)
    assert first.asked == [0, 3]
    assert reference_log_probs(GROUPS, second, tmp_path, rank=1, processes=2) == EXPECTED
    assert second.asked == [1, 2, 4]


def test_cache_key_depends_on_weights_settings_and_data(student):
    """Another weight, another setting, another token or another precision is another key; the same is the same."""
    model = AutoModelForCausalLM.from_pretrained(student)
    key = cache_key(reference_parameters(model), ["float32"], GROUPS)
    assert key == cache_key(reference_parameters(AutoModelForCausalLM.from_pretrained(student)), ["float32"], GROUPS)
    other_data = [*GROUPS[:-1], GROUPS[-1] | {"sequences": [[9]]}]
    keys = {
        key,
        cache_key(reference_parameters(model), ["bfloat16"], GROUPS),
        cache_key(reference_parameters(model), ["float32"], other_data),
        cache_key(reference_parameters(model), ["float32"], GROUPS[::-1]),
        cache_key(reference_parameters(model.double()), ["float32"], GROUPS),
    }
    model.float()
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-6
    keys.add(cache_key(reference_parameters(model), ["float32"], GROUPS))
    assert len(keys) == 6


def test_cache_key_ignores_an_adapter(student):
    """Two adapters that start apart have one reference, and so one key; training one does not change it."""

    def adapted(seed):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(student)
        return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))

    one, two = adapted(0), adapted(1)
    starts = [next(p for name, p in model.named_parameters() if "lora_A" in name) for model in (one, two)]
    assert not torch.equal(*starts)
    key = cache_key(reference_parameters(one), [], GROUPS)
    assert key == cache_key(reference_parameters(two), [], GROUPS)
    with torch.no_grad():
        starts[0] += 1
    assert key == cache_key(reference_parameters(one), [], GROUPS)
