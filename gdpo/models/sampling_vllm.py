"""Completions sampled by vLLM, which has an environment of its own. Each conversation draws from a seed of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gdpo.config.fields import Dtype
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.models.checkpoints import tokenizer_of
from gdpo.models.dtypes import weights_dtype
from gdpo.models.sampling_types import Batches, Completer, Conversation, Sampling
from gdpo.trainer.chat_template import restore_think

VLLM_BATCH = 256  # ours: conversations between two savings; fewer fill the GPU


def vllm_package() -> Any:
    """The package vllm. Raises UserError where it is not installed."""
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            key="engine vllm",
            found=f"no package vllm ({error})",
            expected="vLLM's environment, which `make vllm` makes (docs/running-elsewhere/environments.md)",
        ) from None
    return vllm


class VllmGenerator(Completer):
    """A causal language model in vLLM, which is given VLLM_BATCH conversations at once and batches them itself.

    Tested against a stand-in of vLLM, and its calls against the signatures of the pinned vLLM; run on no GPU.
    """

    def __init__(self, path: Path, dtype: Dtype, gpus: int = 1):
        self.vllm, self.path, self.dtype, self.gpus = vllm_package(), path, weights_dtype(dtype), gpus
        self.tokenizer = tokenizer_of(path)

    def complete(self, conversations: list[Conversation], sampling: Sampling, done: int = 0) -> Batches:
        """See Completer. Each conversation has its own seed: with one for all, their samples would be correlated."""
        # Token ids, since vLLM would put a second beginning-of-sequence token before a rendered template.
        texts = self.prompts(conversations)
        prompts = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        # A window of the needed length: keys and values for a model's whole context may not fit into memory.
        engine = self.vllm.LLM(
            model=str(self.path), dtype=self.dtype, max_model_len=longest, tensor_parallel_size=self.gpus
        )
        for start in range(done * VLLM_BATCH, len(prompts), VLLM_BATCH):
            indices = list(range(start, min(start + VLLM_BATCH, len(prompts))))
            outputs = engine.generate(
                [{"prompt_token_ids": prompts[i]} for i in indices], [self._params(sampling, i) for i in indices]
            )
            pairs = zip(indices, outputs, strict=True)
            yield indices, [[restore_think(texts[i], s.text).strip() for s in output.outputs] for i, output in pairs]

    def _params(self, sampling: Sampling, index: int) -> Any:
        return self.vllm.SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=int(fingerprint([sampling.seed, index]), 16) % 2**31,
        )
