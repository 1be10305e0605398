"""Texts to unit vectors: a sentence encoder, for annotation by taxonomy and for merging by embedding.

The recipe is the one on the model card of sentence-transformers/all-MiniLM-L6-v2: the mean of the last hidden states
over the tokens that the attention mask keeps, then a norm of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gdpo.config.data import Encoder
from gdpo.core.progress import report
from gdpo.models import checkpoints

if TYPE_CHECKING:
    import torch

MIN_PROGRESS = 1000  # texts from which on a progress bar is shown


class SentenceEncoder:
    """The encoder that `settings` name, on the CPU in float32.

    Raises UserError where its reference cannot be had or is not safetensors without code.
    """

    def __init__(self, settings: Encoder) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        checkpoint = checkpoints.directory(settings.reference)
        self.settings = settings
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True).eval()
        positions = getattr(self.model.config, "max_position_embeddings", settings.max_tokens)
        self.max_tokens = min(settings.max_tokens, positions)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`, float32 [n, d], each of norm 1.

        A text of more than `max_tokens` loses its middle, since a question comes at the end of a long passage. Texts of
        like length share a batch. The same texts in the same order give the same vectors, bit for bit, at the same
        number of threads.
        """
        import torch
        from tqdm import tqdm

        from gdpo.trainer.packing import batch_by_length

        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        if not texts:
            return vectors
        tokens = self.tokenizer(list(texts), verbose=False)
        tokens = {name: [without_middle(row, self.max_tokens) for row in column] for name, column in tokens.items()}
        lengths = [len(ids) for ids in tokens["input_ids"]]
        done = 0
        with (
            torch.inference_mode(),
            tqdm(total=len(texts), desc="embed", disable=len(texts) < MIN_PROGRESS) as progress,
        ):
            for chosen in batch_by_length(lengths, self.settings.batch_size):
                batch = {name: [column[index] for index in chosen] for name, column in tokens.items()}
                padded = self.tokenizer.pad(batch, return_tensors="pt")
                vectors[chosen] = mean_pool(self.model(**padded)[0], padded["attention_mask"]).numpy()
                progress.update(len(chosen))
                done += len(chosen)
                report(done, len(texts), "texts encoded")
        return vectors


def without_middle(row: list[int], limit: int) -> list[int]:
    """`row`, or its first and last entries, `limit` in all."""
    return row if len(row) <= limit else row[: limit - limit // 2] + row[len(row) - limit // 2 :]


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of `states` [n, t, d] over the tokens that `mask` [n, t] keeps, as rows of norm 1, [n, d]."""
    import torch

    kept = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(mean, dim=1)
