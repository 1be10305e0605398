"""The commands that write what editors and shells read: the schema of a scale's file, and the completion of `gdpo`."""

from __future__ import annotations

from gdpo.cli.parser import Arguments, Commands, Parser, add_plain_command


def schema(arguments: Arguments) -> None:
    from gdpo.config.file_schema import text

    print(text(), end="")


def completion(arguments: Arguments) -> None:
    from gdpo.cli.completion import script

    print(script(arguments.top, arguments.shell), end="")


def add(commands: Commands[Parser]) -> None:
    add_plain_command(
        commands, "schema", "print the JSON schema of a scale's YAML file, for editors", schema,
        examples=["gdpo schema > scale.schema.json"],
    )  # fmt: skip
    command = add_plain_command(
        commands, "completion", "print the completion of this command for a shell", completion,
        examples=["source <(gdpo completion bash)", "source <(gdpo completion zsh)"],
    )  # fmt: skip
    command.add_argument("shell", choices=["bash", "zsh"], help="the shell that reads it")
