"""The parser of the `gdpo` command, and the options that several of its commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gdpo.core.errors import UserError, suggest

if TYPE_CHECKING:
    from gdpo.config.scale import Scale

Arguments = argparse.Namespace
Command = Callable[["Scale", Arguments], None]


class Parser(argparse.ArgumentParser):
    """One sentence in place of a usage text, and the closest known name for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, key=self._command)

    @property
    def _command(self) -> str | None:
        """The words of this command behind `gdpo`; None of `gdpo` itself."""
        return self.prog.removeprefix("gdpo").strip() or None

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            hint = suggest(rest[0], self._option_string_actions)
            raise UserError(key=self._command, found=f"'{rest[0]}'", hint=hint)
        return known, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"found '{value}'; {suggest(str(value), action.choices)}")


Commands = argparse._SubParsersAction  # of Parser; a subparsers object has no public name


def whole_number(text: str) -> int:
    """The type of an option that takes a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found '{text}'") from None


def load_scale(arguments: Arguments) -> Scale:
    """The scale that --scale, --limit and --world name."""
    from gdpo.config.loader import load_scale

    return load_scale(arguments.scale, arguments.limit, arguments.world)


def no_preparation(scale: Scale, arguments: Arguments) -> None:
    """A command that runs in this process needs none."""


def add_command(
    parent: Commands[Parser],
    name: str,
    does: str,
    run: Command,
    *,
    prepare: Command = no_preparation,
    load: Callable[[Arguments], Scale] = load_scale,
) -> Parser:
    """Add a command and the options that all commands have; its own options are for the caller to add.

    Args:
        does: What the command does, for its help.
        run: The command. It imports what it needs.
        prepare: Called before `run`, and before the log is opened. It may start other processes, or replace this one.
        load: What loads the scale.
    """
    command = parent.add_parser(name, help=does, description=does)
    command.set_defaults(run=run, prepare=prepare, load=load)
    command.add_argument("--scale", default="tiny", help="micro, tiny, smol, paper, or a scale's YAML file")
    command.add_argument(
        "--limit", type=whole_number, help="at most this many questions per set and items per benchmark"
    )
    command.add_argument(
        "--world", type=whole_number, help="the seed of one of the scale's worlds, where it has several"
    )
    command.add_argument("--mirror", help="read data sets, where the step reads any, from this directory, not the Hub")
    command.add_argument("--log", type=Path, help="send libraries' output to this file instead of the terminal")
    return command


def add_cell_options(command: Parser) -> None:
    """The options that name runs: a student, a training set, methods and seeds."""
    command.add_argument("--student", required=True)
    command.add_argument("--trainset", required=True)
    command.add_argument(
        "--method", required=True, nargs="+", help="methods by name; NAME~LR is NAME at learning rate LR"
    )
    command.add_argument("--seeds", type=whole_number, nargs="+", required=True)
