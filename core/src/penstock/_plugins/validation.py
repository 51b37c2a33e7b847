"""
Validation of the connectors, streams and actions that a plugin declares, before any request is sent.

Each problem is one line: the stream or action, what was found, and what to write instead. All problems are reported at
once. No record class is compiled here, because this runs whenever a connector is used.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

import attrs
from attrs import evolve

from penstock.actions import Action, FieldType, Place
from penstock.connector import SLICE_VALUES, Connector, Limits, Parent, Stream
from penstock.errors import PluginError
from penstock.model import Kind
from penstock.names import NAME, did_you_mean, nearest, place_of
from penstock.protocols import Named, SinglePage
from penstock.records import Column
from penstock.settings import OpenFor, SourceSettings, info_of, keys_of
from penstock.templates import EPOCH_FORMATS, json_placeholders, placeholder_formats, placeholders

KINDS: tuple[str, ...] = get_args(Kind)
PLACES: tuple[str, ...] = get_args(Place)
FIELD_TYPES: tuple[str, ...] = get_args(FieldType)

_ColumnsOf = Mapping[str, Mapping[str, Column] | None]  # by stream

Lookup = Callable[[Any, Named], object]
"""(kind of component, its name and options) -> the component; raises PluginError."""

_NO_LINKS = attrs.fields(Parent).links.default
_PAGES = tuple(name for name in vars(SinglePage) if not name.startswith("_"))
_REPORTS = ("handle", "poll", "state", "expired")
COMPONENTS: Mapping[str, tuple[Any, tuple[str, ...]]] = {  # field -> kind, required methods
    "envelope": ("decoder", ()),
    "downloads": ("decoder", ()),
    "paginator": ("paginator", _PAGES),
    "poller": ("poller", _REPORTS),
}


# --- connectors -----------------------------------------------------------------------------------------------------


# Names of keys that hold a secret more often than not.
_SECRET_NAME = re.compile(
    r"(^|_)(secret|password|passwd|pwd|passphrase|token|bearer|jwt|credentials?|"
    r"(api|app|auth|private|access|secret|signing|license|account)_?key)$",
    re.IGNORECASE,
)
_TEXTS = (str, str | None, "str", "str | None")
_COLLECTIONS: Mapping[Any, str] = {
    **dict.fromkeys((list, tuple, set, frozenset, Sequence), "tuple[str, ...]"),
    **dict.fromkeys((dict, Mapping), "dict[str, str]"),
}


def problems_in_connector(connector: Connector) -> list[str]:
    """The problems of a connector's own fields and of its settings class."""
    found = [*_problems_in_settings(connector.settings), *_problems_in_source(connector)]
    return [f"connector {connector.name}: {problem}" for problem in found]


def _problems_in_settings(settings: Any) -> Iterator[str]:
    if not (isinstance(settings, type) and issubclass(settings, SourceSettings)):
        if isinstance(settings, type):
            name = settings.__name__
            yield (
                f"settings is {name} ({place_of(settings)}), which does not extend SourceSettings; write "
                f"class {name}(SourceSettings)"
            )
        else:
            yield f"settings is {_sort(settings)}; write a class that extends SourceSettings"
        return
    name = settings.__name__
    if "__attrs_attrs__" not in vars(settings):
        yield f"{name} ({place_of(settings)}) has no decorator; put @frozen(kw_only=True) above it"
        return
    for attribute in keys_of(settings):
        if attribute.type is None:
            at = f"{name}.{attribute.name} ({place_of(settings)})"  # reads the source, so for a problem only
            yield f"{at} has no type; write {attribute.name}: str = setting(...)"
        elif written := _with_elements(attribute.type):
            at = f"{name}.{attribute.name} ({place_of(settings)})"
            yield (
                f"{at} has a type that does not name its elements, so that they would not be checked; write "
                f"{attribute.name}: {written} = setting(...)"
            )
        elif (
            attribute.type in _TEXTS and _SECRET_NAME.search(attribute.name) and info_of(attribute).secret is not False
        ):
            at = f"{name}.{attribute.name} ({place_of(settings)})"
            yield (
                f"{at} looks like a secret and is a text, which logs may show; write {attribute.name}: Secret = "
                "setting(...), or setting(..., secret=False) if it is none"
            )


