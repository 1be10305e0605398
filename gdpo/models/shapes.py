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
HEAD_STATES = 16  # bytes a token and hidden number at the head: before and after the norm, and gradients

Parts = dict[str, float]  # bytes by what they hold
WHATEVER_LENGTH = ("weights", "gradients", "optimizer", "reference", "gathered")  # the parts that no sequence changes


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
    """Bytes that one GPU holds at the worst moment of a step, part by part, at the method's `max_length`.

    `shards`: over how many GPUs weights, gradients and optimizer are spread (fsdp2); 1: each holds all. `group`: the
    completions that are scored of a group. `checkpointing`: of each layer only its input is kept. Of shards it lies
    within 5% of what torch's tracker counts (results/reference/memory).
    """
    trained = adapter(shape, method.lora.r) if method.lora else shape.parameters
    frozen = shape.parameters if method.lora else 0
    parts = {
        "weights": SAVED * (trained + frozen) / shards,
        "gradients": SAVED * trained / shards,
        "optimizer": 2 * SAVED * trained / shards,
        "reference": SAVED * shape.parameters / shards if method.trainer == "grpo" and not method.lora else 0.0,
    }
    if shards > 1:
        return parts | _sharded_moment(shape, method, group, checkpointing)
    kept, again, logits = _tokens(shape, method, group)
    per_layer = layer_activations(shape)
    if checkpointing:
        parts["activations"] = (kept + again) * shape.layers * shape.hidden * SAVED + max(kept, again) * per_layer
    else:
        parts["activations"] = (kept + again) * shape.layers * per_layer
    parts["logits"] = logits
    return parts


def gathered_bytes(method: Method) -> int:
    """Bytes of a number of the weights that FSDP2 gathers: bfloat16 in TRL's trainers, float32 where autocast computes.

    That is GDPOTrainer, and dpo of an adapter (gdpo.trainer.distributed). The residual stream has the same dtype.
    """
    return SAVED if method.trainer == "gdpo" or (method.trainer == "dpo" and method.lora) else LOW


def _sharded_moment(shape: Shape, method: Method, group: int, checkpointing: bool) -> Parts:
    """What FSDP2 gathers, activations and logits, at the worse of two moments of the backward pass: head, last layer.

    Every pass of GDPOTrainer has its own backward pass there, so that one is held at a time.
    """
    size, gdpo = gathered_bytes(method), method.trainer == "gdpo"
    kept, again, _ = _tokens(shape, method, group)
    tokens = min(kept + again, _pass_tokens(method)) if gdpo else kept
    inputs = tokens * shape.layers * (shape.hidden * size if checkpointing else layer_activations(shape))
    copy = LOW * shape.embedding if size == SAVED else 0  # autocast's of the head
    gradient = 0 if method.lora else (SAVED + LOW) * shape.embedding  # summed up in float32, and in its weight's dtype
    head = {
        "gathered": size * (shape.embedding + shape.layer) + copy + gradient,
        "activations": inputs + tokens * shape.hidden * HEAD_STATES,
        "logits": (SAVED + LOW) * float(_max_logits(method)) if gdpo else float(LOW * TRL_TILE),
    }
    layer = {  # this one and the next; and the head's gradient, which is being summed over processes
        "gathered": 2 * size * shape.layer + (0 if method.lora else SAVED * shape.embedding),
        "activations": inputs + tokens * (shape.hidden * size + backward_activations(shape)),
        "logits": 0.0,
    }
    return max(head, layer, key=lambda parts: sum(parts.values()))


def scoring_memory(shape: Shape, method: Method, group: int, shards: int) -> Parts:
    """Bytes that one GPU holds while the reference scores, before training; by arithmetic, empty where none does.

    GDPOTrainer, and dpo of an adapter, score by the policy before it is sharded. TRL deals out a reference of its own
    as one unit, of which all weights are gathered at once, in bfloat16 and once more until they are copied out; DPO's
    is freed afterwards, GRPO's scores between steps, when there are no gradients.
    """
    whole, share = float(shape.parameters), SAVED * shape.parameters / shards
    a_token = LOW * (3 * shape.intermediate + 5 * shape.hidden)
    if method.trainer == "gdpo" or (method.trainer == "dpo" and method.lora):
        return {"weights": SAVED * whole, "activations": float(_pass_tokens(method) * a_token)}
    if method.trainer not in ("dpo", "grpo") or method.lora or shards == 1:
        return {}
    tokens = _tokens(shape, method, group)[0]
    parts = {"weights": share, "reference": share, "gathered": 2 * LOW * whole, "activations": float(tokens * a_token)}
    return parts | ({"optimizer": 2 * share} if method.trainer == "grpo" else {})


def worst_memory(shape: Shape, method: Method, group: int, shards: int, checkpointing: bool) -> Parts:
    """The larger of `training_memory` and `scoring_memory`."""
    training = training_memory(shape, method, group, shards, checkpointing)
    return max(training, scoring_memory(shape, method, group, shards), key=lambda parts: sum(parts.values()))


def _max_logits(method: Method) -> int:
    return (method.forward and method.forward.max_logits) or LOGITS


def _pass_tokens(method: Method) -> int:
    """The most tokens of one of GDPOTrainer's forward passes."""
    return max((method.forward and method.forward.max_forward_tokens) or FORWARD_TOKENS, method.max_length)


def _tokens(shape: Shape, method: Method, group: int) -> tuple[int, int, float]:
    """Tokens whose activations are held, tokens whose activations are computed again, and bytes of logits."""
    micro = method.micro_batch_size
    if method.trainer == "gdpo":
        forward = _pass_tokens(method)
        whole = micro * group * method.max_length
        bound = method.forward and method.forward.max_activation_tokens
        kept = min(whole, bound // forward * forward) if bound else whole
        again = min(forward, whole - kept)
        # Logits, their softmax and its gradient, in float32.
        return kept, again, 3 * SAVED * float(_max_logits(method))
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


def backward_activations(shape: Shape) -> int:
    """Bytes a token that a layer's backward pass holds at most, as torch's tracker counts them.

    Six numbers of the MLP's width in bfloat16: gate, up, their product, the activation, and two gradients; ten of the
    hidden width in bfloat16 and four in float32.
    """
    return 6 * LOW * shape.intermediate + (10 * LOW + 4 * SAVED) * shape.hidden


def adapter(shape: Shape, rank: int) -> int:
    """Parameters of an adapter of `rank` on every linear layer but the head."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    ends = [(shape.hidden, queries), (shape.hidden, keys), (shape.hidden, keys), (queries, shape.hidden)]
    ends += [(shape.hidden, shape.intermediate)] * 2 + [(shape.intermediate, shape.hidden)]
    return shape.layers * rank * sum(a + b for a, b in ends)


def sampling_memory(shape: Shape, rows: int, length: int, gpus: int) -> Parts:
    """Bytes that each of `gpus` holds of weights and of `rows` sequences' keys and values, in bfloat16."""
    return {"weights": LOW * shape.parameters / gpus, "cache": shape.cached() * rows * length / gpus}
