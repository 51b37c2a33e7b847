"""
The problems of the streams of one connector.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from penstock._plugins.validation.columns import columns_by_name, problems_in_columns, problems_in_record
from penstock._plugins.validation.components import COMPONENTS, Lookup, problems_in_component
from penstock._plugins.validation.declared import named_twice, no_functions, problems_in_name, unknown_settings
from penstock._plugins.validation.related import KINDS, problems_in_named_streams
from penstock._plugins.validation.templates import problems_in_templates
from penstock.connector import Stream
from penstock.errors import PluginError, sentences
from penstock.names import did_you_mean
from penstock.protocols import Named
from penstock.records import Column
from penstock.settings import OpenFor


def problems_in_streams(
    streams: Iterable[Stream], others: Mapping[str, Stream], settings: type | None, component: Lookup
) -> list[str]:
    """
    The problems of these streams of one connector, in the order of the streams.

    ``others``: all streams of the connector by name, these included; ``settings``: its settings class, if known;
    ``component``: looks up a named component.
    """
    streams = list(streams)
    problems = named_twice("stream", [stream.name for stream in streams])
    columns_of_all = {name: columns_by_name(stream, others) for name, stream in others.items()}
    for stream in streams:
        is_offered = others.get(stream.name) is stream
        columns = columns_of_all[stream.name] if is_offered else columns_by_name(stream, others)
        if columns is None:
            record = getattr(stream.record, "__name__", repr(stream.record))
            problems.append(f"stream {stream.name}: {record} is no record class: put @record() above it")
            continue
        checks = [problems_in_name(stream.name), problems_in_record(stream, columns), _problems_in_shape(stream)]
        if not stream.not_built:
            checks += [
                problems_in_columns(stream, columns),
                problems_in_division(stream, columns, component),
                problems_in_named_streams(stream, others, columns_of_all),
                *(problems_in_component(name, getattr(stream, name), component) for name in COMPONENTS),
                unknown_settings(settings, "required_settings", stream.required_settings),
                problems_in_templates(stream, settings),
            ]
        problems += [f"stream {stream.name}: {problem}" for check in checks for problem in check]
    return problems


def _problems_in_shape(stream: Stream) -> Iterator[str]:
    """Fields of the wrong type, and fields that its kind requires."""
    if stream.kind not in KINDS:
        near = did_you_mean(str(stream.kind), KINDS)
        yield sentences(f"kind {stream.kind!r} does not exist; write {' or '.join(map(repr, KINDS))}", near)
    yield from no_functions(stream, "requests", "accounts", "earliest", "extra_columns", "judge")
    if not isinstance(stream.open_for, OpenFor):
        yield f"open_for is {stream.open_for!r}; write a number of days, open_for=2, or OpenFor(2, month_day=8)"
    elif not _can_close(stream.open_for):
        yield f"open_for is {stream.open_for}; write 0 or more days, and a day of the month from 1 to 28"
    yield from _problems_in_times(stream)
    if stream.not_built:
        return
    if stream.kind == "report" and stream.day is None and stream.derived is None:
        yield 'it is a report without day; name the column of the report\'s day, day="report_date"'
    if stream.kind == "changes" and stream.day is None and stream.derived is None:
        yield 'it has changes without day; name the column of the day of update, day="updated_day"'
    if stream.kind == "changes" and not stream.key:
        yield "it has changes without a key, by which they are merged; name the key's columns, key=..."
    if stream.kind == "snapshot" and stream.day is not None:
        yield f"it is a snapshot, which has no days, with day {stream.day!r}; leave day out, or write kind='report'"
    if stream.requests is None and not stream.path and stream.derived is None:
        yield "it has no requests, so nothing would be fetched; write path= or requests=, or not_built= and the reason"
    if stream.requests is not None and (stream.path or stream.params):
        yield "it has requests, which replace path and params; write one of the two"
    if stream.path and not stream.path.startswith("/"):
        yield f'path is {stream.path!r}; write a path below base_url that begins with "/"'


def _problems_in_times(stream: Stream) -> Iterator[str]:
    """Times of another type or below zero, and those that its kind does not use."""
    for name in ("lookback", "lag"):
        value: Any = getattr(stream, name)
        if not isinstance(value, timedelta):
            number = value if isinstance(value, int | float) else 1
            yield f"{name} is {value!r}; write timedelta(days={number}), or the unit that is meant, from datetime"
        elif value < timedelta(0):
            yield f"{name} is {value.total_seconds():g} s; write a time of 0 or more, such as timedelta(minutes=5)"
        elif value and stream.kind in ("report", "snapshot"):
            yield f"{name} without changes: a {stream.kind} does not use it; leave it out, or write kind='changes'"
    for name, least in (("poll_first_s", "of 0 or more"), ("poll_max_s", "above 0"), ("poll_deadline_s", "above 0")):
        seconds: Any = getattr(stream, name)
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or seconds < 0 or (seconds == 0 and name != "poll_first_s"):
            yield f"{name} is {seconds!r}; write a number of seconds {least}"


def _can_close(open_for: OpenFor) -> bool:
    """Whether each day closes, and none before its end."""
    days, month_day = open_for.days, open_for.month_day
    return isinstance(days, int) and days >= 0 and (month_day is None or month_day in range(1, 29))


def problems_in_division(stream: Stream, columns: Mapping[str, Column], component: Lookup) -> Iterator[str]:
    if stream.derived is None:
        named = [name for name in ("accounts", "accounts_from") if getattr(stream, name) is not None]
        if stream.zone_from is not None and stream.accounts_from is None:
            yield "zone_from without accounts_from; name the stream that lists the accounts and their zones"
        if stream.account is None and named:
            yield f'{named[0]} without account; name the column of the account, account="account_id"'
    days = stream.days_per_request
    if not callable(days) and (not isinstance(days, int) or isinstance(days, bool) or days < 1):
        yield f"days_per_request is {days!r}; write a number of days, 1 or more"
    elif not callable(days) and days > 1 and stream.day_of is None and stream.day is not None:
        envelope: Any = stream.envelope
        if isinstance(envelope, Named):
            try:
                envelope = component("decoder", envelope)
            except PluginError:
                return  # reported with the components
        known_per_row = (envelope is not None and not hasattr(envelope, "keyed_by")) or (
            stream.day in (getattr(envelope, "keyed_by", None), *getattr(envelope, "stamps", ()))
        )
        if columns[stream.day].added and not known_per_row:
            yield f"days_per_request is {days}, and no column holds a row's day; name one, day_of=..."
