"""The commands that make the teacher's responses and their rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.arguments import mirror
from gdpo.cli.parser import Arguments, Commands, Parser, add_command

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def enter_vllm(scale: Scale, arguments: Arguments) -> None:
    from gdpo.runtime import vllm_environment

    vllm_environment.enter(scale, scale.respond_of(arguments.trainset).teacher)


def respond(scale: Scale, arguments: Arguments) -> None:
    from gdpo.teach import steps

    steps.respond(scale, arguments.trainset)


def import_groups(scale: Scale, arguments: Arguments) -> None:
    from gdpo.teach import steps

    steps.import_groups(scale, arguments.trainset, mirror(scale, arguments))


def part(scale: Scale, arguments: Arguments) -> None:
    from gdpo.teach import steps

    steps.part(scale, arguments.trainset)


def reward(scale: Scale, arguments: Arguments) -> None:
    from gdpo.teach import steps

    steps.reward(scale, arguments.trainset)


def add(commands: Commands[Parser]) -> None:
    room = commands.add_parser("teach", help="the teacher's responses and their rewards")
    steps = room.add_subparsers(dest="substep", required=True, metavar="STEP")
    for command in (
        add_command(steps, "respond", "sample each question's group", respond, prepare=enter_vllm),
        add_command(steps, "import", "take groups from a file", import_groups),
        add_command(steps, "part", "take a part's groups from the whole set's", part),
        add_command(steps, "reward", "grade and reward the groups", reward),
    ):
        command.add_argument("--trainset", required=True)
