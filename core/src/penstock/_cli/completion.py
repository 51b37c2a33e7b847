"""
``completion``, and the names that it completes: those of the configuration and of plugins; none if the configuration
cannot be read.
"""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from penstock._cli.session import Session, command
from penstock.commands.process import only_data_on_stdout
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock._project.setup import Setup

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


def _names_from(
    names: "Callable[[Setup], Iterable[str]]",
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """The completion of names that no other word on the line decides."""
    return lambda ctx, param, incomplete: _items(ctx, incomplete, names)


sources = _names_from(lambda setup: setup.config.sources)
pipelines_and_sources = _names_from(lambda setup: [*setup.config.pipelines, *setup.config.sources])
pipelines_sources_and_sinks = _names_from(
    lambda setup: [*setup.config.pipelines, *setup.config.sources, *setup.config.sinks]
)
connectors = _names_from(lambda setup: setup.registry.connectors())
sinks = _names_from(  # and the schemes of --to
    lambda setup: [*setup.config.sinks, *(f"{kind.scheme}:" for kind in setup.registry.sinks().values())]
)


def streams(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """
    The streams of the source or pipeline on the line, else of all; the last name of a list with commas. Also
    ``SOURCE.STREAM``, once its first letter is there.
    """
    former, comma, last = incomplete.rpartition(",")

    def names(setup: "Setup") -> Iterable[str]:
        streams = _streams(ctx, setup)
        yield from (stream for _, stream in streams)
        if last:
            yield from (f"{source}.{stream}" for source, stream in streams)

    return [CompletionItem(f"{former}{comma}{item.value}") for item in _items(ctx, last, names)]


def one_stream(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The streams of the one source, or connector, on the line."""
    return _items(ctx, incomplete, lambda setup: [stream for _, stream in _streams(ctx, setup)])


def actions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The actions of the source on the line."""
    return _items(
        ctx,
        incomplete,
        lambda setup: [
            action.name
            for source in _sources(ctx, setup)
            for action in setup.registry.actions(setup.config.connector_of(source))
        ],
    )


def _sources(ctx: click.Context, setup: "Setup") -> Iterable[str]:
    """The source on the line, or those of the pipeline; all of the configuration where none is named yet."""
    arguments = (ctx.params.get(name) for name in ("name", "source", "connector"))
    # click leaves the arguments in ctx.args while the value of the last option is missing.
    named = str(next(filter(None, arguments), None) or next(iter(ctx.args), ""))
    pipeline = setup.config.pipelines.get(named)
    return pipeline.source if pipeline is not None else [named] if named else setup.config.sources


def _streams(ctx: click.Context, setup: "Setup") -> list[tuple[str, str]]:
    """Source and stream of all that can be read of these sources."""
    return [
        (source, stream.name)
        for source in _sources(ctx, setup)
        for stream in setup.registry.streams(setup.config.connector_of(source))
        if not stream.not_built
    ]


def _items(ctx: click.Context, incomplete: str, names: "Callable[[Setup], Iterable[str]]") -> list[CompletionItem]:
    session = ctx.find_object(Session)
    try:
        with only_data_on_stdout():  # a line that a plugin prints would be a name
            candidates = list(names(session.setup)) if session is not None else []
    except PenstockError:
        return []
    return [CompletionItem(name) for name in dict.fromkeys(candidates) if name.startswith(incomplete)]
