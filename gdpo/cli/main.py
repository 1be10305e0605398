"""The `gdpo` command: one subcommand per step of the workflow, each a call of a function of its room.

Rules of the workflow are calls of this command, so that any of them can be run and debugged by hand. A command imports
its room when it runs: `gdpo --help` imports neither torch nor transformers nor pydantic.
"""

from __future__ import annotations

import os
import sys

from gdpo import __version__
from gdpo.cli import data, evaluate, models, ops, preload, report, students, teach
from gdpo.cli.parser import Arguments, Parser
from gdpo.core.errors import UserError, disk_error
from gdpo.core.extras import missing_package
from gdpo.runtime import parent_watchdog, single_thread

INTERRUPTED = 130


def parser() -> Parser:
    top = Parser(prog="gdpo", description="MetaGDPO (arXiv 2511.12113), step by step.")
    top.add_argument("--version", action="version", version=f"gdpo {__version__}")
    commands = top.add_subparsers(dest="step", required=True, metavar="STEP")
    for group in (models, data, teach, students, evaluate, report, ops):
        group.add(commands)
    return top


def prepare_environment(offline: bool) -> None:
    """Set what must be set before libraries are imported; with `offline`, no server is asked."""
    single_thread.limit_to_one_thread()
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # else it takes precedence over the scale's dtype
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def run(arguments: Arguments, call: int | None = None) -> None:
    """Load the scale, check the arguments, and run the command.

    `call` is the process that a preloaded parent's child runs the command for.
    """
    from gdpo.cli.arguments import check_names
    from gdpo.core.terminal import install_redaction, redirect

    parent_watchdog.watch(call)
    install_redaction()
    scale = arguments.load(arguments)
    check_names(scale, arguments)
    prepare_environment(offline=scale.world is not None)  # a made-up world needs no server
    arguments.prepare(scale, arguments)
    if arguments.log:
        redirect(arguments.log)
    arguments.run(scale, arguments)


def main(call: int | None = None) -> None:
    """The command; `call` is the process that a preloaded parent's child runs it for, None in an ordinary one."""
    try:
        if call is None and (code := preload.hand_over(sys.argv[1:])) is not None:
            sys.exit(code)
        run(parser().parse_args(), call)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except (UserError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            error = missing_package(error, next(iter(sys.argv[1:]), None)) or error
        refusal = error if isinstance(error, UserError) else disk_error(error)
        if refusal is None:
            raise
        from gdpo.core.terminal import say
        from gdpo.runtime.launch import tell_launcher

        if not tell_launcher(str(refusal)):
            say(f"gdpo: {refusal}")
        sys.exit(2)
