"""The order in which an epoch takes its items: one for all processes, and filled up so that each gets as many.

accelerate would fill an epoch's last batches with its first items again, which then count twice. A blank counts
nothing: it is scored, since every process must take part in every exchange of gradients, and no loss hears of it.
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
    """A sampler that knows its length and its epoch: a `Shuffle`, or accelerate's."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...

    def set_epoch(self, epoch: int) -> None: ...


class FilledSampler(Sampler[int]):
    """What `order` yields of its n items, then n, the place of a blank, up to a multiple of `multiple`."""

    def __init__(self, order: EpochSampler, multiple: int):
        self.order, self.blanks = order, -len(order) % multiple

    def __len__(self) -> int:
        return len(self.order) + self.blanks

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [len(self.order)] * self.blanks

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)


def append_dummy_group(groups: Dataset) -> Dataset:
    """`groups` and after them a group of no completions, with one short sequence for the model to score."""
    row = min(groups, key=lambda group: len(group["prompt_ids"]) + len(group["sequences"][0]))
    blank = row | {"sequences": row["sequences"][:1], "index": [], "rewards": []}
    if "ref_log_probs" in row:
        blank["ref_log_probs"] = [0.0]
    return concatenate_datasets([groups, Dataset.from_list([blank], features=groups.features)])
