"""Many completions from a model: conversations in, completions out, resumable batch by batch.

A model is sampled here by transformers (sampling_hf) or by vLLM (sampling_vllm), or asked at its endpoint.
"""

from __future__ import annotations

from pathlib import Path

from gdpo.config.models import Model
from gdpo.core.files import resumable_batches
from gdpo.models.endpoint import complete_all_endpoint
from gdpo.models.sampling_types import Completer, Conversation, Sampling


def complete(
    model: Model,
    path: Path | None,
    conversations: list[Conversation],
    sampling: Sampling,
    cache: Path,
    extra: dict | None = None,
) -> list[list[str]]:
    """Completions of every conversation, in order, from the model's endpoint or by its engine from `path`.

    `cache` keeps finished batches, so that nothing is sampled or paid for twice. For a local model the caller names it
    by everything that the completions depend on. An endpoint has one journal, `Layout.endpoint`, which tells its
    requests apart; how many requests, tokens and how much money it took so far goes into `extra`.
    """
    if model.endpoint is not None:
        return complete_all_endpoint(model.endpoint, conversations, sampling, cache, extra)

    def engine() -> Completer:
        assert path is not None  # only a model at an endpoint has none
        if model.engine == "vllm":
            from gdpo.models.sampling_vllm import VllmGenerator

            return VllmGenerator(path, model.dtype, model.gpus)
        from gdpo.models.sampling_hf import Generator

        return Generator(path, model.dtype)

    return resumable_batches(
        cache,
        "completions",
        len(conversations),
        lambda done: engine().complete(conversations, sampling, done),
    )
