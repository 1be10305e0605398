"""From groups to forward passes: which tokens share a pass, a row, a prompt.

A *row* is a prompt and one or more of its group's completions, one after the other; none attends to another. A
*forward* is some rows of like length. Every distinct completion is scored exactly once, whatever the number of pairs.
How rows and forwards are cut changes cost and padding, and log-probabilities only by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from transformers import PretrainedConfig

Share = Literal["auto", "always", "never"]
PADDING = 0.05  # at most this share of a forward is padding

T = TypeVar("T")


@dataclass(frozen=True)
class PackedRow:
    """A prompt and completions of it; `owners` are the completions' numbers in the batch."""

    prompt: list[int]
    completions: list[list[int]]
    owners: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.completions))


@dataclass(frozen=True)
class Packing:
    """How a batch of groups becomes forward passes.

    Args:
        pad_token_id: fills the rows of a forward up to the longest.
        max_tokens: of one forward, padding included. A longer row is a forward of its own; "auto" makes none of
            several completions.
        share: put completions after one copy of their prompt where that is cheaper ("auto"), always, or never.
        attention_tokens: the row length at which a layer's attention costs as much as its projections.
        window: the model's sliding window, if it has one: a longer row is not shared.
        bucket: rows of like length share a forward, so that at most 5% of it is padding; else rows stay in order.
        padding_free: all rows of a forward in one row without padding, for attention that takes sequence bounds.
    """

    pad_token_id: int
    max_tokens: int
    share: Share = "auto"
    attention_tokens: float = 1024.0
    window: int | None = None
    bucket: bool = True
    padding_free: bool = False

    def forwards(self, groups: Iterable[tuple[list[int], Sequence[list[int]]]]) -> tuple[int, list[dict[str, Tensor]]]:
        """The forward passes that score every completion of (prompt ids, completions' ids) once.

        Returns the number of their tokens without padding, and the passes. Each pass has `input_ids` (N, T). Where
        completions share a row it has `segments` (N, T), from which `tree_mask` makes a mask; there and in padding-free
        rows it has `position_ids` (N, T). Elsewhere attention is causal, and no token attends to the padding, which is
        at the end. `sources` (K,) are the flat positions whose hidden states predict the tokens `targets` (K,) of the
        completions `owners` (K,), numbered in the order of `groups`.
        """
        rows: list[PackedRow] = []
        number = 0
        for prompt, completions in groups:
            rows += self._rows(prompt, completions, number)
            number += len(completions)
        forwards = []
        for several in (False, True):
            alike = [row for row in rows if (len(row.completions) > 1) == several]
            forwards += [self._forward(bucket, several) for bucket in self._buckets(alike)]
        return sum(map(len, rows)), forwards

    def _rows(self, prompt: list[int], completions: Sequence[list[int]], first: int) -> list[PackedRow]:
        """A group's rows, as many completions to a row as is cheapest; `first` is the first completion's number."""
        order = sorted(range(len(completions)), key=lambda i: -len(completions[i]))
        longest = len(prompt) + max(map(len, completions))
        shareable = self.share != "never" and not self.padding_free and (self.window is None or longest <= self.window)
        counts = range(1, len(order) + 1) if shareable else [len(order)]
        if shareable and self.share == "always":
            counts = [1]
        # Dealt out longest first, the rows of a group come out about equally long.
        deals = [[order[start::count] for start in range(count)] for count in counts]

        def length(part: list[int]) -> int:
            return len(prompt) + sum(len(completions[i]) for i in part)

        def cost(deal: list[list[int]]) -> float:
            # A mask is computed in full, plain causal attention by half.
            lengths = [(length(part), len(part)) for part in deal]
            return sum(n + n * n / self.attention_tokens * (1.0 if size > 1 else 0.5) for n, size in lengths)

        if self.share == "auto":  # what is cheaper is not worth a forward of more tokens than were asked for
            most = max(self.max_tokens, longest)
            deals = [deal for deal in deals if max(map(length, deal)) <= most]

        return [
            PackedRow(prompt, [completions[i] for i in part], [first + i for i in part])
            for part in min(deals, key=cost)
        ]

    def _buckets(self, rows: list[PackedRow]) -> list[list[PackedRow]]:
        if self.bucket:
            rows = sorted(rows, key=len, reverse=True)
        buckets: list[list[PackedRow]] = []
        real = width = 0
        for row in rows:
            wider = max(width, len(row))
            padded = wider * (len(buckets[-1]) + 1) if buckets else 0
            unpadded = real + len(row)
            size = unpadded if self.padding_free else padded
            waste = 0.0 if self.padding_free or not self.bucket else 1 - unpadded / max(padded, 1)
            if buckets and size <= self.max_tokens and waste <= PADDING:
                buckets[-1].append(row)
                real, width = unpadded, wider
            else:
                buckets.append([row])
                real = width = len(row)
        return buckets

    def _forward(self, rows: list[PackedRow], several: bool) -> dict[str, Tensor]:
        width = sum(map(len, rows)) if self.padding_free else max(map(len, rows))
        ids: list[int] = []
        positions: list[int] = []
        segments: list[int] = []
        sources: list[int] = []
        targets: list[int] = []
        owners: list[int] = []
        for number, row in enumerate(rows):
            start = len(ids) if self.padding_free else number * width
            ids += row.prompt
            positions += range(len(row.prompt))
            segments += [0] * len(row.prompt)
            last = start + len(row.prompt) - 1
            place = last + 1
            for segment, (owner, completion) in enumerate(zip(row.owners, row.completions, strict=True), start=1):
                sources += [last, *range(place, place + len(completion) - 1)]
                targets += completion
                owners += [owner] * len(completion)
                ids += completion
                positions += range(len(row.prompt), len(row.prompt) + len(completion))
                segments += [segment] * len(completion)
                place += len(completion)
            if not self.padding_free:
                padding = width - len(row)
                ids += [self.pad_token_id] * padding
                positions += [0] * padding
                segments += [-1] * padding
        shape = (1, width) if self.padding_free else (len(rows), width)
        forward = {
            "input_ids": torch.tensor(ids).view(shape),
            "sources": torch.tensor(sources),
            "targets": torch.tensor(targets),
            "owners": torch.tensor(owners),
        }
        if several or self.padding_free:
            forward["position_ids"] = torch.tensor(positions).view(shape)
        if several:
            forward["segments"] = torch.tensor(segments).view(shape)
        return forward


