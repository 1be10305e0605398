"""Forward passes: every completion token is a target once, behind exactly what it may see, and little is padding."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from gdpo.trainer.packing import (
    PADDING,
    GroupCollator,
    Packing,
    batch_by_length,
    batch_by_size,
    batch_by_tokens,
    tree_mask,
)

PAD = 99
PACKING = Packing(pad_token_id=PAD, max_tokens=200)


def drawn(seed: int, groups: int = 12) -> list[tuple[list[int], list[list[int]]]]:
    """Groups of 1 to 6 completions of 1 to 40 tokens behind prompts of 1 to 30, tokens 0 to 49."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(50) for _ in range(draw.randint(low, high))]

    return [(ids(1, 30), [ids(1, 40) for _ in range(draw.randint(1, 6))]) for _ in range(groups)]


def visible(forward) -> torch.Tensor:
    """Who sees whom as a model has it, (N, T, T): by the mask, by restarting positions, or causally."""
    rows, width = forward["input_ids"].shape
    if "segments" in forward:
        return tree_mask(forward["segments"])[:, 0]
    causal = torch.ones(width, width, dtype=torch.bool).tril().expand(rows, -1, -1)
    if "position_ids" not in forward:
        return causal
    sequence = (forward["position_ids"] == 0).cumsum(-1)
    return causal & (sequence.unsqueeze(-1) == sequence.unsqueeze(-2))


def scored(forwards):
    """Completion's number -> [(what the predicting position sees, in the order of positions; the target)]."""
    found = defaultdict(list)
    for forward in forwards:
        ids, seen = forward["input_ids"], visible(forward)
        width = ids.shape[1]
        positions = forward.get("position_ids", torch.arange(width).expand_as(ids))
        parts = (forward[name].tolist() for name in ("sources", "targets", "owners"))
        for source, target, owner in zip(*parts, strict=True):
            row, column = divmod(source, width)
            places = seen[row, column].nonzero().squeeze(-1)
            order = positions[row, places]
            assert sorted(order.tolist()) == list(range(len(places)))  # each position once
            found[owner].append((ids[row, places[order.argsort()]].tolist(), target))
    return found


