"""The commands that make tables, figures and the report from finished results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.cli.parser import Arguments, Commands, Parser, add_command

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def table(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.table(scale, arguments.name)


def figure(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.figure(scale, arguments.name)


def publish(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.publish(scale, arguments.name)


def sweep(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.sweep(scale)


def show(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.show(scale, arguments.name)


def claims(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.claims(scale)


def audit(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.audit(scale)


def power(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.power(scale)


def published(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.published(scale)


def cost(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.cost(scale)


def runs(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.runs(scale)


def reproduced(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.reproduced(scale, arguments.docs)


def numbers(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.numbers(scale)


def paper(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.paper(scale)


def add(commands: Commands[Parser]) -> None:
    for command in (
        add_command(commands, "table", "write a table from samples", table),
        add_command(commands, "figure", "draw a figure from finished results", figure),
        add_command(commands, "publish", "make a table, figure or the claims the active scale's", publish),
    ):
        command.add_argument("--name", required=True)
    add_command(commands, "sweep", "choose learning rates from validation scores", sweep)
    command = add_command(commands, "show", "print a table of results/ and its retention", show)
    command.add_argument("--name", default="table2")
    add_command(commands, "claims", "test the paper's claims on a scale's results", claims)
    add_command(commands, "audit", "recompute the published averages", audit)
    add_command(commands, "power", "what the published comparisons could have shown", power)
    add_command(commands, "published", "put published numbers beside a scale's tables", published)
    add_command(commands, "cost", "add up what a scale's results took", cost)
    add_command(commands, "runs", "list what every trained run took", runs)
    command = add_command(
        commands, "reproduced", "put the paper's numbers and ours side by side, cell by cell", reproduced
    )
    command.add_argument("--docs", action="store_true", help="put the scale's kept cells into docs/numbers/SCALE.md")
    add_command(commands, "numbers", "gather what the report quotes", numbers)
    add_command(commands, "paper", "compile the report of a scale's results", paper)