def tree_mask(segments: Tensor) -> Tensor:
    """The attention mask, (N, 1, T, T) bool, of segments (N, T).

    A token attends to the tokens before it in the prompt, which is segment 0, and in its own completion.
    """
    row, column = segments.unsqueeze(-1), segments.unsqueeze(-2)
    causal = torch.ones(segments.shape[-1], segments.shape[-1], dtype=torch.bool, device=segments.device).tril()
    return (((column == 0) | (row == column)) & causal).unsqueeze(1)


def longest_first(lengths: Sequence[int]) -> list[int]:
    """The indices of `lengths` from the longest to the shortest, equal ones in order."""
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def batch_by_length(lengths: Sequence[int], rows: int | Callable[[int], int]) -> list[list[int]]:
    """The indices of `lengths` in batches of like length, longest first, equal ones in order.

    `rows` is how many a batch takes at most, or what gives that, 1 or more, for the longest length in it.
    """
    order = longest_first(lengths)
    batches = []
    while order:
        size = rows if isinstance(rows, int) else rows(lengths[order[0]])
        batches.append(order[:size])
        order = order[size:]
    return batches


def batch_by_size(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Successive items, as many at a time as have up to `limit` of `size` together; at least one item."""
    batch: list[T] = []
    total = 0
    for item in items:
        if batch and total + size(item) > limit:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


def batch_by_tokens(groups: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
    """Successive groups, as many at a time as hold up to `limit` tokens; at least one group."""

    def tokens(group: dict[str, Any]) -> int:
        return sum(len(group["prompt_ids"]) + len(ids) for ids in group["sequences"])

    return batch_by_size(groups, tokens, limit)


def attention_tokens(config: PretrainedConfig, parameters: int) -> float:
    """The row length at which attention costs as much as the projections of a model with `parameters` in its body.

    A layer multiplies 2 N / L numbers a token by its weights and 4 T d by the other tokens, so T = N / (2 L d).
    """
    text = config.get_text_config()
    heads: int = text.num_attention_heads
    width: int = heads * (getattr(text, "head_dim", None) or text.hidden_size // heads)
    layers: int = text.num_hidden_layers
    return parameters / (2 * layers * width)


@dataclass
class GroupCollator:
    """Joins groups into one batch in which every distinct completion is scored once.

    A batch has B groups of up to G completions, C distinct ones in all. `forwards` are those of `Packing.forwards`.
    `index` (B, G) has each completion's number, `mask` and `rewards` are (B, G). `lengths` (C,) counts the tokens of
    the distinct completions. `ref_log_probs` (C,) is there where the rows have it. `tokens` counts the `useful` ones
    (of completions), the `real` ones (with prompts, as often as they are computed) and all `processed` (with padding).
    """

    packing: Packing
    dtype: torch.dtype = torch.float32

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        shape = (len(rows), max(1, *(len(row["index"]) for row in rows)))
        index, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
        rewards = torch.zeros(shape, dtype=self.dtype)
        offset = 0
        for group, row in enumerate(rows):
            size = len(row["index"])
            index[group, :size] = offset + torch.tensor(row["index"])
            rewards[group, :size] = torch.tensor(row["rewards"], dtype=self.dtype)
            mask[group, :size] = True
            offset += len(row["sequences"])
        real, forwards = self.packing.forwards((row["prompt_ids"], row["sequences"]) for row in rows)
        lengths = torch.tensor([len(ids) for row in rows for ids in row["sequences"]])
        batch = {
            "rewards": rewards,  # first, since Trainer takes a batch's size from its first tensor
            "mask": mask,
            "index": index,
            "lengths": lengths,
            "forwards": forwards,
            "tokens": {
                "useful": int(lengths.sum()),
                "real": real,
                "processed": sum(forward["input_ids"].numel() for forward in forwards),
            },
        }
        if "ref_log_probs" in rows[0]:
            values = [value for row in rows for value in row["ref_log_probs"]]
            batch["ref_log_probs"] = torch.tensor(values, dtype=self.dtype)
        return batch
