"""
``completion`` and ``schema``: help for shells and editors.
"""

import os

import click
from click.shell_completion import get_completion_class

from penstock._cli.output import print_json
from penstock._cli.session import Session, command
from penstock._config.json_schema import json_schema

_INSTALL = {
    "bash": 'eval "$(penstock completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(penstock completion zsh)"  # in ~/.zshrc',
    "fish": "penstock completion fish | source  # in ~/.config/fish/config.fish",
}


@command()
@click.argument("shell", type=click.Choice([*_INSTALL]), required=False)
def completion(session: Session, shell: str | None) -> None:
    """
    Print the completion of commands, options and names of the configuration for a shell; default: that of $SHELL.
    """
    shell = shell or os.path.basename(session.environ.get("SHELL", ""))  # noqa: PTH119 (a name, not a place)
    if shell not in _INSTALL:
        raise click.UsageError(f"name the shell: {', '.join(_INSTALL)}")
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    source = completion_class(click.Group("penstock"), {}, "penstock", "_PENSTOCK_COMPLETE").source()
    if shell == "fish":  # click's script splits a value such as clicks,sales at its comma
        source = source.replace('string split ","', 'string split --max 1 ","')
    print(f"# {_INSTALL[shell]}\n{source}")


@command()
def schema(session: Session) -> None:
    """
    Print a JSON Schema of penstock.toml, from the installed plugins: penstock schema > penstock.schema.json

    Editors (taplo, Even Better TOML) use it with the first line `#:schema ./penstock.schema.json` of penstock.toml.
    """
    registry = session.registry
    sinks = {name: kind for name, kind in registry.sinks().items() if kind.scheme != "-"}
    print_json(json_schema(registry.connectors(), sinks, registry.secrets()))
