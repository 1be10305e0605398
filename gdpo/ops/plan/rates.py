"""What a piece of work takes: as measured here, as finished results say, or by arithmetic on an assumed card.

A rate is a plain measurement, seconds for so much and seconds to begin; each says where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gdpo.config.scale import Scale
from gdpo.core.files import read_json
from gdpo.ops.plan.amounts import Work
from gdpo.ops.plan.shapes import shape_of

Origin = Literal["measured", "finished", "assumed", "unknown"]
FILE = "throughput.json"


@dataclass(frozen=True)
class Rate:
    """Seconds a unit of `Work.amount` and seconds each time the work is begun, of the clock and of the processor.

    `memory_mb`: the peak seen meanwhile.
    """

    seconds: float
    begin: float = 0.0
    cpu: float = 0.0
    cpu_begin: float = 0.0
    memory_mb: int = 0
    origin: Origin = "measured"

    def of(self, work: Work, gpus: int = 1) -> float:
        """Seconds of the clock, of a rate of one GPU and work that `gpus` share."""
        return self.seconds * work.amount / gpus + self.begin * work.runs

    def cpu_of(self, work: Work) -> float:
        """Processor seconds, which do not grow with what else the machine does."""
        return self.cpu * work.amount + self.cpu_begin * work.runs


@dataclass(frozen=True)
class Start:
    """Seconds, of the clock and of the processor, before a job does anything."""

    seconds: float = 0.0
    cpu: float = 0.0


def path(scale: Scale) -> Path:
    """Where `gdpo calibrate` keeps what it measured."""
    return scale.root / FILE


def label(scale: Scale, name: str) -> str:
    """Models of one label take as long: those pretrained here in one shape; an expert and its base."""
    model = scale.models.get(name)
    if model is None:
        return name
    if model.tuned:
        return label(scale, model.tuned.base)
    return f"{model.pretrain.hidden_size}x{model.pretrain.layers}" if model.pretrain else name


class Rates:
    """The rates of a scale, best known first, and the start-ups of its steps."""

    def __init__(self, scale: Scale):
        self.scale = scale
        kept: Mapping[str, Any] = read_json(path(scale)) if path(scale).exists() else {}
        self.measured = {key: Rate(**entry) for key, entry in kept.get("rates", {}).items()}
        self.starts = {step: Start(**entry) for step, entry in kept.get("start", {}).items()}
        self.finished: dict[str, Rate] = {}

    def learn(self, finished: Iterable[tuple[Work, float]]) -> None:
        """Take finished jobs' rates, from (work, seconds) pairs, for what was not measured."""
        sums: dict[str, list[float]] = {}
        for work, seconds in finished:
            total = sums.setdefault(self.key(work), [0.0, 0.0])
            total[0] += seconds
            total[1] += work.amount
        self.finished = {k: Rate(s / n, origin="finished") for k, (s, n) in sums.items() if n}

    def start(self, step: str) -> Start:
        return self.starts.get(step) or self.starts.get("other") or Start()

    def key(self, work: Work) -> str:
        return f"{work.what}/{label(self.scale, work.model)}"

    def of(self, work: Work) -> Rate | None:
        """The best rate that is known for `work`; None where neither a measurement nor arithmetic can give one."""
        key = self.key(work)
        return self.measured.get(key) or self.finished.get(key) or self.assumed(work)

    def assumed(self, work: Work) -> Rate | None:
        """GPU-seconds by arithmetic: operations over the share of the card's peak that such work is taken to get."""
        card = self.scale.expected.card if self.scale.expected else None
        shape = shape_of(self.scale, work.model) if work.model in self.scale.models else None
        if card is None or shape is None or not work.amount:
            return None
        peak = card.tflops * 1e12
        if work.kind == "train":
            seconds = work.tokens * shape.training(work.length) / (peak * card.train)
            if work.rollouts:  # and the reference's and the old policy's log-probabilities
                seconds += work.rollouts * shape.forward(work.length) / (peak * card.hf)
                seconds += work.tokens * shape.forward(work.length / 2) / (peak * card.score)
        elif work.kind in ("sample", "evaluate"):
            share = card.vllm if work.what.endswith("vllm") else card.hf
            seconds = work.amount * shape.forward(work.length) / (peak * share)
            seconds += work.prompt * shape.forward(work.length / 2) / (peak * card.score)
        elif work.kind == "score":
            seconds = work.amount * shape.forward(work.length / 2) / (peak * card.score)
        else:
            return None
        return Rate(seconds / work.amount, origin="assumed")


def written(rates: Mapping[str, Rate], starts: Mapping[str, Start]) -> dict[str, Any]:
    """The content of throughput.json."""
    found: dict[str, Mapping[str, Rate | Start]] = {"rates": rates, "start": starts}
    return {name: {key: asdict(one) for key, one in sorted(entries.items())} for name, entries in found.items()}
