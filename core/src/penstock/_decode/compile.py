"""
From the declarations of a stream, and the settings of its source, to its row builder.

:func:`compile_stream` has the steps, each a function of declarations: the columns and their checks, the columns that
are hidden, the rules for values that do not fit, the layout that is delivered.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, NamedTuple, TypeVar

from penstock._decode.columns import ColumnRules
from penstock._decode.keys import KeyRules
from penstock._decode.masks import Masks, cleaner, personal_cleaner
from penstock._decode.record_parser import RecordParser
from penstock._decode.rejects import Rejects
from penstock._decode.row_builder import DerivedRowBuilder, RowBuilder
from penstock._decode.structs import Nested
from penstock._decode.totals import Measures, dimensions_of
from penstock.connector import Stream
from penstock.errors import ConfigError
from penstock.records import Column
from penstock.report_files import ReportFile
from penstock.sinks import EXTRA, Layout

T = TypeVar("T")

_OF_EXTRA = "members that the record class does not know, and values that do not fit their column"


class ColumnOptions(NamedTuple):
    """A source's settings for its columns, and the columns of this stream that other streams read."""

    exclude: Collection[str] = ()  # "column" or "stream.column"
    include_personal: bool = True
    extra: bool | None = None  # keep unknown members in _extra; None: as include_personal, since they may be personal
    needed_columns: Collection[str] = ()  # columns that other streams or the ledger read
    nested: Nested = "raw"  # json columns stay bytes, or are "plain" values with exact decimals, for hooks
    zone: tzinfo = UTC  # of a row's day
    connector: str = ""
    # Columns of all its streams that are secret, or have secrets inside: masked in json columns and _extra of this one.
    secrets: Collection[Column] = ()


EVERYTHING = ColumnOptions()


def compile_stream(
    source: str,
    stream: Stream,
    options: ColumnOptions = EVERYTHING,
    *,
    columns: Sequence[Column] = (),
    derived: Sequence[Stream] = (),
) -> RowBuilder:
    """
    The row builder of one stream of one source.

    ``columns`` are those that the configuration declares in addition to the record class; ``derived`` are the streams
    cut from this one.

    Raises ConfigError if ``exclude`` or ``include_personal`` leaves out a column that is needed, or if a configured
    column exists already; TypeError for a contradictory declaration.
    """
    return _compile(_Declared(source, stream, _all_columns(source, stream, columns), options), derived)


class _Declared(NamedTuple):
    """
    A stream with all its columns. ``parent``: the stream that a derived one is cut from; ``parent_key``: its own
    columns that hold the parent's key, in the order of that key.
    """

    source: str
    stream: Stream
    columns: Mapping[str, Column]
    options: ColumnOptions
    parent: Stream | None = None
    parent_key: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.source}.{self.stream.name}"

    @property
    def partitioned_as(self) -> Stream:
        """The stream that determines the partitions of the rows."""
        return self.parent or self.stream

    @property
    def day_of(self) -> str | None:
        return _value(self.stream.day_of, str)

    @property
    def day(self) -> str | None:
        """The column of the day, where the rows have one."""
        return self.partitioned_as.day if self.partitioned_as.day in self.columns else None

    @property
    def identifying(self) -> tuple[str, ...]:
        """The columns that a row cannot do without: its key, its partition, its day."""
        return (*self.stream.key, *self.partitioned_as.partition_columns, *([self.day_of] if self.day_of else ()))


def _all_columns(source: str, stream: Stream, configured: Sequence[Column]) -> dict[str, Column]:
    columns = {column.name: column for column in stream.all_columns(configured)}
    if taken := [column.name for column in configured if columns[column.name] != column]:
        raise ConfigError(
            f"source {source}: the stream {stream.name} has a column {taken[0]} already. Declare other names only."
        )
    return columns