def _with_elements(type_: Any) -> str:
    """What to write for a collection that does not name the type of its elements; empty for any other type."""
    if isinstance(type_, str):  # from __future__ import annotations
        return next((written for bare, written in _COLLECTIONS.items() if type_.split(" |")[0] == bare.__name__), "")
    members = get_args(type_) if isinstance(type_, UnionType) else (type_,)
    bare = (get_origin(member) or member for member in members if not get_args(member))
    return next((_COLLECTIONS[collection] for collection in bare if collection in _COLLECTIONS), "")


def _problems_in_name(name: str) -> Iterator[str]:
    if not re.fullmatch(NAME, name):
        yield f"name is {name!r}; write a letter, then letters, digits, _ and -, at most 63 characters"


def _problems_in_source(connector: Connector) -> Iterator[str]:
    yield from _problems_in_name(connector.name)
    yield from _no_functions(connector, "authenticator", "judge", "check")
    if not isinstance(connector.limits, Limits):
        yield f"limits is {_sort(connector.limits)}; write Limits(requests_per_second=2, concurrency=4)"
    if isinstance(connector.settings, type) and attrs.has(connector.settings):
        yield from _unknown_settings(connector.settings, "origins", connector.origins)


_EXAMPLES = {
    "authenticator": "authenticator=lambda settings: HeaderTokens(headers={...: settings.token})",
    "judge": "judge(response, answer)",
    "check": "check=lambda settings, slice_: Request(url=...)",
    "requests": "requests(settings, slice_)",
    "accounts": "lambda settings: settings.account_ids",
    "earliest": "earliest(today)",
    "extra_columns": "extra_columns(settings)",
}


def _no_functions(declared: Connector | Stream, *names: str) -> Iterator[str]:
    """The fields of these names that hold something else than a function."""
    for name in names:
        value = getattr(declared, name)
        if value is not None and not callable(value):
            yield f"{name} is {_sort(value)}; write a function, such as {_EXAMPLES[name]}"


def _unknown_settings(settings: type | None, what: str, names: Iterable[str]) -> Iterator[str]:
    if settings is None:
        return
    known = {attribute.name for attribute in keys_of(settings)}
    for name in names:
        if name not in known and not hasattr(settings, name):
            meant = did_you_mean(name, known)
            yield f"{what} names {name!r}, which is no setting of {settings.__name__}.{meant}"


# --- streams --------------------------------------------------------------------------------------------------------


def problems_in_streams(
    streams: Iterable[Stream], others: Mapping[str, Stream], settings: type | None, component: Lookup
) -> list[str]:
    """
    The problems of these streams of one connector, in the order of the streams.

    ``others``: all streams of the connector by name, these included; ``settings``: its settings class, if known;
    ``component``: looks up a named component.
    """
    streams = list(streams)
    found = _twice("stream", [stream.name for stream in streams])
    columns = {name: _columns(stream, others) for name, stream in others.items()}
    for stream in streams:
        known = columns[stream.name] if others.get(stream.name) is stream else _columns(stream, others)
        if known is None:
            record = getattr(stream.record, "__name__", repr(stream.record))
            found.append(f"stream {stream.name}: {record} is no record class: put @record() above it")
            continue
        checks = [_problems_in_name(stream.name), _problems_in_record(stream, known), _problems_in_shape(stream)]
        if not stream.not_built:
            checks += [
                _problems_in_columns(stream, known),
                _problems_in_division(stream, known, component),
                _problems_in_named_streams(stream, others, columns),
            ]
            checks += [
                _problems_in_components(stream, component),
                _unknown_settings(settings, "required_settings", stream.required_settings),
                _problems_in_templates(stream, settings),
            ]
        found += [f"stream {stream.name}: {problem}" for check in checks for problem in check]
    return found


