"""The completion script of `gdpo` for bash and zsh: commands, options, and what an option chooses from.

The script is drawn from the parser and runs nothing of gdpo. Where it knows no words, the shell completes file names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gdpo.cli.parser import Parser
from gdpo.core.project import scale_names

BASH = """\
# Completion of gdpo; written by `gdpo completion {shell}`.
_gdpo() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}" command="" words="" each
  for each in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
    case "$each" in -*) break ;; *) command="$command $each" ;; esac
  done
  case "$command:$before" in
{choices}
  esac
  if [ -z "$words" ]; then
    case "$command" in
{commands}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o bashdefault -o default -F _gdpo gdpo
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def script(top: Parser, shell: Literal["bash", "zsh"]) -> str:
    """The completion script; zsh reads bash's, by its own bashcompinit."""
    parsers = {"": top} | {f" {name}": parser for name, parser in _below(top)}
    choices = [
        f'    "{command}:{name}") words="{" ".join(words)}" ;;'
        for command, parser in parsers.items()
        for name, words in _choices(parser)
    ]
    commands = [f'      "{command}") words="{" ".join(_words(parser))}" ;;' for command, parser in parsers.items()]
    text = BASH.format(shell=shell, choices="\n".join(choices), commands="\n".join(commands))
    return text if shell == "bash" else ZSH + text


def _below(parser: Parser) -> Iterator[tuple[str, Parser]]:
    for below in parser.commands.values():
        yield below.command, below
        yield from _below(below)


def _words(parser: Parser) -> list[str]:
    """The commands below, or else the arguments that are chosen and the options."""
    if parser.commands:
        return [*parser.commands, *(["--help", "--version"] if not parser.command else ["--help"])]
    chosen = [str(choice) for action in parser.positionals() for choice in action.choices or ()]
    return [*chosen, *(name for name in parser.options() if name.startswith("--"))]


def _choices(parser: Parser) -> Iterator[tuple[str, list[str]]]:
    """Each option that chooses from known words, with those."""
    for name, action in parser.options().items():
        if name == "--scale":
            yield name, scale_names()
        elif action.choices is not None:
            yield name, [str(choice) for choice in action.choices]