def _compile(declared: _Declared, children: Sequence[Stream] = ()) -> RowBuilder:
    """The row builder of a stream, and of the ``children`` that are derived from it."""
    stream, columns, options = declared.stream, declared.columns, declared.options
    _check_columns(declared)
    hidden = _hidden_columns(declared)
    paths = _hidden_paths(columns.values(), include_personal=options.include_personal)
    sent_json = [column for column in columns.values() if column.type == "json" and not column.added]
    raw = tuple(column.name for column in sent_json if options.nested == "raw" and column.name not in paths)
    rejects = _rejects(declared, hidden, paths)
    layout = _layout(declared, rejects)
    return RowBuilder(
        layout=layout,
        parser=RecordParser(columns, raw=raw, nested=options.nested, rejects=rejects),
        column_rules=ColumnRules(
            columns=columns,
            raw=raw,
            nested=tuple(column.name for column in sent_json if not column.secret),
            cleaners={name: _cleaner(columns[name], options.include_personal) for name in paths},
            masks=Masks.of(*_secrets(declared), labels=False),
            day=declared.day,
            day_of=declared.day_of,
            zone=options.zone,
            rejects=rejects,
        ),
        measures=Measures.of(columns, hidden, _dimensions(declared)),
        key_rules=KeyRules(
            columns=columns,
            key=stream.key,
            identity=_identity(declared),
            day=declared.day,
            last_wins=stream.kind == "changes" and stream.derived is None,
            rejects=rejects,
        ),
        derived=tuple(_compile_derived(declared, child, layout) for child in children),
    )


def _dimensions(declared: _Declared) -> Iterable[Column]:
    """The columns by which records differ, where the reports of the stream may have unmarked rows of totals."""
    stream = declared.stream
    decoders = (stream.envelope, stream.downloads)
    unmarked = any(isinstance(decoder, ReportFile) and decoder.unmarked_totals for decoder in decoders)
    partition = declared.partitioned_as.partition_columns
    return dimensions_of(declared.columns.values(), partition) if unmarked else ()


def _compile_derived(parent: _Declared, child: Stream, layout: Layout) -> DerivedRowBuilder:
    """``layout``: of the parent."""
    cut = child.derived
    if cut is None or cut.column not in parent.columns:
        raise TypeError(f"{child.name} is not derived from a column of {parent.stream.name}")
    columns = {column.name: column for column in columns_of_derived(child, layout, parent.columns)}
    options = parent.options._replace(needed_columns=tuple(cut.stamps))
    stamps = stamps_of(child, layout)
    holding = {parent_column: name for name, parent_column in reversed(stamps.items())}  # the first stamp of each
    parent_key = tuple(holding[name] for name in layout.key if name in holding)
    declared = _Declared(parent.source, child, columns, options, parent=parent.stream, parent_key=parent_key)
    return DerivedRowBuilder(_compile(declared), parent.columns[cut.column], stamps)


def columns_of_derived(child: Stream, parent: Layout, parent_columns: Mapping[str, Column]) -> tuple[Column, ...]:
    """The stamped columns (the parent's partition first), then those of the record class."""
    names = {column.name for column in child.columns}
    front = [
        Column(
            name=name,
            type=parent_columns[parent_column].type,
            zone=parent_columns[parent_column].zone,
            personal=parent_columns[parent_column].personal,
            description=f"{parent_column} of the row in {parent.stream}",
        )
        for name, parent_column in stamps_of(child, parent).items()
        if name not in names
    ]
    return (*front, *child.columns)


def stamps_of(child: Stream, parent: Layout) -> dict[str, str]:
    """The stamps: the derived stream's column -> the parent's column."""
    assert child.derived is not None
    return {**{name: name for name in parent.partition_columns}, **child.derived.stamps}


# --- checks ---------------------------------------------------------------------------------------------------------


def _check_columns(declared: _Declared) -> None:
    """Raises TypeError for a stream that reads columns its record class does not have."""
    name, columns = declared.name, declared.columns
    missing = [read for read in (*declared.identifying, *declared.parent_key) if read not in columns]
    if missing:
        raise TypeError(f"{name}: its record class has no column {missing[0]}")
    if any(columns[key].type == "json" for key in declared.stream.key):
        raise TypeError(f"{name}: a json column cannot be part of a key")
    for column in columns.values():
        for origin in (*column.hash_of, *((column.derived_of,) if column.derived_of else ())):
            if origin not in columns:
                raise TypeError(f"{name}: {column.name} is made of {origin}, which is no column")


def _identity(declared: _Declared) -> Sequence[str]:
    """The columns that identify a row in one listing: one response for two days may have a row of a key on each."""
    key, day = declared.stream.key, declared.partitioned_as.day
    several_days = (_value(declared.partitioned_as.days_per_request, int) or 1) > 1
    return (*key, day) if several_days and day and day not in key else key


def _value(declared: Any, type_: type[T]) -> T | None:
    """A declared value. Raises TypeError for a function of the settings, which the caller must have called."""
    if declared is not None and not isinstance(declared, type_):
        raise TypeError(f"{declared!r} depends on the settings: evolve the stream with its value first")
    return declared