def _columns(stream: Stream, others: Mapping[str, Stream]) -> dict[str, Column] | None:
    """The columns of a stream by name, a derived one's stamps included; None if its record is no record class."""
    try:
        known = {column.name: column for column in stream.all_columns()}
    except (TypeError, AttributeError):
        return None
    if stream.derived is not None:
        for name in stream.derived.stamps:
            known.setdefault(name, Column(name=name, type="text"))
        if (parent := others.get(stream.derived.stream)) is not None:
            for column in evolve(stream, account=parent.account, day=parent.day).stamped_columns:
                known.setdefault(column.name, column)
    return known


def _problems_in_record(stream: Stream, known: Mapping[str, Column]) -> Iterator[str]:
    for column in known.values():
        if column.derived_of is not None:
            at = f"{stream.record.__name__}.{column.name}: derived(of={column.derived_of!r})"
            if column.derived_of not in known:
                yield f"{at} {_no_column(stream, column.derived_of, known)}"
            if column.type != "decimal":
                yield f"{at} is annotated as {column.type}; an exact number is a Decimal"
        for name in column.hash_of:
            if name not in known:
                yield f"{stream.record.__name__}.{column.name}: row_key({name!r}) {_no_column(stream, name, known)}"


def _problems_in_shape(stream: Stream) -> Iterator[str]:
    """Fields of the wrong type, and fields that its kind requires."""
    if stream.kind not in KINDS:
        near = did_you_mean(str(stream.kind), KINDS)
        yield f"kind {stream.kind!r} does not exist; write {' or '.join(map(repr, KINDS))}.{near}".rstrip(".")
    yield from _no_functions(stream, "requests", "accounts", "earliest", "extra_columns", "judge")
    if not isinstance(stream.open_for, OpenFor):
        yield f"open_for is {stream.open_for!r}; write a number of days, open_for=2, or OpenFor(2, month_day=8)"
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


def _problems_in_columns(stream: Stream, known: Mapping[str, Column]) -> Iterator[str]:
    """The columns that it names. Those that a configuration declares are not known yet."""
    own = {column.name for column in stream.columns}
    configured = stream.extra_columns is not None
    for key in stream.key:
        if key not in known:
            if not configured:
                yield f"key {_no_column(stream, key, known)}"
        elif known[key].type == "json":
            yield f"key {key!r} is a json column, and nested values do not identify a row; name other columns"
        elif known[key].secret:
            yield f"key {key!r} is secret, so it is never delivered; name other columns"
    for what, types in (("account", ("text",)), ("day", ("date", "text"))):
        name: str | None = getattr(stream, what)
        if name is None:
            continue
        if name not in own and stream.derived is None:
            # It would be added. A column without a value, of nearly the same name, is probably the one that was meant.
            waiting = [column.name for column in known.values() if column.name in own and _needs_a_value(column)]
            if near := nearest(name, waiting, cutoff=0.8):
                seen = f"{what} {_no_column(stream, name, {})}, and nothing fills {near}"
                yield f"{seen}; write {what}={near!r}"
        elif known[name].type not in types:
            yield f"{what} {name!r} is of type {known[name].type}; annotate it as {_ANNOTATED[types[0]]}"
        elif known[name].secret:
            yield f"{what} {name!r} is secret, so it is never delivered; name another column"
    if isinstance(stream.day_of, str):
        if stream.day_of not in known:
            if not configured:
                yield f"day_of {_no_column(stream, stream.day_of, known)}"
        elif known[stream.day_of].type not in ("date", "datetime", "text"):
            yield f"day_of {stream.day_of!r} is a {known[stream.day_of].type} column; name one with a date or a time"
    if stream.inexact_bounds and not callable(stream.day_of):
        column = known.get(stream.day_of or "")
        if column is None or column.type != "datetime":
            found = f"day_of {stream.day_of!r}, a {column.type} column" if column is not None else "no day_of"
            yield f"inexact_bounds with {found}; name a column with a time (datetime), or leave it out"
    if stream.smallest not in ("day", "hour", "minute", "second"):
        yield f"smallest is {stream.smallest!r}; write 'day', 'hour', 'minute' or 'second'"


_ANNOTATED = {"text": "str", "date": "date"}


