"""The commands about a machine, a plan, and finished results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.cli.parser import Arguments, Commands, Parser, add_command, load_scale, whole_number

if TYPE_CHECKING:
    from gdpo.config.scale import Scale


def verify(scale: Scale, arguments: Arguments) -> None:
    from gdpo.ops.verify import steps

    steps.verify(scale, arguments.result)


def scale_of_result(arguments: Arguments) -> Scale:
    """The scale that --scale names, or else the one that the table's provenance names."""
    if arguments.scale is None:
        from gdpo.ops.verify.target import scale_of

        arguments.scale, arguments.limit = scale_of(arguments.result)
    return load_scale(arguments)


def doctor(scale: Scale, arguments: Arguments) -> None:
    from gdpo.ops.doctor import steps

    steps.doctor(scale, arguments.slurm)


def plan(scale: Scale, arguments: Arguments) -> None:
    from gdpo.ops.plan import steps

    # Snakemake is given the scale as --scale is.
    steps.plan(scale, arguments.scale, arguments.targets, arguments.workers, arguments.out, arguments.docs)


def calibrate(scale: Scale, arguments: Arguments) -> None:
    from gdpo.ops.plan import steps

    steps.calibrate(scale)


def summary(scale: Scale, arguments: Arguments) -> None:
    from gdpo.report import steps

    steps.summary(scale, arguments.since)


def add(commands: Commands[Parser]) -> None:
    command = add_command(
        commands, "verify", "make a table anew from stored outputs and compare", verify, load=scale_of_result,
        examples=["gdpo verify results/table2.csv", "gdpo verify results/micro/tables/table2.csv --scale micro"],
    )  # fmt: skip
    command.add_argument("result", type=Path, metavar="TABLE", help="a table's file, such as results/table2.csv")
    command.set_defaults(scale=None)
    command.options()["--scale"].help = "the table's scale; absent: the one that the table's provenance names"
    command = add_command(
        commands, "doctor", "say what is missing or off on this machine", doctor,
        examples=["gdpo doctor --scale tiny", "gdpo doctor --scale paper --slurm"],
    )  # fmt: skip
    command.add_argument("--slurm", action="store_true", help="look for Slurm's commands, too")
    command = add_command(
        commands, "plan", "say what a scale would take, before anything is spent", plan,
        examples=["gdpo plan --scale smol", "gdpo plan --scale paper --target table2 --workers 8 --out plan"],
    )  # fmt: skip
    add_plan_options(command)
    add_command(
        commands, "calibrate", "measure this machine's throughput for `gdpo plan`", calibrate,
        examples=["gdpo calibrate --scale smol"],
    )  # fmt: skip
    command = add_command(
        commands, "summary", "print the time each step took", summary, examples=["gdpo summary --scale micro"]
    )
    command.add_argument(
        "--since", type=float, default=0.0, metavar="TIME", help="only what finished since, in seconds since 1970"
    )


def add_plan_options(command: Parser) -> None:
    command.add_argument(
        "--target", nargs="+", default=["all"], dest="targets", metavar="NAME", help="tables and files to plan for"
    )
    command.add_argument(
        "--workers", type=whole_number, metavar="N",
        help="jobs at once, absent: CPUs; where jobs need GPUs, GPUs at once, absent: 8",
    )  # fmt: skip
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="where plan.csv and plan.md are written; absent: nowhere"
    )
    command.add_argument("--docs", action="store_true", help="put the plan into docs/scale-paper.md")
