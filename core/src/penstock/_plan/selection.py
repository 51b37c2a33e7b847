"""
Selection of a source's streams, and of the columns that are left out.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from penstock._config.source import ConfiguredSource
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.names import did_you_mean
from penstock.sinks import EXTRA


def chosen_streams(source: ConfiguredSource, names: Sequence[str] | None) -> tuple[str, ...]:
    """
    The streams to run: those named, else all that are on by default and need no further setting.

    Raises UsageError for a stream that is unknown, not built, or lacks a setting.
    """
    if not names:
        return tuple(
            stream.name
            for stream in source.streams
            if stream.on_by_default and not stream.not_built and not lacking(source, stream)
        )
    by_name = {stream.name: stream for stream in source.streams}
    for name in names:
        if name not in by_name:
            raise _unknown_stream(source, name)
        if by_name[name].not_built:
            raise UsageError(f"the stream {name} of {source.connector.name} cannot be read: {by_name[name].not_built}")
        if missing := lacking(source, by_name[name]):
            raise UsageError(f"the stream {name} needs {' and '.join(missing)}: set it under [source.{source.name}]")
    chosen = dict.fromkeys(names)
    for name in names:  # a derived stream is delivered with its parent
        derived = by_name[name].derived
        if derived is not None:
            chosen.setdefault(derived.stream)
    return tuple(stream.name for stream in source.streams if stream.name in chosen)


def select_streams(
    sources: Sequence[ConfiguredSource],
    include: Sequence[str],
    exclude: Sequence[str] = (),
    *,
    some_unusable: bool = False,
) -> dict[str, tuple[str, ...]]:
    """
    The streams to run, by source. ``include`` and ``exclude``: ``STREAM`` or ``SOURCE.STREAM``, where each may hold
    ``*``, ``?`` and ``[...]``; without ``include``, the streams that are on by default.

    A name without a pattern must exist in one of the sources at least, and be readable there; not with
    ``some_unusable``: a source that is not among these may have it. A source of which nothing is selected has no
    streams. Raises UsageError.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for source in sources:
        names = _matching(source, include)
        chosen[source.name] = chosen_streams(source, names) if names or not include else ()
    for pattern in (*include, *exclude):
        if not some_unusable and not any(_matching(source, [pattern]) for source in sources):
            raise _no_such_stream(sources, pattern)
    for source in sources:
        left_out = set(_matching(source, exclude))
        for name in left_out:
            derived = source.stream(name).derived
            if derived is not None and derived.stream in chosen[source.name] and derived.stream not in left_out:
                raise UsageError(f"{source.name}.{name} is derived from {derived.stream} and cannot be left out alone")
        chosen[source.name] = tuple(name for name in chosen[source.name] if name not in left_out)
    return chosen


def _matching(source: ConfiguredSource, patterns: Sequence[str]) -> list[str]:
    """The source's streams that match a pattern. A pattern with wildcards matches only those that can be read."""
    matching = []
    for stream in source.streams:
        readable = not stream.not_built and not lacking(source, stream)
        for pattern in patterns:
            owner, dot, name = pattern.rpartition(".")
            if dot and not fnmatchcase(source.name, owner):
                continue
            if stream.name == name or (readable and fnmatchcase(stream.name, name)):
                matching.append(stream.name)
                break
    return matching


def _no_such_stream(sources: Sequence[ConfiguredSource], pattern: str) -> UsageError:
    if len(sources) == 1 and "." not in pattern and not matches(sources[0].name, [pattern]):
        return _unknown_stream(sources[0], pattern)
    stream_names = [stream.name for source in sources for stream in source.streams]
    qualified_names = [f"{source.name}.{stream.name}" for source in sources for stream in source.streams]
    if any(matches(source.name, [pattern]) for source in sources):  # a source where a stream is expected
        meant = f' Did you mean "{pattern}.*"?'
    else:
        meant = did_you_mean(pattern, qualified_names if "." in pattern else stream_names)
    return UsageError(
        f"no stream of {', '.join(source.name for source in sources)} matches {pattern!r}.{meant} "
        "`penstock streams CONNECTOR` lists them"
    )


