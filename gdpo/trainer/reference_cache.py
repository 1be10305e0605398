"""The reference's log-probabilities: computed once, stored on disk under the hash of all that they depend on.

The pass over the data is cut into shards of whole groups. A finished shard is renamed into place. So a killed pass
resumes where it stopped, and a second run with the same reference and data reads the shards.
"""

from __future__ import annotations

import hashlib
import json
import math
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
from gdpo.trainer.dataset import DataError
from gdpo.trainer.logprobs import is_adapted

VERSION = 1  # raised when what a shard holds changes its meaning
SHARD_COMPLETIONS = 4096  # ours: the least size of a shard, minutes of a large model's time

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
        cache: the directory of this reference and these groups (`cache_key`), which every process must see. It has
            a file such as `shard-00000-of-00002.npy` for each shard.
        rank, processes, wait: shards are dealt out to the processes, which wait for each other at the end.

    Raises DataError where a score is no finite number, which is not stored, and OSError where the directory cannot be
    written to, or lacks a shard that another process wrote.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"ref_cache_dir: expected a directory to write to, found {cache}: {error}") from None
    shards = _shards(groups)
    paths = [cache / f"shard-{number:05}-of-{len(shards):05}.npy" for number in range(len(shards))]
    missing = [i for i in range(rank, len(shards), processes) if _read(paths[i], shards[i]) is None]
    for number, i in enumerate(tqdm(missing, desc="Reference log-probs", unit="shard", disable=not missing or None)):
        if len(missing) > 1:
            report(number, len(missing), "shards of the reference")
        values = score(shards[i]).cpu().numpy()
        _check_finite(values, shards[i], sum(map(len, shards[:i])))
        with replacing(paths[i]) as temporary, temporary.open("wb") as file:
            np.save(file, values)
    wait()
    column: list[list[float]] = []
    for path, shard in zip(paths, shards, strict=True):
        stored = _read(path, shard)
        if stored is None:
            raise OSError(
                f"{path}: expected a shard that another process wrote; "
                "ref_cache_dir must be one directory that every process sees"
            )
        values = iter(stored.tolist())
        column += [[next(values) for _ in group["sequences"]] for group in shard]
    return column


def cache_key(reference: Iterable[tuple[str, Tensor]], settings: Any, groups: Groups) -> str:
    """The hash of what the reference's log-probabilities depend on: weights, settings, token ids."""
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True, default=str).encode())
    for name, tensor in sorted(reference, key=lambda named: named[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Through uint8, since numpy knows no bfloat16.
        digest.update(tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().data)
    for group in groups:
        digest.update(json.dumps([group["prompt_ids"], group["sequences"]]).encode())
    return digest.hexdigest()[:32]


def reference_parameters(model: nn.Module, aside: bool = True) -> list[tuple[str, Tensor]]:
    """The named weights of a model's reference: all of them, or those without an adapter where `aside` disables it."""
    named = model.state_dict(keep_vars=True).items()
    if not (aside and is_adapted(model)):
        return list(named)
    added = compat.adapter_name_parts(model)
    return [(name, tensor) for name, tensor in named if not any(part in name for part in added)]


def _read(path: Path, shard: Groups) -> np.ndarray | None:
    """The log-probabilities of a shard; None where its file is missing or damaged, or has a number that is not finite,
    and the shard must be scored."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = values.shape == (sum(len(group["sequences"]) for group in shard),) and values.dtype.kind == "f"
    return values if whole and np.isfinite(values).all() else None


def _check_finite(values: np.ndarray, shard: Groups, first: int) -> None:
    """Raises DataError naming the row of a score that is no finite number; `first` is the row of the shard's first."""
    rows = [first + place for place, group in enumerate(shard) for _ in group["sequences"]]
    for row, value in zip(rows, values.tolist(), strict=True):
        if not math.isfinite(value):
            raise DataError(
                key=f"row {row}", found="a reference log-probability that is no finite number",
                expected="a model with finite weights and outputs",
            )  # fmt: skip


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
