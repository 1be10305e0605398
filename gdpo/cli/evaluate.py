"""The commands that score runs, and that measure the judges of safety."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.arguments import mirror, runs
from gdpo.cli.parser import Arguments, Commands, Parser, add_cell_options, add_command

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def enter_vllm(scale: Scale, arguments: Arguments) -> None:
    from gdpo.runtime import vllm_environment

    vllm_environment.enter(scale, arguments.student)


def evaluate(scale: Scale, arguments: Arguments) -> None:
    from gdpo.evaluate import steps

    steps.evaluate(scale, runs(arguments), arguments.split)


def judge(scale: Scale, arguments: Arguments) -> None:
    from gdpo.evaluate import steps

    steps.judge(scale, mirror(scale, arguments))


def add(commands: Commands[Parser]) -> None:
    trained = "--student tiny-s --trainset metakl --method gdpo --seeds 0"
    untrained = "--student tiny-s --trainset none --method origin --seeds 0"
    command = add_command(
        commands, "evaluate", "score runs, and keep the output and verdict of every item", evaluate,
        prepare=enter_vllm,
        examples=[f"gdpo evaluate --scale micro {trained}", f"gdpo evaluate --scale micro {untrained}"],
    )  # fmt: skip
    add_cell_options(command)
    command.add_argument(
        "--split", choices=["test", "validation"], default="test", help="the items: tables show test's"
    )
    add_command(
        commands, "judge", "measure the safety judges on answers known to be safe", judge,
        examples=["gdpo judge --scale smol --mirror DIR"],
    )  # fmt: skip