def _unknown_stream(source: ConfiguredSource, name: str) -> UsageError:
    names = [stream.name for stream in source.streams]
    meant = did_you_mean(name, names) or f" There are {', '.join(names)}"
    return UsageError(f"{source.connector.name} has no stream {name!r}.{meant}")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of ``patterns``: names, or with ``*``, ``?`` and ``[...]`` as in a shell."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def lacking(source: ConfiguredSource, stream: Stream) -> list[str]:
    """The settings a stream needs and does not have."""
    return [name for name in stream.required_settings if not getattr(source.settings, name)]


def unknown_exclusions(source: ConfiguredSource) -> list[str]:
    """One problem per name in ``exclude`` that matches no column; otherwise it would silently do nothing."""
    if not source.settings.exclude:
        return []
    names: set[str] = set()
    for stream in source.streams:
        columns = [*(column.name for column in source.columns_of(stream)), EXTRA]
        names.update(columns, (f"{stream.name}.{column}" for column in columns))
    return [
        f"source.{source.name}.exclude: {name!r} is no column of {source.connector.name}."
        f"{did_you_mean(name, sorted(names))} `penstock streams {source.connector.name}` lists them"
        for name in source.settings.exclude
        if name not in names
    ]


def unknown_accounts(source: ConfiguredSource) -> list[str]:
    """One problem per table ``[source.NAME.accounts.ACCOUNT]`` whose account no stream has: nothing would read it."""
    tables = source.settings.account_tables
    if not tables or any(source.lister_of(stream) for stream in source.streams):
        return []  # the provider lists the accounts
    accounts = dict.fromkeys(account for stream in source.streams for account in source.accounts_of(stream) or ())
    return [
        f"source.{source.name}.accounts.{account}: no stream of this source has the account {account!r}."
        f"{did_you_mean(account, accounts)}"
        for account in tables
        if account not in accounts
    ]


def missed_columns(source: ConfiguredSource, names: Iterable[str]) -> list[str]:
    """
    One problem per column that the settings leave out and that a run of these streams needs: a key, a partition, a
    row's day, or what another stream is requested by.
    """
    settings = source.settings
    if not settings.exclude and settings.include_personal:
        return []
    needed = _needed_columns(source, names)
    why = "(part of) a key or a partition, or what another stream is requested by"
    problems: list[str] = []
    for excluded in settings.exclude:
        streams = [name for name in needed if {excluded, excluded.removeprefix(f"{name}.")} & needed[name]]
        if streams:
            where = " and ".join(streams)
            problems.append(f"source.{source.name}.exclude: {excluded!r} cannot be left out of {where}: it is {why}")
    if not settings.include_personal:
        problems.extend(
            f"source.{source.name}.include_personal: {name}.{column.name} is personal and cannot be left out: it is "
            f"{why}. Leave out the stream instead, with --streams or a pipeline"
            for name, columns in needed.items()
            for column in source.stream(name).columns
            if column.personal and column.name in columns
        )
    return problems


def _needed_columns(source: ConfiguredSource, names: Iterable[str]) -> dict[str, set[str]]:
    """The columns without which these streams, and those they are read with, cannot be read."""
    needed: dict[str, set[str]] = {}

    def visit(name: str, columns: Iterable[str] = ()) -> None:
        stream = source.stream(name)
        is_visited = name in needed
        needed.setdefault(name, set()).update(columns)
        if is_visited:
            return
        day_of = source.day_of(stream)
        needed[name].update(stream.key, stream.partition_columns, [day_of] if day_of is not None else [])
        if stream.parent is not None:
            visit(stream.parent.stream, stream.parent.columns)
        if accounts_from := source.lister_of(stream):
            visit(accounts_from[0], accounts_from[1:])
        for child in source.derived_from(name):
            assert child.derived is not None
            visit(child.name, (*stream.partition_columns, *child.derived.stamps))

    for name in names:
        visit(name)
    return needed
