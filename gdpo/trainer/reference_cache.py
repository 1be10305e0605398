"""The reference's log-probabilities: computed once, kept on disk under the hashes of what they depend on.

The pass over the data is cut into shards of whole groups. A finished shard is renamed into place, so that a killed
pass goes on where it stopped and a second run of the same reference on the same data reads instead of computing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from gdpo.core.files import replacing
from gdpo.core.progress import report
from gdpo.trainer import compat
from gdpo.trainer.logprobs import is_adapted

VERSION = 1  # raised when what a shard holds changes its meaning
SHARD_COMPLETIONS = 4096  # a shard's least size: minutes of a large model's time. Ours.

Groups = Sequence[dict[str, Any]]


def reference_log_probs(
    groups: Groups,
    score: Callable[[Groups], Tensor],
    cache: Path,
    *,
    rank: int = 0,
    processes: int = 1,
    wait: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """The reference's log-probability of every distinct completion of every group, in the data's order.

    Args:
        groups: tokenized groups (`gdpo.trainer.dataset.tokenize_groups`).
        score: log pi_ref of the completions of some groups, (C,).
        cache: the directory of this reference and these groups (`cache_key`); a shard lies there as
            `shard-00000-of-00002.npy`. Every process must see it.
        rank, processes, wait: shards are dealt out to the processes, which wait for each other at the end.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"ref_cache_dir: expected a directory to write to, found {cache}: {error}") from None
    shards = _shards(groups)
    paths = [cache / f"shard-{number:05}-of-{len(shards):05}.npy" for number in range(len(shards))]
    mine = [i for i in range(rank, len(shards), processes) if _read(paths[i], shards[i]) is None]
    for number, i in enumerate(tqdm(mine, desc="Reference log-probs", unit="shard", disable=not mine or None)):
        if len(mine) > 1:
            report(number, len(mine), "shards of the reference")
        values = score(shards[i]).cpu().numpy()
        with replacing(paths[i]) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    wait()
    column: list[list[float]] = []
    for path, shard in zip(paths, shards, strict=True):
        held = _read(path, shard)
        if held is None:
            raise OSError(
                f"{path}: expected a shard that another process wrote; "
                "ref_cache_dir must be one directory that every process sees"
            )
        values = iter(held.tolist())
        column += [[next(values) for _ in group["sequences"]] for group in shard]
    return column


def cache_key(reference: Iterable[tuple[str, Tensor]], settings: Any, groups: Groups) -> str:
    """The hash of all that the reference's log-probabilities depend on: weights, settings, token ids."""
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True, default=str).encode())
    for name, tensor in sorted(reference, key=lambda named: named[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Through uint8, since numpy knows no bfloat16.
        digest.update(tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    for group in groups:
        digest.update(json.dumps([group["prompt_ids"], group["sequences"]]).encode())
    return digest.hexdigest()[:32]


def reference_parameters(model: nn.Module, aside: bool = True) -> list[tuple[str, Tensor]]:
    """The weights that a model's reference is made of: all of them, or those below an adapter that is put aside."""
    named = model.state_dict(keep_vars=True).items()
    if not (aside and is_adapted(model)):
        return list(named)
    added = compat.adapter_name_parts(model)
    return [(name, tensor) for name, tensor in named if not any(part in name for part in added)]


def _read(path: Path, shard: Groups) -> np.ndarray | None:
    """What a shard holds; None where it is missing or damaged, and so to be scored."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == (sum(len(group["sequences"]) for group in shard),) else None


def _shards(groups: Groups) -> list[list[dict[str, Any]]]:
    shards: list[list[dict[str, Any]]] = []
    size = SHARD_COMPLETIONS
    for group in groups:
        if size >= SHARD_COMPLETIONS:
            shards.append([])
            size = 0
        shards[-1].append(group)
        size += len(group["sequences"])
    return shards
