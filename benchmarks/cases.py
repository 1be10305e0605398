"""The cases: which arms stand side by side, at which sizes, and which two a line of the table compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks import arms
from benchmarks.data import Shape, Size


@dataclass(frozen=True)
class Scale:
    """Sizes for one kind of machine."""

    model: Size
    teacher: Size
    shapes: tuple[Shape, ...]
    grpo_lengths: tuple[int, ...]
    grpo_questions: int
    head: dict[str, int]
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """One thing to measure. Of several `settings`, a run on the trial's few groups picks the fastest beforehand."""

    run: Callable[..., dict[str, Any]]
    settings: tuple[dict[str, Any], ...] = ({},)
    trial: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Arms that take turns, and the lines made of them: (subject, peer), where a sum's seconds are added up."""

    case: str
    shape: str
    arms: dict[str, Arm]
    lines: tuple[tuple[str, str], ...]


SCALES = {
    "cpu": Scale(
        model=Size(hidden=256, layers=4, heads=4, intermediate=688, vocabulary=4096),
        teacher=Size(hidden=512, layers=4, heads=8, intermediate=1376, vocabulary=4096),
        shapes=(
            Shape("short answers", prompt=24, shortest=4, longest=24, groups=48, groups_per_step=4),
            Shape("long prompts", prompt=256, shortest=4, longest=24, groups=16, groups_per_step=2),
            Shape("long reasoning", prompt=48, shortest=64, longest=512, groups=8, groups_per_step=2, median=160),
        ),
        grpo_lengths=(16, 64, 256),
        grpo_questions=8,
        head={"tokens": 2048, "hidden": 256, "vocabulary": 151_936},
        chunks=(512, 2048),
    ),
    "cuda": Scale(
        model=Size(hidden=1024, layers=24, heads=16, intermediate=2816, vocabulary=151_936),
        teacher=Size(hidden=2048, layers=28, heads=16, intermediate=6144, vocabulary=151_936),
        shapes=(
            Shape("short answers", prompt=64, shortest=8, longest=64, groups=256, groups_per_step=16),
            Shape("long prompts", prompt=1024, shortest=8, longest=64, groups=64, groups_per_step=4),
            Shape("long reasoning", prompt=128, shortest=256, longest=2048, groups=32, groups_per_step=4, median=640),
        ),
        grpo_lengths=(64, 256, 1024),
        grpo_questions=16,
        head={"tokens": 2048, "hidden": 1024, "vocabulary": 151_936},
        chunks=(4096, 65536),
    ),
    "quick": Scale(
        model=Size(hidden=32, layers=1, heads=2, intermediate=64, vocabulary=256),
        teacher=Size(hidden=64, layers=1, heads=2, intermediate=128, vocabulary=256),
        shapes=(
            Shape("short answers", prompt=6, shortest=3, longest=6, groups=4, groups_per_step=2),
            Shape("long prompts", prompt=24, shortest=3, longest=6, groups=2, groups_per_step=2),
            Shape("long reasoning", prompt=6, shortest=8, longest=32, groups=2, groups_per_step=2, median=16),
        ),
        grpo_lengths=(4, 8),
        grpo_questions=2,
        head={"tokens": 64, "hidden": 16, "vocabulary": 4096},
        chunks=(64,),
    ),
}


def dpo(scale: Scale, device: str) -> Iterator[Bench]:
    """GDPOTrainer against DPOTrainer on the same completions, which it pairs in two ways."""
    for shape in scale.shapes:
        few = {"shape": replace(shape, groups=min(shape.groups, 2 * shape.groups_per_step))}
        common = {"shape": shape, "size": scale.model, "device": device}
        # A step's 9 pairs a group, or 5, in one pass or several.
        chain, disjoint = (tuple({"micro_batches": n} for n in parts) for parts in ((1, 3, 6, 18), (1, 2, 5, 10)))
        yield Bench(
            "dpo",
            shape.name,
            {
                "GDPO": Arm(partial(arms.gdpo, **common)),
                "DPO, chain": Arm(partial(arms.dpo, **common, pairs="chain"), chain, few),
                "DPO, disjoint": Arm(partial(arms.dpo, **common, pairs="disjoint"), disjoint, few),
            },
            (("GDPO", "DPO, chain"), ("GDPO", "DPO, disjoint")),
        )


def grpo(scale: Scale, device: str) -> Iterator[Bench]:
    """GDPOTrainer against GRPOTrainer over completion length, each completion of exactly that length."""
    for length in scale.grpo_lengths:
        shape = replace(
            scale.shapes[0],
            name=f"{length} tokens",
            shortest=length,
            longest=length,
            groups=scale.grpo_questions,
            groups_per_step=2,
        )
        common = {"shape": shape, "size": scale.model, "device": device}
        yield Bench(
            "grpo",
            shape.name,
            {
                "GDPO": Arm(partial(arms.gdpo, **common)),
                "GRPO": Arm(partial(arms.grpo, **common)),
                "sampling": Arm(partial(arms.sampling, **common | {"size": scale.teacher})),
            },
            (("GDPO", "GRPO"), ("GDPO + sampling", "GRPO")),
        )


def pairs(scale: Scale, device: str) -> Iterator[Bench]:
    """All pairs of a group against adjacent ones."""
    for shape in scale.shapes:
        run = partial(arms.gdpo, shape=shape, size=scale.model, device=device)
        kinds = {kind: Arm(partial(run, pairs=kind)) for kind in ("all", "adjacent")}
        yield Bench("pairs", shape.name, kinds, (("all", "adjacent"),))


def logprobs(scale: Scale, device: str) -> Iterator[Bench]:
    """The log-probability step, its logits in chunks or all at once."""
    run = partial(arms.log_probs, device=device, **scale.head)
    kinds = {"chunked": Arm(partial(run, chunked=True)), "plain": Arm(partial(run, chunked=False))}
    name = f"{scale.head['tokens']} x {scale.head['vocabulary']}"
    yield Bench("logprobs", name, kinds, (("chunked", "plain"),))


def ablation(scale: Scale, device: str) -> Iterator[Bench]:
    """Each measure for speed against itself switched off, all others left on."""
    for shape in scale.shapes:
        run = partial(arms.gdpo, shape=shape, size=scale.model, device=device)
        off = {
            "prompts not shared": {"share_prompts": "never"},
            "not by length": {"bucket_by_length": False},
            "live reference": {"precompute_ref_log_probs": False},
            **{f"passes of {size}": {"max_forward_tokens": size} for size in scale.chunks},
        }
        kinds = {"as is": Arm(run)} | {name: Arm(partial(run, **config)) for name, config in off.items()}
        yield Bench("ablation", shape.name, kinds, tuple(("as is", name) for name in off))


CASES = {case.__name__: case for case in (dpo, grpo, pairs, logprobs, ablation)}
