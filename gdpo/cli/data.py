"""The commands that make the training data (paper, section MetaKL) and the benchmarks' items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.arguments import mirror
from gdpo.cli.parser import Arguments, Commands, Parser, add_command, add_group, add_trainset_option

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def benchmark(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.benchmark(scale, mirror(scale, arguments))


def sources(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.sources(scale, mirror(scale, arguments))


def decontaminate(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.decontaminate(scale)


def annotate(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.annotate(scale)


def quality(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.quality(scale)


def merge(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.merge(scale)


def enter_vllm(scale: Scale, arguments: Arguments) -> None:
    from gdpo.runtime import vllm_environment

    vllm_environment.enter(scale, arguments.model)


def answer(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.answer(scale, arguments.model)


def proficiency(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.proficiency(scale)


def select(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.select(scale, arguments.trainset)


def card(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.card(scale, arguments.trainset)


def export(scale: Scale, arguments: Arguments) -> None:
    from gdpo.metakl import steps

    steps.export(scale, arguments.trainset)


def add(commands: Commands[Parser]) -> None:
    add_command(
        commands, "benchmark", "write the benchmarks' items, and all that are guarded", benchmark,
        examples=["gdpo benchmark --scale micro", "gdpo benchmark --scale smol --mirror DIR"],
    )  # fmt: skip
    steps = add_group(commands, "metakl", "make the training data, from the pool to training sets")
    add_command(
        steps, "sources", "write the question pool from its sources", sources,
        examples=["gdpo metakl sources --scale micro", "gdpo metakl sources --scale smol --mirror DIR"],
    )  # fmt: skip
    for name, does, run in (
        ("decontaminate", "drop the questions of the pool that a benchmark asks", decontaminate),
        ("annotate", "name the skills that each question needs", annotate),
        ("quality", "measure the taxonomy's skills against what sources say of their questions", quality),
        ("merge", "merge skills into knowledge units", merge),
    ):
        add_command(steps, name, does, run, examples=[f"gdpo metakl {name} --scale micro"])
    command = add_command(
        steps, "answer", "let a base model answer the pool", answer, prepare=enter_vllm,
        examples=["gdpo metakl answer --scale micro --model tiny-s"],
    )  # fmt: skip
    command.add_argument("--model", required=True, metavar="MODEL", help="a model of the scale's proficiency.models")
    add_command(
        steps, "proficiency", "join the base models' answers into proficiencies", proficiency,
        examples=["gdpo metakl proficiency --scale micro"],
    )  # fmt: skip
    command = add_command(
        steps, "select", "choose a training set from the pool (paper, Algorithm 1)", select,
        examples=["gdpo metakl select --scale micro --trainset metakl"],
    )  # fmt: skip
    add_trainset_option(command)
    for name, does, run in (
        ("card", "write a training set's data card", card),
        ("export", "write a training set and its groups as a Hugging Face data set", export),
    ):
        command = add_command(steps, name, does, run, examples=[f"gdpo metakl {name} --scale micro"])
        add_trainset_option(command, default="metakl")