def _needs_a_value(column: Column) -> bool:
    """Whether the provider does not send this required column, so that something else must fill it."""
    return column.added and not column.nullable and column.derived_of is None and not column.hash_of


def _problems_in_division(stream: Stream, known: Mapping[str, Column], component: Lookup) -> Iterator[str]:
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
        if known[stream.day].added and not known_per_row:
            yield f"days_per_request is {days}, and no column holds a row's day; name one, day_of=..."


def _problems_in_named_streams(
    stream: Stream, others: Mapping[str, Stream], columns_of_all: _ColumnsOf
) -> Iterator[str]:
    """The other streams that it names, and their columns."""
    needed: list[tuple[str, str, Collection[str]]] = []
    if stream.parent is not None:
        needed.append(("parent", stream.parent.stream, stream.parent.columns))
        if not isinstance(stream.parent.columns, tuple):
            yield f'parent: columns is {_sort(stream.parent.columns)}; write a tuple, columns=("id",)'
            return
    if stream.accounts_from is not None:
        if not (isinstance(stream.accounts_from, tuple) and len(stream.accounts_from) == 2):
            yield f'accounts_from is {stream.accounts_from!r}; write accounts_from=("stream", "column")'
            return
        yield from _problems_in_lister(stream, others, *stream.accounts_from)
        zone = [stream.zone_from] if stream.zone_from is not None else []
        needed.append(("accounts_from", stream.accounts_from[0], (*stream.accounts_from[1:], *zone)))
    if stream.derived is not None:
        needed.append(("derived", stream.derived.stream, (stream.derived.column, *stream.derived.stamps.values())))
    for what, name, columns in needed:
        other = others.get(name)
        if name == stream.name:
            yield f"{what} names the stream itself"
        elif other is None:
            yield f"{what} names the stream {name!r}, which does not exist.{did_you_mean(name, others)}"
        elif other.not_built:
            yield f"{what} names the stream {name!r}, which is not built"
        elif other.derived is not None:
            yield f"{what} names the stream {name!r}, which is derived itself; name {other.derived.stream!r}"
        elif (known := columns_of_all[name]) is not None and other.extra_columns is None:
            yield from (f"{what}: {_no_column(other, column, known)}" for column in columns if column not in known)
    yield from _problems_in_parent(stream, others, columns_of_all)


def _problems_in_lister(stream: Stream, others: Mapping[str, Stream], name: str, column: str) -> Iterator[str]:
    """What the stream that lists its accounts must be: read whole, in one piece, and named for one of its columns."""
    lister = others.get(name)
    if lister is not None and (lister.kind != "snapshot" or lister.account is not None):
        divided = f"divided by {lister.account}" if lister.account is not None else f"of kind {lister.kind!r}"
        yield f"accounts_from names the stream {name!r}, which is {divided}; name a snapshot without account"
    for other in others.values():
        if other.accounts_from is not None and other.accounts_from[0] == name and other.accounts_from[1] != column:
            yield (
                f"accounts_from names the column {column!r} of {name}, and {other.name} names "
                f"{other.accounts_from[1]!r}; streams that are divided by one list name the same column"
            )
            return


def _problems_in_parent(stream: Stream, others: Mapping[str, Stream], columns_of_all: _ColumnsOf) -> Iterator[str]:
    """The fields that it must share with its parent, or with the stream that it is derived from."""
    if stream.parent is not None and stream.parent.stream in others:
        parent = others[stream.parent.stream]
        theirs = parent.account
        if "snapshot" not in (stream.kind, parent.kind) and stream.kind != parent.kind and parent.kind in KINDS:
            yield (
                f"kind is {stream.kind!r}, and that of its parent {parent.name} is {parent.kind!r}; a child with days "
                f"is requested by its parent's rows of the same days, so write {parent.kind!r}"
            )
        if (stream.account is None) != (theirs is None):
            yield (
                f"account is {stream.account!r}, and that of its parent {stream.parent.stream} is {theirs!r}; a child "
                "is divided by accounts as its parent is"
            )
    if stream.derived is None or stream.derived.stream not in others:
        return
    cut_from = others[stream.derived.stream]
    if cut_from.kind != stream.kind:
        yield f"kind is {stream.kind!r}; it travels with {cut_from.name}, so write {cut_from.kind!r}"
    known = columns_of_all[cut_from.name]
    nested = known.get(stream.derived.column) if known is not None else None
    if nested is not None and nested.type != "json":
        seen = f"the column {nested.name} of {cut_from.name} is a {nested.type} column"
        yield f"derived: {seen}; it must be nested (Json)"
    for what, own, theirs in (("account", stream.account, cut_from.account), ("day", stream.day, cut_from.day)):
        if own is not None and own != theirs:
            yield f"{what} is {own!r}; it travels with {cut_from.name}, whose {what} is {theirs!r}: leave it out"