# --- what is delivered ----------------------------------------------------------------------------------------------


def _hidden_columns(declared: _Declared) -> frozenset[str]:
    """The columns that are not delivered; raises ConfigError where one of them is needed."""
    columns, stream, options = declared.columns.values(), declared.stream, declared.options
    needed = {*declared.identifying, *options.needed_columns}
    names = {column.name for column in columns}
    excluded = {name for name in names if {name, f"{stream.name}.{name}"} & set(options.exclude)}
    personal = {column.name for column in columns if column.personal and not options.include_personal}
    secret = {column.name for column in columns if column.secret}
    for setting, left_out in (("exclude", excluded), ("include_personal", personal)):
        for name in sorted(left_out & needed):
            raise ConfigError(
                f"{setting}: {stream.name}.{name} cannot be left out; it is (part of) the key, the partition, or "
                "what another stream is requested by. Leave out the stream instead."
            )
    units = {column.unit_of for column in columns if column.unit_of and column.name not in excluded}
    for name in sorted(excluded & units):
        raise ConfigError(
            f"exclude: {stream.name}.{name} cannot be left out; it is the currency of a column that is not. Leave "
            "out both."
        )
    if needed_secrets := secret & needed:
        raise TypeError(f"{declared.name}: {min(needed_secrets)} is secret, and cannot be key or partition")
    return frozenset(excluded | personal | secret)


def _hidden_paths(columns: Iterable[Column], *, include_personal: bool) -> dict[str, tuple[str, ...]]:
    """The paths of secret members, and of personal ones that are left out, by column."""
    hidden = {
        column.name: (*column.hidden, *(() if include_personal else column.hidden_personal))
        for column in columns
        if not column.added
    }
    return {name: paths for name, paths in hidden.items() if paths}


def _layout(declared: _Declared, rejects: Rejects) -> Layout:
    stream = declared.stream
    delivered = [column for name, column in declared.columns.items() if name not in rejects.hidden]
    if rejects.has_extra:
        delivered.append(Column(name=EXTRA, type="json", description=_OF_EXTRA))
    return Layout(
        source=declared.source,
        stream=stream.name,
        kind=stream.kind,
        columns=tuple(delivered),
        key=stream.key,
        partition_columns=declared.partitioned_as.partition_columns,
        summary=stream.summary,
        derived_by=declared.parent_key,
        connector=declared.options.connector,
    )


# --- what is masked -------------------------------------------------------------------------------------------------


def _rejects(declared: _Declared, hidden: frozenset[str], paths: Mapping[str, Sequence[str]]) -> Rejects:
    stream, columns, options = declared.stream, declared.columns, declared.options
    left_out = [columns[name] for name in hidden]
    masked = {column: _last_name(column) for column in left_out if column.member is not None}
    within = [path for inner in paths.values() for path in inner]
    names, selections = _secrets(declared)
    # Without excluded columns, which are not secret, and without the last names of paths, which are common.
    personal = [name for column, name in masked.items() if column.personal and not options.include_personal]
    selected = [path for path in within if path.endswith("]")]
    return Rejects(
        stream=stream.name,
        columns=columns,
        required=frozenset({*declared.identifying, *options.needed_columns, *declared.parent_key}),
        hidden=hidden,
        masks=Masks.of({*names, *masked.values()}, {*selections, *within}),
        extra_masks=Masks.of({*names, *personal}, {*selections, *selected}),
        stores_unknown=options.include_personal if options.extra is None else options.extra,
        has_extra=EXTRA not in options.exclude and f"{stream.name}.{EXTRA}" not in options.exclude,
    )


def _secrets(declared: _Declared) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the connector's secret members, and the paths that select others by a member's value."""
    columns = (*declared.columns.values(), *declared.options.secrets)
    return (
        frozenset(_last_name(column) for column in columns if column.secret and column.member is not None),
        frozenset(path for column in columns for path in column.hidden if path.endswith("]")),
    )


def _cleaner(column: Column, include_personal: bool) -> Callable[[Any], Any]:
    """A function that returns a value of the column without what is hidden in it."""
    clean = cleaner(column.hidden)
    if include_personal or not column.hidden_personal:
        return clean
    without_personal = personal_cleaner(column.hidden_personal)
    return lambda value: without_personal(clean(value))


def _last_name(column: Column) -> str:
    """The name of the member that a column reads, wherever it is."""
    return column.path[-1] if column.path else str(column.member)
