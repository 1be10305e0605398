"""The commands that train students and measure how they train."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gdpo.cli.arguments import runs
from gdpo.cli.parser import Arguments, Commands, Parser, add_cell_options, add_command

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def launch_processes(scale: Scale, arguments: Arguments) -> None:
    """Start the processes that train, where the scale has several; each of them opens its own log."""
    from gdpo.runtime import launch

    launch.start(scale.launch, sys.argv[1:])


def train(scale: Scale, arguments: Arguments) -> None:
    from gdpo.students import steps

    steps.train(scale, runs(arguments))


def noise(scale: Scale, arguments: Arguments) -> None:
    from gdpo.students import steps

    steps.noise(scale, runs(arguments))


def drift(scale: Scale, arguments: Arguments) -> None:
    from gdpo.evaluate import steps

    steps.drift(scale, runs(arguments))


def add(commands: Commands[Parser]) -> None:
    cell = "--scale micro --student tiny-s --trainset metakl --method"
    for command in (
        add_command(
            commands, "train", "train a student by a method, one run a seed", train, prepare=launch_processes,
            examples=[f"gdpo train {cell} gdpo --seeds 0", f"gdpo train {cell} sft~1e-4 sft~3e-4 --seeds 0 1"],
        ),
        add_command(
            commands, "noise", "measure how much a method's gradient differs between mini-batches", noise,
            examples=[f"gdpo noise {cell} gdpo --seeds 0"],
        ),
        add_command(
            commands, "drift", "measure how far runs have moved from their student", drift,
            examples=[f"gdpo drift {cell} gdpo --seeds 0"],
        ),
    ):  # fmt: skip
        add_cell_options(command)
