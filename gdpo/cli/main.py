"""The `gdpo` command: one subcommand per step of the workflow, each a call of a function of its room.

Rules of the workflow are calls of this command, so that any of them can be run and debugged by hand. A command imports
its room when it runs: `gdpo --help` imports neither torch nor transformers nor pydantic, nor what only a step needs.
"""

from __future__ import annotations

import os
import sys

from gdpo import __version__
from gdpo.cli import SOCKET, data, evaluate, fit, models, ops, report, shell, students, teach
from gdpo.cli.parser import Arguments, Parser
from gdpo.core.errors import UserError, disk_error

INTERRUPTED = 130

# Every command, under what it is for, in the order of work; `gdpo --help` shows them so.
GROUPS = {
    "Look ahead": ["doctor", "plan", "calibrate"],
    "Base models and teachers": ["model", "pretrain", "bases"],
    "Benchmarks and training sets": [
        "benchmark", "metakl sources", "metakl decontaminate", "metakl annotate", "metakl quality", "metakl merge",
        "metakl answer", "metakl proficiency", "metakl select", "metakl card", "metakl export",
    ],
    "The teacher's groups": ["teach respond", "teach reward", "teach import", "teach part"],
    "Training": ["train", "noise", "drift", "sweep"],
    "Scores": ["evaluate", "judge"],
    "Tables, figures and the report": [
        "table", "figure", "claims", "publish", "show", "published", "reproduced", "runs", "cost", "explore",
        "numbers", "audit", "power", "paper",
    ],
    "The trial": ["world", "trial"],
    "Finished results": ["verify", "summary"],
    "Without a scale": ["fit", "schema", "completion"],
}  # fmt: skip

DESCRIPTION = """MetaGDPO (arXiv 2511.12113), step by step. `make` and `snakemake` run these commands in their order.
`gdpo COMMAND --help` has the options and examples of one."""


class TopParser(Parser):
    """`gdpo` itself, whose help lists the commands of all groups."""

    def format_help(self) -> str:
        does = {leaf.command: leaf.does for leaf in self.leaves()}
        width = max(map(len, does))
        lines = [self.format_usage(), DESCRIPTION]
        for title, names in GROUPS.items():
            lines += ["", f"{title}:", *(f"  {name:{width}}  {does[name]}" for name in names)]
        return "\n".join([*lines, "", "  --version  print the version", "  --help     print this", ""])


def parser() -> Parser:
    top = TopParser(prog="gdpo", usage="gdpo COMMAND [OPTIONS]", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"gdpo {__version__}", help="print the version")
    commands = top.add_subparsers(dest="step", required=True, metavar="COMMAND", prog="gdpo", parser_class=Parser)
    for group in (ops, models, data, teach, students, evaluate, report, fit, shell):
        group.add(commands)
    top.set_defaults(top=top)
    return top


def prepare_environment(offline: bool) -> None:
    """Set what must be set before libraries are imported; with `offline`, no server is asked."""
    from gdpo.runtime import single_thread

    single_thread.limit_to_one_thread()
    quiet_libraries()
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def quiet_libraries() -> None:
    """Settings of libraries, which read them when they are imported."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # else it takes precedence over the scale's dtype
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def run(arguments: Arguments, call: int | None = None) -> None:
    """Load the scale, check the arguments, and run the command.

    `call` is the process that a preloaded parent's child runs the command for.
    """
    from gdpo.core.terminal import install_redaction, redirect

    if arguments.plain:
        quiet_libraries()
        install_redaction()
        arguments.plain(arguments)
        return
    from gdpo.cli.arguments import check_names
    from gdpo.cli.made_by import naming_the_maker
    from gdpo.runtime import parent_watchdog

    parent_watchdog.watch(call)
    install_redaction()
    scale = arguments.load(arguments)
    check_names(scale, arguments)
    prepare_environment(offline=scale.world is not None)  # a made-up world needs no server
    with naming_the_maker(scale.root, arguments):
        arguments.prepare(scale, arguments)
        if arguments.log:
            redirect(arguments.log)
        arguments.run(scale, arguments)


def main(call: int | None = None) -> None:
    """The command; `call` is the process that a preloaded parent's child runs it for, None in an ordinary one."""
    try:
        if call is None and SOCKET in os.environ:
            from gdpo.cli import preload

            if (code := preload.hand_over(sys.argv[1:])) is not None:
                sys.exit(code)
        run(parser().parse_args(sys.argv[1:]), call)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except (UserError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            from gdpo.core.extras import missing_package

            error = missing_package(error, next(iter(sys.argv[1:]), None)) or error
        refusal = error if isinstance(error, UserError) else disk_error(error)
        if refusal is None:
            raise
        from gdpo.core.terminal import say
        from gdpo.runtime.launch import tell_launcher

        if not tell_launcher(str(refusal)):
            say(f"gdpo: {refusal}")
        sys.exit(2)