def _problems_in_components(stream: Stream, component: Lookup) -> Iterator[str]:
    for name in COMPONENTS:
        yield from problems_in_component(name, getattr(stream, name), component)


def problems_in_component(name: str, value: Any, component: Lookup) -> Iterator[str]:
    """What is wrong with a component of a stream; ``name`` is its field. A function of the settings is not called."""
    kind, methods = COMPONENTS[name]
    if isinstance(value, Named):
        try:
            component(kind, value)
        except PluginError as error:
            yield f"{name}: {error}".rstrip(".")
    elif isinstance(value, type):
        yield f"{name} is the class {value.__name__}; write {value.__name__}(...)"
    elif isinstance(value, str):
        made = f'Envelope(items="{value}")' if name == "envelope" else f'named("{value}")'
        yield f"{name} is the text {value!r}; write {name}={made}"
    elif value is not None and not (callable(value) or (methods and all(hasattr(value, method) for method in methods))):
        lacking = [method for method in methods if not hasattr(value, method)]
        lacks = f" without {', '.join(lacking)}" if lacking else ", which cannot be called"
        yield f"{name} is {_sort(value)}{lacks}; see penstock.protocols for the methods of a {kind}"


def _problems_in_templates(stream: Stream, settings: type | None) -> Iterator[str]:
    """The names in the templates of ``path``, ``params`` and ``json``."""
    parent = stream.parent
    texts = {"path": stream.path} | {f"params[{name!r}]": value for name, value in stream.params.items()}
    if wrong := [(what, value) for what, value in texts.items() if not isinstance(value, str)]:
        yield from (f'{what} is {_sort(value)}; write a text, "{value}"' for what, value in wrong)
        return
    named = [(what, name, False) for what, template in texts.items() for name in placeholders(template)]
    if stream.json is not None:
        named += json_placeholders(stream.json)
        if not stream.path or stream.requests is not None:
            yield "json is the body of the request that path names; write path=, and no requests="
    for what, template in (("path", stream.path), ("params", stream.params), ("json", stream.json)):
        yield from (f"{what} names {{{name}:{format_}}}, {wrong}" for name, format_, wrong in _wrong_formats(template))
    if parent is not None and stream.path and parent.per_request != 1:
        own = [(what, repeated) for what, name, repeated in named if name in parent.columns]
        if not own or not all(repeated for _, repeated in own):
            single = next((what for what, repeated in own if not repeated), "path")
            yield (
                f"{single} takes one parent row, and per_request is {parent.per_request}; name the column in a list of "
                "one element of json, or write requests="
            )
    if parent is None or parent.links is _NO_LINKS:  # else the names that links gives a row are not known
        yield from _unknown_names(stream, settings, [(what, name) for what, name, _ in named])


