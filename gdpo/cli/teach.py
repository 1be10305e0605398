"""The commands that make the teacher's responses and their rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.arguments import mirror
from gdpo.cli.parser import Arguments, Commands, Parser, add_command, add_group, add_trainset_option

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
    steps = add_group(commands, "teach", "make the teacher's completions and their rewards")
    part_example = "gdpo teach part --scale tiny --trainset metakl-half"
    import_example = "gdpo teach import --scale examples/import.yaml --trainset math-cot8 --mirror DIR"
    for command in (
        add_command(
            steps, "respond", "let the teacher sample a group of completions for each question", respond,
            prepare=enter_vllm, examples=["gdpo teach respond --scale micro --trainset metakl"],
        ),
        add_command(
            steps, "reward", "grade each completion into a reward in [0, 2]", reward,
            examples=["gdpo teach reward --scale micro --trainset metakl"],
        ),
        add_command(steps, "import", "take groups from files", import_groups, examples=[import_example]),
        add_command(steps, "part", "take a part's groups from the whole set's", part, examples=[part_example]),
    ):  # fmt: skip
        add_trainset_option(command)
