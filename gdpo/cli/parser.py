"""The parser of the `gdpo` command, and the options that several of its commands have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gdpo.core.errors import UserError, suggest

if TYPE_CHECKING:
    from gdpo.config.scale import Scale

Arguments = argparse.Namespace
Command = Callable[["Scale", Arguments], None]
PlainCommand = Callable[[Arguments], None]  # of a command that has no scale

LARGEST_WIDTH = 120  # ours: columns of help on a wide terminal
NARROWEST_WIDTH = 40


def _width() -> int:
    """The columns of the terminal, asked for once: argparse makes a formatter for every option that is added."""
    if not _width_found:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
        except (ValueError, OSError):
            columns = 100
        _width_found.append(max(NARROWEST_WIDTH, min(columns, LARGEST_WIDTH)) - 2)
    return _width_found[0]


_width_found: list[int] = []


class Help(argparse.RawDescriptionHelpFormatter):
    """Says of each option whether it is required, and else its default. Examples keep their lines."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26, width=_width())

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return f"{action.help} ({stated})" if (stated := default_of(action)) else action.help


def default_of(action: argparse.Action) -> str:
    """What the help says an option is where it is not given; nothing where the option's own words say it."""
    if not action.option_strings or action.default is argparse.SUPPRESS:
        return ""
    if action.required:
        return "required"
    if action.default is None:
        return ""
    if isinstance(action.default, bool):
        return f"default: {'yes' if action.default else 'no'}"
    given = action.default if isinstance(action.default, list) else [action.default]
    return f"default: {' '.join(f'{value:g}' if isinstance(value, float) else str(value) for value in given)}"


class Parser(argparse.ArgumentParser):
    """One sentence in place of a usage text, and the closest known name for a misspelt one.

    A parser of commands that is given no command prints its help. Options cannot be abbreviated: what is no option's
    whole name is a mistake.
    """

    def __init__(self, *arguments: Any, **options: Any):
        options.setdefault("formatter_class", Help)
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(message, key=self.command or None)

    @property
    def command(self) -> str:
        """The words of this command behind `gdpo`; none of `gdpo` itself."""
        return self.prog.removeprefix("gdpo").strip()

    @property
    def does(self) -> str:
        """What this command does, as a phrase."""
        text = (self.description or "").removesuffix(".")
        return f"{text[:1].lower()}{text[1:]}"

    @property
    def commands(self) -> dict[str, Parser]:
        """The parsers of the commands below this one, by name."""
        for action in self._actions:
            if isinstance(action, Commands):
                return dict(action.choices)
        return {}

    def options(self) -> dict[str, argparse.Action]:
        """The options by name, such as `--scale`."""
        return dict(self._option_string_actions)

    def positionals(self) -> list[argparse.Action]:
        """The arguments that are no options, commands aside."""
        return [action for action in self._actions if not (action.option_strings or isinstance(action, Commands))]

    def leaves(self) -> Iterator[Parser]:
        """The parsers of all commands below this one that are run, in order."""
        for below in self.commands.values():
            yield from below.leaves() if below.commands else (below,)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        given = None if args is None else list(args)
        if given == [] and self.commands:
            self.print_help()
            self.exit()
        if given:
            self._refuse_unknown_options(given)
        known, rest = super().parse_known_args(given, namespace)
        if rest:
            raise UserError(
                key=self.command or None, found=f"'{rest[0]}'", hint=suggest(rest[0], self._option_string_actions)
            )
        return known, rest

    def _refuse_unknown_options(self, given: Sequence[str]) -> None:
        """Name a misspelt option before any option that is then missing. Behind a command's name come its own."""
        for word in given:
            if word == "--" or (self.commands and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                raise UserError(
                    key=self.command or None, found=f"'{name}'", hint=suggest(name, self._option_string_actions)
                )

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            below = [f"{name} {value}" for name, parser in self.commands.items() if value in parser.commands]
            hint = f"did you mean '{below[0]}'?" if below else suggest(str(value), action.choices)
            raise argparse.ArgumentError(action, f"found '{value}'; {hint}")


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


def add_group(parent: Commands[Parser], name: str, does: str) -> Commands[Parser]:
    """Add a command that only groups others, and return where those are added."""
    group = parent.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    steps: Commands[Parser] = group.add_subparsers(dest="substep", required=True, metavar="STEP", title="steps")
    return steps


def add_plain_command(
    parent: Commands[Parser], name: str, does: str, run: PlainCommand, *, examples: Sequence[str]
) -> Parser:
    """Add a command that has no scale, with no option but its own, which the caller adds; see `add_command`."""
    command = _add(parent, name, does, examples)
    command.set_defaults(plain=run)
    return command


def _add(parent: Commands[Parser], name: str, does: str, examples: Sequence[str]) -> Parser:
    shown = "\n  ".join(["examples:" if len(examples) > 1 else "example:", *examples])
    command: Parser = parent.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=shown)
    return command


def add_command(
    parent: Commands[Parser],
    name: str,
    does: str,
    run: Command,
    *,
    examples: Sequence[str],
    prepare: Command = no_preparation,
    load: Callable[[Arguments], Scale] = load_scale,
) -> Parser:
    """Add a command and the options that all commands of a scale have; its own options are for the caller to add.

    Args:
        does: What the command does, for its help.
        run: The command. It imports what it needs.
        examples: Calls of the command, for its help.
        prepare: Called before `run`, and before the log is opened. It may start other processes, or replace this one.
        load: What loads the scale.
    """
    command = _add(parent, name, does, examples)
    command.set_defaults(plain=None, run=run, prepare=prepare, load=load)
    options = command.add_argument_group("options of every step")
    options.add_argument(
        "--scale", default="tiny", help="what is reproduced: micro, tiny, smol, paper, or a scale's YAML file"
    )
    options.add_argument(
        "--limit", type=whole_number, metavar="N",
        help="at most N questions per set and items per benchmark, below results/SCALE-limitN; absent: all",
    )  # fmt: skip
    options.add_argument(
        "--mirror", metavar="DIR",
        help="the directory that data sets are read from; absent: GDPO_MIRROR, or else the Hub",
    )  # fmt: skip
    options.add_argument(
        "--log", type=Path, metavar="FILE", help="where libraries' output is written; absent: the terminal"
    )
    options.add_argument(
        "--world", type=whole_number, metavar="N", help="the seed of one of the scale's worlds; absent: the file's own"
    )
    return command


def add_cell_options(command: Parser) -> None:
    """The options that name runs: a student, a training set, methods and seeds."""
    command.add_argument("--student", required=True, metavar="MODEL", help="the model that is trained")
    command.add_argument(
        "--trainset", required=True, metavar="NAME", help="a training set of the scale, or none for the untrained"
    )
    command.add_argument(
        "--method", required=True, nargs="+", metavar="NAME",
        help="methods of the scale, NAME~LR for NAME at learning rate LR, or origin for the untrained",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=whole_number, nargs="+", required=True, metavar="N", help="a run each; 0 for the untrained"
    )


def add_trainset_option(command: Parser, default: str | None = None) -> None:
    command.add_argument(
        "--trainset", required=default is None, default=default, metavar="NAME", help="a training set of the scale"
    )
