"""The commands that make the training data (paper, section MetaKL) and the benchmarks' items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.arguments import mirror
from gdpo.cli.parser import Arguments, Commands, Parser, add_command

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
    add_command(commands, "benchmark", "write the benchmarks' items, and all that are guarded", benchmark)
    room = commands.add_parser("metakl", help="the training data: pool to training sets")
    steps = room.add_subparsers(dest="substep", required=True, metavar="STEP")
    add_command(steps, "sources", "write the question pool from its sources", sources)
    add_command(steps, "decontaminate", "drop what a benchmark asks", decontaminate)
    add_command(steps, "annotate", "name the skills that each question needs", annotate)
    add_command(steps, "quality", "measure the taxonomy against what sources say", quality)
    add_command(steps, "merge", "merge skills into knowledge units", merge)
    command = add_command(steps, "answer", "let a base model answer the pool", answer, prepare=enter_vllm)
    command.add_argument("--model", required=True)
    add_command(steps, "proficiency", "join answers into proficiencies", proficiency)
    add_command(steps, "select", "choose a training set", select).add_argument("--trainset", required=True)
    add_command(steps, "card", "write a training set's data card", card).add_argument("--trainset", default="metakl")
    command = add_command(steps, "export", "write a training set as a Hugging Face data set", export)
    command.add_argument("--trainset", default="metakl")
