"""
Completions for shells: names of the configuration and of plugins; none if the configuration cannot be read.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from penstock._cli.session import Session


def sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Sources of the configuration."""
    return _items(ctx, incomplete, lambda session: session.config.sources)


def pipelines_and_sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Pipelines and sources, for ``run``, ``plan``, ``status`` and others."""
    return _items(ctx, incomplete, lambda session: [*session.config.pipelines, *session.config.sources])


def connectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Installed connectors."""
    return _items(ctx, incomplete, lambda session: session.registry.connectors())


def sinks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Sinks of the configuration, and the schemes of ``--to``."""
    return _items(
        ctx,
        incomplete,
        lambda session: [*session.config.sinks, *(f"{kind.scheme}:" for kind in session.registry.sinks().values())],
    )


def streams(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The streams of the source or pipeline on the line, else of all; the last name of a list with commas."""
    former, comma, last = incomplete.rpartition(",")

    def names(session: Session) -> Iterable[str]:
        # click leaves the arguments in ctx.args while the value of the last option is missing.
        named = str(ctx.params.get("name") or ctx.params.get("source") or next(iter(ctx.args), ""))
        pipeline = session.config.pipelines.get(named)
        for source in pipeline.source if pipeline is not None else [named] if named else session.config.sources:
            for stream in session.registry.streams(session.config.connector_of(source)):
                yield stream.name

    return [CompletionItem(f"{former}{comma}{one.value}") for one in _items(ctx, last, names)]


def _items(ctx: click.Context, incomplete: str, names: Callable[[Session], Iterable[str]]) -> list[CompletionItem]:
    from penstock.errors import PenstockError

    session = ctx.find_object(Session)
    try:
        found = list(names(session)) if session is not None else []
    except PenstockError:
        return []
    return [CompletionItem(name) for name in dict.fromkeys(found) if name.startswith(incomplete)]
