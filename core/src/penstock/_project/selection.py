"""
What a call of ``plan`` or ``run`` selects: streams, accounts and days. A selection that would read nothing is refused.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from attrs import field, frozen

from penstock._config import Config
from penstock._config.pipeline import Allowance, Pipeline
from penstock._config.source import ConfiguredSource
from penstock._plan.selection import matches, missed_columns, select_streams
from penstock._project.setup import Notice, blamed
from penstock._util.days import window
from penstock.errors import ConfigError, UsageError
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.sinks import Sink


def names_in(key: str, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names in a list that a caller passed as ``key``. Raises UsageError for a text, which is a list of letters."""
    if isinstance(names, str):
        raise UsageError(f"{key}: found the text {names!r}, expected a list of names: [{names!r}]")
    return tuple(names or ())


def _allowance(value: Allowance | bool | int | str | None) -> Allowance | None:
    try:
        return value if value is None or isinstance(value, Allowance) else Allowance.parse(value)
    except ValueError as error:
        raise UsageError(f"allow_rejected: {error}") from None


@frozen(kw_only=True, eq=False, repr=False)
class Selection:
    """
    The selection of streams, accounts and days, as on the command line; None or empty: the default. ``to``: a sink's
    name or place, or a sink made by the caller. Raises UsageError for a value of another form.
    """

    to: str | Sink | None = None
    streams: tuple[str, ...] = ()
    exclude_streams: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    since: date | str | None = None
    until: date | str | None = None
    full: bool = False
    strict: bool = False
    allow_rejected: Allowance | None = field(default=None, converter=_allowance)


def window_of(since: date | str | None, until: date | str | None, today: date) -> tuple[date | None, date | None]:
    """The days of two options. Raises UsageError for a text that names no day."""
    try:
        return window(since, until, today)
    except ValueError as error:
        raise UsageError(str(error)) from None


def selected_streams(
    where: str,
    sources: Sequence[ConfiguredSource],
    selection: Selection,
    pipeline: Pipeline | None,
    notice: Notice,
) -> dict[str, tuple[str, ...]]:
    """
    The streams of each source. A pipeline's own selection must reach each of its sources; that of a call may leave
    sources out, with a notice. ``where``: the pipeline in the configuration, for messages.
    """
    include, exclude = selection.streams, selection.exclude_streams
    if pipeline is not None:
        include = include or pipeline.streams or ()
        exclude = (*exclude, *pipeline.exclude_streams)
    for source in sources:
        if not source.streams:
            raise _no_stream(source)
    try:
        chosen = select_streams(sources, include, exclude)
    except UsageError as error:
        if pipeline is None or selection.streams or selection.exclude_streams:
            raise
        raise UsageError(f"{where}: {error}") from None
    for source in sources:
        if chosen[source.name]:
            continue
        if len(sources) == 1 and not include:
            raise _no_stream(source)
        if selection.streams or selection.exclude_streams:
            notice(f"{source.name} is not read: none of its streams is selected")
        else:
            selector = where if pipeline is not None else source.name
            raise UsageError(
                f"{selector}: no stream of {source.name} is selected; add {source.name}.STREAM to streams, or take "
                f"{source.name} out of source"
            )
    if not any(chosen.values()):
        raise UsageError("no stream is left to read: --exclude-streams leaves out all that are selected")
    return chosen


def refuse_missed(config: Config, sources: Sequence[ConfiguredSource], chosen: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError where the settings exclude a column that reading these streams depends on."""
    problems = [text for source in sources for text in missed_columns(source, chosen[source.name])]
    if problems:
        raise ConfigError([f"{config.where}: {text}" for text in problems])


def refuse_strange_accounts(
    sources: Sequence[ConfiguredSource], chosen: Mapping[str, Sequence[str]], patterns: Sequence[str]
) -> None:
    """
    Raise UsageError for a pattern that no account matches, unless a provider lists the accounts of a chosen stream.

    Otherwise a mistyped account would be a run of no partitions, which ends with 0.
    """
    if not patterns:
        return
    account_lists = []
    for source in sources:
        streams = [source.stream(name) for name in chosen[source.name]]
        with blamed(source.connector):
            account_lists += [source.accounts_of(stream) for stream in streams if stream.account is not None]
    account_names = sorted({account for accounts in account_lists for account in accounts or ()})
    if not account_lists or None in account_lists:
        return
    for pattern in patterns:
        if not any(matches(account, [pattern]) for account in account_names):
            names = ", ".join(source.name for source in sources)
            raise UsageError(
                f"--accounts: no account of {names} matches {pattern!r}.{did_you_mean(pattern, account_names)} "
                f"There are {clip(', '.join(account_names), 200) or 'none'}"
            )


def _no_stream(source: ConfiguredSource) -> UsageError:
    if not source.streams:
        return UsageError(
            f"{source.name} has no streams: it is written to, not read. `penstock act {source.name} --list` shows "
            "what can be sent"
        )
    return UsageError(
        f"{source.name}: no stream is on by default with these settings; `penstock streams {source.connector.name}` "
        "lists them, --streams chooses"
    )
