"""The commands that make base models and teachers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.parser import Arguments, Commands, Parser, add_command

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def model(scale: Scale, arguments: Arguments) -> None:
    from gdpo.students import steps

    steps.model(scale, arguments.name)


def pretrain(scale: Scale, arguments: Arguments) -> None:
    from gdpo.tiny import steps

    steps.pretrain(scale, arguments.name)


def bases(scale: Scale, arguments: Arguments) -> None:
    from gdpo.tiny import steps

    steps.bases(scale, arguments.ship)


def add(commands: Commands[Parser]) -> None:
    command = add_command(
        commands, "model", "make a base model or teacher: fetch it, or pretrain or tune it here", model,
        examples=["gdpo model --scale tiny --name tiny-s"],
    )  # fmt: skip
    command.add_argument("--name", required=True, metavar="MODEL", help="a model of the scale")
    command = add_command(
        commands, "pretrain", "pretrain a shipped base model anew", pretrain,
        examples=["gdpo pretrain --scale tiny --name tiny-s"],
    )  # fmt: skip
    command.add_argument("--name", required=True, metavar="MODEL", help="a model of the scale with a 'pretrain'")
    command = add_command(
        commands, "bases", "compare base models made anew with the shipped ones", bases,
        examples=["gdpo bases --scale tiny", "gdpo bases --scale tiny --ship"],
    )  # fmt: skip
    command.add_argument("--ship", action="store_true", help="put those that differ in the shipped ones' place")
