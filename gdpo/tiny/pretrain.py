"""Pretraining of the tiny world's models: a small Llama from random weights, saved as a Hugging Face checkpoint.

Muon (gdpo.tiny.muon) on the matrices and AdamW on embeddings and norms; loss on responses only. One thread, so that a
seed gives the same weights on the same machine and versions.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gdpo.config.models import Pretrain, World
from gdpo.core.device import to_device
from gdpo.core.files import replacing
from gdpo.core.progress import report
from gdpo.tiny.lexicon import ASSISTANT, BOS, EOS, USER
from gdpo.tiny.muon import Muon
from gdpo.tiny.tokenizer import build_tokenizer
from gdpo.tiny.world import Example, more_words, pretraining_examples

WARMUP = 0.05
IGNORED = -100

Pair = tuple[list[int], list[int]]  # prompt ids, response ids


class Packed(NamedTuple):
    """Token ids, next-token labels and positions (B, T); attention (B, 1, T, T), true where allowed."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    attention: torch.Tensor


class Pretraining(NamedTuple):
    """What a pretraining did and took; `loss`, in nats a token, is the mean over the last twentieth of its steps."""

    parameters: int
    steps: int
    tokens: int
    loss: float
    seconds: float


def pretrain(model: Pretrain, world: World, out: Path, device: str = "cpu") -> Pretraining:
    """Train a model on its mix; save it as a Hugging Face checkpoint with tokenizer in directory `out`."""
    torch.set_num_threads(1)
    torch.manual_seed(model.seed)
    tokenizer = build_tokenizer(more_words(world))
    examples = pretraining_examples(world, model.mix, model.examples, model.seed, model.thoughts)
    encoded = encode(examples, tokenizer)
    network = to_device(LlamaForCausalLM(_llama(model, tokenizer)), device)
    network.train()
    batches = shuffled_batches(encoded, model.batch_size, random.Random(model.seed))
    started, losses = time.perf_counter(), []
    steps = train_steps(network, batches, model, tokenizer.pad_token_id)
    progress = tqdm(
        steps, total=len(batches), desc=f"pretrain {out.name}", unit="batch", file=sys.stderr, mininterval=2
    )
    for step, loss in enumerate(progress):
        losses.append(loss)
        report(step, len(batches), "batches")
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    last = float(torch.stack(losses[-max(1, len(losses) // 20) :]).mean())
    seconds = time.perf_counter() - started
    with replacing(out) as temporary:
        to_device(network, "cpu").eval().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    tokens = sum(len(prompt) + len(response) for prompt, response in encoded)
    return Pretraining(network.num_parameters(), len(batches), tokens, last, seconds)


def train_steps(
    network: LlamaForCausalLM, batches: Sequence[list[Pair]], model: Pretrain, pad: int
) -> Iterator[torch.Tensor]:
    """Train `network`, where it is, by one step a batch; the loss of each step, a scalar without a graph."""
    optimizers = _optimizers(network, model)
    schedulers = [_schedule(optimizer, len(batches)) for optimizer in optimizers]
    for batch in batches:
        loss = response_loss(network, Packed(*(part.to(network.device) for part in pack(batch, pad))))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        yield loss.detach()


def encode(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Pair]:
    """(prompt ids, response ids) of each example, exactly as the chat template renders them."""
    pairs = []
    prompts = [_render(tokenizer, example) for example in examples]
    full = tokenizer([prompt + response for prompt, response in prompts], add_special_tokens=False)["input_ids"]
    starts = tokenizer([prompt for prompt, _ in prompts], add_special_tokens=False)["input_ids"]
    for prompt, ids in zip(starts, full, strict=True):
        pairs.append((prompt, ids[len(prompt) :]))
    return pairs


def _render(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[str, str]:
    return f"{BOS}{USER}{example.question}{ASSISTANT}", f"{example.response}{EOS}"


def shuffled_batches(encoded: list[Pair], batch_size: int, rng: random.Random) -> list[list[Pair]]:
    """Every example once, in random batches: batches of one length would be of one skill, and train badly."""
    encoded = rng.sample(encoded, len(encoded))
    return [encoded[start : start + batch_size] for start in range(0, len(encoded), batch_size)]


def pack(batch: list[Pair], pad: int) -> Packed:
    """A batch as rows that each hold several examples, longest first into the first row with room.

    Rows are as wide as the longest example; an example attends to itself alone and its positions start at 0.
    """
    width = max(len(prompt) + len(response) for prompt, response in batch)
    rows: list[list[Pair]] = []
    room: list[int] = []
    for pair in sorted(batch, key=lambda pair: -len(pair[0]) - len(pair[1])):
        size = len(pair[0]) + len(pair[1])
        row = next((row for row, left in enumerate(room) if left >= size), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(pair)
        room[row] -= size
    ids, labels, positions, segments = (torch.full((len(rows), width), fill) for fill in (pad, IGNORED, 0, -1))
    for row, pairs in enumerate(rows):
        start = 0
        for segment, (prompt, response) in enumerate(pairs):
            middle, end = start + len(prompt), start + len(prompt) + len(response)
            ids[row, start:end] = torch.tensor(prompt + response)
            labels[row, middle - 1 : end - 1] = torch.tensor(response)
            positions[row, start:end] = torch.arange(end - start)
            segments[row, start:end] = segment
            start = end
    own = segments[:, None, :, None] == segments[:, None, None, :]
    return Packed(ids, labels, positions, own & torch.ones(width, width, dtype=torch.bool).tril())


def response_loss(network: LlamaForCausalLM, batch: Packed) -> torch.Tensor:
    """Mean cross-entropy over response tokens; logits are computed at those positions only."""
    hidden = network.model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    mask = batch.labels != IGNORED
    return F.cross_entropy(network.lm_head(hidden[mask]), batch.labels[mask])


def _llama(model: Pretrain, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=model.hidden_size,
        intermediate_size=model.hidden_size * 3,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _optimizers(network: LlamaForCausalLM, model: Pretrain) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in network.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=model.muon_learning_rate),
        torch.optim.AdamW(others, lr=model.adamw_learning_rate, weight_decay=0.0, betas=(0.9, 0.95), fused=True),
    ]


def _schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over the first WARMUP of the steps, then linear decay to zero."""
    warmup = max(1, int(WARMUP * steps))
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
    )
