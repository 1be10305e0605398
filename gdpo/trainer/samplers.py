"""The order in which an epoch takes its items: one for all processes, filled up so that each gets as many.

accelerate would fill an epoch's last batches with its first items, which then count twice. Here a dummy item fills
them. It is scored, since every process must take part in every exchange of gradients, and has zero weight in the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler


class SeededShuffle(Sampler[int]):
    """0 to size - 1 in an order drawn from seed and epoch."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        # Not seed + epoch: a seed's second epoch would be the next seed's first.
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class EpochSampler(Protocol):
    """A sampler with a length and an epoch: a `SeededShuffle`, or accelerate's."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...

    def set_epoch(self, epoch: int) -> None: ...


class FilledSampler(Sampler[int]):
    """The n items of `order` and then n, the index of the dummy, until their number is a multiple of `multiple`."""

    def __init__(self, order: EpochSampler, multiple: int):
        self.order, self.dummies = order, -len(order) % multiple

    def __len__(self) -> int:
        return len(self.order) + self.dummies

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [len(self.order)] * self.dummies

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)


def append_dummy_group(groups: Dataset) -> Dataset:
    """`groups` and then a group without completions, with one short sequence for the model to score."""
    shortest = min(groups, key=lambda group: len(group["prompt_ids"]) + len(group["sequences"][0]))
    dummy = shortest | {"sequences": shortest["sequences"][:1], "index": [], "rewards": []}
    if "ref_log_probs" in shortest:
        dummy["ref_log_probs"] = [0.0]
    return concatenate_datasets([groups, Dataset.from_list([dummy], features=groups.features)])