LAYOUTS = {
    "auto": {},
    "always": {"share": "always"},
    "never": {"share": "never"},
    "window": {"share": "always", "window": 20},
    "unbucketed": {"share": "never", "bucket": False},
    "padding-free": {"padding_free": True},
    "one a forward": {"max_tokens": 1},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_completion_token_is_predicted_once_from_its_own_past(layout, seed):
    groups = drawn(seed)
    real, forwards = replace(PACKING, **layout).forwards(groups)
    found = scored(forwards)
    completions = [(prompt, completion) for prompt, sequences in groups for completion in sequences]
    assert sorted(found) == list(range(len(completions)))
    for number, (prompt, completion) in enumerate(completions):
        assert found[number] == [(prompt + completion[:k], token) for k, token in enumerate(completion)]
    assert real == sum(int((forward["input_ids"] != PAD).sum()) for forward in forwards)


def test_a_shared_row_by_hand():
    """Prompt 1 2, completions 3 4 5 and 6 7, then one padding token beside a longer row.

    Positions: 0 1 | 2 3 4 | 2 3. Token 6 sees 1, 2 and itself; token 7 also 6, and nothing of 3 4 5. The prompt's last
    token, at place 1, predicts both 3 and 6.
    """
    groups = [([1, 2], [[3, 4, 5], [6, 7]]), ([1, 2, 8], [[3, 4, 5], [6, 7]])]
    real, (forward,) = replace(PACKING, share="always", bucket=False).forwards(groups)
    assert real == 15
    assert forward["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, PAD], [1, 2, 8, 3, 4, 5, 6, 7]]
    assert forward["position_ids"][0, :7].tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert forward["sources"].tolist() == [1, 2, 3, 1, 5, 8 + 2, 8 + 3, 8 + 4, 8 + 2, 8 + 6]
    assert forward["targets"].tolist() == [3, 4, 5, 6, 7] * 2
    assert forward["owners"].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    expected = [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1, 1],
    ]
    mask = tree_mask(forward["segments"])
    assert mask.shape == (2, 1, 8, 8)
    assert mask[0, 0, :7, :7].int().tolist() == expected
    assert not mask[0, 0, :7, 7].any()  # nobody sees the padding
    assert mask[0, 0, 7].any()  # which sees something, since attention to nothing is not a number


def test_packed_rows_restart_their_positions():
    _, (forward,) = replace(PACKING, padding_free=True).forwards([([1, 2], [[3, 4], [5]])])
    assert forward["input_ids"].tolist() == [[1, 2, 3, 4, 1, 2, 5]]
    assert forward["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert forward["sources"].tolist() == [1, 2, 5]


@pytest.mark.parametrize("share", ["auto", "always", "never"])
@pytest.mark.parametrize("seed", range(5))
def test_forwards_have_at_most_5_percent_padding(share, seed):
    """At most 5% of each forward, whatever the lengths, and no forward is larger than it may be."""
    _, forwards = replace(PACKING, share=share, max_tokens=400).forwards(drawn(seed, 40))
    for forward in forwards:
        ids = forward["input_ids"]
        assert (ids == PAD).sum() <= PADDING * ids.numel()
        assert ids.numel() <= 400 or len(ids) == 1
    assert any(len(forward["input_ids"]) > 1 for forward in forwards)


@pytest.mark.parametrize("layout", [{"bucket": False}, {"padding_free": True}, {"share": "always"}])
def test_no_forward_exceeds_max_tokens(layout):
    packing = replace(PACKING, max_tokens=100, **layout)
    for seed in range(3):
        for forward in packing.forwards(drawn(seed))[1]:
            longer = (forward["input_ids"] != PAD).sum() > 100  # a row longer than the limit stands alone
            several = forward["owners"].unique().numel() > 1 and "segments" not in forward
            assert forward["input_ids"].numel() <= 100 or (longer and not several and len(forward["input_ids"]) == 1)


def rows_of(prompt: int, answers: list[int], **changes) -> list[int]:
    """How many completions each row of one group holds."""
    packing = replace(PACKING, **{"max_tokens": 1 << 20, **changes})
    return sorted(len(row.completions) for row in packing._rows([1] * prompt, [[2] * size for size in answers], 0))


def test_shared_rows_are_no_longer_than_a_forward():
    """512 + 16 * 8 = 640 tokens in a row are cheapest; of 600 two rows of eight fit, of 100 no two completions."""
    assert rows_of(512, [8] * 16) == [16]
    assert rows_of(512, [8] * 16, max_tokens=600) == [8, 8]
    assert rows_of(512, [8] * 16, max_tokens=100) == [1] * 16
    assert rows_of(512, [8] * 16, max_tokens=100, share="always") == [16]


def test_prompts_are_shared_where_that_is_cheaper():
    """Cost is n + n^2 / 1024 a shared row, n + n^2 / 2048 a lone one.

    Prompt 512, 8 answers of 8: 900 shared, 8 x 652 apart. Prompt 8, 8 answers of 512: 20552 shared, 8 x 652 apart.
    Prompt 512, 16 answers of 128: 8960 in one row, 7680 in two, 8192 in four: two rows of eight.
    """
    assert rows_of(512, [8] * 8) == [8]
    assert rows_of(8, [512] * 8) == [1] * 8
    assert rows_of(512, [128] * 16) == [8, 8]
    assert rows_of(512, [8]) == [1]
    assert rows_of(8, [512] * 8, share="always") == [8]
    assert rows_of(512, [8] * 8, share="never") == [1] * 8


def test_a_window_keeps_longer_rows_apart():
    """In a shared row a token lies further from its prompt than its positions say: harmless within the window."""
    assert rows_of(10, [6, 5], share="always", window=16) == [2]
    assert rows_of(10, [6, 5], share="always", window=15) == [1, 1]


def test_groups_of_different_sizes_join_one_batch():
    rows = [
        {"prompt_ids": [1], "sequences": [[2], [3, 4]], "index": [0, 1, 0], "rewards": [1.0, 0.5, 1.0]},
        {"prompt_ids": [1, 2], "sequences": [[5]], "index": [0, 0], "rewards": [1.0, 0.0]},
    ]
    batch = GroupCollator(PACKING, torch.float64)(rows)
    assert batch["index"].tolist() == [[0, 1, 0], [2, 2, 0]]
    assert batch["mask"].tolist() == [[True] * 3, [True, True, False]]
    assert batch["rewards"].dtype == torch.float64
    assert batch["lengths"].tolist() == [1, 2, 1] and batch["tokens"]["useful"] == 4
    assert "ref_log_probs" not in batch
    known = [row | {"ref_log_probs": [-1.0] * len(row["sequences"])} for row in rows]
    assert GroupCollator(PACKING)(known)["ref_log_probs"].tolist() == [-1.0] * 3


def test_batch_by_tokens():
    """Groups of 3, 4 and 9 tokens, at most 8 at a time; one too large comes alone."""
    groups = [{"prompt_ids": [1], "sequences": [[2] * size]} for size in (2, 3, 8, 1)]
    parts = [[len(group["sequences"][0]) for group in part] for part in batch_by_tokens(groups, 8)]
    assert parts == [[2, 3], [8], [1]]


def test_batch_by_length():
    """Longest first, equal ones in order; by a number of rows, and by 12 tokens in all rows of the longest length."""
    assert batch_by_length([5, 3, 5, 9, 1], 2) == [[3, 0], [2, 1], [4]]
    assert batch_by_length([5, 3, 5, 9, 1], lambda longest: 12 // longest) == [[3], [0, 2], [1, 4]]
    assert batch_by_length([], 2) == []


def test_batch_by_size():
    """Up to 4 of size together, in order; an item of 5 comes alone."""
    assert list(batch_by_size([1, 3, 1, 5, 2, 2], lambda item: item, 4)) == [[1, 3], [1], [5], [2, 2]]
    assert list(batch_by_size([], len, 4)) == []