def _unknown_names(stream: Stream, settings: type | None, named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The names in templates (``named``: place and name) that no request of the stream has a value for."""
    parent = stream.parent
    fields = {field.name: field for field in attrs.fields(settings)} if settings is not None else {}
    for what, name in named:
        if parent is not None and name in parent.columns:
            continue
        if name in SLICE_VALUES:
            if (stream.account if name == "account" else stream.day) is None:
                yield f"{what} names {{{name}}}, and the stream has no {'account' if name == 'account' else 'day'}"
        elif name in fields:
            if "Secret" in str(fields[name].type):
                yield f"{what} names the secret {name}; the authenticator sends it, not a template"
        elif settings is not None and not hasattr(settings, name):
            known = (*SLICE_VALUES, *fields, *(parent.columns if parent is not None else ()))
            meant = did_you_mean(name, known)
            blanks = f" Braces of the provider's own have blanks: {{ {name} }}." if what.startswith("json") else ""
            yield f"{what} names {{{name}}}, which is no value of a request.{meant}{blanks}".rstrip(".")


def _wrong_formats(template: Any) -> Iterator[tuple[str, str, str]]:
    """Name and format of the days and times of a template that would not be written as meant, and what to write."""
    for name, format_ in placeholder_formats(template):
        if format_ in EPOCH_FORMATS and name in ("since", "until"):
            moment = {"since": "start", "until": "end"}[name]
            yield name, format_, f"which is a day and no time; write {{{moment}:{format_}}}"
        elif name in ("since", "until", "start", "end") and format_ not in EPOCH_FORMATS and "%" not in format_:
            examples = ["%Y-%m-%d"] if name in ("since", "until") else ["%Y-%m-%dT%H:%M:%S", *EPOCH_FORMATS]
            meant = " or ".join(f"{{{name}:{example}}}" for example in examples)
            yield name, format_, f"whose format has no % and would be sent as it is; write {meant}"


def _no_column(stream: Stream, name: str, known: Iterable[str]) -> str:
    return (
        f"names the column {name!r}, which {stream.record.__name__} does not have.{did_you_mean(name, known)}".rstrip(
            "."
        )
    )


def _twice(what: str, names: Collection[str]) -> list[str]:
    several = [name for name, times in Counter(names).items() if times > 1]
    return [f"{what} {name}: more than one has this name; rename all but one" for name in several]


def _sort(value: object) -> str:
    return f"{type(value).__name__} ({value!r})" if isinstance(value, (str, int, float)) else type(value).__name__


# --- actions --------------------------------------------------------------------------------------------------------


def problems_in_actions(actions: Iterable[Action]) -> list[str]:
    """The problems of these actions, in the order of the actions."""
    actions = list(actions)
    found = _twice("action", [action.name for action in actions])
    return found + [f"action {action.name}: {problem}" for action in actions for problem in _problems_in_action(action)]


def _problems_in_action(action: Action) -> Iterator[str]:
    if action.not_built:
        return
    names = {field.name: field for field in action.fields}
    # Where the settings decide the path (endpoint), the declared one is documentation only.
    in_path = set(placeholders(action.path)) if action.endpoint is None else set[str]()
    for name in sorted(in_path - names.keys()):
        example = f'Field(name={name!r}, place="path", ...)'
        yield f"path {action.path!r} contains {{{name}}}, which is no field; add {example}"
    for field in action.fields:
        if field.place not in PLACES:
            yield f"field {field.name}: place {field.place!r} is none of {', '.join(PLACES)}"
        if field.type not in FIELD_TYPES:
            yield f"field {field.name}: type {field.type!r} is none of {', '.join(FIELD_TYPES)}"
        if field.name in in_path and not (field.place == "path" and field.required):
            yield f'field {field.name}: it is in the path; write place="path" and required=True'
        if field.place == "path" and field.name not in in_path and action.endpoint is None:
            yield f"field {field.name}: path {action.path!r} does not name it; write {{{field.name}}} there"
    taken: dict[str, str] = {}
    for field in action.fields:
        for spelling in {field.name, field.member, *field.aliases}:
            if (other := taken.setdefault(spelling, field.name)) != field.name:
                yield f"field {field.name}: {spelling!r} is also a name of the field {other}"
    yield from _twice("field", [field.name for field in action.fields])
    if action.rows_per_request < 1:
        yield f"rows_per_request is {action.rows_per_request}; write 1 or more"
    if action.most_values is not None:
        several, name = names.get(action.most_values.field), action.most_values.field
        if several is None or not several.repeated:
            yield f"most_values names the field {name!r}, which is no repeated one; write repeated=True"
