"""The shapes of decoder-only models, and the parameters, operations and memory that follow from them. Pure functions.

Operations are counted as in the scaling-law papers (arXiv 2001.08361, appendix B): 2 N a token forward, twice that
backward, plus the attention's products. Memory is a sum of named parts, each an upper bound, in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from gdpo.config.models import Method, Model
from gdpo.config.scale import Scale

FILE = Path(__file__).with_name("shapes.yaml")
GIB = 2**30
# Defaults of GDPOConfig, for methods that do not set them; its module imports torch, which a plan does not need.
LOGITS = 1 << 26  # max_logits
FORWARD_TOKENS = 16384  # max_forward_tokens
TRL_TILE = 4096 * 32768  # logits that TRL 1.16 computes at once (add_fused_lm_head)
SAVED = 4  # bytes a number of weights, gradients and each of AdamW's two moments: float32
LOW = 2  # bytes a number of bfloat16

Parts = dict[str, float]  # bytes by what they hold


@dataclass(frozen=True)
class Shape:
    """A decoder of gated MLPs and grouped attention; the sizes are those of a config.json."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    biases: bool = False
    head_norms: bool = False

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        attention = self.hidden * (2 * queries + 2 * keys) + (queries + 2 * keys if self.biases else 0)
        norms = 2 * self.hidden + (2 * self.head if self.head_norms else 0)
        return attention + 3 * self.hidden * self.intermediate + norms

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a head that is tied to the embedding counts once."""
        return self.layers * self.layer + self.hidden + self.embedding * (1 if self.tied else 2)

    @property
    def computed(self) -> int:
        """The parameters that a token is multiplied with: all but the embedding, which is looked up."""
        return self.layers * self.layer + self.embedding

    def forward(self, context: float) -> float:
        """Operations of a forward pass, for a token that sees `context` others: 2 N + 4 L h d context."""
        return 2 * self.computed + 4 * self.layers * self.heads * self.head * context

    def training(self, length: float) -> float:
        """Operations of a training step for a token, which sees half of `length` on average: three forward passes."""
        return 3 * self.forward(length / 2)

    def cached(self) -> int:
        """Bytes of keys and values a token, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head * LOW


@cache
def published() -> dict[str, Shape]:
    """Repository -> shape."""
    return {name: Shape(**entry) for name, entry in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()}


def shape_of(scale: Scale, name: str, vocabulary: int = 640) -> Shape | None:
    """The shape of a model that is pretrained here (gdpo.tiny.pretrain) or in a known repository; None of others."""
    model = scale.model(name)
    if model.tuned:
        return shape_of(scale, model.tuned.base)
    if model.pretrain:
        p = model.pretrain
        head = p.hidden_size // p.heads
        return Shape(p.hidden_size, p.layers, p.heads, p.heads, head, 3 * p.hidden_size, vocabulary, tied=True)
    return published().get(repository(model))


def repository(model: Model) -> str:
    """OWNER/NAME of a model on the Hub; empty for others."""
    kind, _, place = (model.reference or "").partition(":")
    return place.rpartition("@")[0] if kind == "hub" else ""


def training_memory(shape: Shape, method: Method, group: int, shards: int, checkpointing: bool) -> Parts:
    """Bytes that one GPU holds at the worst moment of a run, part by part, at the method's `max_length`.

    `shards`: over how many GPUs weights, gradients and optimizer are spread (fsdp2); 1: each holds all. `group`: the
    completions that are scored of a group. `checkpointing`: of each layer only its input is kept.
    """
    trained = adapter(shape, method.lora.r) if method.lora else shape.parameters
    frozen = shape.parameters if method.lora else 0
    parts = {
        "weights": SAVED * (trained + frozen) / shards,
        "gradients": SAVED * trained / shards,
        "optimizer": 2 * SAVED * trained / shards,
        "reference": SAVED * shape.parameters / shards if method.trainer == "grpo" and not method.lora else 0.0,
    }
    # Sharded TRL trainers gather weights in bfloat16. GDPOTrainer, and dpo of an adapter, gather float32 and compute
    # under autocast (gdpo.trainer.distributed), which alone makes the residual stream float32.
    gathered = SAVED if method.trainer == "gdpo" or (method.trainer == "dpo" and method.lora) else LOW
    if shards > 1:  # two layers, head and embedding, and the largest one's gradient in float32
        whole = 2 * shape.layer + 2 * shape.embedding
        parts["gathered"] = gathered * whole + (0 if method.lora else SAVED * max(shape.layer, shape.embedding))
    kept, again, logits = _tokens(shape, method, group)
    residual = gathered if shards > 1 else SAVED
    per_layer = layer_activations(shape)
    if checkpointing:
        parts["activations"] = (kept + again) * shape.layers * shape.hidden * residual + max(kept, again) * per_layer
    else:
        parts["activations"] = (kept + again) * shape.layers * per_layer
    parts["logits"] = logits
    return parts


def _tokens(shape: Shape, method: Method, group: int) -> tuple[int, int, float]:
    """Tokens whose activations are held, tokens whose activations are computed again, and bytes of logits."""
    micro = method.micro_batch_size
    if method.trainer == "gdpo":
        given = method.forward
        forward = max((given and given.max_forward_tokens) or FORWARD_TOKENS, method.max_length)
        whole = micro * group * method.max_length
        bound = given and given.max_activation_tokens
        kept = min(whole, bound // forward * forward) if bound else whole
        again = min(forward, whole - kept)
        # Logits, their softmax and its gradient, in float32.
        return kept, again, 3 * SAVED * float((given and given.max_logits) or LOGITS)
    sequences = {"sft": 1, "dpo": 2}.get(method.trainer, group)  # of another trainer, at most the whole group
    tokens = micro * sequences * method.max_length
    # TRL multiplies with the head tile by tile, and sums up the gradient of its input in float32.
    return tokens, 0, float((SAVED + LOW) * TRL_TILE + SAVED * tokens * shape.hidden)


def layer_activations(shape: Shape) -> int:
    """Bytes a token that the backward pass of one layer needs, in bfloat16, attention without its matrix.

    Twice the hidden state and its norm's output in float32 and bfloat16; queries, keys, values and the attention's
    output; gate, up, their product and the activation.
    """
    wide = shape.heads * shape.head
    return (
        2 * (SAVED + LOW) * shape.hidden
        + LOW * (2 * wide + 2 * shape.kv_heads * shape.head)
        + LOW * 4 * shape.intermediate
    )


def adapter(shape: Shape, rank: int) -> int:
    """Parameters of an adapter of `rank` on every linear layer but the head."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    ends = [(shape.hidden, queries), (shape.hidden, keys), (shape.hidden, keys), (queries, shape.hidden)]
    ends += [(shape.hidden, shape.intermediate)] * 2 + [(shape.intermediate, shape.hidden)]
    return shape.layers * rank * sum(a + b for a, b in ends)


def sampling_memory(shape: Shape, rows: int, length: int, gpus: int) -> Parts:
    """Bytes that each of `gpus` holds of weights and of `rows` sequences' keys and values, in bfloat16."""
    return {"weights": LOW * shape.parameters / gpus, "cache": shape.cached() * rows * length / gpus}
