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


def world(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report.trial import steps

    steps.world(scale)


def trial(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report.trial import steps

    steps.trial(scale, arguments.kind)


def paper(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.paper(scale)


def add(commands: Commands[Parser]) -> None:
    for name, does, run, example, what in (
        ("table", "write a table from stored samples", table, "table2", "a table of the scale"),
        ("figure", "draw a figure from finished results", figure, "proficiency", "a figure of the scale"),
        (
            "publish", "copy a table, figure or the claims of this scale to results/ and paper/", publish, "table2",
            "a table or figure of the scale, or claims",
        ),
    ):  # fmt: skip
        command = add_command(commands, name, does, run, examples=[f"gdpo {name} --scale micro --name {example}"])
        command.add_argument("--name", required=True, metavar="NAME", help=what)
    command = add_command(
        commands, "show", "print a table of results/, with its retention and forgetting", show,
        examples=["gdpo show --scale micro", "gdpo show --scale tiny --name tableA7"],
    )  # fmt: skip
    command.add_argument("--name", default="table2", metavar="TABLE", help="a table of the scale")
    command = add_command(
        commands, "reproduced", "put the paper's numbers and ours side by side, cell by cell", reproduced,
        examples=["gdpo reproduced --scale smol"],
    )  # fmt: skip
    command.add_argument("--docs", action="store_true", help="put the scale's kept cells into docs/numbers/SCALE.md")
    for name, does, run in (
        ("sweep", "choose learning rates from validation scores", sweep),
        ("claims", "test the paper's claims on a scale's results", claims),
        ("audit", "recompute the published averages", audit),
        ("power", "say what the published comparisons could have shown", power),
        ("published", "put published numbers beside a scale's tables", published),
        ("cost", "add up what a scale's results took", cost),
        ("runs", "list what every trained run took", runs),
        ("numbers", "gather what the report quotes", numbers),
        ("paper", "compile the report of a scale's results", paper),
    ):
        add_command(commands, name, does, run, examples=[f"gdpo {name} --scale micro"])
    add_command(
        commands, "world", "pack the runs of a trial's world", world, examples=["gdpo world --scale trial --world 101"]
    )
    command = add_command(
        commands, "trial", "answer the trial's questions from its packed worlds", trial,
        examples=["gdpo trial --scale trial", "gdpo trial --scale trial --kind development"],
    )  # fmt: skip
    command.add_argument("--kind", choices=["sealed", "development"], default="sealed", help="the worlds that answer")
