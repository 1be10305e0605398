"""What a piece of work takes: as measured by `gdpo calibrate`, as in finished results, or by arithmetic on a card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gdpo.config.scale import Scale
from gdpo.core.files import read_json
from gdpo.models.shapes import shape_of
from gdpo.ops.plan.amounts import Work
from gdpo.ops.plan.jobs import Time, total


@dataclass(frozen=True)
class Rate:
    """Seconds a unit of `Work.amount`, and seconds each time the work is begun, of the clock and of the processor."""

    seconds: float
    begin: float = 0.0
    cpu: float = 0.0
    cpu_begin: float = 0.0

    def time(self, work: Work, gpus: int = 1) -> Time:
        """What `work` takes. `gpus`: how many share the work of a rate that is one GPU's."""
        seconds = self.seconds * work.amount / gpus + self.begin * work.runs
        return Time(seconds, self.cpu * work.amount + self.cpu_begin * work.runs)


def throughput_path(scale: Scale) -> Path:
    """The file in which `gdpo calibrate` keeps what it measured."""
    return scale.root / "throughput.json"


def throughput(rates: Mapping[str, Rate]) -> dict[str, Any]:
    """The content of that file."""
    return {"rates": {key: asdict(rate) for key, rate in sorted(rates.items())}}


def label(scale: Scale, name: str) -> str:
    """What models of equal speed share: those pretrained here in one shape; an expert and its base."""
    model = scale.models.get(name)
    if model is None:
        return name
    if model.tuned:
        return label(scale, model.tuned.base)
    return f"{model.pretrain.hidden_size}x{model.pretrain.layers}" if model.pretrain else name


class Rates:
    """The rates of a scale by `key`. `finished`: the work and the time of each finished job."""

    def __init__(self, scale: Scale, finished: Iterable[tuple[Sequence[Work], Time]] = ()):
        self.scale = scale
        path = throughput_path(scale)
        entries = read_json(path)["rates"] if path.exists() else {}
        names = list(Rate.__dataclass_fields__)
        self.measured = {key: Rate(**{name: entry[name] for name in names}) for key, entry in entries.items()}
        self.finished = self._finished(finished)

    def _finished(self, finished: Iterable[tuple[Sequence[Work], Time]]) -> dict[str, Rate]:
        """Of the jobs whose work is all of one key: what they took over how much they did."""
        jobs: dict[str, list[tuple[float, Time]]] = {}
        for work, time in finished:
            keys = {self.key(piece) for piece in work}
            if len(keys) == 1:
                jobs.setdefault(keys.pop(), []).append((sum(piece.amount for piece in work), time))
        rates = {}
        for key, pairs in jobs.items():
            amount, took = sum(amount for amount, _ in pairs), total(time for _, time in pairs)
            if amount:
                rates[key] = Rate(took.seconds / amount, cpu=took.cpu / amount)
        return rates

    def key(self, work: Work) -> str:
        return f"{work.what}/{label(self.scale, work.model)}"

    def observed(self, work: Work) -> tuple[str, Rate] | None:
        """A rate that was seen, and its source, `measured` or `finished`; None where there is none."""
        for source, rates in (("measured", self.measured), ("finished", self.finished)):
            if rate := rates.get(self.key(work)):
                return source, rate
        return None

    def assumed(self, work: Work) -> Rate | None:
        """GPU-seconds by arithmetic: operations over the share of the card's peak that such work is taken to get.

        None where the scale assumes no card, or the model's shape is not known.
        """
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
        return Rate(seconds / work.amount)
